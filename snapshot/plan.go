package snapshot

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/vecferry/vecferry"
)

// plan holds keys at which chunks may begin. It is only a hint: any boundaries
// are right.
type plan struct {
	bounds  []vecferry.Key   // sorted
	known   []vecferry.Range // for these the bounds were looked up
	rows    int              // of one chunk
	since   time.Time        // rows may have come since then
	singles int              // single keys of one chunk, 0 for the most
}

func (p *plan) forget() { *p = plan{} }

// covers reports whether the bounds inside r were looked up.
func (p *plan) covers(r vecferry.Range) bool {
	return slices.ContainsFunc(p.known, func(k vecferry.Range) bool { return k.Intersect(r) == r })
}

// add takes the bounds of a range.
func (p *plan) add(r vecferry.Range, bounds []vecferry.Key) {
	p.bounds = append(p.bounds, bounds...)
	slices.Sort(p.bounds)
	p.bounds = slices.Compact(p.bounds)
	if !p.covers(r) {
		p.known = append(p.known, r)
	}
}

// pieces cuts a range at the bounds.
func (p *plan) pieces(r vecferry.Range) iter.Seq[vecferry.Range] {
	return func(yield func(vecferry.Range) bool) {
		i, found := slices.BinarySearch(p.bounds, r.Lo)
		if found {
			i++
		}
		for ; i < len(p.bounds) && r.Has(p.bounds[i]); i++ {
			if !yield(vecferry.Range{Lo: r.Lo, Hi: p.bounds[i]}) {
				return
			}
			r.Lo = p.bounds[i]
		}
		yield(r)
	}
}

// singlesLimit is how many single keys a chunk takes.
func (t *table) singlesLimit() int {
	if t.plan.singles > 0 {
		return t.plan.singles
	}
	return maxSingles
}

// pickPlan returns the search for the bounds of the first interval that has
// none. A table has one search at a time.
func (s *Snapshot) pickPlan(t *table, state *vecferry.TableState) work {
	i := slices.IndexFunc(state.Ranges, func(r vecferry.MappedRange) bool {
		_, single := r.Single()
		return !single && unfinished(r) && !t.plan.covers(r.Range)
	})
	if i < 0 || t.planning {
		return nil
	}
	t.planning = true
	r := state.Ranges[i].Range
	return func(ctx context.Context) error {
		err := s.findBounds(ctx, t, r)
		ended := s.settle(ctx, t, err)
		s.mu.Lock()
		defer s.mu.Unlock()
		t.planning = false
		return ended
	}
}

// findBounds looks up the bounds of a range.
func (s *Snapshot) findBounds(ctx context.Context, t *table, r vecferry.Range) error {
	est, err := s.Source.Estimate(ctx, t.Table)
	if err != nil {
		return fmt.Errorf("estimate the size of %s: %w", t, err)
	}
	rows := rowsPerChunk(t.Table, est, s.opts.ChunkBytes)
	s.mu.Lock()
	t.estimate, t.plan.rows, t.plan.since = est, rows, time.Now()
	s.mu.Unlock()
	_, err = s.divide(ctx, t, r, rows)
	return err
}

// divide looks up bounds that many rows apart and returns how many there are.
func (s *Snapshot) divide(ctx context.Context, t *table, r vecferry.Range, rows int) (int, error) {
	bounds, err := s.Source.Split(ctx, t.Table, r, rows)
	if err != nil {
		return 0, fmt.Errorf("divide %s into chunks: %w", t, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.plan.add(r, bounds)
	s.log.Debug("planned", "table", t.String(), "rows_per_chunk", rows, "bounds", len(bounds))
	return len(bounds), nil
}

// planAge is how long nobody looks whether rows were added to a chunk.
const planAge = time.Minute

// grown reports whether an interval was divided because it has twice the rows
// that it should have: in most tables all new rows are behind the last bound.
func (s *Snapshot) grown(ctx context.Context, c *chunk) (bool, error) {
	s.mu.Lock()
	rows, old := c.table.plan.rows, time.Since(c.table.plan.since) > planAge
	s.mu.Unlock()
	if c.singles || !old || rows == 0 {
		return false, nil
	}
	n, err := s.divide(ctx, c.table, c.ranges[0], 2*rows)
	return n > 0, err
}

// shrink makes the next attempt on a chunk smaller. It returns the error if
// that is not possible.
func (s *Snapshot) shrink(ctx context.Context, c *chunk, large *TooLargeError) error {
	fewer := max(1, large.Rows/memoryFactor)
	s.log.Info("chunk is larger than planned, dividing it", "table", c.table.String(), "rows_per_chunk", fewer)
	if !c.singles {
		n, err := s.divide(ctx, c.table, c.ranges[0], fewer)
		if err == nil && n == 0 {
			return large
		}
		return err
	}
	if fewer >= len(c.ranges) {
		return large
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.table.plan.singles = fewer
	return nil
}

// The rows of one chunk.
const (
	minChunkRows = 100
	maxChunkRows = 50_000
	otherBytes   = 500 // a guess at what a row has beside its vector
)

// rowsPerChunk returns how many rows have about that many bytes in memory. The
// vector counts in full even where the table on disk is smaller.
func rowsPerChunk(t *vecferry.Table, est Estimate, chunkBytes int64) int {
	vector := int64(4 * t.VectorField().Dim)
	row := vector + otherBytes
	if est.Rows > 0 && est.Bytes > 0 {
		row = max(vector+1, est.Bytes/est.Rows)
	}
	return int(min(max(chunkBytes/row, minChunkRows), maxChunkRows))
}
