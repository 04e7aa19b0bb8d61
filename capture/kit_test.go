package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/postgres"
	"github.com/vecferry/vecferry/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(withoutLeaks{m}) }

// withoutLeaks fails if a goroutine outlives all tests.
type withoutLeaks struct{ m *testing.M }

func (w withoutLeaks) Run() int {
	code := w.m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// patient bounds every wait of the tests.
const patient = 30 * time.Second

// memory is a change log and a store in memory that keep to the contract of
// internal/changelog: one writer, expected sequence, acknowledgements in order.
// A hook may let an append fail, before or after it is stored.
type memory struct {
	id   string
	max  int
	hook func(batch uint64) error // before storing; errLost stores and then fails

	mu      sync.Mutex
	epoch   uint64
	batches [][]byte
	headers []vecferry.BatchHeader
	values  map[string][]byte
	saved   map[string]uint64
	grown   chan struct{} // closed and replaced at each append
}

var (
	errLost     = errors.New("stored, but nobody heard")
	errCrash    = errors.New("not stored")
	errFull     = errors.New("no room")
	errConflict = errors.New("somebody else wrote first")
)

func newMemory() *memory {
	return &memory{id: "log-1", max: 8 << 20, values: map[string][]byte{}, saved: map[string]uint64{}, grown: make(chan struct{})}
}

func (m *memory) ID() string    { return m.id }
func (m *memory) MaxBatch() int { return m.max }

func (m *memory) Tail(context.Context) (vecferry.BatchHeader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.headers) == 0 {
		return vecferry.BatchHeader{}, nil
	}
	return m.headers[len(m.headers)-1], nil
}

func (m *memory) Writer(ctx context.Context) (Writer, vecferry.BatchHeader, error) {
	m.mu.Lock()
	m.epoch++
	w := &memoryWriter{m: m, epoch: m.epoch, acks: make(chan vecferry.BatchHeader, 1<<16), dead: make(chan struct{})}
	w.next = uint64(len(m.batches)) + 1
	m.mu.Unlock()
	tail, err := m.Tail(ctx)
	return w, tail, err
}

func (m *memory) Load(_ context.Context, key string) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key], m.saved[key], nil
}

func (m *memory) Save(_ context.Context, key string, value []byte, revision uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saved[key] != revision {
		return 0, errConflict
	}
	m.values[key], m.saved[key] = value, revision+1
	return revision + 1, nil
}

func (m *memory) content() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.batches)
}

type memoryWriter struct {
	m           *memory
	epoch, next uint64
	acks        chan vecferry.BatchHeader
	dead        chan struct{}
	err         error
}

func (w *memoryWriter) Append(_ context.Context, b *vecferry.BatchBuilder, h vecferry.BatchHeader) (uint64, error) {
	h.Epoch, h.Batch, h.Changes = w.epoch, w.next, b.Changes()
	raw := slices.Clone(b.Seal(h))
	var hooked error
	w.m.mu.Lock()
	hook := w.m.hook
	w.m.mu.Unlock()
	if hook != nil {
		hooked = hook(h.Batch)
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if uint64(len(w.m.batches)) != h.Batch-1 || w.m.epoch != w.epoch {
		hooked = errConflict
	}
	if hooked == nil || errors.Is(hooked, errLost) {
		w.m.batches, w.m.headers = append(w.m.batches, raw), append(w.m.headers, h)
		close(w.m.grown)
		w.m.grown = make(chan struct{})
	}
	if hooked != nil {
		w.err = hooked
		close(w.dead)
		return 0, hooked
	}
	w.next++
	w.acks <- h
	return h.Batch, nil
}

func (w *memoryWriter) Buffer() []byte { return nil }
func (w *memoryWriter) Close()         {}

func (w *memoryWriter) Durable(ctx context.Context) (vecferry.BatchHeader, error) {
	select {
	case h := <-w.acks:
		return h, nil
	case <-w.dead:
		return vecferry.BatchHeader{}, w.err
	case <-ctx.Done():
		return vecferry.BatchHeader{}, ctx.Err()
	}
}

// pipeline is a capture on a real server with a log in memory.
type pipeline struct {
	t      testing.TB
	db     *testenv.TestDB
	source *postgres.Source
	log    *memory
	opts   Options
	cursor vecferry.RelationCache
}

// newPipeline makes the tables, the publication and the options. The tests'
// rows have a vector beyond what is stored in line.
func newPipeline(t *testing.T, db *testenv.TestDB) *pipeline {
	t.Helper()
	db.Exec(`create table docs (id bigint primary key, note text, embedding vector(600));
		create table other (id bigint primary key, note text);
		create publication vecferry for table docs, other;`)
	p := benchPipeline(t, db)
	p.opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	p.opts.StatusInterval = 50 * time.Millisecond
	return p
}

// benchPipeline is a pipeline of table docs, with a log in memory.
func benchPipeline(tb testing.TB, db *testenv.TestDB) *pipeline {
	tb.Helper()
	source, err := postgres.Open(tb.Context(), postgres.Options{DSN: db.DSN})
	require.NoError(tb, err)
	tb.Cleanup(source.Close)
	p := &pipeline{t: tb, db: db, source: source, log: newMemory()}
	p.opts = Options{
		Pipeline: "p", Slot: db.Name, Publication: "vecferry",
		Tables: []*vecferry.Table{{OID: p.oid("docs"), Schema: "public", Name: "docs"}},
		Source: source, Log: p.log, Store: p.log, LogFull: errFull, Logger: discard(), Heartbeat: time.Hour,
	}
	return p
}

func (p *pipeline) oid(table string) (oid uint32) {
	p.query("select $1::regclass::oid", &oid, table)
	return oid
}

func (p *pipeline) query(sql string, into any, args ...any) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.DSN)
	require.NoError(p.t, err)
	defer conn.Close(p.t.Context())
	require.NoError(p.t, conn.QueryRow(p.t.Context(), sql, args...).Scan(into))
}

