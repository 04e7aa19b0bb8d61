package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
)

// parcel is a batch on its way from the reader to the publisher.
type parcel struct {
	b      *vecferry.BatchBuilder
	header vecferry.BatchHeader
}

// session is the life of one connection.
//
//	read --parcels--> publish --> log --> settle
//	 | ^------free------'                   |
//	 '------------> progress <--------------'
//	                    '--> confirm --> server
type session struct {
	c        *Capture
	s        *stream
	o        *opened
	w        Writer
	packer   *packer
	progress *progress
	near     atomic.Uint64 // reference for transaction ids

	drained func() bool // nothing is buffered
	parcels chan parcel
	free    chan *vecferry.BatchBuilder // empty builders
	asked   chan struct{}               // capacity 1: the server wants an answer
	settled chan struct{}               // closed when everything is durable and no more comes
}

// builders is how many batches are outside the log: one is filled while the
// other waits for its turn.
const builders = 2

func newSession(c *Capture, s *stream, o *opened, w Writer) *session {
	var quiet vecferry.LSN
	if o.quiet.value.Incarnation == o.id.value.Incarnation {
		quiet = o.quiet.value.LSN
	}
	n := &session{
		c: c, s: s, o: o, w: w, drained: s.drained,
		progress: newProgress(o.tail.Batch, max(o.id.value.Start, o.tail.EndLSN), quiet),
		parcels:  make(chan parcel),
		free:     make(chan *vecferry.BatchBuilder, builders),
		asked:    make(chan struct{}, 1),
		settled:  make(chan struct{}),
	}
	n.near.Store(uint64(o.near))
	for range builders {
		b := &vecferry.BatchBuilder{}
		b.Reset(n.buffer())
		n.free <- b
	}
	return n
}

// buffer returns memory for a batch.
func (n *session) buffer() []byte {
	if b := n.w.Buffer(); b != nil {
		return b
	}
	return make([]byte, 0, n.c.opts.BatchBytes+64<<10)
}

// run starts the goroutines and waits for all of them. ctx ends when a stop is
// asked for, work when what is on its way then has had its time.
func (n *session) run(ctx, work context.Context) error {
	g, work := errgroup.WithContext(work)
	// A read that waits ends when a stop was asked for, and when another
	// goroutine failed.
	interrupt := func() { _ = n.s.conn.Conn().SetReadDeadline(time.Unix(1, 0)) }
	defer after(ctx, interrupt)()
	defer after(work, interrupt)()
	ahead, noMore := context.WithCancel(work) // ends with the publisher
	beating, stopBeat := context.WithCancel(work)
	defer stopBeat()
	defer after(ctx, stopBeat)()

	n.c.board.set(stateStreaming)
	n.packer = n.newPacker(work)
	g.Go(func() error { defer close(n.parcels); return n.read(ctx) })
	g.Go(func() error { defer noMore(); return n.publish(work) })
	g.Go(func() error { return n.settle(work, ahead) })
	g.Go(func() error { return n.confirm(work) })
	g.Go(func() error { return n.beat(beating) })
	err := g.Wait()
	if err != nil && ctx.Err() != nil {
		n.c.log.Warn("the drain was cut short; the rest is read again at the next start", "error", err)
	}
	return err
}

// after calls f when ctx ends, until it is told not to; then f does not run, or
// has run.
func after(ctx context.Context, f func()) (stop func()) {
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !cancel() {
			<-done
		}
	}
}

func (n *session) newPacker(work context.Context) *packer {
	c := n.c
	p := &packer{
		limits: limits{
			bytes: min(c.opts.BatchBytes, c.opts.Log.MaxBatch()), changes: uint32(c.opts.BatchChanges),
			maxBatch: c.opts.Log.MaxBatch(),
		},
		resume: n.o.resume,
		tables: c.tables,
		names:  c.names,
		prefix: []byte(vecferry.MarkPrefix(c.opts.Pipeline)),
		near:   func() vecferry.XID { return vecferry.XID(n.near.Load()) },
		emit: func(b *vecferry.BatchBuilder, h vecferry.BatchHeader) (*vecferry.BatchBuilder, error) {
			return n.handOver(work, parcel{b: b, header: h})
		},
		quiet: n.progress.rest,
		count: &c.count,
	}
	p.start(<-n.free)
	return p
}

