package changelog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vecferry/vecferry"
)

// Message is one batch of the change log.
type Message struct {
	Batch   uint64
	Header  vecferry.BatchHeader
	Data    []byte    // the whole batch, checked; belongs to the receiver
	Stored  time.Time // when the log stored it
	Pending uint64    // batches behind it when it was delivered

	reply string
}

// Pauses between the attempts of a reader that gets nowhere.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Reader delivers the batches of the log, each once and in order. Next belongs
// to one goroutine, the rest is safe for any. A log has one reader at a time:
// two would take each other's batches and both start over again and again.
type Reader struct {
	log    *Log
	window *window
	resets atomic.Uint64
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // valid when done is closed
	acks   ackList

	// Of the fetching goroutine.
	last      vecferry.BatchHeader // of the last batch in the window
	sequence  uint64               // of the consumer
	known     bool                 // last is more than a number
	suspected uint64               // batch that came damaged once
}

// Reader starts to read behind batch after, which is the owner's checkpoint;
// the owner has proved it with Check. ctx bounds the reader's life.
func (l *Log) Reader(ctx context.Context, after uint64) (*Reader, error) {
	err := l.do(ctx, "create the sink's consumer", func(ctx context.Context) error {
		_, err := l.changes.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable:       consumerName,
			DeliverPolicy: jetstream.DeliverAllPolicy, // or a reset could not go everywhere
			AckPolicy:     jetstream.AckAllPolicy,
			AckWait:       24 * time.Hour, // we reset, the server shall not redeliver
			MaxDeliver:    -1,
			MaxAckPending: -1, // the window is the limit
			Metadata:      map[string]string{metaPipeline: l.opts.Pipeline},
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := &Reader{log: l, window: newWindow(), cancel: cancel, done: make(chan struct{})}
	r.last.Batch = after
	go r.run(ctx)
	return r, nil
}

// Next returns the next batch. It waits for one up to wait, forever if wait is
// negative, not at all if it is 0, and then returns ErrIdle. A *vecferry.HaltError
// means that the log has lost or damaged the next batch. An unreachable server
// is not an error here: the reader logs it and tries again until Close.
func (r *Reader) Next(ctx context.Context, wait time.Duration) (*Message, error) {
	var expired <-chan time.Time
	for {
		if m := r.window.pop(); m != nil {
			r.acks.delivered(m)
			return m, nil
		}
		if wait == 0 {
			return nil, r.idle()
		}
		if expired == nil && wait > 0 {
			expired = time.After(wait)
		}
		select {
		case <-r.window.filled:
		case <-expired:
			return nil, r.idle()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-r.done:
			if r.window.buffered() == 0 {
				return nil, r.err
			}
		}
	}
}

// idle returns ErrIdle, or why nothing will come any more.
func (r *Reader) idle() error {
	select {
	case <-r.done:
		if r.window.buffered() > 0 {
			return ErrIdle
		}
		return r.err
	default:
		return ErrIdle
	}
}

// Buffered returns how many batches Next would return at once.
func (r *Reader) Buffered() int { return r.window.buffered() }

// Resets counts how often the reader had to start over behind its last good batch.
func (r *Reader) Resets() uint64 { return r.resets.Load() }

// Ack reports that everything up to batch is applied. It is what others see as
// progress, and no more: the truth is the checkpoint, and a lost Ack is harmless.
func (r *Reader) Ack(batch uint64) error {
	reply := r.acks.upTo(batch)
	if reply == "" {
		return nil
	}
	if err := r.log.nc.Publish(reply, []byte("+ACK")); err != nil {
		return fmt.Errorf("acknowledge batch %d: %w", batch, err)
	}
	return nil
}

// Close ends the reader and waits for its goroutine.
func (r *Reader) Close() {
	r.cancel(ErrClosed)
	<-r.done
}

// run is the reader's goroutine: it fetches, and starts over on every irregularity.
func (r *Reader) run(ctx context.Context) {
	defer close(r.done)
	defer r.cancel(nil)
	pause := firstPause
	for {
		before := r.last.Batch
		err := r.session(ctx)
		if ctx.Err() != nil {
			r.err = context.Cause(ctx)
			return
		}
		if vecferry.Halts(err) || errors.Is(err, ErrClosed) {
			r.err = err
			return
		}
		if r.last.Batch > before {
			pause = firstPause
		}
		r.resets.Add(1)
		if pause == firstPause || pause == lastPause {
			r.log.log.Warn("reading the change log starts over", "after_batch", r.last.Batch, "reason", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// session reads from behind the last good batch until something is irregular.
func (r *Reader) session(ctx context.Context) error {
	if err := r.prove(ctx); err != nil {
		return err
	}
	if err := r.reset(ctx); err != nil {
		return err
	}
	p, err := newPuller(r.log.nc, r.log.opts.streamName())
	if err != nil {
		return r.log.explain(ctx, "read the change log", err)
	}
	defer p.close()
	for {
		if !p.open && r.window.roomy() {
			if err := p.request(); err != nil {
				return r.log.explain(ctx, "read the change log", err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.status:
			return errCut
		case <-p.silence.C:
			if p.open {
				return errSilence
			}
		case <-r.window.drawn:
		case m := <-p.msgs:
			if err := r.receive(ctx, p, m); err != nil {
				return err
			}
		}
	}
}

// receive handles one message of a pull.
func (r *Reader) receive(ctx context.Context, p *puller, m *nats.Msg) error {
	batch, err := p.take(m)
	switch {
	case err != nil:
		return err
	case batch:
		return r.accept(ctx, m)
	case p.empty():
		return r.stuck(ctx)
	}
	return nil
}

// prove makes sure that the log is still the one that was read and reaches to
// the last good batch. Without it a log that went back would give its numbers
// out again and the new batches would be taken for old ones.
func (r *Reader) prove(ctx context.Context) error {
	info, err := r.log.info(ctx)
	if err != nil {
		return err
	}
	switch s := info.State; {
	case s.FirstSeq > r.last.Batch+1:
		return r.missing(info)
	case r.known && s.FirstSeq <= r.last.Batch:
		return r.log.Check(ctx, Point{Log: r.log.id, Batch: r.last.Batch, Epoch: r.last.Epoch, EndLSN: r.last.EndLSN})
	case incarnation(info) != r.log.id:
		return r.log.Check(ctx, Point{Log: r.log.id})
	case s.LastSeq < r.last.Batch:
		return recreated(fmt.Sprintf("the change log went back: it ends at batch %d, batch %d was read before", s.LastSeq, r.last.Batch), nil)
	}
	return nil
}

// reset makes the consumer deliver from behind the last good batch.
func (r *Reader) reset(ctx context.Context) error {
	r.sequence = 0
	return r.log.do(ctx, "reset the sink's consumer", func(ctx context.Context) error {
		_, err := r.log.changes.ResetConsumerToSequence(ctx, consumerName, r.last.Batch+1)
		return err
	})
}

// Reasons to start over.
var (
	errDelivery = errors.New("a delivery was lost or repeated")
	errDamaged  = errors.New("a batch arrived damaged")
)

// accept checks a batch against the one before and puts it into the window.
func (r *Reader) accept(ctx context.Context, m *nats.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read the change log: %w", err)
	}
	if meta.Sequence.Consumer != r.sequence+1 || meta.Sequence.Stream <= r.last.Batch {
		return fmt.Errorf("%w: delivery %d of batch %d, after delivery %d of batch %d",
			errDelivery, meta.Sequence.Consumer, meta.Sequence.Stream, r.sequence, r.last.Batch)
	}
	if meta.Sequence.Stream != r.last.Batch+1 {
		return r.gap(ctx)
	}
	h, err := parse(meta.Sequence.Stream, m.Data)
	if err != nil {
		return r.damaged(meta.Sequence.Stream, err)
	}
	if r.known && h.Epoch < r.last.Epoch {
		return recreated(fmt.Sprintf("batch %d was written by a writer of epoch %d, after one of epoch %d", h.Batch, h.Epoch, r.last.Epoch), nil)
	}
	r.last, r.known, r.sequence = h, true, meta.Sequence.Consumer
	r.window.push(&Message{
		Batch: h.Batch, Header: h, Data: m.Data, Stored: meta.Timestamp, Pending: meta.NumPending, reply: m.Reply,
	})
	return nil
}

// gap decides whether the next batch was skipped on the way or is lost.
func (r *Reader) gap(ctx context.Context) error {
	_, err := r.log.Header(ctx, r.last.Batch+1)
	if err == nil {
		return fmt.Errorf("%w: batch %d was skipped", errDelivery, r.last.Batch+1)
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	info, err := r.log.info(ctx)
	if err != nil {
		return err
	}
	return r.missing(info)
}

// missing says that the batch after the last good one is lost for good.
func (r *Reader) missing(info *jetstream.StreamInfo) error {
	return recreated(fmt.Sprintf("batch %d is missing from the change log, which goes from %d to %d",
		r.last.Batch+1, info.State.FirstSeq, info.State.LastSeq), ErrNotFound)
}

// damaged starts over once, in case the damage is not in the log itself.
func (r *Reader) damaged(batch uint64, err error) error {
	if r.suspected == batch {
		return err
	}
	r.suspected = batch
	return fmt.Errorf("%w: batch %d", errDamaged, batch)
}

// stuck looks, when a whole pull brought nothing, whether the log holds more
// than the server delivers: after damage at its end it says "nothing pending".
func (r *Reader) stuck(ctx context.Context) error {
	info, err := r.log.info(ctx)
	if err != nil {
		return err
	}
	if info.State.LastSeq == r.last.Batch && incarnation(info) == r.log.id {
		return nil
	}
	if info.State.LastSeq > r.last.Batch {
		return r.gap(ctx)
	}
	return r.prove(ctx)
}

// ackList remembers how to acknowledge the batches that were handed out. An
// entry from before a reset is harmless: the reset put the server's floor at
// the last good batch, which no such entry is above.
type ackList struct {
	mu   sync.Mutex
	list []*Message // without data
}

// maxAcks bounds the list of an owner that never acknowledges.
const maxAcks = 4096

func (a *ackList) delivered(m *Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.list) == maxAcks {
		a.list = append(a.list[:0], a.list[maxAcks/2:]...)
	}
	a.list = append(a.list, &Message{Batch: m.Batch, reply: m.reply})
}

// upTo returns the reply subject of the newest batch that is not above batch,
// "" if there is none, and forgets all up to it.
func (a *ackList) upTo(batch uint64) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, reply := 0, ""
	for n < len(a.list) && a.list[n].Batch <= batch {
		reply = a.list[n].reply
		n++
	}
	a.list = append(a.list[:0], a.list[n:]...)
	return reply
}
