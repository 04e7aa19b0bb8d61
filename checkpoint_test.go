package vecferry

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func someCheckpoint() *Checkpoint {
	return &Checkpoint{
		Version: CheckpointVersion, Log: "log-1", Epoch: 3, Applied: 41, AppliedLSN: 0x19A2B30, Applying: 44, CommitTime: 5,
		Tables: map[uint32]*TableState{0x4001: {
			Source: "public.docs", Collection: "docs",
			Ranges: []MappedRange{
				{Range: Range{Hi: IntKey(10)}, State: Live},
				{Range: Range{Lo: IntKey(10), Hi: IntKey(20)}, State: Copying, Attempt: 7, Virgin: true},
				{Range: Range{Lo: IntKey(20), ToEnd: true}, State: Todo},
			},
			Copies: map[uint64]*Copy{7: {Low: PositionAt(40, 2), Need: XIDs{1 << 33, 1<<33 + 5}, Virgin: true}},
			Recent: XIDs{9, 1 << 33}, Rows: 10, Nulls: 1, Dead: 2, Chunks: 3, Taints: 4,
		}},
	}
}

func TestCheckpointComesBack(t *testing.T) {
	t.Parallel()
	want := someCheckpoint()
	b, err := want.Encode()
	require.NoError(t, err)
	got, err := DecodeCheckpoint(b)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestDecodeCheckpointRefuses(t *testing.T) {
	t.Parallel()
	_, err := DecodeCheckpoint([]byte("{"))
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = DecodeCheckpoint([]byte(`{"version":99}`))
	require.True(t, Halts(err), "%v", err)
	require.ErrorContains(t, err, "99")
	for _, recent := range []string{`"%%"`, `"/w=="`, `7`} {
		_, err = DecodeCheckpoint([]byte(`{"version":1,"tables":{"1":{"recent":` + recent + `}}}`))
		require.ErrorIs(t, err, ErrCorrupt, recent)
	}
}

func TestAllLive(t *testing.T) {
	t.Parallel()
	s := someCheckpoint().Tables[0x4001]
	require.False(t, s.AllLive())
	s.Ranges[1].State, s.Ranges[2].State = Live, Dead
	require.True(t, s.AllLive(), "a dead letter is not copied again")
	s.Ranges[0].State = Todo
	require.False(t, s.AllLive())
}

func TestXIDsAreASortedSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s XIDs
		want := map[XID]bool{}
		for range rapid.IntRange(0, 30).Draw(t, "ids") {
			x := XID(rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Uint64()).Draw(t, "id"))
			s.Add(x)
			want[x] = true
		}
		require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Collect(slices.Values([]XID(s))))
		b, err := json.Marshal(s)
		require.NoError(t, err)
		var again XIDs
		require.NoError(t, json.Unmarshal(b, &again))
		require.Equal(t, s, again)

		v, err := ParseVisibility("5:15:7,9")
		require.NoError(t, err)
		s.DropSeen(v)
		maps.DeleteFunc(want, func(x XID, _ bool) bool { return v.Sees(x) })
		require.Len(t, s, len(want))
		for _, x := range s {
			require.True(t, want[x])
		}
	})
}

func FuzzDecodeCheckpoint(f *testing.F) {
	b, err := someCheckpoint().Encode()
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCheckpoint(b)
		if err != nil {
			if !Halts(err) {
				require.ErrorIs(t, err, ErrCorrupt)
			}
			return
		}
		again, err := c.Encode()
		require.NoError(t, err)
		_, err = DecodeCheckpoint(again)
		require.NoError(t, err)
	})
}
