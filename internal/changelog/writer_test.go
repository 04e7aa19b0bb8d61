package changelog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

func TestAppendAndReadThousands(t *testing.T) {
	t.Parallel()
	const batches = 5000
	l := openEmbedded(t, t.TempDir())
	r := newReader(t, l, 0)
	w := newWriter(t, l)
	require.True(t, w.Tail().Empty)
	done := make(chan error, 1)
	go func() {
		for n := uint64(1); n <= batches; n++ {
			if _, err := w.Append(t.Context(), batchOf(n, int(n%997), w.Buffer()), headerOf(n)); err != nil {
				done <- err
				return
			}
		}
		done <- w.Flush(t.Context())
	}()
	readRange(t, r, 1, batches)
	require.NoError(t, <-done)
	require.Zero(t, r.Resets())

	tail, err := l.Tail(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(batches), tail.Sequence)
	require.Equal(t, w.Durable().Header, tail.Header)
	require.Equal(t, w.Epoch(), tail.Header.Epoch)
	require.Equal(t, uint32(1), tail.Header.Changes)
}

func TestAckCoversAllBefore(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	w := newWriter(t, l)
	var newest uint64
	for n := uint64(1); n <= 200; n++ {
		_, err := w.Append(t.Context(), batchOf(n, 10, w.Buffer()), headerOf(n))
		require.NoError(t, err)
		select {
		case a := <-w.Acked():
			require.Greater(t, a.Batch, newest)
			require.Equal(t, vecferry.LSN(a.Batch), a.Header.EndLSN)
			newest = a.Batch
		default:
		}
	}
	require.NoError(t, w.Flush(t.Context()))
	require.Equal(t, uint64(200), w.Durable().Batch)
	if newest < 200 {
		require.Equal(t, uint64(200), (<-w.Acked()).Batch, "a slow receiver gets the newest")
	}
}

