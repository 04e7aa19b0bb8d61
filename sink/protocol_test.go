package sink

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
)

// world is a source, a log, a sink and chunk workers that rapid drives step by
// step, crashing each of them between any two steps.
type world struct {
	t       *rapid.T
	src     source
	log     fakeLog
	target  *fakeTarget
	store   *fakeStore
	dead    *fakeDead
	sink    *Sink
	rules   Rules
	workers []*worker
	attempt uint64
	logged  int   // transactions in the log
	applied []int // by batch: transactions complete in the log up to it
	serial  int
	redone  int
	profile
}

func newWorld(t *rapid.T, rules Rules) *world {
	w := &world{t: t, rules: rules, target: &fakeTarget{entities: map[vecferry.Key][]vecferry.Row{}}, dead: &fakeDead{}}
	w.store = &fakeStore{crash: w.target.step}
	w.workers = make([]*worker, 3)
	tx := w.src.begin()
	for i := range 12 {
		if i%3 != 0 {
			tx.events = append(tx.events, event{op: vecferry.OpInsert, key: keyName(i), row: w.newRow()})
		}
	}
	w.src.commit(tx, true)
	w.logged = 1 // it lies before the slot
	w.start()
	return w
}

func keyName(i int) string { return fmt.Sprintf("%02d", i) }

func (w *world) newRow() srcRow {
	w.serial++
	return srcRow{meta: 100 + w.serial, body: 1000 + w.serial, v: 2000 + w.serial}
}

// start is a sink process: it restores and redoes what was open.
func (w *world) start() {
	w.sink = New(Options{Pipeline: "test", Log: &w.log, Store: w.store, DeadLetters: w.dead, Logger: slog.New(slog.DiscardHandler),
		Tables:     []Mapped{{Table: testTable(), Target: w.target, Empty: true}},
		NewDecoder: func(*vecferry.Table, []vecferry.RelationColumn) (Decoder, error) { return testDecoder{}, nil },
		Rules:      w.rules})
	ctx := context.Background()
	if w.sink.restore(ctx) != nil || w.sink.save(ctx, w.sink.cp.Applying) != nil {
		w.sink = nil
		return
	}
	if last := w.sink.cp.Applying; last != 0 {
		w.redone++
		r, _ := w.log.Reader(ctx, w.sink.cp.Applied)
		if w.sink.redo(ctx, r, last) != nil {
			w.sink = nil
		}
	}
}

func (w *world) key() string { return keyName(rapid.IntRange(0, 11).Draw(w.t, "key")) }

// write is one transaction of the application on rows that nobody has locked.
func (w *world) write() {
	tx := w.src.begin()
	rows, locked := w.src.latestRows(), w.src.locked()
	for range rapid.IntRange(1, 4).Draw(w.t, "statements") {
		if e, ok := w.statement(rows, locked); ok {
			e.replayOn(rows)
			tx.events = append(tx.events, e)
			if e.old != "" && rapid.Bool().Draw(w.t, "use the key again") {
				again := event{op: vecferry.OpInsert, key: e.old, row: w.newRow()}
				again.replayOn(rows)
				tx.events = append(tx.events, again)
			}
		}
	}
	w.src.commit(tx, rapid.IntRange(0, 3).Draw(w.t, "visible") >= w.unseen)
}

func (w *world) statement(rows map[string]srcRow, locked map[string]bool) (event, bool) {
	k, to := w.key(), w.key()
	have, ok := rows[k]
	if locked["*"] || locked[k] || locked[to] {
		return event{}, false
	}
	fresh := w.newRow()
	kind := rapid.IntRange(0, 11).Draw(w.t, "statement")
	switch {
	case kind == 0 && rapid.IntRange(0, 9).Draw(w.t, "truncate") == 0 && len(locked) == 0:
		return event{op: vecferry.OpTruncate}, true
	case !ok:
		return event{op: vecferry.OpInsert, key: k, row: fresh}, true
	case kind <= 4: // scalar update: what is out of line goes unsent
		fresh.body, fresh.v = -1, -1
		if have.v == 0 {
			fresh.v = 0
		}
		return event{op: vecferry.OpUpdate, key: k, row: fresh}, true
	case kind == 5:
		fresh.body = -1
		return event{op: vecferry.OpUpdate, key: k, row: fresh}, true
	case kind == 6:
		fresh.v, fresh.body = 0, -1
		return event{op: vecferry.OpUpdate, key: k, row: fresh}, true
	case kind == 7:
		fresh.meta = badMeta
		return event{op: vecferry.OpUpdate, key: k, row: fresh}, true
	case kind <= 9:
		if _, taken := rows[to]; taken {
			return event{}, false
		}
		fresh.body, fresh.v = -1, -1
		if have.v == 0 {
			fresh.v = 0
		}
		return event{op: vecferry.OpUpdate, key: to, old: k, row: fresh}, true
	}
	return event{op: vecferry.OpDelete, key: k}, true
}

