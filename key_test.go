package vecferry

import (
	"cmp"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestKeyReadsAsAPersonWritesIt(t *testing.T) {
	t.Parallel()
	require.Equal(t, "-5", IntKey(-5).Format(KeyInt))
	require.Equal(t, "a/b", Key("a/b").Format(KeyText))
	require.Equal(t, "int text KeyType(9)", KeyInt.String()+" "+KeyText.String()+" "+KeyType(9).String())
	require.Zero(t, Key("short").Int())
}

func TestIntKeysAreOrderedLikeIntegers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		require.Equal(t, cmp.Compare(a, b), cmp.Compare(IntKey(a), IntKey(b)))
		require.Equal(t, a, IntKey(a).Int())
	})
	require.Less(t, IntKey(math.MinInt64), IntKey(-1))
	require.Less(t, IntKey(-1), IntKey(0))
	require.Less(t, IntKey(0), IntKey(math.MaxInt64))
}

func TestKeySurvivesJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Range{
			Lo: Key(rapid.SliceOf(rapid.Byte()).Draw(t, "lo")), Hi: Key(rapid.SliceOf(rapid.Byte()).Draw(t, "hi")),
			ToEnd: rapid.Bool().Draw(t, "end"),
		}
		j, err := json.Marshal(want)
		require.NoError(t, err)
		var got Range
		require.NoError(t, json.Unmarshal(j, &got))
		require.Equal(t, want, got)
	})
	for _, bad := range []string{"0", "0g", "+1", "0x"} {
		var k Key
		require.ErrorIs(t, k.UnmarshalText([]byte(bad)), ErrCorrupt, bad)
	}
}

// genKey draws keys that are often equal, neighbours, or prefixes of another.
func genKey(t *rapid.T, kind KeyType, label string) Key {
	if kind == KeyInt {
		return IntKey(rapid.Int64Range(-2, 258).Draw(t, label)) // the last byte is 00 at times
	}
	return Key(rapid.StringOfN(rapid.SampledFrom([]rune{1, 'a', 'b'}), 0, 3, -1).Draw(t, label))
}

// genRange draws ranges with bounds at keys and just after keys.
func genRange(t *rapid.T, kind KeyType, label string) Range {
	bound := func(label string) Key {
		k := genKey(t, kind, label)
		if rapid.Bool().Draw(t, label+" after") {
			k += next
		}
		return k
	}
	r := Range{Lo: bound(label + " lo")}
	if rapid.IntRange(0, 4).Draw(t, label+" first") == 0 {
		r.Lo = ""
	}
	if r.ToEnd = rapid.IntRange(0, 4).Draw(t, label+" end") == 0; !r.ToEnd {
		r.Hi = bound(label + " hi")
	}
	return r
}

func genKind(t *rapid.T) KeyType {
	return rapid.SampledFrom([]KeyType{KeyInt, KeyText}).Draw(t, "kind")
}

// The bounds that go into a query select the keys that the range has.
func TestBoundsSelectTheRange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kind := genKind(t)
		r, k := genRange(t, kind, "range"), genKey(t, kind, "key")
		selected := true
		if b, ok := r.Lower(kind); ok {
			selected = k > b.Key || b.Inclusive && k == b.Key
			require.False(t, kind == KeyText && strings.Contains(string(b.Key), next), "no text in PostgreSQL has a zero byte")
		}
		if b, ok := r.Upper(kind); ok {
			selected = selected && (k < b.Key || b.Inclusive && k == b.Key)
		}
		require.Equal(t, r.Has(k), selected, "%+v %q", r, k)
	})
}

func TestRangesAreSetsOfKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kind := genKind(t)
		a, b := genRange(t, kind, "a"), genRange(t, kind, "b")
		k := genKey(t, kind, "key")
		both := a.Has(k) && b.Has(k)
		require.Equal(t, both, a.Intersect(b).Has(k))
		require.Equal(t, a.Intersect(b), b.Intersect(a))
		if both {
			require.True(t, a.Overlaps(b))
			require.False(t, a.Empty())
		}
		if !a.Empty() && !b.Empty() {
			require.Equal(t, a.Overlaps(b), !a.Intersect(b).Empty())
		}
		if a.Before(k) {
			require.False(t, a.Has(k))
		}
	})
}

func TestOnlyHasOneKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kind := genKind(t)
		a, b := genKey(t, kind, "a"), genKey(t, kind, "b")
		require.Equal(t, a == b, Only(a).Has(b))
		single, ok := Only(a).Single()
		require.True(t, ok)
		require.Equal(t, a, single)
	})
	_, ok := Everything().Single()
	require.False(t, ok)
	_, ok = Range{Lo: "a", Hi: "b"}.Single()
	require.False(t, ok)
	require.True(t, Everything().Has(""))
	require.True(t, Range{Lo: "b", Hi: "b"}.Empty())
}

func FuzzKeyText(f *testing.F) {
	f.Add([]byte("6162"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var k Key
		if err := k.UnmarshalText(b); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		again, err := k.MarshalText()
		require.NoError(t, err)
		require.Len(t, again, len(b))
	})
}