func TestAtMostFourInFlight(t *testing.T) {
	t.Parallel()
	p, l := proxied(t)
	w := newWriter(t, l)
	p.Freeze()
	for n := uint64(1); n <= maxInFlight; n++ {
		_, err := w.Append(t.Context(), batchOf(n, 10, w.Buffer()), headerOf(n))
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := w.Append(ctx, batchOf(5, 10, nil), headerOf(5))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	p.Thaw()
	require.NoError(t, w.Flush(t.Context()))
	appendRange(t, w, 5, 5, 10)
}

func TestMemoryComesBackAfterTheAck(t *testing.T) {
	t.Parallel()
	p, l := proxied(t)
	w := newWriter(t, l)
	require.Nil(t, w.Buffer())
	p.Freeze()
	b := batchOf(1, 1000, nil)
	_, err := w.Append(t.Context(), b, headerOf(1))
	require.NoError(t, err)
	require.Nil(t, w.Buffer(), "not acknowledged yet")
	p.Thaw()
	require.NoError(t, w.Flush(t.Context()))
	require.GreaterOrEqual(t, cap(w.Buffer()), 1000)
	require.Nil(t, w.Buffer())
}

func TestTooLargeLeavesTheWriterAlive(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	w := newWriter(t, l)
	_, err := w.Append(t.Context(), batchOf(1, l.MaxBatch(), nil), headerOf(1))
	require.ErrorIs(t, err, ErrTooLarge)
	require.NoError(t, w.Err())
	appendRange(t, w, 1, 1, l.MaxBatch()-200)
	readRange(t, newReader(t, l, 0), 1, 1)
}

func TestSecondWriterFencesTheFirst(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	first := newWriter(t, l)
	appendRange(t, first, 1, 3, 10)
	second := newWriter(t, l)
	require.Greater(t, second.Epoch(), first.Epoch())
	require.Equal(t, uint64(3), second.Tail().Sequence)
	appendRange(t, second, 4, 4, 10)

	_, err := first.Append(t.Context(), batchOf(99, 10, nil), headerOf(99))
	if err == nil {
		err = first.Flush(t.Context())
	}
	require.ErrorIs(t, err, ErrFenced)
	_, err = first.Append(t.Context(), batchOf(99, 10, nil), headerOf(99))
	require.ErrorIs(t, err, ErrFenced, "dead for good")
	readRange(t, newReader(t, l, 0), 1, 4)
}

func TestNewWriterLosesToAnOldOneThatIsFaster(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	first, second := newWriter(t, l), newWriter(t, l)
	appendRange(t, first, 1, 1, 10)
	_, err := second.Append(t.Context(), batchOf(1, 10, nil), headerOf(1))
	if err == nil {
		err = second.Flush(t.Context())
	}
	require.ErrorIs(t, err, ErrConflict)
	require.NotErrorIs(t, err, ErrFenced)
	third := newWriter(t, l)
	require.Equal(t, first.Epoch(), third.Tail().Header.Epoch)
	appendRange(t, third, 2, 2, 10)
	readRange(t, newReader(t, l, 0), 1, 2)
}

// A writer with several batches in flight loses the first to another writer,
// whose batch takes exactly that number. Sequence expectations alone would let
// the second batch in, behind a batch that it does not follow.
func TestLaterBatchInFlightDoesNotFollowAForeignOne(t *testing.T) {
	t.Parallel()
	for range 20 {
		l := openEmbedded(t, t.TempDir())
		zombie := newWriter(t, l)
		w := newWriter(t, l)
		appendRange(t, w, 1, 1, 10)
		for n := uint64(1); n <= maxInFlight; n++ {
			if _, err := zombie.Append(t.Context(), batchOf(100+n, 10, nil), headerOf(100+n)); err != nil {
				break
			}
		}
		<-zombie.Done()
		require.ErrorIs(t, zombie.Err(), ErrFenced)
		appendRange(t, w, 2, 3, 10)
		readRange(t, newReader(t, l, 0), 1, 3)
		l.Close()
	}
}

func TestFullLogRecoversAfterTrim(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir(), func(o *Options) { o.MaxBytes = 1 << 20 })
	w := newWriter(t, l)
	var err error
	n := uint64(0)
	for err == nil {
		n++
		require.Less(t, n, uint64(20), "the log is never full")
		if _, err = w.Append(t.Context(), batchOf(n, 100_000, w.Buffer()), headerOf(n)); err == nil {
			err = w.Flush(t.Context())
		}
	}
	require.ErrorIs(t, err, ErrFull)
	stored := w.Durable().Batch
	require.Equal(t, n-1, stored)

	blocked := newWriter(t, l)
	_, err = blocked.Append(t.Context(), batchOf(n, 100_000, nil), headerOf(n))
	if err == nil {
		err = blocked.Flush(t.Context())
	}
	require.ErrorIs(t, err, ErrFull)

	require.NoError(t, l.Trim(t.Context(), stored))
	info, err := l.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, stored, info.FirstBatch)
	require.Equal(t, uint64(1), info.Messages)
	require.Zero(t, info.NumDeleted)
	w = newWriter(t, l)
	appendRange(t, w, n, n+5, 100_000)
	readRange(t, newReader(t, l, stored), n, n+5)
}

func TestTrimKeepsTheLastBatch(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	require.NoError(t, l.Trim(t.Context(), 10), "of an empty log")
	written(t, l, 5, 10)
	require.NoError(t, l.Trim(t.Context(), 1000))
	tail, err := l.Tail(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(5), tail.Sequence)
	_, err = l.Header(t.Context(), 4)
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, l.Trim(t.Context(), 2), "what is gone already")
}

func TestEpochStaysAboveTheLogsWhenStateIsLost(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	var epoch uint64
	for range 3 {
		w := newWriter(t, l)
		appendRange(t, w, w.Tail().Sequence+1, w.Tail().Sequence+1, 10)
		epoch = w.Epoch()
	}
	require.NoError(t, l.state.Purge(t.Context()))
	require.Greater(t, newWriter(t, l).Epoch(), epoch)
}

func TestWriterAfterClose(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	w := newWriter(t, l)
	appendRange(t, w, 1, 2, 10)
	w.Close()
	w.Close()
	_, err := w.Append(t.Context(), batchOf(3, 10, nil), headerOf(3))
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, w.Flush(t.Context()), ErrClosed)
}

