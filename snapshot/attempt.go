package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

// Step names a step of a chunk, for Options.Hook.
type Step string

// The steps, in order.
const (
	StepNumber Step = "number" // take an attempt number
	StepLow    Step = "low"    // take a snapshot, write LOW
	StepHeld   Step = "held"   // wait until the record holds the chunk
	StepRead   Step = "read"   // read the rows
	StepClear  Step = "clear"  // clear the ranges in the target
	StepWrite  Step = "write"  // write the rows
	StepBury   Step = "bury"   // keep the dead letters
	StepHigh   Step = "high"   // write HIGH
	StepLive   Step = "live"   // wait until the record has dealt with HIGH
	StepDone   Step = "done"
)

var (
	// errLost is an attempt that the sink does not hold: it restarted, or
	// another attempt took the ranges.
	errLost = errors.New("the sink has given the chunk up")
	// errVoid is an attempt whose HIGH the sink did not accept.
	errVoid = errors.New("the chunk did not become live")
)

// maxDead is how many rows of one chunk may fail: more means a mapping that
// does not fit, not a few bad rows.
const maxDead = 10_000

// settleTime is how long a call on the target may go on after a stop: one that
// is cut off may land later, and the next attempt would not know.
const settleTime = 10 * time.Second

// memoryFactor is how much larger than planned a chunk may be.
const memoryFactor = 4

// copyChunk makes one attempt on a chunk. An error that ends it here ends Run.
func (s *Snapshot) copyChunk(ctx context.Context, c *chunk) error {
	grown, err := s.grown(ctx, c)
	if err == nil && !grown {
		err = s.attempt(ctx, c)
	}
	if large, ok := errors.AsType[*TooLargeError](err); ok {
		err = s.shrink(ctx, c, large)
	}
	return s.settle(ctx, c.table, err)
}

// settle counts a success, or waits out the pause after a failure. It returns
// what ends Run.
func (s *Snapshot) settle(ctx context.Context, t *table, err error) error {
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.failures, t.lastError = 0, ""
		return nil
	}
	if vecferry.Halts(err) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	failures := t.failures
	t.failures++
	t.lastError = err.Error()
	s.mu.Unlock()
	if errors.Is(err, errLost) || errors.Is(err, errVoid) {
		s.log.Info("chunk will be copied again", "table", t.String(), "reason", err)
	} else {
		s.log.Warn("copying failed, trying again", "table", t.String(), "failures", failures+1, "error", err)
	}
	pause(ctx, failures)
	return nil
}

// attempt takes a chunk from LOW to live.
func (s *Snapshot) attempt(ctx context.Context, c *chunk) error {
	held, err := s.low(ctx, c)
	if err != nil {
		return err
	}
	high, err := s.fill(ctx, c, held)
	if err != nil {
		return err
	}
	return s.high(ctx, c, high)
}

// at announces a step.
func (s *Snapshot) at(step Step) error {
	if s.opts.Hook == nil {
		return nil
	}
	return s.opts.Hook(step)
}

// low opens the chunk and returns what the record says of it.
func (s *Snapshot) low(ctx context.Context, c *chunk) (*vecferry.Copy, error) {
	if err := s.at(StepNumber); err != nil {
		return nil, err
	}
	attempt, err := s.Counters.Counter(ctx, AttemptKey)
	if err != nil {
		return nil, fmt.Errorf("take an attempt number: %w", err)
	}
	c.attempt = attempt
	if err := s.at(StepLow); err != nil {
		return nil, err
	}
	before, err := s.Marks.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot for LOW: %w", err)
	}
	at, err := s.emit(ctx, c, vecferry.Mark{Kind: vecferry.Low, Ranges: c.ranges, Snapshot: before})
	if err != nil {
		return nil, err
	}
	if err := s.at(StepHeld); err != nil {
		return nil, err
	}
	return s.untilHeld(ctx, c, at)
}

// emit writes a mark of the chunk.
func (s *Snapshot) emit(ctx context.Context, c *chunk, m vecferry.Mark) (vecferry.LSN, error) {
	m.Table, m.Attempt = c.table.OID, c.attempt
	at, err := s.Marks.Emit(ctx, s.opts.Pipeline, m)
	if err != nil {
		return 0, fmt.Errorf("write the mark %s: %w", m.Kind, err)
	}
	return at, nil
}

