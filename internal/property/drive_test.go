package property

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/sink/milvus"
)

// drive runs the world from beginning to end and returns what is wrong.
func (w *world) drive() []string {
	w.t.Helper()
	w.open()
	w.awaitSlot()
	if w.o.copied {
		w.awaitCopy()
	}
	writers := w.startWriters()
	w.wild.Store(true)
	w.chaos()
	w.wild.Store(false)
	w.still.Store(true)
	writers.Wait()
	w.calm.Store(true)
	w.settle()
	w.close(false)
	return w.failures()
}

// startWriters starts the sessions of the application.
func (w *world) startWriters() *sync.WaitGroup {
	var wg sync.WaitGroup
	for n := range w.o.writers {
		a := &writer{w: w, n: n, dice: newDice(w.o.seed, uint64(100+n)), setup: "set lock_timeout = '2500ms'; set deadlock_timeout = '200ms'"}
		switch {
		case w.o.killed && n%2 == 0:
			a.setup += "; set synchronous_commit = off" // visible before it is durable
		case !w.o.ghost || n < 4:
			a.setup += "; set synchronous_commit = local"
		default:
			a.ghost = true
		}
		wg.Go(func() { a.run(w.t.Context()) })
	}
	return &wg
}

// chaos lets things go wrong until enough was written, or something was found.
func (w *world) chaos() {
	d := newDice(w.o.seed, 5)
	ctx, cancel := context.WithTimeout(w.t.Context(), w.o.duration)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { w.recopy(ctx) })
	for lifecycle.Sleep(ctx, w.o.chaos/2+d.upTo(w.o.chaos)) && len(w.failures()) == 0 && w.count.commits.Load() < w.o.commits {
		w.act(d)
	}
	cancel()
	wg.Wait()
}

// act lets one thing go wrong.
func (w *world) act(d *dice) {
	w.reopening.Lock()
	defer w.reopening.Unlock()
	if w.server != nil && d.n(2) == 0 {
		w.kill(d)
		return
	}
	switch d.n(7) {
	case 0:
		w.stages["capture"].stop()
	case 1:
		_ = w.terminate()
	case 2:
		w.stages["copy"].die()
	case 3:
		w.stages["copy"].stop()
	case 4:
		w.stages["sink"].stop()
	case 5:
		w.stages["sink"].die()
	default:
		w.close(d.n(2) == 0)
		w.count.reopened.Add(1)
		w.open()
	}
}

// terminate ends the connection that capture reads from.
func (w *world) terminate() error {
	c, err := w.connect()
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	_, err = c.Exec(w.t.Context(), "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database() and active")
	return err
}

// kill kills PostgreSQL.
func (w *world) kill(d *dice) {
	w.count.kills.Add(1)
	require.NoError(w.t, w.server.Kill())
	lifecycle.Sleep(w.t.Context(), d.upTo(100*time.Millisecond))
	require.NoError(w.t, w.server.Restart(w.t.Context()))
}

// recopy writes a LOW for live ranges now and then: what is so opened belongs
// to no worker, and is copied like the chunk of one that died.
func (w *world) recopy(ctx context.Context) {
	d := newDice(w.o.seed, 6)
	for lifecycle.Sleep(ctx, w.o.recopy/2+d.upTo(w.o.recopy)) {
		if err := w.copyAgain(ctx, d); err == nil {
			w.count.recopies.Add(1)
		}
	}
}

func (w *world) copyAgain(ctx context.Context, d *dice) error {
	w.reopening.Lock()
	defer w.reopening.Unlock()
	cp := w.record(ctx)
	if cp == nil {
		return errCrash
	}
	table := w.tables[d.n(2)]
	lo := d.n(keysPerTable)
	r := vecferry.Range{Lo: w.nth(table, lo), ToEnd: true}
	if hi := lo + 1 + d.n(60); hi < keysPerTable {
		r.Hi, r.ToEnd = w.nth(table, hi), false
	}
	st := cp.Tables[table.OID]
	if st == nil || r.Empty() {
		return errCrash
	}
	for _, have := range st.Ranges {
		if have.Overlaps(r) && have.State != vecferry.Live {
			return errCrash // the copy is at it
		}
	}
	attempt, err := w.log.Counter(ctx, "attempt")
	if err != nil {
		return err
	}
	before, err := w.source.Snapshot(ctx)
	if err != nil {
		return err
	}
	_, err = w.source.Emit(ctx, pipelineName, vecferry.Mark{Kind: vecferry.Low, Table: table.OID, Attempt: attempt,
		Ranges: []vecferry.Range{r}, Snapshot: before})
	return err
}

