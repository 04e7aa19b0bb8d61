package property

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/changelog"
	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/internal/postgres"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/sink"
	"github.com/vecferry/vecferry/snapshot"
)

const (
	pipelineName = "property"
	publication  = "property"
)

// world is one run: the servers, the stages, the writers and the oracle.
type world struct {
	t      *testing.T
	o      options
	dsn    string
	slot   string // slots of all databases of a server share their names
	dir    string // of the log
	server crashable
	target *target
	oracle *oracle
	logger *slog.Logger

	tables   []*vecferry.Table
	sinkDice *dice
	wild     atomic.Bool // the writers are at work
	calm     atomic.Bool // nobody dies any more, and nothing is slow
	still    atomic.Bool // no more transactions
	halted   atomic.Pointer[error]
	hook     func(snapshot.Step) // may be nil
	count    counts
	sorted   map[string][]vecferry.Key // by table
	last     *vecferry.Checkpoint      // that was read
	mutation

	// One opening of the log; who uses it beside the stages takes the lock.
	reopening sync.Mutex
	source    *postgres.Source
	log       *changelog.Log
	stages    map[string]*stage
	ending    context.CancelFunc
	ended     chan struct{}
}

// crashable is a server of PostgreSQL that may be killed.
type crashable interface {
	Kill() error
	Restart(ctx context.Context) error
}

// stage is what runs now of a stage.
type stage struct {
	mu     sync.Mutex
	life   *life
	cancel context.CancelFunc
	last   error // that ended the run before
}

// newWorld makes the tables and fills them.
func newWorld(t *testing.T, o options, db *testenv.TestDB) *world {
	t.Helper()
	dsn := db.DSN
	w := &world{t: t, o: o, dsn: dsn, slot: db.Name, dir: t.TempDir(), sinkDice: newDice(o.seed, 1), logger: logger()}
	w.listeners = map[int]func(*vecferry.Checkpoint){}
	w.noted = map[string]vecferry.LSN{}
	w.hasty = map[uint64]*hasty{}
	w.sorted = map[string][]vecferry.Key{"ints": sortKeys("ints"), "texts": sortKeys("texts")}
	w.target = &target{w: w, writing: map[int]write{}}
	source, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn})
	require.NoError(t, err)
	defer source.Close()
	w.exec(ddl)
	for _, name := range tableNames() {
		w.exec(fmt.Sprintf("insert into %s (id, meta, body, note, emb) %s", name, rowsOf(name, 1+w.sinkDice.n(4))))
		table, _, err := source.Inspect(t.Context(), postgres.Spec{Schema: "public", Name: name, Collection: o.prefix + name,
			BatchRows: 5 + w.sinkDice.n(40), Columns: map[string]postgres.ColumnSpec{"note": {Type: "varchar", MaxLength: noteBytes}},
			Index: vecferry.Index{Type: "HNSW", Metric: "L2", M: 8, EfConstruction: 32}})
		require.NoError(t, err)
		w.tables = append(w.tables, table)
	}
	require.NoError(t, source.EnsurePublication(t.Context(), publication, w.tables, true))
	w.oracle = newOracle(w.tables)
	for _, table := range w.tables {
		w.oracle.rows[table.OID] = w.rows(table)
	}
	return w
}

