package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/snapshot"
)

// commit is a transaction over some keys: it has its id, and its row locks, for
// a while before it is in the log, and is in the log for a while before it can
// be seen.
func (w *world) commit(keys []vecferry.Key, open, unseen time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := entry{xid: w.nextXID}
	w.nextXID++
	for _, k := range keys {
		if w.locked[k] {
			continue
		}
		w.locked[k] = true
		c := change{key: k}
		if w.rnd.IntN(4) > 0 {
			c.version = w.rnd.IntN(1 << 20)
		}
		e.changes = append(e.changes, c)
	}
	w.hidden[e.xid] = true
	w.late.Go(func() {
		sleep(open)
		w.locking(func() {
			w.log = append(w.log, e)
			for _, c := range e.changes {
				w.history[c.key] = append(w.history[c.key], version{e.xid, c.version})
			}
		})
		sleep(unseen)
		w.locking(func() {
			delete(w.hidden, e.xid)
			for _, c := range e.changes {
				delete(w.locked, c.key)
			}
		})
	})
}

func (w *world) locking(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) snapshotText() string {
	xs := slices.Sorted(maps.Keys(w.hidden))
	xmin := w.nextXID
	ids := make([]string, len(xs))
	for i, x := range xs {
		ids[i] = strconv.FormatUint(uint64(x), 10)
		xmin = min(xmin, x)
	}
	return fmt.Sprintf("%d:%d:%s", xmin, w.nextXID, strings.Join(ids, ","))
}

// Snapshot implements snapshot.Marks.
func (w *world) Snapshot(context.Context) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshotText(), nil
}

// Emit implements snapshot.Marks. LSNs are lengths of the log.
func (w *world) Emit(_ context.Context, _ string, m vecferry.Mark) (vecferry.LSN, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.Kind == vecferry.Low {
		if w.attempts[m.Attempt] {
			w.breach("attempt %d was used twice", m.Attempt)
		}
		w.attempts[m.Attempt] = true
	}
	w.stats[string(m.Kind)]++
	write := func() { w.log = append(w.log, entry{xid: w.nextXID, mark: &m}); w.nextXID++ }
	if w.chance(w.emit) {
		switch w.rnd.IntN(4) {
		case 0:
			write()
		case 1:
			after := time.Duration(w.rnd.IntN(300)) * time.Millisecond
			w.late.Go(func() {
				sleep(after)
				w.mu.Lock()
				defer w.mu.Unlock()
				write()
			})
		}
		return 0, errors.New("connection lost")
	}
	write()
	return vecferry.LSN(len(w.log)), nil
}

// Estimate implements snapshot.Source.
func (w *world) Estimate(context.Context, *vecferry.Table) (snapshot.Estimate, error) {
	return snapshot.Estimate{Rows: 100, Bytes: 100 * 1000}, nil
}

// Split implements snapshot.Source.
func (w *world) Split(_ context.Context, _ *vecferry.Table, r vecferry.Range, rows int) ([]vecferry.Key, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats["split"]++
	var out []vecferry.Key
	n := 0
	for _, k := range slices.Sorted(maps.Keys(w.history)) {
		if !r.Has(k) {
			continue
		}
		if n == rows {
			out, n = append(out, k), 0
		}
		n++
	}
	return out, nil
}

// rowBytes is what a row counts for Request.MaxBytes.
const rowBytes = 1000

// ReadChunk implements snapshot.Source.
func (w *world) ReadChunk(ctx context.Context, req snapshot.Request) (snapshot.Chunk, error) {
	defer w.using(req.Ranges)()
	for {
		c, all, err := w.read(req)
		if err != nil || all {
			w.nap(50)
			return c, err
		}
		req.Waiting(c.Snapshot)
		select {
		case <-ctx.Done():
			return snapshot.Chunk{}, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// read reports false if its snapshot does not see all that is needed.
func (w *world) read(req snapshot.Request) (snapshot.Chunk, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := snapshot.Chunk{Snapshot: w.snapshotText()}
	sees, err := vecferry.ParseVisibility(c.Snapshot)
	if err != nil || !sees.SeesAll(req.Need) {
		return c, false, err
	}
	for _, k := range slices.Sorted(maps.Keys(w.history)) {
		if v := w.visible(k, sees); v != 0 && slices.ContainsFunc(req.Ranges, func(r vecferry.Range) bool { return r.Has(k) }) {
			c.Rows = append(c.Rows, vecferry.Row{Key: k, Position: req.Position, Values: []vecferry.Value{
				vecferry.IntValue(k.Int()), vecferry.IntValue(int64(v))}})
		}
	}
	if n := len(c.Rows); n > 1 && int64(n*rowBytes) > req.MaxBytes {
		w.stats["large"]++
		return c, false, &snapshot.TooLargeError{Rows: int(req.MaxBytes) / rowBytes}
	}
	return c, true, nil
}

func (w *world) visible(k vecferry.Key, sees vecferry.Visibility) int {
	out := 0
	for _, v := range w.history[k] {
		if sees.Sees(v.xid) {
			out = v.version
		}
	}
	return out
}