func (w *world) reveal() {
	for _, t := range w.src.txs {
		if !t.visible {
			t.visible = true
			return
		}
	}
}

// capture moves transactions into the log, cut anywhere.
func (w *world) capture() {
	for ; w.logged < len(w.src.txs); w.logged++ {
		t := w.src.txs[w.logged]
		for rest := t.events; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(w.t, "cut")
			w.log.append(t, rest[:n], n == len(rest))
			rest = rest[n:]
			done := w.logged
			if len(rest) == 0 {
				done++
			}
			w.applied = append(w.applied, done)
		}
	}
}

func (w *world) mark(m vecferry.Mark) {
	tx := w.src.begin()
	tx.events = []event{{op: vecferry.OpMark, mark: &m}}
	w.src.commit(tx, true)
}

// apply is one run, which may crash at any step.
func (w *world) apply(crash bool) {
	if w.sink == nil {
		w.start()
		return
	}
	if crash {
		w.target.failIn = rapid.IntRange(1, 25).Draw(w.t, "crash after steps")
	}
	r := &fakeReader{log: &w.log, next: w.sink.cp.Applied}
	n := rapid.IntRange(1, 6).Draw(w.t, "batches")
	r.stop = r.next + uint64(n)
	ctx := context.Background()
	m, ok, err := r.Next(ctx, false)
	if ok && err == nil {
		var batches []Message
		if batches, err = w.sink.gather(ctx, r, m); err == nil {
			err = w.sink.apply(ctx, r, batches, false)
		}
	}
	if err == nil && rapid.Bool().Draw(w.t, "persist") && w.sink.cp.Applying != 0 {
		err = w.sink.save(ctx, 0)
	}
	w.target.failIn = 0
	if err != nil {
		require.ErrorIs(w.t, err, errCrash)
		w.sink = nil
		return
	}
	w.oracle()
}

// settled applies all that was committed and persists it.
func (w *world) settled() {
	w.capture()
	for int(w.sink.cp.Applied) < len(w.log.batches) {
		w.apply(false)
	}
	require.NoError(w.t, w.sink.save(context.Background(), 0))
}

// oracle compares every key of a live range with the source at the sink's
// position, by the log alone.
func (w *world) oracle() {
	if w.sink.cp.Applied == 0 {
		return
	}
	require.Zero(w.t, w.sink.tables[testOID].count.Breaches, "breaches")
	want := w.rowsAt(w.sink.cp.Applied)
	st := w.sink.cp.Tables[testOID]
	requireWhole(w.t, st.Ranges)
	for i := range 12 {
		k := vecferry.Key(keyName(i))
		if st.Ranges[find(st.Ranges, k)].State != vecferry.Live {
			continue
		}
		have := w.target.entities[k]
		row, ok := want[string(k)]
		if !ok || row.v == 0 {
			require.Empty(w.t, have, "key %s at batch %d", k, w.sink.cp.Applied)
			continue
		}
		require.Len(w.t, have, 1, "key %s at batch %d, want %v", k, w.sink.cp.Applied, row)
		require.True(w.t, sameRow(targetRow(string(k), row, 0), have[0]), "key %s at batch %d: have %v, want %v", k, w.sink.cp.Applied, have[0], row)
	}
}

