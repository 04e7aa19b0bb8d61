package sink

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
)

// A range map is compared with a plain map over a small key space.
func TestRangesAreAMapOfKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const space = 12
		key := func(i int) vecferry.Key {
			if i == 0 {
				return ""
			}
			return vecferry.Key(fmt.Sprintf("%02d", i))
		}
		states := []vecferry.RangeState{vecferry.Todo, vecferry.Copying, vecferry.Live, vecferry.Dead}
		model := make([]vecferry.MappedRange, space)
		ranges := []vecferry.MappedRange{{Range: vecferry.Everything(), State: vecferry.Todo}}
		for i := range model {
			model[i].State = vecferry.Todo
		}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			lo := rapid.IntRange(0, space-1).Draw(t, "lo")
			hi := rapid.IntRange(lo, space).Draw(t, "hi")
			to := vecferry.MappedRange{State: rapid.SampledFrom(states).Draw(t, "state")}
			if to.State == vecferry.Copying {
				to.Attempt = rapid.Uint64Range(1, 2).Draw(t, "attempt")
			}
			for i := lo; i < hi; i++ {
				model[i] = to
			}
			to.Range = vecferry.Range{Lo: key(lo), Hi: key(hi), ToEnd: hi == space}
			if hi == lo {
				to.Range = vecferry.Range{Lo: key(lo), Hi: key(lo)}
			}
			ranges = assign(ranges, to)
		}
		for i, want := range model {
			got := ranges[find(ranges, key(i))]
			require.True(t, got.Has(key(i)))
			require.Equal(t, want.State, got.State)
			require.Equal(t, want.Attempt, got.Attempt)
		}
		requireWhole(t, ranges)
	})
}

// requireWhole checks that ranges are sorted, disjoint, merged and everything.
func requireWhole(t require.TestingT, rs []vecferry.MappedRange) {
	require.Equal(t, vecferry.Key(""), rs[0].Lo)
	require.True(t, rs[len(rs)-1].ToEnd)
	for i := 1; i < len(rs); i++ {
		a, b := rs[i-1], rs[i]
		require.Equal(t, a.Hi, b.Lo)
		require.False(t, a.Empty())
		require.False(t, a.State == b.State && a.Attempt == b.Attempt && a.Virgin == b.Virgin, "ranges %v and %v are not merged", a, b)
	}
}
