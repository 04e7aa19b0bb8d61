package capture

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
)

func nudged(p *progress) bool {
	select {
	case <-p.nudge:
		return true
	default:
		return false
	}
}

func TestProgressFollowsDurableBatches(t *testing.T) {
	t.Parallel()
	p := newProgress(7, 100, 0)
	require.EqualValues(t, 100, p.confirmable())
	p.handOver()
	p.handOver()
	require.True(t, p.outstanding())
	p.durable(vecferry.BatchHeader{Batch: 8, EndLSN: 200})
	require.EqualValues(t, 200, p.confirmable())
	p.durable(vecferry.BatchHeader{Batch: 9, EndLSN: 200}) // ends inside a transaction
	require.EqualValues(t, 200, p.confirmable())
	require.False(t, p.outstanding())
}

func TestProgressWaitsForTheStore(t *testing.T) {
	t.Parallel()
	p := newProgress(7, 100, 0)
	p.handOver()
	p.rest(300)
	_, _, ok := p.storable()
	require.False(t, ok, "batch 8 is on its way")
	p.durable(vecferry.BatchHeader{Batch: 8, EndLSN: 200})
	at, batch, ok := p.storable()
	require.True(t, ok)
	require.EqualValues(t, 300, at)
	require.EqualValues(t, 8, batch)
	require.EqualValues(t, 200, p.confirmable(), "not stored yet")
	p.keep(at)
	require.EqualValues(t, 300, p.confirmable())
	_, _, ok = p.storable()
	require.False(t, ok, "nothing new")
}

func TestProgressNudges(t *testing.T) {
	t.Parallel()
	p := newProgress(0, 100, 0)
	p.tell(100)
	p.rest(200)
	require.False(t, nudged(p), "little is behind, nobody asked")
	p.rest(200 + nudgeBytes)
	require.True(t, nudged(p), "a WAL segment is behind")

	p = newProgress(0, 100, 0)
	p.tell(100)
	p.handOver()
	p.request(300)
	p.rest(300)
	require.False(t, nudged(p), "nothing to say yet")
	p.durable(vecferry.BatchHeader{Batch: 1, EndLSN: 250})
	require.True(t, nudged(p), "the server waits")
	p.tell(300)
	p.rest(301)
	require.False(t, nudged(p), "it has its answer")
}

// Whatever happens in whatever order: what may be acknowledged is covered by a
// durable batch or by a stored position, which in turn has nothing on its way
// before it; and it never goes back.
func TestProgressProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newProgress(0, 10, 0)
		var ends []vecferry.LSN // of batches handed over
		var lsn, last vecferry.LSN = 10, 0
		durable := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				lsn += 5
				ends = append(ends, lsn)
				p.handOver()
			case 1:
				if durable < len(ends) {
					durable += rapid.IntRange(1, len(ends)-durable).Draw(t, "acks")
					p.durable(vecferry.BatchHeader{Batch: uint64(durable), EndLSN: ends[durable-1]})
				}
			case 2:
				lsn += 3
				p.rest(lsn)
			case 3:
				if at, batch, ok := p.storable(); ok {
					require.EqualValues(t, durable, batch)
					p.keep(at)
				}
			}
			at := p.confirmable()
			require.GreaterOrEqual(t, at, last)
			last = at
			if durable < len(ends) {
				require.Less(t, at, ends[durable], "the first batch on its way must come again after a crash")
			}
		}
	})
}