// handOver gives a batch to the publisher and waits for an empty builder: this
// is where a slow log holds back the reader, and with it the server.
func (n *session) handOver(ctx context.Context, p parcel) (*vecferry.BatchBuilder, error) {
	n.c.count.batches.Add(1)
	n.c.count.bytes.Add(uint64(p.b.Len()))
	n.progress.handOver()
	select {
	case n.parcels <- p:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case b := <-n.free:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// read takes messages until a stop is asked for; then what is complete goes on
// its way.
func (n *session) read(ctx context.Context) error {
	defer n.c.board.set(stateDraining)
	fe := n.s.conn.Frontend()
	for ctx.Err() == nil {
		m, err := fe.Receive()
		if err != nil && ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.CopyData:
			err = n.data(m.Data)
		case *pgproto3.NoticeResponse:
			err = serverNotice(m, n.c.opts.Publication)
		case *pgproto3.ErrorResponse:
			err = serverError(m, n.c.opts.Publication)
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			err = errEnded
		}
		if err != nil {
			return err
		}
	}
	return n.packer.rest()
}

// errEnded says that the server shuts down and has sent everything.
var errEnded = errors.New("the server ended the stream: it shuts down")

// data takes one message of the replication protocol (PostgreSQL manual,
// "Streaming Replication Protocol": XLogData, Primary keepalive message).
func (n *session) data(b []byte) error {
	switch {
	case len(b) > 25 && b[0] == 'w':
		raw := b[25:]
		if err := n.packer.message(vecferry.LSN(binary.BigEndian.Uint64(b[1:])), raw); err != nil {
			return err
		}
		if raw[0] != 'C' {
			return nil
		}
		n.c.board.raise(n.packer.end, 0, 0, n.packer.end)
	case len(b) == 18 && b[0] == 'k':
		end := vecferry.LSN(binary.BigEndian.Uint64(b[1:]))
		if err := n.packer.keepalive(end); err != nil {
			return err
		}
		n.c.board.raise(n.packer.end, 0, 0, end)
		if b[17] != 0 {
			defer n.ask(end)
		}
	default:
		return fmt.Errorf("%w: replication message of %d bytes", vecferry.ErrCorrupt, len(b))
	}
	return n.packer.boundary(n.drained())
}

// ask passes the server's wish for an answer on.
func (n *session) ask(end vecferry.LSN) {
	n.progress.request(end)
	select {
	case n.asked <- struct{}{}:
	default:
	}
}

// publish sends batches to the log in order.
func (n *session) publish(ctx context.Context) error {
	for p := range n.parcels {
		if _, err := n.w.Append(ctx, p.b, p.header); err != nil {
			return fmt.Errorf("append to the change log: %w", err)
		}
		p.b.Reset(n.buffer())
		n.free <- p.b // has room for all builders
	}
	return nil
}

// settle counts what is durable, until the publisher ends and everything is.
func (n *session) settle(work, ahead context.Context) error {
	for ahead.Err() == nil || work.Err() == nil && n.progress.outstanding() {
		waiting := ahead
		if ahead.Err() != nil {
			waiting = work
		}
		h, err := n.w.Durable(waiting)
		switch {
		case err == nil:
			n.progress.durable(h)
			n.c.board.raise(0, h.EndLSN, 0, 0)
		case waiting.Err() == nil || work.Err() != nil:
			return fmt.Errorf("append to the change log: %w", err)
		}
	}
	if work.Err() == nil {
		close(n.settled)
	}
	return nil
}