// untilHeld waits until a persisted record holds the chunk. A record that is
// past its LOW and does not hold it never will.
func (s *Snapshot) untilHeld(ctx context.Context, c *chunk, low vecferry.LSN) (*vecferry.Copy, error) {
	s.wait(c, "waiting for the sink to reach "+low.String())
	defer s.wait(c, "")
	var held *vecferry.Copy
	_, err := s.await(ctx, func(cp *vecferry.Checkpoint) bool {
		held = heldCopy(cp, c.table.OID, c.attempt, c.ranges)
		return held != nil || cp.AppliedLSN >= low
	})
	if err == nil && held == nil {
		err = errLost
	}
	return held, err
}

// patience is how long a record is waited for before the log is nudged.
const patience = 2 * time.Second

// await waits for a record. A source in which nobody writes may never move the
// record past a mark that was lost, as one is that was written before the slot
// existed; a beat moves it.
func (s *Snapshot) await(ctx context.Context, wanted func(*vecferry.Checkpoint) bool) (*vecferry.Checkpoint, error) {
	for {
		soon, cancel := context.WithTimeout(ctx, patience)
		cp, err := s.record.wait(soon, wanted)
		cancel()
		if err == nil || ctx.Err() != nil {
			return cp, err
		}
		seen, err := s.Marks.Snapshot(ctx)
		if err != nil {
			return nil, fmt.Errorf("take a snapshot for a beat: %w", err)
		}
		if _, err := s.Marks.Emit(ctx, s.opts.Pipeline, vecferry.Mark{Kind: vecferry.Beat, Snapshot: seen}); err != nil {
			return nil, fmt.Errorf("write a beat: %w", err)
		}
	}
}

// wait notes why a chunk does not go on, empty if it does.
func (s *Snapshot) wait(c *chunk, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.waiting = why
}

// stillHeld returns errLost if going on would be for nothing.
func (s *Snapshot) stillHeld(c *chunk) error {
	cp, _ := s.record.get()
	if heldCopy(cp, c.table.OID, c.attempt, c.ranges) == nil {
		return errLost
	}
	return nil
}

// fill copies the rows from the source to the target and returns the mark that
// says so. It holds rows in memory, so it waits for one of the lanes.
func (s *Snapshot) fill(ctx context.Context, c *chunk, held *vecferry.Copy) (vecferry.Mark, error) {
	select {
	case <-ctx.Done():
		return vecferry.Mark{}, ctx.Err()
	case s.lanes <- struct{}{}:
		defer func() { <-s.lanes }()
	}
	if err := errors.Join(s.stillHeld(c), s.at(StepRead)); err != nil {
		return vecferry.Mark{}, err
	}
	got, err := s.read(ctx, c, held)
	if err != nil {
		return vecferry.Mark{}, err
	}
	got.checkRows(c.table)
	if err := tooManyDead(c.table.Table, got.Dead); err != nil {
		return vecferry.Mark{}, err
	}
	if err := s.write(ctx, c, held, &got); err != nil {
		return vecferry.Mark{}, err
	}
	if err := s.bury(ctx, c, got.Dead); err != nil {
		return vecferry.Mark{}, err
	}
	return vecferry.Mark{
		Kind: vecferry.High, Snapshot: got.Snapshot,
		Rows: int64(len(got.Rows)), Nulls: got.Nulls, Dead: keysOf(got.Dead),
	}, nil
}

// read reads the chunk from the source.
func (s *Snapshot) read(ctx context.Context, c *chunk, held *vecferry.Copy) (Chunk, error) {
	defer s.wait(c, "")
	got, err := s.Source.ReadChunk(ctx, Request{
		Table: c.table.Table, Ranges: c.ranges, Need: held.Need, Position: held.Low,
		MaxBytes: memoryFactor * s.opts.ChunkBytes,
		Waiting:  func(snapshot string) { s.wait(c, unseen(snapshot, held.Need)) },
	})
	if err != nil {
		return Chunk{}, fmt.Errorf("read a chunk of %s: %w", c.table, err)
	}
	return got, nil
}

// unseen names the oldest needed transaction that a snapshot does not see.
func unseen(snapshot string, need vecferry.XIDs) string {
	v, err := vecferry.ParseVisibility(snapshot)
	if err != nil {
		return "waiting for transactions to end" // whoever reads with it reports the error
	}
	for _, x := range need {
		if !v.Sees(x) {
			return fmt.Sprintf("waiting for transaction %d", x)
		}
	}
	return ""
}

// checkRows moves the rows that can never be stored to the dead ones.
func (g *Chunk) checkRows(t *table) {
	g.Rows = slices.DeleteFunc(g.Rows, func(r vecferry.Row) bool {
		err := t.target.Check(r)
		if err != nil {
			g.Dead = append(g.Dead, vecferry.Rejected{Row: r, Err: t.AsRowError(r.Key, err)})
		}
		return err != nil
	})
}

