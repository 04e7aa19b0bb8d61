package vecferry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMarkComesBack(t *testing.T) {
	t.Parallel()
	for _, want := range []Mark{
		{Kind: Beat, Snapshot: "10:20:12"},
		{Kind: Low, Table: 5, Attempt: 1 << 60, Ranges: []Range{Only("a\xff\x01"), {Lo: IntKey(-1), ToEnd: true}, Everything()}, Snapshot: "1:1:"},
		{Kind: High, Table: 5, Attempt: 7, Snapshot: "1:1:", Rows: 1000, Nulls: 3, Dead: []Key{"", "\x80", IntKey(9)}},
	} {
		t.Run(string(want.Kind), func(t *testing.T) {
			t.Parallel()
			b, err := want.Encode()
			require.NoError(t, err)
			got, err := DecodeMark(b)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
	require.Equal(t, "vecferry/docs", MarkPrefix("docs"))
}

func TestDecodeMarkRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "{", "[]", `{"kind":"middle"}`, `{"kind":"low","ranges":[{"lo":"0"}]}`} {
		_, err := DecodeMark([]byte(s))
		require.ErrorIs(t, err, ErrCorrupt, s)
	}
}

func FuzzDecodeMark(f *testing.F) {
	f.Add([]byte(`{"kind":"high","table":5,"attempt":7,"snapshot":"1:1:","rows":3,"dead":["61"]}`))
	f.Add([]byte(`{"kind":"low","ranges":[{"lo":"","to_end":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMark(b)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		again, err := m.Encode()
		require.NoError(t, err)
		same, err := DecodeMark(again)
		require.NoError(t, err)
		require.Equal(t, m.Kind, same.Kind)
		require.Equal(t, m.Attempt, same.Attempt)
	})
}