func logger() *slog.Logger {
	if os.Getenv("VECFERRY_PROPERTY_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// open opens the log and starts the stages.
func (w *world) open() {
	w.t.Helper()
	var err error
	require.Eventually(w.t, func() bool {
		w.source, err = postgres.Open(w.t.Context(), postgres.Options{DSN: w.dsn, MaxConns: w.o.workers + 6})
		return err == nil
	}, 30*time.Second, 10*time.Millisecond, "%v", err)
	w.log, err = changelog.Open(w.t.Context(), changelog.Options{Pipeline: pipelineName, Embedded: &changelog.Embedded{Dir: w.dir}, MaxBytes: 1 << 30})
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	w.ending, w.ended = cancel, make(chan struct{})
	w.stages = map[string]*stage{"capture": {}, "sink": {}, "copy": {}}
	var g errgroup.Group
	g.Go(func() error { w.repeat(ctx, "capture", 2, w.capture); return nil })
	g.Go(func() error { w.repeat(ctx, "sink", 3, w.sink); return nil })
	g.Go(func() error { w.repeat(ctx, "copy", 4, w.copy); return nil })
	go func() {
		defer close(w.ended)
		_ = g.Wait()
	}()
}

// close ends the stages, at once if they are to die, and closes the log.
func (w *world) close(die bool) {
	for _, s := range w.stages {
		if die {
			s.die()
		}
	}
	w.ending()
	<-w.ended
	w.log.Close()
	w.source.Close()
}

// die ends a life from outside.
func (s *stage) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life.end()
	if s.cancel != nil {
		s.cancel()
	}
}

// stop asks a life to end.
func (s *stage) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
	}
}

// repeat runs a stage again whenever it has died.
func (w *world) repeat(ctx context.Context, name string, actor uint64, run func(context.Context, mortal) error) {
	s := w.stages[name]
	d := newDice(w.o.seed, actor)
	for ctx.Err() == nil {
		m := mortal{w: w, life: &life{dice: d, chance: w.o.deaths[name], calm: &w.calm, deaths: w.count.deathsOf(name)}}
		life, cancel := context.WithCancel(ctx)
		s.mu.Lock()
		s.life, s.cancel = m.life, cancel
		s.mu.Unlock()
		err := run(life, m)
		cancel()
		if vecferry.Halts(err) {
			err = fmt.Errorf("%s halts: %w", name, err)
			w.halted.CompareAndSwap(nil, &err)
			return
		}
		s.mu.Lock()
		s.last = err
		s.mu.Unlock()
		lifecycle.Sleep(ctx, d.upTo(15*time.Millisecond))
	}
}

// sink is one life of the sink.
func (w *world) sink(ctx context.Context, m mortal) error {
	store := stateStore{mortal: m, log: w.log}
	var mapped []sink.Mapped
	for _, t := range w.tables {
		empty, err := w.target.prepare(ctx, t)
		if err != nil {
			return err
		}
		mapped = append(mapped, sink.Mapped{Table: t, Target: w.target.collection(t, m, "sink"), Empty: empty})
	}
	s := sink.New(sink.Options{
		Pipeline: pipelineName, Tables: mapped, Log: sinkLog{m, w.log}, Store: checkpointStore{store},
		DeadLetters: sinkLetters{letters{m, w.log}}, NewDecoder: newDecoder, Logger: w.logger.With("stage", "sink"),
		Rules: w.o.mutant.rules(w), MaxRunBytes: w.o.runBytes,
	})
	defer func() { w.count.sink(s.Status(), w.oracle) }()
	return s.Run(ctx)
}

// copy is one life of the snapshot.
func (w *world) copy(ctx context.Context, m mortal) error {
	targets := map[uint32]snapshot.Target{}
	for _, t := range w.tables {
		targets[t.OID] = w.o.mutant.copyTarget(w.target.collection(t, m, "copy"))
	}
	s, err := snapshot.New(snapshot.Options{
		Pipeline: pipelineName, Tables: w.tables, Workers: w.o.workers, Logger: w.logger.With("stage", "snapshot"),
		Hook: func(at snapshot.Step) error {
			if w.hook != nil {
				w.hook(at)
			}
			return m.life.stumble()
		},
	}, snapshot.Deps{
		Marks: marks{m, w.source}, Source: chunks{m, w.source}, Targets: targets, Checkpoints: checkpoints{m, w.log},
		Counters: counters{m, w.log}, DeadLetters: copyLetters{letters{m, w.log}},
	})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// failures are what is wrong so far.
func (w *world) failures() []string {
	out := w.oracle.found()
	if err := w.halted.Load(); err != nil {
		out = append(out, (*err).Error())
	}
	return out
}
