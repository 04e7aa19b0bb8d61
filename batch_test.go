package vecferry

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var someTx = Tx{XID: 1<<32 + 7, CommitLSN: 0x19A2B30, Time: time.UnixMicro(1_700_000_000_000_001)}

// someBatch holds an insert, a key change and a mark of two transactions.
func someBatch(tb testing.TB) []byte {
	tb.Helper()
	var b BatchBuilder
	b.Reset(nil)
	b.Begin(someTx)
	b.Relation(0x4001, unhex(tb, relationHex))
	b.Change(10, unhex(tb, insertHex))
	b.Relation(0x4001, unhex(tb, relationHex))
	b.Change(10, unhex(tb, rekeyHex))
	b.Begin(Tx{XID: 1<<32 + 8, CommitLSN: 0x19A2C00, Time: someTx.Time})
	b.Change(12, unhex(tb, messageHex))
	return b.Seal(BatchHeader{Epoch: 3, Batch: 42, EndLSN: 100, OpenLSN: 200, OpenChanges: 5, CommitTime: 6, Total: 7})
}

// walk returns all changes of a batch.
func walk(raw []byte, cache *RelationCache) ([]Change, error) {
	r, err := NewBatchReader(raw, cache)
	if err != nil {
		return nil, err
	}
	var out []Change
	for {
		var c Change
		more, err := r.Next(&c)
		if err != nil || !more {
			return out, err
		}
		out = append(out, c)
	}
}

func TestBatchGivesBackWhatWasPacked(t *testing.T) {
	t.Parallel()
	raw := someBatch(t)
	h, err := ParseBatchHeader(raw)
	require.NoError(t, err)
	require.Equal(t, BatchHeader{Epoch: 3, Batch: 42, EndLSN: 100, OpenLSN: 200, OpenChanges: 5, Changes: 3, CommitTime: 6, Total: 7}, h)

	changes, err := walk(raw, &RelationCache{})
	require.NoError(t, err)
	require.Len(t, changes, 3)
	for i, c := range changes {
		require.Equal(t, PositionAt(42, i), c.Position)
	}
	require.Equal(t, someTx, changes[1].Tx)
	require.Equal(t, OpUpdate, changes[1].Op)
	require.Equal(t, LSN(10), changes[1].LSN)
	require.Equal(t, "docs", changes[1].Relation.Name)
	require.Same(t, changes[0].Relation, changes[1].Relation)
	require.Equal(t, LSN(0x19A2C00), changes[2].Tx.CommitLSN)
	require.Nil(t, changes[2].Relation)
	require.Equal(t, "{}", string(changes[2].Content))
	require.Equal(t, 1, bytes.Count(raw, unhex(t, relationHex)), "a relation is packed once")
}

func TestBatchKeepsARelationThatChanged(t *testing.T) {
	t.Parallel()
	before, after := unhex(t, relationHex), unhex(t, relationHex)
	copy(after[max(0, bytes.Index(after, []byte("note"))):], "text")
	var b BatchBuilder
	b.Reset(nil)
	b.Begin(someTx)
	require.True(t, b.Begun())
	b.Relation(0x4001, before)
	b.Change(1, unhex(t, insertHex))
	b.Forget(0x4001)
	b.Relation(0x4001, after)
	b.Change(2, unhex(t, insertHex))
	require.EqualValues(t, 2, b.Changes())
	changes, err := walk(b.Seal(BatchHeader{Batch: 1}), &RelationCache{})
	require.NoError(t, err)
	require.Equal(t, "note", changes[0].Relation.Columns[1].Name)
	require.Equal(t, "text", changes[1].Relation.Columns[1].Name)
}

func TestRelationCacheParsesOnce(t *testing.T) {
	t.Parallel()
	var cache RelationCache
	first, err := walk(someBatch(t), &cache)
	require.NoError(t, err)
	second, err := walk(someBatch(t), &cache)
	require.NoError(t, err)
	require.Same(t, first[0].Relation, second[0].Relation)
}

func TestBuilderStartsAgain(t *testing.T) {
	t.Parallel()
	var b BatchBuilder
	b.Reset(nil)
	b.Begin(someTx)
	b.Relation(0x4001, unhex(t, relationHex))
	b.Change(1, unhex(t, insertHex))
	first := slices.Clone(b.Seal(BatchHeader{Batch: 1}))
	memory := b.Seal(BatchHeader{})
	b.Reset(memory)
	require.Zero(t, b.Changes())
	require.False(t, b.Begun())
	require.Equal(t, headerBytes, b.Len())
	b.Begin(someTx)
	b.Relation(0x4001, unhex(t, relationHex))
	b.Change(1, unhex(t, insertHex))
	require.Equal(t, first, b.Seal(BatchHeader{Batch: 1}))
	require.Same(t, &memory[0], &b.Seal(BatchHeader{})[0], "in the same memory")
}