func TestWritersContextEndsIt(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	w, err := l.NewWriter(ctx)
	require.NoError(t, err)
	cancel()
	<-w.Done()
	require.ErrorIs(t, w.Err(), context.Canceled)
}

func TestHeadersForPeople(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	w := newWriter(t, l)
	appendRange(t, w, 1, 1, 10)
	m, err := l.changes.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "vecferry.docs.changes", m.Subject)
	require.Equal(t, "1", m.Header.Get("Vecferry-Batch"))
	require.Equal(t, "1", m.Header.Get("Vecferry-Rows"))
	require.Equal(t, "0/1", m.Header.Get("Vecferry-Lsn"))
	require.Equal(t, "1", m.Header.Get("Vecferry-Epoch"))
}

func TestWriterGoesOnThroughCuts(t *testing.T) {
	t.Parallel()
	const batches = 1500
	s := natsServer(t)
	p := newProxy(t, s.Addr().String())
	l, far := open(t, external(p.URL())), open(t, external(s.ClientURL()))
	stop := cutEvery(p, 60*time.Millisecond)
	defer stop()
	written := make(chan error, 1)
	deaths := 0
	go func() { written <- writeThroughErrors(t.Context(), l, batches, &deaths) }()
	readRange(t, newReader(t, far, 0), 1, batches)
	require.NoError(t, <-written)
	require.Positive(t, deaths, "the proxy never hit a writer")
	info, err := far.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(batches), info.LastBatch)
	t.Logf("%d writers died", deaths)
}

// writeThroughErrors is what an owner does: after an error it makes a new
// writer and goes on after what that one finds at the end of the log.
func writeThroughErrors(ctx context.Context, l *Log, last uint64, deaths *int) error {
	for {
		w, err := l.NewWriter(ctx)
		if err == nil {
			err = writeTo(ctx, w, last)
			w.Close()
			if err == nil {
				return nil
			}
			*deaths++
		}
		var unreachable interface{ Unreachable() bool }
		if !errors.Is(err, ErrConflict) && !(errors.As(err, &unreachable) && unreachable.Unreachable()) {
			return err
		}
	}
}

func writeTo(ctx context.Context, w *Writer, last uint64) error {
	for n := w.Tail().Sequence + 1; n <= last; n++ {
		if _, err := w.Append(ctx, batchOf(n, 2000, w.Buffer()), headerOf(n)); err != nil {
			return err
		}
	}
	return w.Flush(ctx)
}

// cutEvery cuts the proxy's connections until the returned function is called,
// each time a little later, so that a slow machine gets on, too.
func cutEvery(p *proxy, pause time.Duration) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-time.After(pause):
				p.Cut()
				pause += pause / 20
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// proxied returns a log on an external server behind a proxy.
func proxied(t testing.TB) (*proxy, *Log) {
	t.Helper()
	p := newProxy(t, natsServer(t).Addr().String())
	return p, open(t, external(p.URL()))
}

func TestErrorCodesDecide(t *testing.T) {
	t.Parallel()
	code := func(c jetstream.ErrorCode) error { return &jetstream.APIError{ErrorCode: c} }
	for _, c := range []struct {
		err                error
		full, race, silent bool
	}{
		{err: code(10077), full: true},
		{err: code(10023), full: true},
		{err: code(10002), full: true},
		{err: code(10071), race: true},
		{err: code(10164), race: true},
		{err: code(10070), race: true},
		{err: code(10054)},
		{err: nats.ErrTimeout, silent: true},
		{err: jetstream.ErrNoStreamResponse, silent: true},
		{err: nats.ErrReconnectBufExceeded, silent: true},
		{err: errors.New("maximum bytes exceeded")},
	} {
		require.Equal(t, c.full, noRoom(c.err), "%v", c.err)
		require.Equal(t, c.race, lostRace(c.err), "%v", c.err)
		require.Equal(t, c.silent, silent(c.err), "%v", c.err)
	}
}
