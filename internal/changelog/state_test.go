package changelog

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPutComparesAndSets(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	_, err := l.Get(t.Context(), "checkpoint")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = l.Put(t.Context(), "checkpoint", []byte("x"), 7)
	require.ErrorIs(t, err, ErrConflict, "it does not exist")

	first, err := l.Put(t.Context(), "checkpoint", []byte("one"), 0)
	require.NoError(t, err)
	_, err = l.Put(t.Context(), "checkpoint", []byte("other"), 0)
	require.ErrorIs(t, err, ErrConflict, "it exists")
	second, err := l.Put(t.Context(), "checkpoint", []byte("two"), first)
	require.NoError(t, err)
	require.Greater(t, second, first)
	_, err = l.Put(t.Context(), "checkpoint", []byte("two"), first)
	require.ErrorIs(t, err, ErrConflict, "the same value, but not ours")

	e, err := l.Get(t.Context(), "checkpoint")
	require.NoError(t, err)
	require.Equal(t, Entry{Value: []byte("two"), Revision: second}, e)
	_, err = l.Put(t.Context(), "big", make([]byte, l.MaxBatch()+1), 0)
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestStateSurvivesAReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openEmbedded(t, dir)
	rev, err := l.Put(t.Context(), "migrate/phase", []byte("copy"), 0)
	require.NoError(t, err)
	l.Close()
	l = openEmbedded(t, dir)
	e, err := l.Get(t.Context(), "migrate/phase")
	require.NoError(t, err)
	require.Equal(t, Entry{Value: []byte("copy"), Revision: rev}, e)
}

func TestOneWinnerForEachRevision(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	rev := uint64(0)
	for round := range 20 {
		var wg sync.WaitGroup
		wins := make(chan uint64, 8)
		for writer := range 8 {
			wg.Go(func() {
				r, err := l.Put(t.Context(), "lease", fmt.Appendf(nil, "%d/%d", round, writer), rev)
				if err == nil {
					wins <- r
				} else {
					require.ErrorIs(t, err, ErrConflict)
				}
			})
		}
		wg.Wait()
		require.Len(t, wins, 1)
		rev = <-wins
	}
}

func TestCounterNeverRepeats(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	const each, workers = 40, 5
	numbers := make(chan uint64, each*workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var last uint64
			for range each {
				n, err := l.Counter(t.Context(), "attempt")
				require.NoError(t, err)
				require.Greater(t, n, last)
				last = n
				numbers <- n
			}
		})
	}
	wg.Wait()
	close(numbers)
	seen := make(map[uint64]bool)
	for n := range numbers {
		require.False(t, seen[n], "%d was given out twice", n)
		seen[n] = true
	}
	n, err := l.Counter(t.Context(), "other")
	require.NoError(t, err)
	require.Equal(t, uint64(1), n)

	_, err = l.Put(t.Context(), "counter.broken", []byte("x"), 0)
	require.NoError(t, err)
	_, err = l.Counter(t.Context(), "broken")
	requireHalt(t, err)
}

func TestWatchDeliversTheNewest(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	rev, err := l.Put(t.Context(), "cutover", []byte("0"), 0)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	entries, err := l.Watch(ctx, "cutover")
	require.NoError(t, err)
	require.Equal(t, Entry{Value: []byte("0"), Revision: rev}, <-entries)
	for n := range 50 {
		rev, err = l.Put(t.Context(), "cutover", fmt.Appendf(nil, "%d", n), rev)
		require.NoError(t, err)
	}
	for e := range entries {
		if e.Revision == rev {
			require.Equal(t, "49", string(e.Value))
			break
		}
		require.Less(t, e.Revision, rev)
	}
	cancel()
	_, open := <-entries
	require.False(t, open)
}

func TestWatchOfAKeyThatComesLater(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	entries, err := l.Watch(t.Context(), "later")
	require.NoError(t, err)
	_, err = l.Put(t.Context(), "latest", []byte("another key"), 0)
	require.NoError(t, err)
	_, err = l.Put(t.Context(), "later", []byte("now"), 0)
	require.NoError(t, err)
	require.Equal(t, "now", string((<-entries).Value))
}

// The answer to a write is lost again and again; still each write happens
// exactly once and none is reported as a conflict.
func TestPutThroughCuts(t *testing.T) {
	t.Parallel()
	p, l := proxied(t)
	stop := cutEvery(p, 30*time.Millisecond)
	var rev, before uint64
	for n := range 1000 {
		var err error
		before = rev
		rev, err = l.Put(t.Context(), "checkpoint", fmt.Appendf(nil, "%d", n), rev)
		require.NoError(t, err)
		require.Equal(t, before+1, rev, "written more than once")
	}
	stop()
	require.Greater(t, l.nc.Stats().Reconnects, uint64(3), "the proxy hardly hit anything")
	e, err := l.Get(t.Context(), "checkpoint")
	require.NoError(t, err)
	require.Equal(t, "999", string(e.Value))
}

func TestWatchThroughACut(t *testing.T) {
	t.Parallel()
	s := natsServer(t)
	p := newProxy(t, s.Addr().String())
	l, far := open(t, external(p.URL())), open(t, external(s.ClientURL()))
	entries, err := l.Watch(t.Context(), "cutover")
	require.NoError(t, err)
	var rev uint64
	for n := range 10 {
		p.Down(true)
		rev, err = far.Put(t.Context(), "cutover", fmt.Appendf(nil, "%d", n), rev)
		require.NoError(t, err)
		p.Down(false)
		start := time.Now()
		for e := range entries {
			if e.Revision == rev {
				break
			}
		}
		require.Less(t, time.Since(start), 4*time.Second, "not before a heartbeat")
	}
}
