package capture

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
)

const (
	mappedOID   = 100
	unmappedOID = 200
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bench is a packer with a log beside it.
type bench struct {
	*packer
	batches  [][]byte
	headers  []vecferry.BatchHeader
	quietest vecferry.LSN
	refuse   int // batches after which the log fails, -1 never
}

var errRefused = errors.New("refused")

func newBench(r resume, l limits) *bench {
	b := &bench{refuse: -1}
	b.packer = &packer{
		limits: l, resume: r, prefix: []byte(vecferry.MarkPrefix("p")), count: &counters{},
		tables: map[uint32]struct{}{mappedOID: {}}, names: map[string]struct{}{"public.docs": {}},
		near:  func() vecferry.XID { return 1 << 33 },
		quiet: func(end vecferry.LSN) { b.quietest = end },
	}
	b.emit = func(builder *vecferry.BatchBuilder, h vecferry.BatchHeader) (*vecferry.BatchBuilder, error) {
		if b.refuse == len(b.batches) {
			return nil, errRefused
		}
		h.Batch = uint64(len(b.batches) + 1)
		b.batches = append(b.batches, slices.Clone(builder.Seal(h)))
		b.headers = append(b.headers, h)
		builder.Reset(nil)
		return builder, nil
	}
	builder := &vecferry.BatchBuilder{}
	builder.Reset(nil)
	b.start(builder)
	return b
}

var roomy = limits{bytes: 1 << 20, changes: 60_000, maxBatch: 1 << 20}

// feed gives messages to the packer; each has its own place in the log.
func (b *bench) feed(t require.TestingT, messages ...[]byte) {
	for _, m := range messages {
		require.NoError(t, b.message(7, m))
	}
}

// keys returns what the batches hold: the keys of rows, or the kind of other
// changes.
func keys(t require.TestingT, batches ...[]byte) []string {
	var out []string
	var cache vecferry.RelationCache
	for _, raw := range batches {
		r, err := vecferry.NewBatchReader(raw, &cache)
		require.NoError(t, err)
		var c vecferry.Change
		for {
			more, err := r.Next(&c)
			require.NoError(t, err)
			if !more {
				break
			}
			out = append(out, describe(t, &c))
		}
	}
	return out
}

func describe(t require.TestingT, c *vecferry.Change) string {
	if c.Op != vecferry.OpInsert {
		return fmt.Sprintf("%c@%s", c.Op, c.Tx.CommitLSN)
	}
	columns, err := c.New.Columns(nil)
	require.NoError(t, err)
	if len(columns) == 0 || len(columns[0].Data) != 8 {
		return "no key@" + c.Tx.CommitLSN.String()
	}
	return fmt.Sprintf("%d@%s", be.Uint64(columns[0].Data), c.Tx.CommitLSN)
}

func TestPackerKeepsWhatIsMapped(t *testing.T) {
	t.Parallel()
	b := newBench(resume{start: 50}, roomy)
	b.feed(t,
		wireBegin(100, 5, noon),
		[]byte{'Y', 0, 0, 0, 1}, // Type
		[]byte{'O'},             // Origin
		wireRelation(mappedOID, "public", "docs"), wireInsert(mappedOID, 1, 16),
		wireRelation(unmappedOID, "public", "other"), wireInsert(unmappedOID, 2, 16),
		wireMessage(true, "vecferry/p", "ours"), wireMessage(true, "vecferry/q", "theirs"), wireMessage(false, "vecferry/p", "stray"),
		wireTruncate(unmappedOID), wireTruncate(unmappedOID, mappedOID),
		[]byte{'A', 0, 0, 0, 9, 0, 0, 0, 9}, // a stream abort that nobody asked for
		wireCommit(100, 110, noon),
	)
	require.NoError(t, b.boundary(false))
	require.Empty(t, b.batches, "more is buffered, so a fuller batch costs nothing")
	require.NoError(t, b.boundary(true))
	require.Equal(t, []string{"1@0/64", "M@0/64", "T@0/64"}, keys(t, b.batches...))
	require.Equal(t, vecferry.BatchHeader{Batch: 1, EndLSN: 110, CommitTime: noon.UnixMicro(), Total: 3}, b.headers[0])
	require.EqualValues(t, 2, b.count.unmapped.Load())
	require.EqualValues(t, 110, b.quietest)

	r, err := vecferry.NewBatchReader(b.batches[0], &vecferry.RelationCache{})
	require.NoError(t, err)
	var c vecferry.Change
	_, err = r.Next(&c)
	require.NoError(t, err)
	require.EqualValues(t, 1<<33+5, c.Tx.XID, "widened by the reference")
	require.True(t, noon.Equal(c.Tx.Time))
	require.EqualValues(t, 7, c.LSN)
}

func TestPackerFollowsARename(t *testing.T) {
	t.Parallel()
	b := newBench(resume{}, roomy)
	b.feed(t,
		wireBegin(100, 5, noon), wireRelation(mappedOID, "public", "docs"), wireInsert(mappedOID, 1, 16),
		wireRelation(mappedOID, "public", "renamed"), wireInsert(mappedOID, 2, 16), // the same table
		wireRelation(300, "public", "docs"), wireInsert(300, 3, 16), // another one under its name
		wireCommit(100, 110, noon))
	require.NoError(t, b.boundary(true))
	require.Equal(t, []string{"1@0/64", "2@0/64", "3@0/64"}, keys(t, b.batches...))
	r, err := vecferry.NewBatchReader(b.batches[0], &vecferry.RelationCache{})
	require.NoError(t, err)
	var c vecferry.Change
	var names []string
	for {
		more, err := r.Next(&c)
		require.NoError(t, err)
		if !more {
			break
		}
		names = append(names, c.Relation.Name)
	}
	require.Equal(t, []string{"docs", "renamed", "docs"}, names, "each row with the description it was sent with")
}

func TestPackerCutsInsideTransactions(t *testing.T) {
	t.Parallel()
	b := newBench(resume{}, limits{bytes: 1 << 20, changes: 2, maxBatch: 1 << 20})
	b.feed(t, wireRelation(mappedOID, "public", "docs"), wireRelation(unmappedOID, "public", "other"))
	b.feed(t, wireBegin(100, 5, noon), wireInsert(mappedOID, 1, 16), wireInsert(unmappedOID, 0, 16), wireInsert(mappedOID, 2, 16),
		wireInsert(mappedOID, 3, 16), wireInsert(unmappedOID, 0, 16), wireCommit(100, 110, noon))
	b.feed(t, wireBegin(120, 6, noon), wireInsert(unmappedOID, 0, 16), wireInsert(mappedOID, 4, 16), wireInsert(mappedOID, 5, 16), wireCommit(120, 130, noon))
	require.NoError(t, b.boundary(true))
	require.Equal(t, []string{"1@0/64", "2@0/64", "3@0/64", "4@0/78", "5@0/78"}, keys(t, b.batches...))
	// The second batch ends inside the second transaction, two messages in.
	want := []vecferry.BatchHeader{
		{Batch: 1, EndLSN: 0, OpenLSN: 100, OpenChanges: 3, Total: 2},
		{Batch: 2, EndLSN: 110, OpenLSN: 120, OpenChanges: 2, Total: 4},
		{Batch: 3, EndLSN: 130, Total: 5},
	}
	for i := range want {
		want[i].CommitTime = noon.UnixMicro()
	}
	require.Equal(t, want, b.headers)
}

func TestPackerClosesAnOpenTransactionWithoutMoreRows(t *testing.T) {
	t.Parallel()
	b := newBench(resume{start: 90, open: 100, changes: 1, total: 1, newest: 5}, roomy)
	b.feed(t, wireRelation(mappedOID, "public", "docs"), wireRelation(unmappedOID, "public", "other"))
	b.feed(t, wireBegin(100, 5, noon), wireInsert(mappedOID, 1, 16), wireInsert(unmappedOID, 0, 16))
	require.NoError(t, b.boundary(true))
	require.Empty(t, b.batches, "still open")
	b.feed(t, wireCommit(100, 110, noon))
	require.NoError(t, b.boundary(true))
	require.Empty(t, keys(t, b.batches...))
	require.Len(t, b.headers, 1)
	require.Equal(t, vecferry.BatchHeader{Batch: 1, EndLSN: 110, Total: 1, CommitTime: 5}, b.headers[0])
	require.NoError(t, b.boundary(true))
	require.Len(t, b.headers, 1, "once")
}

func TestPackerAcknowledgesOnlyAtRest(t *testing.T) {
	t.Parallel()
	b := newBench(resume{start: 90}, roomy)
	require.NoError(t, b.keepalive(95))
	require.NoError(t, b.boundary(true))
	require.EqualValues(t, 95, b.quietest)
	b.feed(t, wireRelation(mappedOID, "public", "docs"), wireBegin(100, 5, noon), wireInsert(mappedOID, 1, 16))
	require.NoError(t, b.keepalive(99))
	require.NoError(t, b.boundary(true))
	require.EqualValues(t, 95, b.quietest, "inside a transaction")
	b.feed(t, wireCommit(100, 110, noon))
	require.NoError(t, b.boundary(false))
	require.EqualValues(t, 95, b.quietest, "a batch is pending")
	require.NoError(t, b.keepalive(200))
	require.NoError(t, b.boundary(true))
	require.EqualValues(t, 200, b.quietest)
	require.EqualValues(t, 200, b.headers[0].EndLSN, "everything up to the keepalive is complete")
}

func TestPackerHalts(t *testing.T) {
	t.Parallel()
	open := resume{start: 90, open: 100, changes: 2}
	rel := wireRelation(mappedOID, "public", "docs")
	insert := wireInsert(mappedOID, 1, 16)
	tests := map[string]struct {
		resume resume
		do     func(*bench) error
		says   string
	}{
		"another transaction instead of the open one": {open, func(b *bench) error { return b.message(1, wireBegin(105, 1, noon)) }, "0/69"},
		"an earlier one instead of the open one":      {open, func(b *bench) error { return b.message(1, wireBegin(95, 1, noon)) }, "0/5F"},
		"nothing instead of the open one":             {open, func(b *bench) error { return b.keepalive(101) }, "nothing more"},
		"the open one became shorter": {open, func(b *bench) error {
			return errors.Join(b.message(1, rel), b.message(1, wireBegin(100, 1, noon)), b.message(1, insert), b.message(1, wireCommit(100, 110, noon)))
		}, "has 1 changes"},
		"a transaction from the past": {resume{start: 90}, func(b *bench) error {
			return errors.Join(b.keepalive(120), b.message(1, wireBegin(110, 1, noon)))
		}, "0/6E"},
		"a row that no message holds": {resume{}, func(b *bench) error {
			return errors.Join(b.message(1, rel), b.message(1, wireBegin(100, 1, noon)), b.message(1, wireInsert(mappedOID, 1, 1<<20)))
		}, "public.docs"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.do(newBench(tt.resume, roomy))
			require.True(t, vecferry.Halts(err), "%v", err)
			require.ErrorContains(t, err, tt.says)
		})
	}
}

