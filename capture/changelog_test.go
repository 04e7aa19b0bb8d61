package capture

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/changelog"
	"github.com/vecferry/vecferry/internal/testenv"
)

// realLog adapts the change log as the program does.
type realLog struct{ *changelog.Log }

func (l realLog) Tail(ctx context.Context) (vecferry.BatchHeader, error) {
	t, err := l.Log.Tail(ctx)
	return t.Header, err
}

func (l realLog) Writer(ctx context.Context) (Writer, vecferry.BatchHeader, error) {
	w, err := l.NewWriter(ctx)
	if err != nil {
		return nil, vecferry.BatchHeader{}, err
	}
	return realWriter{w}, w.Tail().Header, nil
}

func (l realLog) Load(ctx context.Context, key string) ([]byte, uint64, error) {
	e, err := l.Get(ctx, key)
	if errors.Is(err, changelog.ErrNotFound) {
		return nil, 0, nil
	}
	return e.Value, e.Revision, err
}

func (l realLog) Save(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return l.Put(ctx, key, value, revision)
}

type realWriter struct{ *changelog.Writer }

func (w realWriter) Durable(ctx context.Context) (vecferry.BatchHeader, error) {
	select {
	case a := <-w.Acked():
		return a.Header, nil
	case <-w.Done():
		return vecferry.BatchHeader{}, w.Err()
	case <-ctx.Done():
		return vecferry.BatchHeader{}, context.Cause(ctx)
	}
}

// onRealLog replaces the log in memory by an embedded one.
func (p *pipeline) onRealLog(tb testing.TB, dir string, maxBytes int64) realLog {
	tb.Helper()
	log, err := changelog.Open(tb.Context(), changelog.Options{
		Pipeline: "p", Embedded: &changelog.Embedded{Dir: dir}, MaxBytes: maxBytes, Logger: discard(),
	})
	require.NoError(tb, err)
	tb.Cleanup(log.Close)
	l := realLog{log}
	p.opts.Log, p.opts.Store, p.opts.LogFull = l, l, changelog.ErrFull
	return l
}

// read returns what the log holds from the first batch on.
func (l realLog) read(t *testing.T, p *pipeline) []string {
	t.Helper()
	tail, err := l.Log.Tail(t.Context())
	require.NoError(t, err)
	r, err := l.Reader(t.Context(), 0)
	require.NoError(t, err)
	defer r.Close()
	for batch := uint64(0); batch < tail.Header.Batch; {
		m, err := r.Next(t.Context(), time.Second)
		require.NoError(t, err)
		batch = m.Batch
		p.log.batches = append(p.log.batches, m.Data)
	}
	return p.seen()
}

func TestCaptureOnTheRealChangeLog(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		log := p.onRealLog(t, t.TempDir(), 0)
		p.opts.BatchBytes = 20_000
		p.db.Exec("create table truth (n bigserial primary key, what text)")
		require.NoError(t, p.run(t).end())
		written := make(chan struct{})
		go func() { defer close(written); p.write(8) }()
		for i, done := 0, false; !done; i++ {
			l := p.run(t)
			select {
			case <-written:
				done = true
			case <-time.After(100 * time.Millisecond):
			}
			if i%2 == 0 {
				p.opts.DrainTimeout = time.Nanosecond // the next life is killed
			} else {
				p.opts.DrainTimeout = 0
			}
			require.False(t, vecferry.Halts(l.end()))
		}
		l := p.run(t)
		p.await(l)
		require.NoError(t, l.end())
		var want []string
		p.query("select array_agg(what order by n) from truth", &want)
		require.Equal(t, want, log.read(t, p))
	})
}

func TestCaptureFillsTheRealChangeLogAndGoesOn(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.Postgres(t, 18))
	dir := t.TempDir()
	log := p.onRealLog(t, dir, 1<<20)
	p.opts.StatusInterval = 5 * time.Second // it also bounds a write of the state, on a busy machine too
	l := p.run(t)
	p.db.Exec("insert into docs select i, repeat('x', 1000) from generate_series(1, 3000) i")
	require.ErrorIs(t, l.wait(), changelog.ErrFull)
	require.Equal(t, stateLogFull, l.Status().State)
	log.Close()
	log = p.onRealLog(t, dir, 1<<30)
	l = p.run(t)
	p.await(l)
	require.NoError(t, l.end())
	require.Len(t, log.read(t, p), 3000)
}

// BenchmarkCapture carries rows of 1536 dimensions that wait in the slot into
// the embedded change log, which syncs every batch.
func BenchmarkCapture(b *testing.B) {
	const rows = 20_000
	for _, version := range []int{16, 18} {
		b.Run(fmt.Sprint(version), func(b *testing.B) {
			db := testenv.Postgres(b, version)
			db.Exec("create table docs (id bigserial primary key, embedding vector(1536)); create publication vecferry for table docs")
			p := benchPipeline(b, db)
			p.onRealLog(b, b.TempDir(), 0)
			c, err := New(p.opts)
			require.NoError(b, err)
			step := func(until func() bool) {
				ctx, stop := context.WithCancel(b.Context())
				ended := make(chan error, 1)
				go func() { ended <- c.Run(ctx) }()
				require.Eventually(b, func() bool { return until() || len(ended) > 0 }, 2*time.Minute, time.Millisecond)
				stop()
				require.NoError(b, <-ended)
			}
			step(func() bool { return c.Status().State == stateStreaming })
			for b.Loop() {
				b.StopTimer()
				fillVectors(b, db, rows)
				before := c.Status().Inserts
				b.StartTimer()
				step(func() bool { return c.Status().Inserts == before+rows })
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// fillVectors writes transactions of 1000 rows.
func fillVectors(b *testing.B, db *testenv.TestDB, rows int) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), db.DSN)
	require.NoError(b, err)
	defer conn.Close(b.Context())
	for range rows / 1000 {
		_, err := conn.Exec(b.Context(), `insert into docs (embedding)
			select (select array_agg(i + k)::vector from generate_series(1, 1536) k) from generate_series(1, 1000) i`)
		require.NoError(b, err)
	}
}