// life is one Run.
type life struct {
	t *testing.T
	*Capture
	stop  context.CancelFunc
	ended chan error
}

// run starts capturing and waits until it streams.
func (p *pipeline) run(t *testing.T) *life {
	t.Helper()
	l := p.launch(t)
	require.Eventually(t, func() bool { return l.Status().State == stateStreaming || len(l.ended) > 0 }, patient, time.Millisecond)
	return l
}

func (p *pipeline) launch(t *testing.T) *life {
	t.Helper()
	c, err := New(p.opts)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	l := &life{t: t, Capture: c, stop: stop, ended: make(chan error, 1)}
	go func() { l.ended <- c.Run(ctx) }()
	t.Cleanup(stop)
	return l
}

// end asks for the end and returns why the run ended.
func (l *life) end() error {
	l.t.Helper()
	l.stop()
	return l.wait()
}

func (l *life) wait() error {
	l.t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(patient):
		require.FailNow(l.t, "the run does not end", l.Status().State)
		return nil
	}
}

// halted waits for the run to end and wants a halt that says all of texts.
func (l *life) halted(texts ...string) {
	l.t.Helper()
	err := l.wait()
	require.True(l.t, vecferry.Halts(err), "%v", err)
	for _, text := range texts {
		require.ErrorContains(l.t, err, text)
	}
	require.Equal(l.t, stateHalted, l.Status().State)
}

// await waits until the log has everything that was committed so far.
func (p *pipeline) await(l *life) {
	p.t.Helper()
	var lsn vecferry.LSN
	require.Eventually(p.t, func() (ok bool) { // a restarted server finds dead sessions in the pool
		var err error
		lsn, err = l.Fence(p.t.Context())
		return err == nil
	}, patient, 10*time.Millisecond)
	require.Eventually(p.t, func() bool { return l.Status().Written >= lsn }, patient, time.Millisecond,
		"written %s of %s: %s", l.Status().Written, lsn, l.Status().State)
}

// seen is a change as the tests compare it.
func (p *pipeline) seen() []string {
	p.t.Helper()
	var out []string
	for _, raw := range p.log.content() {
		r, err := vecferry.NewBatchReader(raw, &p.cursor)
		require.NoError(p.t, err)
		var c vecferry.Change
		for {
			more, err := r.Next(&c)
			require.NoError(p.t, err)
			if !more {
				break
			}
			if c.Op != vecferry.OpMark {
				out = append(out, p.show(&c))
			}
		}
	}
	return out
}

// show writes a change as: letter, old key if sent, new columns. A vector is
// shown by its size, an absent value as ?.
func (p *pipeline) show(c *vecferry.Change) string {
	s := string(c.Op)
	for _, tuple := range []vecferry.Tuple{c.Old, c.New} {
		if tuple == nil {
			continue
		}
		columns, err := tuple.Columns(nil)
		require.NoError(p.t, err)
		for i, column := range columns {
			s += " " + showColumn(c.Relation.Columns[i].Name, column)
		}
	}
	return s
}

func showColumn(name string, c vecferry.Column) string {
	switch {
	case c.Kind == vecferry.ColumnNull:
		return "-"
	case c.Kind == vecferry.ColumnAbsent:
		return "?"
	case name == "id":
		return fmt.Sprint(be.Uint64(c.Data))
	case name == "embedding":
		return fmt.Sprintf("[%d]", len(c.Data))
	}
	return string(c.Data)
}

// vector is an SQL expression for a vector of 600 elements.
const vector = "(select array_agg(i)::vector from generate_series(1, 600) i)"

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
