package changelog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vecferry/vecferry"
)

const (
	headerPut   = "Vecferry-Put"
	putPatience = 30 * time.Second // how long Put tries to find out what became of it
	retryPause  = 100 * time.Millisecond
	counterKey  = "counter." // prefix of the counters' keys
)

// Entry is the value of a key. Revisions grow over the whole bucket.
type Entry struct {
	Value    []byte
	Revision uint64
}

// bucketConfig is the layout of a NATS key-value bucket with one value a key,
// except that reads come from the leader: a decision needs the newest value.
func (o Options) bucketConfig() jetstream.StreamConfig {
	c := o.streamConfig("KV_"+o.bucket(), o.keyPrefix()+">", stateBytes)
	c.MaxMsgsPerSubject = 1
	c.AllowRollup = true
	return c
}

// Get returns the value of a key, or ErrNotFound. Keys are of A-Z, a-z, 0-9
// and - / _ = with dots between tokens.
func (l *Log) Get(ctx context.Context, key string) (Entry, error) {
	m, err := l.read(ctx, key)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Value: m.Data, Revision: m.Sequence}, nil
}

func (l *Log) read(ctx context.Context, key string) (*jetstream.RawStreamMsg, error) {
	var m *jetstream.RawStreamMsg
	err := l.do(ctx, "read state "+key, func(ctx context.Context) (err error) {
		m, err = l.state.GetLastMsgForSubject(ctx, l.opts.keyPrefix()+key)
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("state %s: %w", key, ErrNotFound)
	}
	return m, err
}

// Put writes a key if its revision is still the given one; revision 0 means
// that it must not exist. It returns the new revision, or ErrConflict. If the
// connection breaks it finds out by itself what became of the write, for up to
// 30 seconds; only after another error than ErrConflict, ErrFull and
// ErrTooLarge the value may or may not have been written.
func (l *Log) Put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if len(value) > l.MaxBatch() {
		return 0, fmt.Errorf("state %s of %d bytes: %w", key, len(value), ErrTooLarge)
	}
	id := rand.Text()
	for start := time.Now(); ; {
		rev, err := l.tryPut(ctx, nats.Msg{Subject: l.opts.keyPrefix() + key, Data: value, Header: nats.Header{headerPut: {id}}}, revision)
		if err == nil {
			return rev, nil
		}
		answer, settled := l.settle(ctx, key, id, err)
		if settled {
			return answer.Revision, answer.err
		}
		if time.Since(start) > putPatience {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(retryPause):
		}
	}
}

func (l *Log) tryPut(ctx context.Context, m nats.Msg, revision uint64) (uint64, error) {
	var rev uint64
	err := l.do(ctx, "write state", func(ctx context.Context) error {
		ack, err := l.js.PublishMsg(ctx, &m, jetstream.WithRetryAttempts(0), jetstream.WithExpectLastSequencePerSubject(revision))
		if err == nil {
			rev = ack.Sequence
		}
		return err
	})
	return rev, err
}

// putResult is what became of a Put.
type putResult struct {
	Entry
	err error
}

// settle decides what a failed Put comes to. Not settled means that nobody
// knows, or that it did not arrive: the same write with the same expectation
// may be sent again, of two copies at most one is stored.
func (l *Log) settle(ctx context.Context, key, id string, failure error) (putResult, bool) {
	switch {
	case noRoom(failure):
		return putResult{err: fmt.Errorf("state %s: %w: %w", key, ErrFull, failure)}, true
	case apiCode(failure) == codeMessageTooBig, errors.Is(failure, nats.ErrMaxPayload):
		return putResult{err: fmt.Errorf("state %s: %w: %w", key, ErrTooLarge, failure)}, true
	case !lostRace(failure) && !silent(failure):
		return putResult{err: fmt.Errorf("state %s: %w", key, failure)}, true
	}
	m, err := l.read(ctx, key)
	switch {
	case err == nil && m.Header.Get(headerPut) == id:
		return putResult{Entry: Entry{Revision: m.Sequence}}, true
	case lostRace(failure) && (err == nil || errors.Is(err, ErrNotFound)):
		return putResult{err: fmt.Errorf("state %s: %w: %w", key, ErrConflict, failure)}, true
	}
	return putResult{}, false
}

// Watch delivers the value of a key, now and after each change, until ctx
// ends, when the channel is closed. A slow receiver gets the newest value only.
func (l *Log) Watch(ctx context.Context, key string) (<-chan Entry, error) {
	var kv jetstream.KeyValue
	err := l.do(ctx, "watch state "+key, func(ctx context.Context) (err error) {
		kv, err = l.js.KeyValue(ctx, l.opts.bucket())
		return err
	})
	if err != nil {
		return nil, err
	}
	watcher, err := kv.Watch(ctx, key)
	if err != nil {
		return nil, l.explain(ctx, "watch state "+key, err)
	}
	out := make(chan Entry, 1)
	go l.forward(ctx, key, watcher, out)
	return out, nil
}

// forward is the goroutine of a Watch; it ends with ctx or with the connection.
// What was written while the connection was cut reaches a watcher only with its
// next heartbeat, seconds later, so forward asks when the connection is back.
func (l *Log) forward(ctx context.Context, key string, watcher jetstream.KeyWatcher, out chan Entry) {
	defer close(out)
	defer func() { _ = watcher.Stop() }() // fails only if it has ended already
	back := l.nc.StatusChanged(nats.CONNECTED)
	defer l.nc.RemoveStatusListener(back)
	var last uint64
	for {
		var e Entry
		select {
		case <-ctx.Done():
			return
		case <-back:
			e, _ = l.Get(ctx, key) // without an answer the watcher delivers it later
		case u, open := <-watcher.Updates():
			if !open {
				return
			}
			if u != nil { // nil is the marker behind the first value
				e = Entry{Value: u.Value(), Revision: u.Revision()}
			}
		}
		if e.Revision <= last {
			continue
		}
		last = e.Revision
		select { // only this goroutine sends, so there is room afterwards
		case <-out:
		default:
		}
		out <- e
	}
}

// Counter returns a number that is larger than all that it returned before for
// this key, also to other processes, also after a crash. The first is 1;
// numbers may be left out.
func (l *Log) Counter(ctx context.Context, key string) (uint64, error) {
	return l.counter(ctx, key, 0)
}

// counter is Counter with a floor: the number is above it.
func (l *Log) counter(ctx context.Context, key string, floor uint64) (uint64, error) {
	key = counterKey + key
	for {
		e, err := l.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return 0, err
		}
		n, err := parseCounter(key, e)
		if err != nil {
			return 0, err
		}
		n = max(n, floor) + 1
		_, err = l.Put(ctx, key, strconv.AppendUint(nil, n, 10), e.Revision)
		if !errors.Is(err, ErrConflict) {
			return n, err
		}
	}
}

func parseCounter(key string, e Entry) (uint64, error) {
	if e.Revision == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(e.Value), 10, 64)
	if err != nil {
		return 0, &vecferry.HaltError{
			What: fmt.Sprintf("state %s is not a number", key),
			Fix:  "put back the newest copy of the change log's storage; a number below the last one would be used twice",
			Err:  err,
		}
	}
	return n, nil
}