func sameRow(a, b vecferry.Row) bool {
	return slices.EqualFunc(a.Values, b.Values, vecferry.Value.Equal)
}

// rowsAt rebuilds the source after a batch, which may lie inside a transaction.
func (w *world) rowsAt(batch uint64) map[string]srcRow {
	done := w.applied[batch-1]
	rows := rowsAfter(w.src.txs[:done], func(*tx) bool { return true })
	start := int(batch)
	for start > 0 && !w.log.ends(start) {
		start--
	}
	part := 0
	for i := start; i < int(batch); i++ {
		part += w.log.changes(i)
	}
	if done < len(w.src.txs) {
		for _, e := range w.src.txs[done].events[:part] {
			e.replayOn(rows)
		}
	}
	return rows
}

// ends reports whether the batch at index i-1 completed its transaction.
func (l *fakeLog) ends(i int) bool { return l.headers[i-1].EndLSN != 0 }

func (l *fakeLog) changes(i int) int {
	h, _ := vecferry.ParseBatchHeader(l.batches[i].Data)
	return int(h.Changes)
}

// worker is one chunk attempt, as far as it is.
type worker struct {
	step int
	low  vecferry.Mark
	copy vecferry.Copy
	rows []vecferry.Row
	high vecferry.Mark
}

// work moves one worker by one step, or kills it.
func (w *world) work(i int, kill bool) {
	wk := w.workers[i]
	if wk == nil {
		w.workers[i] = w.pick()
		return
	}
	if kill {
		w.workers[i] = nil
		return
	}
	st := w.store.checkpoint().Tables[testOID]
	switch wk.step {
	case 0:
		w.mark(wk.low)
	case 1: // wait for the persisted LOW
		if st == nil || st.Copies[wk.low.Attempt] == nil {
			if w.passed(wk.low) {
				w.workers[i] = nil
			}
			return
		}
		wk.copy = *st.Copies[wk.low.Attempt]
	case 2:
		if !wk.copy.Virgin {
			for _, r := range wk.low.Ranges {
				_ = w.target.Clear(context.Background(), r)
			}
		}
	case 3:
		if !w.readChunk(wk) {
			return
		}
	case 4:
		for _, r := range wk.rows[:len(wk.rows)/2] {
			w.target.insert(r)
		}
	case 5:
		for _, r := range wk.rows[len(wk.rows)/2:] {
			w.target.insert(r)
		}
	case 6:
		w.mark(wk.high)
	default:
		if w.passed(wk.high) {
			w.workers[i] = nil
		}
		return
	}
	wk.step++
}

// passed reports whether the persisted checkpoint lies behind a mark.
func (w *world) passed(m vecferry.Mark) bool {
	applied := w.store.checkpoint().Applied
	if applied == 0 {
		return false
	}
	for _, t := range w.src.txs[:w.applied[applied-1]] {
		for _, e := range t.events {
			if e.mark != nil && e.mark.Kind == m.Kind && e.mark.Attempt == m.Attempt {
				return true
			}
		}
	}
	return false
}

func (w *world) readChunk(wk *worker) bool {
	snap := w.src.snapshot()
	s, err := vecferry.ParseVisibility(snap)
	require.NoError(w.t, err)
	if !s.SeesAll(wk.copy.Need) && rapid.IntRange(0, 2).Draw(w.t, "careless") > 0 {
		return false // a careless worker reads in vain: its chunk is void
	}
	wk.high = vecferry.Mark{Kind: vecferry.High, Table: testOID, Attempt: wk.low.Attempt, Snapshot: snap}
	for k, row := range w.src.visibleRows() {
		if !hasKey(wk.low.Ranges, vecferry.Key(k)) || row.v == 0 {
			continue
		}
		if row.meta == badMeta {
			wk.high.Dead = append(wk.high.Dead, vecferry.Key(k))
			continue
		}
		wk.rows = append(wk.rows, targetRow(k, row, wk.copy.Low))
	}
	return true
}

