package snapshot_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vecferry/vecferry"
)

// using notes that a call works on ranges, which no other may do meanwhile, and
// which the sink must not do either.
func (w *world) using(rs []vecferry.Range) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range rs {
		if slices.ContainsFunc(w.busy, r.Overlaps) {
			w.breach("two workers on %v", r)
		}
	}
	w.busy = append(w.busy, rs...)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range rs {
			i := slices.Index(w.busy, r)
			w.busy = slices.Delete(w.busy, i, i+1)
		}
	}
}

func (w *world) nap(ms int) {
	w.mu.Lock()
	d := time.Duration(w.rnd.IntN(ms*1000)) * time.Microsecond
	w.mu.Unlock()
	sleep(d)
}

// touch notes that the copy writes to a key.
func (w *world) touch(k vecferry.Key) {
	if s := w.stateOf(k).State; s == vecferry.Live {
		w.breach("the copy wrote to %d in a live range", k.Int())
	}
}

// Check implements snapshot.Target.
func (w *world) Check(r vecferry.Row) error {
	if refuses(int(r.Values[1].Int())) {
		return w.table.RowError(r.Key, "embedding", "does not fit")
	}
	return nil
}

// Clear implements snapshot.Target.
func (w *world) Clear(_ context.Context, r vecferry.Range) error {
	defer w.using([]vecferry.Range{r})()
	w.nap(20)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats["clear"]++
	fail := w.chance(w.faults.target)
	for k := range w.history {
		if r.Has(k) && !(fail && w.chance(0.5)) {
			w.touch(k)
			delete(w.target, k)
		}
	}
	if fail {
		return errors.New("unavailable")
	}
	return nil
}

// Replace implements snapshot.Target.
func (w *world) Replace(_ context.Context, wr vecferry.Write) ([]vecferry.Rejected, error) {
	var rs []vecferry.Range
	for _, r := range slices.Concat(wr.Put, wr.New) {
		rs = append(rs, vecferry.Only(r.Key))
	}
	for _, k := range wr.Delete {
		rs = append(rs, vecferry.Only(k))
	}
	defer w.using(rs)()
	w.nap(50)
	w.mu.Lock()
	defer w.mu.Unlock()
	fail := w.chance(w.faults.target)
	for _, k := range wr.Delete {
		w.touch(k)
		delete(w.target, k)
	}
	var out []vecferry.Rejected
	for i, r := range slices.Concat(wr.Put, wr.New) {
		if fail && w.chance(0.5) {
			continue
		}
		w.touch(r.Key)
		v := int(r.Values[1].Int())
		if v%29 == 0 { // what only the server finds
			delete(w.target, r.Key)
			out = append(out, vecferry.Rejected{Row: r, Err: w.table.RowError(r.Key, "embedding", "refused")})
			continue
		}
		if _, there := w.target[r.Key]; there && i >= len(wr.Put) {
			w.breach("duplicate entity of %d", r.Key.Int())
		}
		w.target[r.Key] = v
	}
	if fail {
		return nil, errors.New("unavailable")
	}
	return out, nil
}

// Bury implements snapshot.DeadLetters.
func (w *world) Bury(_ context.Context, _ *vecferry.Table, rows []vecferry.Rejected) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range rows {
		w.buried[r.Row.Key] = true
	}
	return nil
}

// Counter implements snapshot.Counters.
func (w *world) Counter(context.Context, string) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counter++
	return w.counter, nil
}

// Watch implements snapshot.Checkpoints.
func (w *world) Watch(ctx context.Context, f func(*vecferry.Checkpoint)) error {
	bell := make(chan struct{}, 1)
	w.mu.Lock()
	w.watchers[bell] = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watchers, bell)
	}()
	for {
		w.mu.Lock()
		saved := w.shown
		w.mu.Unlock()
		cp, err := vecferry.DecodeCheckpoint(saved)
		if err != nil {
			return err
		}
		f(cp)
		select {
		case <-ctx.Done():
			return nil
		case <-bell:
		}
	}
}