// nth is the n-th key of a table in order.
func (w *world) nth(t *vecferry.Table, n int) vecferry.Key { return w.sorted[t.Name][n] }

// settleTime is how long the world may take to come to rest.
const settleTime = 2 * time.Minute

// settle waits until everything is live and applied, then compares all rows.
func (w *world) settle() {
	w.t.Helper()
	w.stages["copy"].stop() // a new one has no pauses to wait out
	ctx, cancel := context.WithTimeout(w.t.Context(), settleTime)
	defer cancel()
	fence, err := w.fence(ctx)
	require.NoError(w.t, err)
	for !w.atRest(ctx, fence) {
		if len(w.failures()) > 0 {
			return
		}
		if !lifecycle.Sleep(ctx, 10*time.Millisecond) {
			w.oracle.violateAny("does not come to rest:\n%s", w.picture())
			return
		}
	}
	if w.target.memory == nil {
		w.oracle.check(w.last, w.serverEntities)
	}
	for _, t := range w.tables {
		held := w.target.entities
		if w.target.memory == nil {
			held = w.serverEntities
		}
		w.oracle.same(t, w.rows(t), held(t))
	}
}

// awaitCopy waits until everything is live.
func (w *world) awaitCopy() {
	w.t.Helper()
	for deadline := time.Now().Add(settleTime); !w.atRest(w.t.Context(), 0); lifecycle.Sleep(w.t.Context(), 5*time.Millisecond) {
		if len(w.failures()) > 0 || time.Now().After(deadline) {
			w.t.Fatalf("not copied: %v\n%s", w.failures(), w.picture())
		}
	}
}

// fence returns a position that is behind everything that was committed.
func (w *world) fence(ctx context.Context) (at vecferry.LSN, err error) {
	for {
		if at, err = w.source.CurrentLSN(ctx); err == nil {
			var s string
			if s, err = w.source.Snapshot(ctx); err == nil {
				_, err = w.source.Emit(ctx, pipelineName, vecferry.Mark{Kind: vecferry.Beat, Snapshot: s})
			}
		}
		if err == nil || !lifecycle.Sleep(ctx, 10*time.Millisecond) {
			return at, err
		}
	}
}

func (w *world) atRest(ctx context.Context, fence vecferry.LSN) bool {
	cp := w.record(ctx)
	if cp == nil || cp.Applying != 0 || cp.AppliedLSN < fence || len(cp.Tables) != len(w.tables) {
		return false
	}
	w.last = cp
	for _, t := range cp.Tables {
		if !t.AllLive() {
			return false
		}
	}
	return true
}

// picture is what a world looks like that hangs.
func (w *world) picture() string {
	out := ""
	for name, s := range w.stages {
		s.mu.Lock()
		out += fmt.Sprintf("%s: last error %v\n", name, s.last)
		s.mu.Unlock()
	}
	if cp := w.record(w.t.Context()); cp != nil {
		b, _ := cp.Encode()
		out += string(b)
	}
	return out
}

// serverEntities reads all rows of a collection from the server.
func (w *world) serverEntities(t *vecferry.Table) entities {
	b := w.target.client.Backend(t)
	everything := milvus.Selection{Range: vecferry.Everything()}
	rows, err := b.Query(w.t.Context(), milvus.Query{Selection: everything})
	require.NoError(w.t, err)
	n, err := b.Count(w.t.Context(), everything)
	require.NoError(w.t, err)
	require.EqualValues(w.t, len(rows), n, "entities of %s", t.Collection)
	out := entities{}
	for _, r := range rows {
		out[r.Key] = append(out[r.Key], r)
	}
	return out
}
