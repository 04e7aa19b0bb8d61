package changelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vecferry/vecferry"
)

// Log is an open change log with its state. It is safe for concurrent use.
type Log struct {
	opts     Options
	log      *slog.Logger
	server   string // for messages
	embedded *embedded
	nc       *nats.Conn
	js       jetstream.JetStream
	changes  jetstream.Stream
	state    jetstream.Stream
	id       string

	violation atomic.Pointer[error] // last refusal that came outside of a request
	cuts      cuts
	ended     chan struct{} // closed with the connection
	closing   sync.Once

	deadMu sync.Mutex
	dead   jetstream.Stream // opened at first use
}

// Open starts the embedded server, or connects to the external one, and
// creates or checks the streams. It returns a *LockedError if another process
// has the folder, a *ServerError if the server cannot serve, and a
// *vecferry.HaltError if it holds something else under our names.
func Open(ctx context.Context, o Options) (*Log, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	l := &Log{opts: o, log: o.Logger, server: "embedded"}
	if o.External != nil {
		l.server = withoutCredentials(o.External.URL)
	} else if l.embedded, err = startEmbedded(o); err != nil {
		return nil, err
	}
	if err := l.open(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Log) open(ctx context.Context) error {
	if err := l.connect(); err != nil {
		return err
	}
	var err error
	if l.changes, err = l.ensureStream(ctx, l.opts.streamConfig(l.opts.streamName(), l.opts.subject(), l.opts.MaxBytes)); err != nil {
		return err
	}
	l.id = incarnation(l.changes.CachedInfo())
	l.state, err = l.ensureStream(ctx, l.opts.bucketConfig())
	return err
}

// Close drains the connection, stops the embedded server and frees its folder.
// Writers and readers fail with ErrClosed. Calling it again does nothing.
func (l *Log) Close() {
	l.closing.Do(func() {
		if l.nc != nil {
			l.drain()
		}
		if l.embedded != nil {
			l.embedded.stop()
		}
	})
}

func (l *Log) drain() {
	if err := l.nc.Drain(); err != nil {
		l.nc.Close() // not connected, so there is nothing to drain
	}
	select {
	case <-l.ended:
	case <-time.After(2 * drainTimeout):
		l.nc.Close()
		<-l.ended
	}
	if l.js != nil {
		l.js.CleanupPublisher()
	}
}

// do runs one request with its own time limit, in which it also waits for a
// lost connection to come back, and explains its error. The client lets a
// request whose connection breaks wait until its time is over; do ends it at once.
func (l *Log) do(ctx context.Context, what string, request func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := l.connected(limited)
	if err == nil {
		defer l.cuts.watch(cancel)()
		err = request(limited)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", nats.ErrDisconnected, err)
		}
		return l.explain(ctx, what, err)
	}
	return nil
}

// cuts calls the requests that are under way when the connection breaks.
type cuts struct {
	mu   sync.Mutex
	next int
	all  map[int]func()
}

// watch registers a call; the returned function takes it back.
func (c *cuts) watch(call func()) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[int]func())
	}
	c.next++
	n := c.next
	c.all[n] = call
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, n)
	}
}

// happened makes all calls.
func (c *cuts) happened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.all {
		call()
	}
}

// ID returns the identity of this incarnation of the change log. Batch numbers
// of two logs with different identities have nothing to do with each other.
func (l *Log) ID() string { return l.id }

// MaxBatch returns the bytes that a batch, a value or a dead letter may have.
func (l *Log) MaxBatch() int {
	limit := min(l.nc.MaxPayload(), maxPayload)
	if own := int64(l.changes.CachedInfo().Config.MaxMsgSize); own > 0 {
		limit = min(limit, own)
	}
	return int(limit) - headerMargin
}

// Info is what the change log holds.
type Info struct {
	FirstBatch uint64 // oldest kept; above LastBatch if nothing is kept
	LastBatch  uint64 // 0 in a log that never had one
	Messages   uint64
	Bytes      uint64
	MaxBytes   int64
	LastTime   time.Time // when the last batch was stored
	NumDeleted int       // messages missing in the middle: anything but 0 is damage
}