// pick takes ranges that are not live, or at times live ones again, and that no
// living worker has.
func (w *world) pick() *worker {
	st := w.store.checkpoint().Tables[testOID]
	if st == nil {
		return nil
	}
	want := func(r vecferry.MappedRange) bool { return r.State != vecferry.Live && r.State != vecferry.Dead }
	if rapid.IntRange(0, 5).Draw(w.t, "copy again") == 0 {
		want = func(r vecferry.MappedRange) bool { return true }
	}
	var ranges []vecferry.Range
	cut := rapid.IntRange(1, 11).Draw(w.t, "chunk")
	within := vecferry.Range{Hi: vecferry.Key(keyName(cut))}
	if rapid.Bool().Draw(w.t, "upper half") {
		within = vecferry.Range{Lo: vecferry.Key(keyName(cut)), ToEnd: true}
	}
	for _, r := range covered(st.Ranges, want, within) {
		if !w.busy(r) {
			ranges = append(ranges, r)
		}
	}
	if len(ranges) == 0 {
		return nil
	}
	w.attempt++
	return &worker{low: vecferry.Mark{Kind: vecferry.Low, Table: testOID, Attempt: w.attempt, Ranges: ranges, Snapshot: w.src.snapshot()}}
}

func (w *world) busy(r vecferry.Range) bool {
	for _, wk := range w.workers {
		if wk != nil && slices.ContainsFunc(wk.low.Ranges, r.Overlaps) {
			return true
		}
	}
	return false
}

// finish lets everything come to rest and compares all rows.
func (w *world) finish() {
	for range 3000 {
		w.reveal()
		w.capture()
		w.apply(false)
		for i := range w.workers {
			w.work(i, false)
		}
		if w.sink != nil && w.sink.cp.Applying != 0 {
			require.NoError(w.t, w.sink.save(context.Background(), 0))
		}
		if w.atRest() {
			w.oracle()
			return
		}
	}
	w.t.Fatalf("does not come to rest: %v", w.sink.cp.Tables[testOID].Ranges)
}

func (w *world) atRest() bool {
	if w.sink == nil || int(w.sink.cp.Applied) < len(w.log.batches) || w.logged < len(w.src.txs) {
		return false
	}
	idle := !slices.ContainsFunc(w.workers, func(wk *worker) bool { return wk != nil })
	return idle && w.sink.cp.Tables[testOID].AllLive()
}

// profile is what a history has much of.
type profile struct {
	unseen  int  // of 4 commits stay invisible for a while
	crashes int  // of 4 runs crash
	copied  bool // everything is live at the start
}

func anyProfile(t *rapid.T) profile {
	return profile{rapid.IntRange(0, 3).Draw(t, "unseen"), rapid.IntRange(0, 3).Draw(t, "crashes"), rapid.Bool().Draw(t, "copied before")}
}

// drive runs random steps, then finishes.
func drive(t *rapid.T, rules Rules, p profile) *world {
	w := newWorld(t, rules)
	w.profile = p
	if p.copied {
		w.finish()
	}
	for range rapid.IntRange(20, 120).Draw(t, "steps") {
		switch rapid.IntRange(0, 9).Draw(t, "step") {
		case 0, 1, 2:
			w.write()
		case 3:
			w.reveal()
		case 4:
			w.capture()
			w.apply(rapid.IntRange(0, 3).Draw(t, "crash") < w.crashes)
		case 5:
			w.mark(vecferry.Mark{Kind: vecferry.Beat, Snapshot: w.src.snapshot()})
		default:
			w.work(rapid.IntRange(0, 2).Draw(t, "worker"), rapid.IntRange(0, 24).Draw(t, "kill") == 0)
		}
	}
	w.finish()
	return w
}

// Every live key equals the source at the sink's position at every run
// boundary, whatever crashes where.
func TestLiveRangesEqualTheSource(t *testing.T) {
	t.Parallel()
	var redone, chunks, tainted int
	rapid.Check(t, func(t *rapid.T) {
		w := drive(t, Protocol{}, anyProfile(t))
		redone += w.redone
		chunks += int(w.sink.cp.Tables[testOID].Chunks)
		tainted += int(w.sink.cp.Tables[testOID].Taints)
	})
	require.NotZero(t, redone)
	require.NotZero(t, chunks)
	require.NotZero(t, tainted)
}
