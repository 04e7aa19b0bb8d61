package postgres

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

func keyed(t vecferry.KeyType, typeName string, byteOrder bool) *vecferry.Table {
	return &vecferry.Table{Schema: "public", Name: "docs", KeyType: t, ByteOrder: byteOrder,
		Fields: []vecferry.Field{{Column: "k", TypeName: typeName}}}
}

func TestWhere(t *testing.T) {
	t.Parallel()
	i := vecferry.IntKey
	ints, texts, bytes, ids := keyed(vecferry.KeyInt, "int4", true), keyed(vecferry.KeyText, "text", false),
		keyed(vecferry.KeyText, "varchar", true), keyed(vecferry.KeyText, "uuid", true)
	const id = "123e4567-e89b-12d3-a456-426614174000"
	for _, c := range []struct {
		table  *vecferry.Table
		ranges []vecferry.Range
		want   string
	}{
		{ints, nil, "false"},
		{ints, []vecferry.Range{{Lo: i(9), Hi: i(9)}, {}}, "false"},
		{ints, []vecferry.Range{vecferry.Everything()}, "(true)"},
		{ints, []vecferry.Range{{Lo: i(-5), Hi: i(9)}}, `("k" >= '-5'::int8 AND "k" < '9'::int8)`},
		{ints, []vecferry.Range{{Hi: i(-1 << 63)}}, `("k" < '-9223372036854775808'::int8)`},
		{ints, []vecferry.Range{{Lo: i(5) + "\x00", ToEnd: true}}, `("k" > '5'::int8)`},
		{ints, []vecferry.Range{{Lo: i(5), Hi: i(256) + "\x00"}}, `("k" >= '5'::int8 AND "k" <= '256'::int8)`},
		{ints, []vecferry.Range{vecferry.Only(i(1)), {Lo: i(5), ToEnd: true}, vecferry.Only(i(3))}, `("k" >= '5'::int8) OR "k" = ANY (ARRAY['1'::int8, '3'::int8])`},
		{texts, []vecferry.Range{{Lo: "a", Hi: "o'b"}}, `("k" ~>=~ 'a'::text AND "k" ~<~ 'o''b'::text)`},
		{texts, []vecferry.Range{{Lo: "a\x00", Hi: "b\x00"}}, `("k" ~>~ 'a'::text AND "k" ~<=~ 'b'::text)`},
		{texts, []vecferry.Range{vecferry.Only("")}, `"k" = ANY (ARRAY[''::text])`},
		{bytes, []vecferry.Range{{Lo: `a\`, ToEnd: true}}, `("k" >= E'a\\'::text)`},
		{ids, []vecferry.Range{{Lo: id, ToEnd: true}}, `("k" >= '` + id + `'::uuid)`},
	} {
		got, err := where(c.table, c.ranges)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	for _, r := range []vecferry.Range{{Lo: "abc", ToEnd: true}, {Hi: "\x80"}} {
		_, err := where(ints, []vecferry.Range{r})
		require.Error(t, err, "no integer")
	}
	for _, r := range []vecferry.Range{{Lo: "a\x00b", ToEnd: true}, {Lo: "\xff", ToEnd: true}} {
		_, err := where(texts, []vecferry.Range{r})
		require.Error(t, err, "no text of PostgreSQL")
	}
}

// anyKey draws keys that are hard to quote and to order.
func anyKey() *rapid.Generator[string] {
	return rapid.StringOf(rapid.OneOf(
		rapid.RuneFrom([]rune(`ab'"\$%_ éßΩ日本🙂`+"\n\t\x01\x7f")),
		rapid.Rune().Filter(func(r rune) bool { return r != 0 && r != '\uFFFD' && (r < 0xD800 || r > 0xDFFF) }),
	)).Filter(func(s string) bool { return len(s) < 500 })
}

// Whatever the keys and the ranges, the server finds the rows whose keys
// Range.Has holds, under any collation.
func TestRangesMeanTheSameToTheServer(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec(`CREATE COLLATION other (provider = libc, locale = 'C.UTF-8');
			CREATE TABLE other (k text COLLATE other PRIMARY KEY, v vector(1)); CREATE TABLE bytes (k varchar COLLATE "C" PRIMARY KEY, v vector(1))`)
		for _, name := range []string{"other", "bytes"} {
			table := inspect(t, s, Spec{Schema: "public", Name: name, Collection: name})
			require.Equal(t, name == "bytes", table.ByteOrder)
			rapid.Check(t, func(r *rapid.T) {
				keys := rapid.SliceOfNDistinct(anyKey(), 1, 30, rapid.ID[string]).Draw(r, "keys")
				_, err := s.pool.Exec(t.Context(), "TRUNCATE public."+name)
				require.NoError(r, err)
				_, err = s.pool.Exec(t.Context(), "INSERT INTO public."+name+" SELECT k, '[1]' FROM unnest($1::text[]) k", keys)
				require.NoError(r, err)
				bound := rapid.OneOf(rapid.SampledFrom(keys), anyKey())
				ranges := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) vecferry.Range {
					k := vecferry.Key(bound.Draw(r, "lo"))
					switch rapid.IntRange(0, 3).Draw(r, "kind") {
					case 0:
						return vecferry.Only(k)
					case 1:
						return vecferry.Range{Lo: vecferry.Only(k).Hi, ToEnd: true}
					case 2:
						return vecferry.Range{Lo: k, Hi: vecferry.Only(vecferry.Key(bound.Draw(r, "hi"))).Hi}
					}
					return vecferry.Range{Lo: k, Hi: vecferry.Key(bound.Draw(r, "hi"))}
				}), 1, 4).Draw(r, "ranges")
				chunk, err := s.ReadChunk(t.Context(), ChunkRequest{Table: table, Ranges: ranges})
				require.NoError(r, err)
				var got, want []string
				for _, row := range chunk.Rows {
					got = append(got, string(row.Key))
				}
				for _, k := range keys {
					if slices.ContainsFunc(ranges, func(r vecferry.Range) bool { return r.Has(vecferry.Key(k)) }) {
						want = append(want, k)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				require.Equal(r, want, got)

				size := rapid.IntRange(1, 10).Draw(r, "rows")
				cuts, err := s.Split(t.Context(), table, vecferry.Everything(), size)
				require.NoError(r, err)
				slices.Sort(keys)
				var inside []vecferry.Key
				for i := size; i < len(keys); i += size {
					inside = append(inside, vecferry.Key(keys[i]))
				}
				require.Len(r, cuts, len(inside))
				for i := range cuts {
					require.Equal(r, inside[i], cuts[i])
				}
			})
		}
	})
}