func TestPackerRefusesForeignBytes(t *testing.T) {
	t.Parallel()
	for name, messages := range map[string][][]byte{
		"empty":                {{}},
		"short begin":          {{'B', 1}},
		"begin in transaction": {wireBegin(100, 1, noon), wireBegin(101, 1, noon)},
		"commit without begin": {wireCommit(100, 110, noon)},
		"row without begin":    {wireInsert(mappedOID, 1, 1)},
		"row before relation":  {wireBegin(100, 1, noon), wireInsert(mappedOID, 1, 1)},
		"cut row":              {wireBegin(100, 1, noon), wireInsert(mappedOID, 1, 9)[:20]},
		"cut relation":         {wireRelation(1, "a", "b")[:9]},
		"streamed transaction": {{'S', 0, 0, 0, 1, 1}},
		"prepared transaction": {{'b', 0, 0, 0, 1, 1}},
		"cut message":          {wireMessage(true, "a", "bcd")[:13]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(resume{}, roomy)
			var err error
			for _, m := range messages {
				err = errors.Join(err, b.message(1, m))
			}
			require.ErrorIs(t, err, vecferry.ErrCorrupt)
		})
	}
}

func FuzzPacker(f *testing.F) {
	for _, m := range [][]byte{wireInsert(mappedOID, 1, 9), wireRelation(1, "a", "b"), wireMessage(true, "vecferry/p", "x"), wireTruncate(1, 2),
		wireBegin(1, 2, noon), wireCommit(1, 2, noon)} {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := newBench(resume{}, roomy)
		b.feed(t, wireRelation(mappedOID, "public", "docs"), wireBegin(100, 5, noon))
		if b.message(1, raw) != nil || b.message(2, wireCommit(100, 110, noon)) != nil || b.boundary(true) != nil {
			return // refused, not stored
		}
		keys(t, b.batches...) // what was stored can be read
	})
}