func TestBatchRefusesDamage(t *testing.T) {
	t.Parallel()
	raw := someBatch(t)
	for i := range raw {
		damaged := slices.Clone(raw)
		damaged[i] ^= 1
		_, err := ParseBatchHeader(damaged)
		require.ErrorIs(t, err, ErrCorrupt, "bit of byte %d", i)
		_, err = ParseBatchHeader(raw[:i])
		require.ErrorIs(t, err, ErrCorrupt, "cut at %d", i)
	}
}

// sealed puts records behind a header with a right checksum.
func sealed(records []byte, changes uint32) []byte {
	raw := append(make([]byte, headerBytes), records...)
	copy(raw, batchMagic)
	binary.BigEndian.PutUint32(raw[44:], changes)
	binary.BigEndian.PutUint32(raw[4:], checksum(raw[8:]))
	return raw
}

func TestBatchReaderRefusesWrongRecords(t *testing.T) {
	t.Parallel()
	row := func(message []byte) []byte {
		b := binary.BigEndian.AppendUint32([]byte{'W'}, uint32(len(message)))
		return append(binary.BigEndian.AppendUint64(b, 1), message...)
	}
	for name, tt := range map[string]struct {
		records []byte
		changes uint32
	}{
		"unknown record":            {[]byte{'X'}, 0},
		"fewer changes than said":   {row(unhex(t, messageHex)), 2},
		"more changes than said":    {row(unhex(t, messageHex)), 0},
		"a row without relation":    {row(unhex(t, insertHex)), 1},
		"a cut row":                 {row(unhex(t, messageHex))[:20], 1},
		"a cut transaction":         {[]byte{'B', 0, 0}, 0},
		"a relation of no length":   {[]byte{'R', 0, 0, 0, 0}, 0},
		"a relation that is none":   {append([]byte{'R', 0, 0, 0, 6}, "abcdef"...), 0},
		"a message of no kind":      {row([]byte{'?'}), 1},
		"a length beyond the end":   {[]byte{'W', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, 1},
		"a relation beyond its end": {[]byte{'R', 0, 0, 1, 0, 'R'}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := walk(sealed(tt.records, tt.changes), &RelationCache{})
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}

// Whatever is packed comes out again, in order, with its transaction and its
// relation.
func TestBatchProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b BatchBuilder
		b.Reset(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "dirty memory"))
		var want []Change
		var tx Tx
		for i := range rapid.IntRange(0, 30).Draw(t, "changes") {
			if i == 0 || rapid.Bool().Draw(t, "begin") {
				tx = Tx{
					XID: XID(rapid.Uint64().Draw(t, "xid")), CommitLSN: LSN(rapid.Uint64().Draw(t, "commit")),
					Time: time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "time")),
				}
				b.Begin(tx)
			}
			oid := rapid.Uint32Range(1, 3).Draw(t, "table")
			relation := binary.BigEndian.AppendUint32([]byte{'R'}, oid)
			relation = append(relation, "s\x00t\x00d\x00\x00"...)
			b.Relation(oid, relation)
			lsn := LSN(rapid.Uint64().Draw(t, "lsn"))
			tuple := append([]byte{0, 1, 't'}, 0, 0, 0, 2, byte(i), byte(oid))
			message := binary.BigEndian.AppendUint32([]byte{'I'}, oid)
			b.Change(lsn, append(append(message, 'N'), tuple...))
			want = append(want, Change{
				Position: PositionAt(9, i), Tx: tx, LSN: lsn, Op: OpInsert, New: tuple,
				Relation: &Relation{OID: oid, Schema: "s", Name: "t", Identity: 'd'},
			})
		}
		got, err := walk(b.Seal(BatchHeader{Batch: 9}), &RelationCache{})
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func FuzzBatchReader(f *testing.F) {
	f.Add(someBatchRecords(f), uint32(3))
	f.Fuzz(func(t *testing.T, records []byte, changes uint32) {
		if _, err := walk(sealed(records, changes), &RelationCache{}); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
		if _, err := ParseBatchHeader(records); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}

func someBatchRecords(tb testing.TB) []byte {
	tb.Helper()
	return someBatch(tb)[headerBytes:]
}

// fillBatch appends rows, about 130 to a batch, in the same memory.
func fillBatch(b *BatchBuilder, memory, relation, row []byte) {
	if b.Len()+len(row) > cap(memory)-1024 {
		b.Reset(memory)
	}
	if !b.Begun() {
		b.Begin(someTx)
	}
	b.Relation(0x4001, relation)
	b.Change(1, row)
}

func TestPackingARowAllocatesNothing(t *testing.T) {
	relation, row, memory := unhex(t, relationHex), wideInsert(), make([]byte, 0, 900_000)
	var b BatchBuilder
	b.Reset(memory)
	require.Zero(t, testing.AllocsPerRun(10_000, func() { fillBatch(&b, memory, relation, row) }))
}

func BenchmarkPackRow(b *testing.B) {
	relation, row, memory := unhex(b, relationHex), wideInsert(), make([]byte, 0, 900_000)
	var builder BatchBuilder
	builder.Reset(memory)
	b.ReportAllocs()
	b.SetBytes(int64(len(row)))
	for b.Loop() {
		fillBatch(&builder, memory, relation, row)
	}
}