// write makes the ranges in the target equal to the chunk. Rows that the target
// refuses move to the dead ones.
func (s *Snapshot) write(ctx context.Context, c *chunk, held *vecferry.Copy, got *Chunk) error {
	ctx, stop := lifecycle.Grace(ctx, settleTime)
	defer stop()
	w := vecferry.Write{New: got.Rows}
	if err := errors.Join(s.stillHeld(c), s.at(StepClear)); err != nil {
		return err
	}
	switch {
	case held.Virgin:
	case c.singles: // one call, rather than one for each key
		w = vecferry.Write{Put: got.Rows, Delete: missing(c.ranges, got.Rows)}
	default:
		for _, r := range c.ranges {
			if err := c.table.target.Clear(ctx, r); err != nil {
				return fmt.Errorf("clear a range of %s: %w", c.table.Collection, err)
			}
		}
	}
	if err := s.at(StepWrite); err != nil {
		return err
	}
	rejected, err := c.table.target.Replace(ctx, w)
	if err != nil {
		return fmt.Errorf("write a chunk to %s: %w", c.table.Collection, err)
	}
	got.reject(rejected)
	return tooManyDead(c.table.Table, got.Dead)
}

// reject moves rows that the target refused to the dead ones.
func (g *Chunk) reject(rejected []vecferry.Rejected) {
	if len(rejected) == 0 {
		return
	}
	refused := make(map[vecferry.Key]bool, len(rejected))
	for _, r := range rejected {
		refused[r.Row.Key] = true
	}
	g.Rows = slices.DeleteFunc(g.Rows, func(r vecferry.Row) bool { return refused[r.Key] })
	g.Dead = append(g.Dead, rejected...)
}

// missing returns the keys of single ranges that have no row.
func missing(singles []vecferry.Range, rows []vecferry.Row) []vecferry.Key {
	here := make(map[vecferry.Key]bool, len(rows))
	for _, r := range rows {
		here[r.Key] = true
	}
	var out []vecferry.Key
	for _, r := range singles {
		if k, _ := r.Single(); !here[k] {
			out = append(out, k)
		}
	}
	return out
}

// tooManyDead stops the pipeline rather than to fill the dead letters.
func tooManyDead(t *vecferry.Table, dead []vecferry.Rejected) error {
	size := 0
	for _, d := range dead {
		size += 2*len(d.Row.Key) + 3
	}
	if len(dead) <= maxDead && size <= 2*maxMarkBytes {
		return nil
	}
	return &vecferry.HaltError{
		What: fmt.Sprintf("%d rows of one chunk of %s cannot be stored in collection %s", len(dead), t, t.Collection),
		Fix:  "correct the mapping of the table, or its rows, and start again",
		Err:  dead[0].Err,
	}
}

// bury keeps the dead rows before the mark says that they are kept.
func (s *Snapshot) bury(ctx context.Context, c *chunk, dead []vecferry.Rejected) error {
	if err := s.at(StepBury); err != nil || len(dead) == 0 {
		return err
	}
	if err := s.DeadLetters.Bury(ctx, c.table.Table, dead); err != nil {
		return fmt.Errorf("keep %d dead letters of %s: %w", len(dead), c.table, err)
	}
	s.log.Warn("rows went to the dead letters", "table", c.table.String(), "rows", len(dead), "first", dead[0].Err)
	return nil
}

// keysOf returns the keys of dead rows.
func keysOf(dead []vecferry.Rejected) []vecferry.Key {
	var out []vecferry.Key
	for _, d := range dead {
		out = append(out, d.Row.Key)
	}
	return out
}

// high closes the chunk and waits until the record has dealt with that.
func (s *Snapshot) high(ctx context.Context, c *chunk, m vecferry.Mark) error {
	if err := s.at(StepHigh); err != nil {
		return err
	}
	at, err := s.emit(ctx, c, m)
	if err != nil {
		return err
	}
	if err := s.at(StepLive); err != nil {
		return err
	}
	s.wait(c, "waiting for the sink to reach "+at.String())
	cp, err := s.await(ctx, func(cp *vecferry.Checkpoint) bool {
		return heldCopy(cp, c.table.OID, c.attempt, c.ranges) == nil
	})
	if err != nil {
		return err
	}
	if void(stateOf(cp, c.table), c.ranges) {
		return errVoid
	}
	s.log.Debug("chunk is live", "table", c.table.String(), "attempt", c.attempt, "rows", m.Rows)
	return s.at(StepDone)
}

// void reports whether no part of any of the ranges has become live.
func void(state *vecferry.TableState, ranges []vecferry.Range) bool {
	return state == nil || !slices.ContainsFunc(ranges, func(r vecferry.Range) bool {
		return !within(state.Ranges, r, unfinished)
	})
}