func TestSplitOtherKeys(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 18)
	s := open(t, db.DSN)
	db.Exec("CREATE TABLE ints (k int2 PRIMARY KEY, v vector(1)); INSERT INTO ints SELECT i FROM generate_series(-10, 10) i")
	db.Exec("CREATE TABLE ids (k uuid PRIMARY KEY, v vector(1)); INSERT INTO ids SELECT lpad(to_hex(i), 32, '0')::uuid FROM generate_series(1, 40) i")
	ints := inspect(t, s, Spec{Schema: "public", Name: "ints"})
	cuts, err := s.Split(t.Context(), ints, vecferry.Range{Lo: vecferry.IntKey(-9), Hi: vecferry.IntKey(4)}, 5)
	require.NoError(t, err)
	require.Equal(t, []vecferry.Key{vecferry.IntKey(-4), vecferry.IntKey(1)}, cuts)
	ids := inspect(t, s, Spec{Schema: "public", Name: "ids"})
	cuts, err = s.Split(t.Context(), ids, vecferry.Everything(), 16)
	require.NoError(t, err)
	require.Equal(t, []vecferry.Key{"00000000-0000-0000-0000-000000000011", "00000000-0000-0000-0000-000000000021"}, cuts)
	cuts, err = s.Split(t.Context(), ids, vecferry.Range{Lo: cuts[0], Hi: cuts[1]}, 100)
	require.NoError(t, err)
	require.Empty(t, cuts)
	_, err = s.Split(t.Context(), ids, vecferry.Everything(), 0)
	require.Error(t, err)
}