// Info returns what the change log holds now.
func (l *Log) Info(ctx context.Context) (Info, error) {
	info, err := l.info(ctx)
	if err != nil {
		return Info{}, err
	}
	s := info.State
	return Info{
		FirstBatch: s.FirstSeq, LastBatch: s.LastSeq, Messages: s.Msgs, Bytes: s.Bytes,
		MaxBytes: info.Config.MaxBytes, LastTime: s.LastTime, NumDeleted: s.NumDeleted,
	}, nil
}

func (l *Log) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	var info *jetstream.StreamInfo
	err := l.do(ctx, "change log status", func(ctx context.Context) (err error) {
		info, err = l.changes.Info(ctx)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, recreated(fmt.Sprintf("stream %s is gone", l.opts.streamName()), nil)
	}
	return info, err
}

// Pending returns how many batches the sink has not acknowledged.
func (l *Log) Pending(ctx context.Context) (uint64, error) {
	var pending uint64
	err := l.do(ctx, "sink's consumer", func(ctx context.Context) error {
		c, err := l.changes.Consumer(ctx, consumerName)
		if err != nil {
			return err
		}
		i := c.CachedInfo()
		pending = i.NumPending + uint64(i.NumAckPending)
		return nil
	})
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		i, err := l.Info(ctx)
		return i.Messages, err
	}
	return pending, err
}

// Trim removes the batches before keepFrom. The caller gives a number no
// higher than every checkpoint, because a checkpoint is proved by its batch.
// The last batch always stays: a writer goes on from it.
func (l *Log) Trim(ctx context.Context, keepFrom uint64) error {
	i, err := l.Info(ctx)
	if err != nil {
		return err
	}
	keepFrom = min(keepFrom, i.LastBatch)
	if keepFrom <= i.FirstBatch {
		return nil
	}
	return l.do(ctx, "trim the change log", func(ctx context.Context) error {
		return l.changes.Purge(ctx, jetstream.WithPurgeSequence(keepFrom))
	})
}

// Tail is the end of the change log.
type Tail struct {
	Sequence uint64 // of the last batch, 0 if Empty
	Header   vecferry.BatchHeader
	Empty    bool // there was never a batch
}

// Tail reads the last batch from the leader and checks it. A last batch that
// is missing or damaged is a *vecferry.HaltError: going on would reuse its number.
func (l *Log) Tail(ctx context.Context) (Tail, error) {
	info, err := l.info(ctx)
	if err != nil {
		return Tail{}, err
	}
	last := info.State.LastSeq
	if last == 0 {
		return Tail{Empty: true}, nil
	}
	h, err := l.Header(ctx, last)
	if errors.Is(err, ErrNotFound) {
		return Tail{}, recreated(fmt.Sprintf("batch %d, the last of the change log, cannot be read", last), err)
	}
	return Tail{Sequence: last, Header: h}, err
}

// Header reads one batch from the leader, checks it and returns its header. It
// returns ErrNotFound if there is no such batch and a *vecferry.HaltError if
// it is damaged.
func (l *Log) Header(ctx context.Context, batch uint64) (vecferry.BatchHeader, error) {
	var raw *jetstream.RawStreamMsg
	err := l.do(ctx, fmt.Sprintf("read batch %d", batch), func(ctx context.Context) (err error) {
		raw, err = l.changes.GetMsg(ctx, batch)
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return vecferry.BatchHeader{}, fmt.Errorf("batch %d: %w", batch, ErrNotFound)
	}
	if err != nil {
		return vecferry.BatchHeader{}, err
	}
	return parse(batch, raw.Data)
}

// parse checks the payload of a message.
func parse(sequence uint64, data []byte) (vecferry.BatchHeader, error) {
	h, err := vecferry.ParseBatchHeader(data)
	if err == nil && h.Batch != sequence {
		err = fmt.Errorf("%w: it calls itself batch %d", vecferry.ErrCorrupt, h.Batch)
	}
	if err != nil {
		return vecferry.BatchHeader{}, recreated(fmt.Sprintf("batch %d of the change log is damaged", sequence), err)
	}
	return h, nil
}