// A transaction of the property test, as the server would send it each time.
type sentTx struct {
	commit, end vecferry.LSN
	messages    [][]byte
	want        []string // what the log shall hold of it
}

func genStream(t *rapid.T) []sentTx {
	var out []sentTx
	lsn, key := vecferry.LSN(1000), uint64(0)
	for range rapid.IntRange(1, 8).Draw(t, "transactions") {
		tx := sentTx{commit: lsn + 10, end: lsn + 20}
		lsn += vecferry.LSN(rapid.IntRange(20, 40).Draw(t, "gap"))
		for range rapid.IntRange(0, 9).Draw(t, "changes") {
			key++
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				tx.messages = append(tx.messages, wireInsert(unmappedOID, key, 8))
			case 1:
				tx.messages = append(tx.messages, wireMessage(true, "vecferry/other", "x"))
			case 2:
				tx.messages = append(tx.messages, wireMessage(false, "vecferry/p", "x"))
			default:
				size := rapid.IntRange(0, 60).Draw(t, "size")
				tx.messages = append(tx.messages, wireInsert(mappedOID, key, size))
				tx.want = append(tx.want, fmt.Sprintf("%d@%s", key, tx.commit))
			}
		}
		out = append(out, tx)
	}
	return out
}

// send plays a stream as a server does that was told to begin at from.
func (b *bench) send(t *rapid.T, stream []sentTx, from vecferry.LSN) error {
	err := errors.Join(b.message(0, wireRelation(mappedOID, "public", "docs")), b.message(0, wireRelation(unmappedOID, "public", "other")))
	for _, tx := range stream {
		if tx.commit < from {
			continue
		}
		if err := errors.Join(err, b.message(1, wireBegin(tx.commit, 3, noon))); err != nil {
			return err
		}
		for _, m := range tx.messages {
			if err := b.message(2, m); err != nil {
				return err
			}
		}
		if err := b.message(3, wireCommit(tx.commit, tx.end, noon)); err != nil {
			return err
		}
		if rapid.Bool().Draw(t, "keepalive") {
			if err := b.keepalive(tx.end); err != nil {
				return err
			}
		}
		if err := b.boundary(rapid.Bool().Draw(t, "drained")); err != nil {
			return err
		}
	}
	return b.boundary(true)
}

