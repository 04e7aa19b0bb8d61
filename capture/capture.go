package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

// Capture reads the source's log into the change log. Make it with New.
type Capture struct {
	opts    Options
	log     *slog.Logger
	tables  map[uint32]struct{}
	names   map[string]struct{}
	count   counters
	board   board
	running atomic.Bool
}

// ErrRunning says that Run was called while another Run goes on.
var ErrRunning = errors.New("capture runs already")

// New returns a Capture that does nothing until Run. The error says in a
// sentence which option is wrong.
func New(opts Options) (*Capture, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Capture{
		opts: opts, log: opts.Logger,
		tables: make(map[uint32]struct{}), names: make(map[string]struct{}),
	}
	for _, t := range opts.Tables {
		c.tables[t.OID], c.names[t.String()] = struct{}{}, struct{}{}
	}
	c.board.set(stateStopped)
	return c, nil
}

// Run captures over one connection until ctx ends, and then drains: what was
// read goes into the log and is acknowledged, at most DrainTimeout long. It
// returns nil after a drain, whole or not. Any other end is an error:
// a *vecferry.HaltError for good, everything else to be tried again.
func (c *Capture) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer c.running.Store(false)
	c.board.begin()
	err := c.run(ctx)
	if ctx.Err() != nil && !vecferry.Halts(err) {
		err = nil // what was cut short is read again
	}
	c.board.ended(err, c.opts.LogFull)
	return err
}

func (c *Capture) run(ctx context.Context) error {
	s, err := connect(ctx, c.opts.Source)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	o, err := c.open(ctx, s)
	if err != nil {
		return err
	}
	// The slot is ours now. A process that had it before may still have had
	// batches on their way when the tail was read.
	work, stop := lifecycle.Grace(ctx, c.opts.DrainTimeout)
	defer stop()
	w, tail, err := c.opts.Log.Writer(work)
	if err != nil {
		return fmt.Errorf("take over the change log: %w", err)
	}
	defer w.Close()
	if tail != o.tail {
		return fmt.Errorf("take over the change log: %w: batch %d, then %d", errMoved, o.tail.Batch, tail.Batch)
	}
	c.log.Info("streaming", "slot", c.opts.Slot, "from", o.resume.start, "after_batch", tail.Batch)
	return newSession(c, s, o, w).run(ctx, work)
}

// errMoved says that somebody wrote while we started.
var errMoved = errors.New("its end moved meanwhile")

// Fence returns a place in the source's log, and writes a beat behind it.
// Whoever has applied the change log up to an end at or after that place has
// everything that was committed before the call; the beat makes such an end
// come even if nothing else changes.
func (c *Capture) Fence(ctx context.Context) (vecferry.LSN, error) {
	lsn, err := c.opts.Source.CurrentLSN(ctx)
	if err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	snapshot, err := c.opts.Source.Snapshot(ctx)
	if err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	if _, err := c.opts.Source.Emit(ctx, c.opts.Pipeline, vecferry.Mark{Kind: vecferry.Beat, Snapshot: snapshot}); err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	return lsn, nil
}
