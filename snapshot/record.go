package snapshot

import (
	"context"
	"slices"
	"sync"

	"github.com/vecferry/vecferry"
)

// record is the newest checkpoint that the sink persisted. A checkpoint is
// never changed once it is in here.
type record struct {
	mu      sync.Mutex
	cp      *vecferry.Checkpoint // nil before the sink's first
	changed chan struct{}        // closed when cp is replaced
}

func newRecord() *record { return &record{changed: make(chan struct{})} }

func (r *record) set(cp *vecferry.Checkpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cp = cp
	close(r.changed)
	r.changed = make(chan struct{})
}

// get returns the record and a channel that is closed when it is replaced.
func (r *record) get() (*vecferry.Checkpoint, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cp, r.changed
}

// wait returns the first record, from now on, that is as wanted.
func (r *record) wait(ctx context.Context, wanted func(*vecferry.Checkpoint) bool) (*vecferry.Checkpoint, error) {
	for {
		cp, changed := r.get()
		if cp != nil && wanted(cp) {
			return cp, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// heldCopy returns the open copy of an attempt, nil unless it has all of the
// ranges.
func heldCopy(cp *vecferry.Checkpoint, oid uint32, attempt uint64, ranges []vecferry.Range) *vecferry.Copy {
	if cp == nil || cp.Tables[oid] == nil {
		return nil
	}
	t := cp.Tables[oid]
	for _, r := range ranges {
		if !within(t.Ranges, r, func(m vecferry.MappedRange) bool {
			return m.State == vecferry.Copying && m.Attempt == attempt
		}) {
			return nil
		}
	}
	return t.Copies[attempt]
}

// within reports whether all of r lies in mapped ranges of a kind. The mapped
// ranges are sorted, disjoint and together everything.
func within(rs []vecferry.MappedRange, r vecferry.Range, is func(vecferry.MappedRange) bool) bool {
	for i := first(rs, r.Lo); i < len(rs) && rs[i].Overlaps(r); i++ {
		if !is(rs[i]) {
			return false
		}
	}
	return true
}

// first returns the index of the mapped range that holds k.
func first(rs []vecferry.MappedRange, k vecferry.Key) int {
	i, _ := slices.BinarySearchFunc(rs, k, func(r vecferry.MappedRange, k vecferry.Key) int {
		if r.Before(k) {
			return -1
		}
		return 1
	})
	return i
}

// unfinished reports whether a range waits for a copy.
func unfinished(r vecferry.MappedRange) bool {
	return r.State == vecferry.Todo || r.State == vecferry.Copying
}