// Whatever the transactions are, wherever batches are cut and wherever the log
// fails, the batches hold each mapped change once and in order.
func TestPackerStoresEachChangeOnceProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		stream := genStream(t)
		var want []string
		for _, tx := range stream {
			want = append(want, tx.want...)
		}
		var stored [][]byte
		var end vecferry.BatchHeader
		for life := 0; ; life++ {
			b := newBench(resume{start: max(1000, end.EndLSN), open: end.OpenLSN, changes: end.OpenChanges, total: end.Total}, limits{
				bytes: rapid.IntRange(100, 600).Draw(t, "bytes"), changes: uint32(rapid.IntRange(1, 5).Draw(t, "limit")), maxBatch: 4096,
			})
			if life < 20 {
				b.refuse = rapid.IntRange(0, 4).Draw(t, "refuse")
			}
			// Resends may begin before what is acknowledged.
			from := vecferry.LSN(rapid.Uint64Range(900, uint64(b.resume.start)).Draw(t, "from"))
			err := b.send(t, stream, from)
			stored = append(stored, b.batches...)
			if n := len(b.headers); n > 0 {
				end = b.headers[n-1]
			}
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errRefused)
		}
		require.Equal(t, want, keys(t, stored...))
		require.EqualValues(t, len(want), end.Total)
		require.Zero(t, end.OpenLSN, "the log does not end inside a transaction")
	})
}
