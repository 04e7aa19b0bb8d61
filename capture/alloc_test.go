package capture

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

// rowSession is a session without a server, whose batches go nowhere. It is in
// a transaction and has seen the description of the mapped table.
func rowSession(tb testing.TB) *session {
	tb.Helper()
	memory := make([]byte, 0, 2<<20)
	n := &session{c: &Capture{}, drained: func() bool { return false }}
	b := newBench(resume{}, limits{bytes: 1 << 20, changes: 60_000, maxBatch: 2 << 20})
	b.emit = func(builder *vecferry.BatchBuilder, _ vecferry.BatchHeader) (*vecferry.BatchBuilder, error) {
		builder.Reset(memory)
		return builder, nil
	}
	b.b.Reset(memory)
	n.packer = b.packer
	for _, m := range [][]byte{wireRelation(mappedOID, "public", "docs"), wireBegin(100, 5, noon)} {
		require.NoError(tb, n.data(wireData(1, m)))
	}
	return n
}

func TestReadingARowAllocatesNothing(t *testing.T) {
	n := rowSession(t)
	message := wireData(1, wireInsert(mappedOID, 1, 6148))
	allocations := testing.AllocsPerRun(10_000, func() { // about 60 batches
		if err := n.data(message); err != nil {
			t.Fatal(err)
		}
	})
	require.Zero(t, allocations)
}

func BenchmarkReadRow(b *testing.B) {
	n := rowSession(b)
	message := wireData(1, wireInsert(mappedOID, 1, 6148))
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if err := n.data(message); err != nil {
			b.Fatal(err)
		}
	}
}
