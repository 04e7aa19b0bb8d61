package conformance

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink/milvus"
)

// Open returns the backend of an empty collection for a table, which is gone again
// when the test ends. It may change the name of the table's collection.
type Open func(t *testing.T, table *vecferry.Table) milvus.Backend

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, kind := range []vecferry.KeyType{vecferry.KeyInt, vecferry.KeyText} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			s := newSubject(t, open, Table("conformance_"+kind.String(), kind))
			for _, test := range []struct {
				name string
				run  func(*testing.T, *subject)
			}{
				{"insert keeps duplicates", duplicates},
				{"delete and insert in turn", inTurn},
				{"replace", replace},
				{"reads are whole and exact", roundTrips},
				{"every key can be written, read, deleted", awkwardKeys},
				{"ranges", ranges},
				{"keys come in order and in pages", keyPages},
				{"what passes the check is taken", limits},
				{"refused rows", refusedRows},
				{"a broken write is refused", brokenWrites},
			} {
				t.Run(test.name, func(t *testing.T) {
					s.empty(t)
					test.run(t, s)
				})
			}
		})
	}
	t.Run("partition key", func(t *testing.T) {
		t.Parallel()
		movesPartitions(t, newSubject(t, open, Partitioned("conformance_moves", vecferry.KeyInt)))
	})
}

// subject is one collection under test.
type subject struct {
	table   *vecferry.Table
	backend milvus.Backend
	*milvus.Collection
}

func newSubject(t *testing.T, open Open, table *vecferry.Table) *subject {
	t.Helper()
	b := open(t, table)
	return &subject{table: table, backend: b, Collection: milvus.NewCollection(table, b, milvus.Config{
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})}
}

func (s *subject) empty(t *testing.T) {
	t.Helper()
	require.NoError(t, s.Clear(t.Context(), vecferry.Everything()))
}

// key returns the n-th of a row of plain keys.
func (s *subject) key(n int) vecferry.Key {
	if s.table.KeyType == vecferry.KeyInt {
		return vecferry.IntKey(int64(n))
	}
	return vecferry.Key(fmt.Sprintf("k%06d", n))
}

// some returns rows of plain keys.
func (s *subject) some(from, n, version int) []vecferry.Row {
	rows := make([]vecferry.Row, n)
	for i := range rows {
		rows[i] = Row(s.table, s.key(from+i), version)
	}
	return rows
}

func keysOf(rows []vecferry.Row) []vecferry.Key {
	keys := make([]vecferry.Key, len(rows))
	for i, r := range rows {
		keys[i] = r.Key
	}
	return keys
}

// put replaces and expects that nothing is refused.
func (s *subject) put(t *testing.T, w vecferry.Write) {
	t.Helper()
	rejected, err := s.Replace(t.Context(), w)
	require.NoError(t, err)
	require.Empty(t, rejected)
}

// holds expects exactly these rows, read by key, and no other entity.
func (s *subject) holds(t *testing.T, want []vecferry.Row, asked ...vecferry.Key) {
	t.Helper()
	got, err := s.Read(t.Context(), append(keysOf(want), asked...))
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for _, w := range want {
		g, ok := got[w.Key]
		require.True(t, ok, "key %q is missing", w.Key)
		require.Equal(t, w.Position, g.Position)
		for i, v := range w.Values {
			if !v.Equal(g.Values[i]) {
				require.Failf(t, "values differ", "key %q field %s: wrote %#v, read %#v", w.Key, s.table.Fields[i].Name, v, g.Values[i])
			}
		}
	}
	n, err := s.Count(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(want), n)
}

func selected(keys ...vecferry.Key) milvus.Selection { return milvus.Selection{Keys: keys} }

func duplicates(t *testing.T, s *subject) {
	ctx := t.Context()
	k := s.key(1)
	for version := 1; version <= 2; version++ {
		require.NoError(t, s.backend.Insert(ctx, []vecferry.Row{Row(s.table, k, version)}))
	}
	rows, err := s.backend.Query(ctx, milvus.Query{Selection: selected(k)})
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.EqualValues(t, 1, rows[0].Position, "a query shows the old one")
	for _, sel := range []milvus.Selection{selected(k), {Range: vecferry.Everything()}, {Range: vecferry.Only(k)}} {
		n, err := s.backend.Count(ctx, sel)
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
	}
	keys, err := s.Keys(ctx, vecferry.Everything(), 0)
	require.NoError(t, err)
	require.Equal(t, []vecferry.Key{k}, keys)
	require.NoError(t, s.backend.Delete(ctx, selected(k)), "takes both")
	s.holds(t, nil, k)
}

func inTurn(t *testing.T, s *subject) {
	ctx := t.Context()
	k := s.key(1)
	require.NoError(t, s.backend.Delete(ctx, selected(k)), "an absent key is no error")
	for version := 1; version <= 30; version++ {
		require.NoError(t, s.backend.Delete(ctx, selected(k)))
		require.NoError(t, s.backend.Insert(ctx, []vecferry.Row{Row(s.table, k, version)}))
	}
	s.holds(t, []vecferry.Row{Row(s.table, k, 30)})
}

