package capture

import (
	"context"
	"fmt"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

// opened is what a run starts with.
type opened struct {
	tail     vecferry.BatchHeader
	id       record[identity]
	quiet    record[quietRecord]
	resume   resume
	near     vecferry.XID
	interval time.Duration // between standby status updates
}

// open proves that slot, server and log fit together, makes the slot if the
// pipeline is new, and starts the stream.
func (c *Capture) open(ctx context.Context, s *stream) (*opened, error) {
	// Whoever holds the slot may still write: nothing is read before it is free.
	slot, err := c.freeSlot(ctx, s)
	if err != nil {
		return nil, err
	}
	o := &opened{}
	if err := c.recall(ctx, o); err != nil {
		return nil, err
	}
	srv, err := s.identify(ctx, o.id.value.Timeline)
	if err != nil {
		return nil, err
	}
	if ok, err := s.hasPublication(ctx, c.opts.Publication); err != nil || !ok {
		return nil, orHalt(err, "create it, before the slot", "publication %q does not exist", c.opts.Publication)
	}
	end := tail{BatchHeader: o.tail, log: c.opts.Log.ID()}
	if o.id.value.Phase != created {
		if slot, err = c.first(ctx, s, o, slot, newcomer{srv: srv, tail: end}); err != nil {
			return nil, err
		}
		if srv, err = s.identify(ctx, 0); err != nil { // its log has grown by the slot
			return nil, err
		}
	}
	if o.resume, err = o.id.value.mayResume(&c.opts, srv, slot, end, o.quiet.value); err != nil {
		return nil, err
	}
	return o, c.begin(ctx, s, o, srv)
}

// recall reads what earlier runs left behind.
func (c *Capture) recall(ctx context.Context, o *opened) (err error) {
	if o.tail, err = c.opts.Log.Tail(ctx); err != nil {
		return fmt.Errorf("read the end of the change log: %w", err)
	}
	if o.id, err = load[identity](ctx, c.opts.Store, keySlot); err != nil {
		return err
	}
	o.quiet, err = load[quietRecord](ctx, c.opts.Store, keyQuiet)
	return err
}

// orHalt returns err, or a halt if there is none.
func orHalt(err error, fix, format string, args ...any) error {
	if err != nil {
		return err
	}
	return halt(fix, format, args...)
}

// begin reads what the stream needs to know and starts it.
func (c *Capture) begin(ctx context.Context, s *stream, o *opened, srv server) error {
	if id := o.id.value; id.Timeline != srv.timeline {
		c.log.Warn("the server is on a new timeline that contains all that was read",
			"before", id.Timeline, "now", srv.timeline, "fork", srv.fork)
		id.Timeline = srv.timeline
		if err := o.id.save(ctx, c.opts.Store, id); err != nil {
			return err
		}
	}
	var err error
	if o.near, err = s.nextXID(ctx); err != nil {
		return err
	}
	timeout, err := s.senderTimeout(ctx)
	if err != nil {
		return err
	}
	o.interval = c.opts.StatusInterval
	if timeout > 0 {
		o.interval = min(o.interval, timeout/3)
	}
	c.board.raise(o.resume.start, o.tail.EndLSN, 0, srv.walEnd)
	return s.begin(ctx, c.opts.Slot, c.opts.Publication, o.resume.start)
}

// freeSlot returns the slot once nobody reads it, nil if there is none.
func (c *Capture) freeSlot(ctx context.Context, s *stream) (*slot, error) {
	wait := lifecycle.Backoff()
	for {
		found, err := s.slot(ctx, c.opts.Slot)
		if err != nil || found == nil || found.pid == "" {
			return found, err
		}
		c.board.set("waiting for the slot held by pid " + found.pid)
		if !lifecycle.Sleep(ctx, min(wait.NextBackOff(), 5*time.Second)) {
			return nil, fmt.Errorf("slot %s is held by pid %s: %w", c.opts.Slot, found.pid, context.Cause(ctx))
		}
	}
}

// first makes the slot of a new pipeline. A record is written before and after,
// so that a crash leaves one of three pictures: no record and no slot, a record
// "creating" with or without the slot, a record "created" with it.
func (c *Capture) first(ctx context.Context, s *stream, o *opened, found *slot, at newcomer) (*slot, error) {
	id := o.id.value
	if begun := id.Phase == creating && id.SystemID == at.srv.systemID && id.Slot == c.opts.Slot; !begun {
		if err := mayBegin(&c.opts, at.tail, found); err != nil {
			return nil, err
		}
		if err := o.id.save(ctx, c.opts.Store, newIdentity(&c.opts, at.srv, at.tail.log)); err != nil {
			return nil, err
		}
	}
	id = o.id.value
	if err := id.mayFinish(at.tail, found); err != nil {
		return nil, err
	}
	if found == nil {
		start, err := c.createSlot(ctx, s)
		if err != nil {
			return nil, err
		}
		found = &slot{confirmed: start}
	}
	id.Phase, id.Start, id.Timeline = created, found.confirmed, at.srv.timeline
	id.Database, id.Publication, id.Log = at.srv.database, c.opts.Publication, at.tail.log
	if err := o.id.save(ctx, c.opts.Store, id); err != nil {
		return nil, err
	}
	c.log.Info("slot made", "slot", id.Slot, "start", id.Start, "incarnation", id.Incarnation)
	return s.slot(ctx, c.opts.Slot)
}

// newcomer is what a new pipeline finds.
type newcomer struct {
	srv  server
	tail tail
}

// patience is how long a slot's creation may take before somebody is asked why.
const patience = time.Second

// createSlot makes the slot and meanwhile says whom it waits for.
func (c *Capture) createSlot(ctx context.Context, s *stream) (vecferry.LSN, error) {
	c.board.set(stateCreating)
	watch, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lifecycle.Sleep(watch, patience) {
			who, err := blockers(watch, c.opts.Source)
			if err != nil || who == "" {
				who = "running transactions"
			}
			if watch.Err() == nil {
				c.board.set(stateCreating + ", waiting for " + who)
			}
		}
	}()
	lsn, err := s.create(ctx, c.opts.Slot)
	stop()
	<-ended
	return lsn, err
}
