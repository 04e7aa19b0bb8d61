package changelog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vecferry/vecferry"
)

// Headers of a batch, for people and for tools; we ourselves read the payload.
const (
	headerEpoch = "Vecferry-Epoch"
	headerBatch = "Vecferry-Batch"
	headerLSN   = "Vecferry-Lsn"
	headerRows  = "Vecferry-Rows"
)

const (
	maxInFlight  = 4       // batches published and not acknowledged, in a stream without replicas
	recycleBytes = 2 << 20 // larger buffers are left to the collector
	epochCounter = "epoch"
)

// Ack says that everything up to a batch is stored.
type Ack struct {
	Batch  uint64
	Header vecferry.BatchHeader // of that batch
}

// Writer appends to the change log. Append, Flush, Buffer and Close belong to
// one goroutine; the rest is safe for any. After its first error a writer is
// dead for good.
type Writer struct {
	log   *Log
	tail  Tail
	epoch uint64
	next  uint64 // number of the next batch
	total uint64 // changes in the log so far

	slots  chan struct{} // one for each batch in flight
	queue  chan inFlight
	free   chan []byte
	acked  chan Ack // holds the newest only
	done   chan struct{}
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	durable Ack
	err     error
}

// inFlight is a batch that was published, or that could not be.
type inFlight struct {
	header vecferry.BatchHeader
	data   []byte
	future jetstream.PubAckFuture
	err    error
}

// NewWriter takes over the log: it mints an epoch above every one before and
// reads the tail, after which it goes on. The owner continues from Tail. ctx
// bounds the writer's life.
func (l *Log) NewWriter(ctx context.Context) (*Writer, error) {
	tail, err := l.Tail(ctx)
	if err != nil {
		return nil, err
	}
	epoch, err := l.counter(ctx, epochCounter, tail.Header.Epoch)
	if err != nil {
		return nil, err
	}
	// Whoever had an older epoch may have written while ours was minted.
	if tail, err = l.Tail(ctx); err != nil {
		return nil, err
	}
	if tail.Header.Epoch > epoch {
		return nil, fmt.Errorf("epoch %d against %d: %w", epoch, tail.Header.Epoch, ErrFenced)
	}
	limit := maxInFlight
	if l.changes.CachedInfo().Config.Replicas > 1 {
		limit = 1 // see publish
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := &Writer{
		log: l, tail: tail, epoch: epoch, next: tail.Sequence + 1, total: tail.Header.Total, cancel: cancel,
		slots: make(chan struct{}, limit),
		queue: make(chan inFlight, limit),
		free:  make(chan []byte, limit+1),
		acked: make(chan Ack, 1),
		done:  make(chan struct{}),
	}
	w.durable = Ack{Batch: tail.Sequence, Header: tail.Header}
	go w.collect(ctx)
	return w, nil
}

// Tail returns the end of the log as the writer found it.
func (w *Writer) Tail() Tail { return w.tail }

// Epoch returns the writer's epoch.
func (w *Writer) Epoch() uint64 { return w.epoch }

// Acked delivers what is stored, newest only: an Ack covers all before it.
func (w *Writer) Acked() <-chan Ack { return w.acked }

// Done is closed when the writer is dead; Err says why.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Err returns why the writer is dead, nil while it is not. The reasons are
// ErrFenced, ErrFull, ErrConflict, ErrClosed, or else one that wraps its cause;
// after all but ErrFenced the owner makes a new writer and goes on after its tail.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Durable returns the newest batch that is stored.
func (w *Writer) Durable() Ack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.durable
}

// Buffer returns memory for a builder's Reset: that of an acknowledged batch,
// or nil if there is none yet.
func (w *Writer) Buffer() []byte {
	select {
	case b := <-w.free:
		return b
	default:
		return nil
	}
}

// Append seals the batch with the writer's epoch and its number and publishes
// it; it waits while 4 are in flight, or 1 in a stream with replicas. The caller fills EndLSN, OpenLSN,
// OpenChanges and CommitTime of h.
//
// With a nil error the builder's memory belongs to the writer: the next thing
// to do with the builder is Reset(w.Buffer()). ErrTooLarge, or an error of ctx,
// leaves batch and writer as they were. After any other error the writer is
// dead, and the batch may or may not be stored.
func (w *Writer) Append(ctx context.Context, b *vecferry.BatchBuilder, h vecferry.BatchHeader) (uint64, error) {
	if b.Len() > w.log.MaxBatch() {
		return 0, fmt.Errorf("batch of %d bytes, %d are possible: %w", b.Len(), w.log.MaxBatch(), ErrTooLarge)
	}
	if err := w.takeSlot(ctx); err != nil {
		return 0, err
	}
	h.Epoch, h.Batch, h.Changes = w.epoch, w.next, b.Changes()
	h.Total = w.total + uint64(h.Changes)
	p := inFlight{header: h, data: b.Seal(h)}
	p.future, p.err = w.publish(p)
	w.next, w.total = w.next+1, h.Total
	w.queue <- p // has room for every slot
	if p.err != nil {
		<-w.done
		return 0, w.Err()
	}
	return h.Batch, nil
}

