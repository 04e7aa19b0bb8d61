package snapshot

import (
	"context"
	"slices"
	"time"

	"github.com/vecferry/vecferry"
)

const (
	// openPerWorker is how many chunks are open for each that holds rows: one
	// copies while the other's LOW mark travels to the sink and back.
	openPerWorker = 2
	// maxSingles is how many single keys one chunk takes.
	maxSingles = 500
	// maxMarkBytes bounds the keys in a mark, in bytes of its text: a mark is
	// one record of the change log, whose messages stay under 900 KB.
	maxMarkBytes = 256 << 10
)

// table is what this process knows of a table. All of it is a hint.
type table struct {
	*vecferry.Table
	target Target

	plan      plan
	planning  bool
	estimate  Estimate
	open      []*chunk // at work in this process
	failures  int      // since the last success
	lastError string
	meter     meter
}

// chunk is a set of ranges at work.
type chunk struct {
	table   *table
	ranges  []vecferry.Range
	singles bool
	attempt uint64
	started time.Time
	waiting string // why it does not go on, empty if it does
}

// work is something that the coordinator starts.
type work func(context.Context) error

// pick takes what can be started now and counts it as started. The record is
// read under the lock, after the chunks that ended: one that ended because it
// is live must not be found as copying in an older record. The channel is
// closed when there is a newer record.
func (s *Snapshot) pick() ([]work, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cp, changed := s.record.get()
	var out []work
	for _, t := range s.tables {
		state := stateOf(cp, t)
		t.meter.observe(time.Now(), state)
		if state == nil {
			continue
		}
		if state.AllLive() {
			t.plan.forget() // rows may come and go before it is needed again
			continue
		}
		if w := s.pickPlan(t, state); w != nil {
			out = append(out, w)
		}
	}
	for s.open < openPerWorker*s.opts.Workers {
		c := s.pickChunk(cp)
		if c == nil {
			break
		}
		out = append(out, s.begin(c))
	}
	return out, changed
}

func stateOf(cp *vecferry.Checkpoint, t *table) *vecferry.TableState {
	if cp == nil {
		return nil
	}
	return cp.Tables[t.OID]
}

// begin counts a chunk as open.
func (s *Snapshot) begin(c *chunk) work {
	c.started = time.Now()
	c.table.open = append(c.table.open, c)
	s.open++
	return func(ctx context.Context) error {
		defer s.end(c)
		return s.copyChunk(ctx, c)
	}
}

// end gives a chunk's ranges free.
func (s *Snapshot) end(c *chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.table.open = slices.DeleteFunc(c.table.open, func(o *chunk) bool { return o == c })
	s.open--
}

// pickChunk returns ranges that are not live and that nobody works on. Tainted
// keys come first, since their entities are missing until then; the tables and
// the intervals follow in order, so that the sink's range map stays small.
func (s *Snapshot) pickChunk(cp *vecferry.Checkpoint) *chunk {
	for _, choose := range []func(*table, *vecferry.TableState) []vecferry.Range{singles, interval} {
		for _, t := range s.tables {
			state := stateOf(cp, t)
			if state == nil {
				continue
			}
			if ranges := choose(t, state); len(ranges) > 0 {
				_, single := ranges[0].Single()
				return &chunk{table: t, ranges: ranges, singles: single}
			}
		}
	}
	return nil
}

// singles returns single keys for one chunk. A table has one such chunk at a
// time: what is tainted meanwhile gathers for the next.
func singles(t *table, state *vecferry.TableState) []vecferry.Range {
	if slices.ContainsFunc(t.open, func(c *chunk) bool { return c.singles }) {
		return nil
	}
	var out []vecferry.Range
	size := 0
	for _, r := range state.Ranges {
		if _, single := r.Single(); !single || !unfinished(r) || t.busy(r.Range) {
			continue
		}
		if size += markBytes(r.Range); len(out) > 0 && (size > maxMarkBytes || len(out) == t.singlesLimit()) {
			break
		}
		out = append(out, r.Range)
	}
	return out
}

// interval returns the first planned piece of the first unfinished interval.
func interval(t *table, state *vecferry.TableState) []vecferry.Range {
	for _, r := range state.Ranges {
		if _, single := r.Single(); single || !unfinished(r) || !t.plan.covers(r.Range) {
			continue
		}
		for piece := range t.plan.pieces(r.Range) {
			if !t.busy(piece) {
				return []vecferry.Range{piece}
			}
		}
	}
	return nil
}

// busy reports whether an open chunk works on a part of r, be it in the record
// already or not.
func (t *table) busy(r vecferry.Range) bool {
	return slices.ContainsFunc(t.open, func(c *chunk) bool {
		return slices.ContainsFunc(c.ranges, r.Overlaps)
	})
}

// markBytes is about what a range takes in a mark: its keys in hexadecimal.
func markBytes(r vecferry.Range) int { return 2*len(r.Lo) + 2*len(r.Hi) + 24 }