func replace(t *testing.T, s *subject) {
	first := s.some(0, 350, 1) // four pieces
	s.put(t, vecferry.Write{New: first})
	s.holds(t, first)
	// Rows that stand, new ones, and keys that are to be gone, present or not.
	second := s.some(300, 200, 2)
	s.put(t, vecferry.Write{Put: second, Delete: keysOf(s.some(0, 20, 0))})
	s.holds(t, slices.Concat(first[20:300], second), s.key(0), s.key(19))
	s.put(t, vecferry.Write{Put: second, Delete: []vecferry.Key{s.key(0), s.key(100_000)}})
	s.holds(t, slices.Concat(first[20:300], second), s.key(0))
	s.put(t, vecferry.Write{})
	got, err := s.Read(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, got)
}

func awkwardKeys(t *testing.T, s *subject) {
	keys := Keys(s.table.KeyType)
	if s.table.KeyType == vecferry.KeyText {
		keys = append(keys, Longest())
	}
	rows := make([]vecferry.Row, len(keys))
	for i, k := range keys {
		rows[i] = Row(s.table, k, i+1)
	}
	s.put(t, vecferry.Write{New: rows})
	s.put(t, vecferry.Write{Put: rows})
	s.holds(t, rows)
	for i := 0; i < len(rows); i += 2 {
		s.put(t, vecferry.Write{Delete: []vecferry.Key{rows[i].Key}})
	}
	var left []vecferry.Row
	for i := 1; i < len(rows); i += 2 {
		left = append(left, rows[i])
	}
	s.holds(t, left, keys...)
}

func ranges(t *testing.T, s *subject) {
	keys := Keys(s.table.KeyType)
	require.True(t, slices.IsSorted(keys))
	rows := make([]vecferry.Row, len(keys))
	for i, k := range keys {
		rows[i] = Row(s.table, k, i+1)
	}
	third, last := len(keys)/3, len(keys)-1
	for _, r := range []vecferry.Range{
		vecferry.Everything(),
		vecferry.Only(keys[0]), vecferry.Only(keys[third]), vecferry.Only(keys[last]),
		{Lo: keys[0], Hi: keys[1]}, {Lo: keys[third], Hi: keys[last]}, {Hi: keys[third]}, {Lo: keys[third], ToEnd: true},
		{Lo: vecferry.Only(keys[0]).Hi, Hi: vecferry.Only(keys[third]).Hi}, // (0, third]
		{Lo: vecferry.Only(keys[third]).Hi, ToEnd: true},
		{Lo: vecferry.Only(keys[last]).Hi, ToEnd: true},
		{Lo: keys[third], Hi: keys[third]},
	} {
		s.put(t, vecferry.Write{Put: rows})
		listed, err := s.Keys(t.Context(), r, 0)
		require.NoError(t, err)
		require.NoError(t, s.Clear(t.Context(), r))
		var inside []vecferry.Key
		var outside []vecferry.Row
		for i, k := range keys {
			if r.Has(k) {
				inside = append(inside, k)
			} else {
				outside = append(outside, rows[i])
			}
		}
		require.Equal(t, inside, listed, "range %+v", r)
		s.holds(t, outside, inside...)
	}
}

func keyPages(t *testing.T, s *subject) {
	rows := s.some(0, 500, 1)
	s.put(t, vecferry.Write{New: rows})
	all := keysOf(rows)
	for _, limit := range []int{0, 1, 100, 499, 500, 501} {
		got, err := s.Keys(t.Context(), vecferry.Everything(), limit)
		require.NoError(t, err)
		want := all
		if limit > 0 {
			want = all[:min(limit, len(all))]
		}
		require.Equal(t, want, got)
	}
	got, err := s.Keys(t.Context(), vecferry.Range{Lo: all[100], Hi: all[400]}, 50)
	require.NoError(t, err)
	require.Equal(t, all[100:150], got)
}

func brokenWrites(t *testing.T, s *subject) {
	k := s.key(1)
	good := Row(s.table, k, 1)
	absent, null, short := Row(s.table, k, 1), Row(s.table, k, 1), Row(s.table, k, 1)
	absent.Values[s.table.Vector] = vecferry.Value{}
	null.Values[s.table.Vector] = vecferry.NullValue()
	short.Values = short.Values[1:]
	for _, w := range []vecferry.Write{
		{Put: []vecferry.Row{good, good}},
		{Put: []vecferry.Row{good}, Delete: []vecferry.Key{k}},
		{Delete: []vecferry.Key{k, k}},
		{Put: []vecferry.Row{absent}},
		{Put: []vecferry.Row{null}},
		{Put: []vecferry.Row{short}},
	} {
		_, err := s.Replace(t.Context(), w)
		require.Error(t, err)
	}
	s.holds(t, nil, k)
}

// movesPartitions gives rows another partition key again and again.
func movesPartitions(t *testing.T, s *subject) {
	var rows []vecferry.Row
	for version := 1; version <= 4; version++ {
		rows = s.some(0, 150, version)
		for i := range rows {
			rows[i].Values[s.table.PartitionKey] = vecferry.TextValue(fmt.Sprintf("w%d", (i+version)%23))
		}
		s.put(t, vecferry.Write{Put: rows})
	}
	s.holds(t, rows)
	keys, err := s.Keys(t.Context(), vecferry.Everything(), 0)
	require.NoError(t, err)
	require.Equal(t, keysOf(rows), keys)
	require.True(t, slices.IsSortedFunc(keys, cmp.Compare[vecferry.Key]))
	require.NoError(t, s.Clear(context.WithoutCancel(t.Context()), vecferry.Range{Lo: rows[50].Key, ToEnd: true}))
	s.holds(t, rows[:50], keys...)
}
