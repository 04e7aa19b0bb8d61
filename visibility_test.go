package vecferry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestVisibilitySeesWhatEnded(t *testing.T) {
	t.Parallel()
	v, err := ParseVisibility("10:20:12,15")
	require.NoError(t, err)
	for x := XID(1); x < 30; x++ {
		require.Equal(t, x < 20 && x != 12 && x != 15, v.Sees(x), "%d", x)
	}
	require.EqualValues(t, 20, v.Next())
	require.True(t, v.SeesAll([]XID{9, 11, 19}))
	require.True(t, v.SeesAll(nil))
	require.False(t, v.SeesAll([]XID{9, 12}))
}

func TestVisibilityProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		xmin := rapid.Uint64Range(3, 1<<40).Draw(t, "xmin")
		xmax := xmin + rapid.Uint64Range(0, 50).Draw(t, "span")
		var running []uint64
		var list []string
		for x := xmin; x < xmax; x++ {
			if rapid.Bool().Draw(t, "runs") {
				running, list = append(running, x), append(list, fmt.Sprint(x))
			}
		}
		v, err := ParseVisibility(fmt.Sprintf("%d:%d:%s", xmin, xmax, strings.Join(list, ",")))
		require.NoError(t, err)
		x := rapid.Uint64Range(xmin-3, xmax+3).Draw(t, "x")
		require.Equal(t, x < xmin || x < xmax && !slices.Contains(running, x), v.Sees(XID(x)))
	})
}

func TestParseVisibilityRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "10", "10:20", "10:20:x", "a:20:", "10:b:", "10:20:1:2", "-1:20:"} {
		_, err := ParseVisibility(s)
		require.ErrorIs(t, err, ErrCorrupt, s)
	}
}

// The 32 bits of any id within half the circle of the reference come back to
// that id.
func TestWidenProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		near := rapid.Uint64Range(1<<31, 1<<60).Draw(t, "near")
		x := near + rapid.Uint64Range(0, 1<<32-1).Draw(t, "distance") - 1<<31
		require.Equal(t, XID(x), Widen(uint32(x), XID(near)))
	})
	require.Equal(t, XID(1<<32+3), Widen(3, 1<<32-5), "over the end of an epoch")
	require.Equal(t, XID(1<<32-5), Widen(1<<32-5, 1<<32+3), "and back")
}

func FuzzParseVisibility(f *testing.F) {
	f.Add("10:20:12,15")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVisibility(s)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		v.Sees(v.Next())
	})
}
