package changelog

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

func TestReaderStartsBehindItsCheckpoint(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	written(t, l, 100, 1000)
	for _, after := range []uint64{0, 60, 99, 20} { // also back: a replay
		r := newReader(t, l, after)
		readRange(t, r, after+1, 100)
		_, err := r.Next(t.Context(), 0)
		require.ErrorIs(t, err, ErrIdle)
		require.Zero(t, r.Resets())
		r.Close()
	}
	r := newReader(t, l, 100)
	_, err := r.Next(t.Context(), 50*time.Millisecond)
	require.ErrorIs(t, err, ErrIdle)
	written(t, l, 101, 10)
	readRange(t, r, 101, 101)
}

func TestNextSaysWhatIsBehind(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	written(t, l, 3, 10)
	r := newReader(t, l, 0)
	for _, pending := range []uint64{2, 1, 0} {
		m, err := r.Next(t.Context(), -1)
		require.NoError(t, err)
		require.Equal(t, pending, m.Pending)
		require.WithinDuration(t, time.Now(), m.Stored, time.Minute)
		require.Equal(t, vecferry.LSN(m.Batch), m.Header.EndLSN)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := r.Next(ctx, -1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestPrefetchIsBounded(t *testing.T) {
	t.Parallel()
	const size, batches = 1 << 20, 80
	l := openEmbedded(t, t.TempDir())
	written(t, l, batches, size)
	r := newReader(t, l, 0)
	require.Eventually(t, func() bool { return r.Buffered() >= 16 }, time.Minute, time.Millisecond)
	for n := uint64(1); n <= batches; n++ {
		readRange(t, r, n, n)
		r.window.mu.Lock()
		bytes := r.window.bytes
		r.window.mu.Unlock()
		require.LessOrEqual(t, bytes, windowBytes)
	}
	require.Zero(t, r.Resets())
}

func TestAckIsProgressOnly(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	pending := func() uint64 {
		n, err := l.Pending(t.Context())
		require.NoError(t, err)
		return n
	}
	written(t, l, 10, 10)
	require.Equal(t, uint64(10), pending(), "before there is a consumer")
	r := newReader(t, l, 0)
	readRange(t, r, 1, 8)
	require.Equal(t, uint64(10), pending())
	require.NoError(t, r.Ack(6))
	require.Eventually(t, func() bool { return pending() == 4 }, time.Minute, 5*time.Millisecond)
	require.NoError(t, r.Ack(3), "an older one does nothing")
	r.Close()

	r = newReader(t, l, 2) // the checkpoint was older than the acks
	readRange(t, r, 3, 10)
	require.Equal(t, uint64(8), pending())
	require.NoError(t, r.Ack(10))
	require.Eventually(t, func() bool { return pending() == 0 }, time.Minute, 5*time.Millisecond)
}

// Somebody else pulls from our consumer: batches are missing in what we get.
func TestLostDeliveriesAreFetchedAgain(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	r := newReader(t, l, 0)
	w := newWriter(t, l)
	appendRange(t, w, 1, 3, 10)
	readRange(t, r, 1, 3)
	thief, err := l.changes.Consumer(t.Context(), consumerName)
	require.NoError(t, err)
	var stolen int
	for last := uint64(3); stolen == 0; last += 20 {
		// The server serves waiting pulls in turn, so ours and the thief's share.
		batch, err := thief.Fetch(5, jetstream.FetchMaxWait(time.Second))
		require.NoError(t, err)
		appendRange(t, w, last+1, last+20, 10)
		readRange(t, r, last+1, last+20)
		for range batch.Messages() {
			stolen++
		}
	}
	require.Positive(t, r.Resets())
}

func TestReaderHaltsAtATrimmedBatch(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	written(t, l, 10, 10)
	require.NoError(t, l.Trim(t.Context(), 6))
	readRange(t, newReader(t, l, 5), 6, 10)
	_, err := newReader(t, l, 4).Next(t.Context(), -1)
	requireHalt(t, err)
	require.ErrorIs(t, err, ErrNotFound)
}

// Batches vanish between the prefetched ones and the rest.
func TestReaderHaltsAtAGapInTheMiddle(t *testing.T) {
	t.Parallel()
	const size, batches = 1 << 20, 60
	l := openEmbedded(t, t.TempDir())
	written(t, l, batches, size)
	r := newReader(t, l, 0)
	full := func() bool { return !r.window.roomy() && r.Buffered() >= 16 }
	require.Eventually(t, full, time.Minute, time.Millisecond)
	readRange(t, r, 1, 1)
	require.NoError(t, l.Trim(t.Context(), 50))
	var err error
	var last uint64
	for err == nil {
		var m *Message
		if m, err = r.Next(t.Context(), -1); err == nil {
			last = m.Batch
		}
	}
	requireHalt(t, err)
	require.Less(t, last, uint64(49), "what was fetched is delivered, nothing behind the gap")
	_, again := r.Next(t.Context(), 0)
	require.Equal(t, err, again)
}

func TestReaderHaltsAtADamagedBatch(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string][]byte{
		"garbage":      []byte("garbage"),
		"wrong number": batchOf(7, 10, nil).Seal(vecferry.BatchHeader{Epoch: 1, Batch: 7}),
		"older epoch":  batchOf(3, 10, nil).Seal(vecferry.BatchHeader{Epoch: 0, Batch: 3}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := openEmbedded(t, t.TempDir())
			written(t, l, 2, 10)
			_, err := l.js.Publish(t.Context(), l.opts.subject(), payload)
			require.NoError(t, err)
			r := newReader(t, l, 0)
			readRange(t, r, 1, 2)
			_, err = r.Next(t.Context(), -1)
			requireHalt(t, err)
		})
	}
}

func TestReaderHaltsWhenTheLogIsRecreated(t *testing.T) {
	t.Parallel()
	p, l := proxied(t)
	written(t, l, 5, 10)
	r := newReader(t, l, 0)
	readRange(t, r, 1, 5)
	require.NoError(t, l.js.DeleteStream(t.Context(), l.opts.streamName()))
	other := open(t, external(p.URL()))
	require.NotEqual(t, l.ID(), other.ID())
	written(t, other, 9, 10) // the numbers come back
	p.Cut()
	_, err := r.Next(t.Context(), 30*time.Second)
	requireHalt(t, err)
}

func TestReaderSurvivesAnUnreachableServer(t *testing.T) {
	t.Parallel()
	s := natsServer(t)
	p := newProxy(t, s.Addr().String())
	l, far := open(t, external(p.URL())), open(t, external(s.ClientURL()))
	written(t, far, 5, 10)
	r := newReader(t, l, 0)
	readRange(t, r, 1, 5)
	p.Down(true)
	written(t, far, 10, 10)
	_, err := r.Next(t.Context(), 300*time.Millisecond)
	require.ErrorIs(t, err, ErrIdle)
	p.Down(false)
	readRange(t, r, 6, 10)
	require.Positive(t, r.Resets())
}

// Nothing is closed, but no byte comes through: only heartbeats tell.
func TestReaderNoticesSilence(t *testing.T) {
	t.Parallel()
	s := natsServer(t)
	p := newProxy(t, s.Addr().String())
	l, far := open(t, external(p.URL())), open(t, external(s.ClientURL()))
	written(t, far, 5, 10)
	r := newReader(t, l, 0)
	readRange(t, r, 1, 5)
	p.Freeze()
	require.Eventually(t, func() bool { return r.Resets() > 0 }, 30*time.Second, 50*time.Millisecond)
	written(t, far, 10, 10)
	p.Thaw()
	readRange(t, r, 6, 10)
}

func TestReaderThroughCuts(t *testing.T) {
	t.Parallel()
	const batches = 4000
	s := natsServer(t)
	p := newProxy(t, s.Addr().String())
	far := open(t, external(s.ClientURL()))
	written(t, far, batches, 20_000)
	l := open(t, external(p.URL()))
	r := newReader(t, l, 0)
	stop := cutEvery(p, 60*time.Millisecond)
	defer stop()
	readRange(t, r, 1, batches)
	require.Positive(t, r.Resets(), "the proxy never hit the reader")
	t.Logf("%d resets", r.Resets())
}

func TestReaderEndsWithTheLog(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	written(t, l, 2, 10)
	r := newReader(t, l, 0)
	readRange(t, r, 1, 1)
	l.Close()
	l.Close()
	require.Eventually(t, func() bool {
		_, err := r.Next(t.Context(), 0)
		return err != nil && err != ErrIdle //nolint:errorlint // the very value: not closed yet
	}, time.Minute, 10*time.Millisecond)
	_, err := r.Next(t.Context(), -1)
	require.ErrorIs(t, err, ErrClosed)
}

func TestAckListForgetsWhatIsOld(t *testing.T) {
	t.Parallel()
	var a ackList
	for n := uint64(1); n <= maxAcks+10; n++ {
		a.delivered(&Message{Batch: n, reply: "r"})
	}
	require.LessOrEqual(t, len(a.list), maxAcks)
	require.Empty(t, a.upTo(1))
	require.Equal(t, "r", a.upTo(maxAcks+10))
	require.Empty(t, a.list)
}

// After damage at the end of the log the server may say that nothing is
// pending although the log goes on.
func TestStuckReaderLooksIntoTheLog(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	written(t, l, 10, 10)
	r := newReader(t, l, 10)
	r.Close() // only its state is needed
	require.NoError(t, r.stuck(t.Context()))
	r.last.Batch = 7
	require.ErrorIs(t, r.stuck(t.Context()), errDelivery, "batch 8 is there but does not come")
	r.last.Batch = 11
	requireHalt(t, r.stuck(t.Context()))
	require.NoError(t, l.Trim(t.Context(), 10))
	r.last.Batch = 7
	requireHalt(t, r.stuck(t.Context()))
}

// The status that ends a pull may come before the pull's last messages.
func TestPullIsOverByCounting(t *testing.T) {
	t.Parallel()
	p := &puller{reply: "in.2", silence: time.NewTimer(time.Hour)}
	defer p.silence.Stop()
	message := &nats.Msg{Subject: "changes", Data: []byte("x")}
	status := func(subject, code, left string) *nats.Msg {
		m := &nats.Msg{Subject: subject, Header: nats.Header{"Status": {code}}}
		if left != "" {
			m.Header.Set(headerLeft, left)
		}
		return m
	}
	take := func(m *nats.Msg, wantBatch, wantOpen bool) {
		t.Helper()
		batch, err := p.take(m)
		require.NoError(t, err)
		require.Equal(t, wantBatch, batch)
		require.Equal(t, wantOpen, p.open)
	}
	p.open, p.expect = true, pullBatches
	take(status("in.1", "409", "0"), false, true) // the end of the pull before
	take(message, true, true)
	take(status("in.2", "100", ""), false, true)
	take(status("in.2", "409", "14"), false, true)
	take(message, true, false)
	require.False(t, p.empty())

	p.open, p.got, p.expect = true, 0, pullBatches
	take(status("in.2", "408", "16"), false, false)
	require.True(t, p.empty())
	_, err := p.take(status("in.2", "409", ""))
	require.ErrorIs(t, err, errRefused)
	_, err = p.take(status("in.2", "503", ""))
	require.ErrorIs(t, err, errRefused)
}