func (w *Writer) takeSlot(ctx context.Context) error {
	select {
	case <-w.done: // first, because a free slot would win half the time
		return w.Err()
	default:
	}
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-w.done:
		return w.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *Writer) publish(p inFlight) (jetstream.PubAckFuture, error) {
	h := p.header
	msg := &nats.Msg{Subject: w.log.opts.subject(), Data: p.data, Header: nats.Header{
		headerEpoch: {strconv.FormatUint(h.Epoch, 10)},
		headerBatch: {strconv.FormatUint(h.Batch, 10)},
		headerLSN:   {h.EndLSN.String()},
		headerRows:  {strconv.FormatUint(uint64(h.Changes), 10)},
	}}
	opts := []jetstream.PublishOpt{
		jetstream.WithRetryAttempts(0), // a retry would overtake what follows
		jetstream.WithExpectLastSequence(h.Batch - 1),
		jetstream.WithMsgID(messageID(h.Epoch, h.Batch)),
	}
	if w.Durable().Batch != h.Batch-1 {
		// The batch before is not known to be stored, and a sequence says only
		// that something is. If it was refused because another writer had that
		// number, this one must not land behind the other's. With replicas a
		// server (2.15.2) that finds this expectation broken stops applying to
		// the stream, so there the batch before must be stored first.
		opts = append(opts, jetstream.WithExpectLastMsgID(messageID(h.Epoch, h.Batch-1)))
	}
	return w.log.js.PublishMsgAsync(msg, opts...)
}

// messageID is unique: an epoch is never given out twice and a writer uses a
// number once.
func messageID(epoch, batch uint64) string {
	return strconv.FormatUint(epoch, 10) + "/" + strconv.FormatUint(batch, 10)
}

// Flush waits until everything appended is stored.
func (w *Writer) Flush(ctx context.Context) error {
	for taken := range cap(w.slots) {
		if err := w.takeSlot(ctx); err != nil {
			w.giveSlots(taken)
			return err
		}
	}
	w.giveSlots(cap(w.slots))
	return w.Err()
}

func (w *Writer) giveSlots(n int) {
	for range n {
		<-w.slots
	}
}

// Close ends the writer without waiting for what is in flight.
func (w *Writer) Close() {
	w.cancel(ErrClosed)
	<-w.done
}

// collect is the writer's goroutine: it takes the acknowledgements in order.
func (w *Writer) collect(ctx context.Context) {
	defer w.cancel(nil)
	err := w.collectAll(ctx)
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
	close(w.done)
}

func (w *Writer) collectAll(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case p := <-w.queue:
			if err := w.await(ctx, p); err != nil {
				return w.diagnose(ctx, p, err)
			}
			w.stored(p)
		}
	}
}

// await waits for one acknowledgement. The client ends it after ackTimeout and
// when the connection breaks. One that is late may be lost, as it is when the
// stream's leader changes; then the log itself is asked.
func (w *Writer) await(ctx context.Context, p inFlight) error {
	if p.err != nil {
		return p.err
	}
	late := time.NewTicker(ackLate)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-p.future.Err():
			return err
		case ack := <-p.future.Ok():
			return acknowledged(p, ack)
		case <-late.C:
			if h, err := w.log.Header(ctx, p.header.Batch); err == nil && h == p.header {
				return nil
			}
		}
	}
}

// acknowledged checks that the server stored the batch where it belongs.
func acknowledged(p inFlight, ack *jetstream.PubAck) error {
	if ack.Sequence != p.header.Batch || ack.Duplicate {
		return recreated(fmt.Sprintf("batch %d was stored as message %d of stream %s, duplicate %v",
			p.header.Batch, ack.Sequence, ack.Stream, ack.Duplicate), nil)
	}
	return nil
}

// stored counts a batch as durable and frees its memory and its slot.
func (w *Writer) stored(p inFlight) {
	ack := Ack{Batch: p.header.Batch, Header: p.header}
	w.mu.Lock()
	w.durable = ack
	w.mu.Unlock()
	select { // only this goroutine sends, so there is room afterwards
	case <-w.acked:
	default:
	}
	w.acked <- ack
	if cap(p.data) <= recycleBytes {
		select {
		case w.free <- p.data[:0]:
		default:
		}
	}
	<-w.slots
}

// diagnose finds out what a failed publish means.
func (w *Writer) diagnose(ctx context.Context, p inFlight, err error) error {
	what := fmt.Sprintf("append batch %d", p.header.Batch)
	switch {
	case errors.Is(err, ErrClosed), vecferry.Halts(err):
		return err
	case errors.Is(err, nats.ErrMaxPayload), apiCode(err) == codeMessageTooBig:
		return fmt.Errorf("%s of %d bytes: %w: %w", what, len(p.data), ErrTooLarge, err)
	case noRoom(err):
		return fmt.Errorf("%s of %d bytes: %w: %w", what, len(p.data), ErrFull, err)
	case lostRace(err):
		return w.lost(ctx, what, err)
	}
	return w.log.explain(ctx, what, err)
}

// lost tells a newer writer from a late message of an older one.
func (w *Writer) lost(ctx context.Context, what string, err error) error {
	tail, terr := w.log.Tail(ctx)
	if terr != nil {
		return fmt.Errorf("%s: %w: %w; then %w", what, ErrConflict, err, terr)
	}
	if tail.Header.Epoch > w.epoch {
		return fmt.Errorf("%s: %w: batch %d has epoch %d, ours is %d", what, ErrFenced, tail.Sequence, tail.Header.Epoch, w.epoch)
	}
	return fmt.Errorf("%s: %w: the log ends at batch %d of epoch %d: %w", what, ErrConflict, tail.Sequence, tail.Header.Epoch, err)
}
