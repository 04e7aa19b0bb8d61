package vecferry

import (
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// The messages are those that PostgreSQL 16 sends for table docs (id bigint
// primary key, note text, embedding vector(3)), protocol 1, binary.
const (
	relationHex  = "52 00004001 7075626c696300 646f637300 64 0003 01 696400 00000014 ffffffff 00 6e6f746500 00000019 ffffffff 00 656d62656464696e6700 0000401d 00000003"
	insertHex    = "49 00004001 4e 0003 62 00000008 0000000000000001 62 00000003 6f6e65 62 00000010 00030000 3f800000 40000000 bf000000"
	unchangedHex = "55 00004001 4e 0003 62 00000008 0000000000000001 62 00000003 756e6f 75"
	rekeyHex     = "55 00004001 4b 0003 62 00000008 0000000000000001 6e 6e 4e 0003 62 00000008 0000000000000002 62 00000003 756e6f 75"
	fullHex      = "55 00004001 4f 0001 74 00000001 31 4e 0001 74 00000001 32"
	deleteHex    = "44 00004001 4b 0003 62 00000008 0000000000000002 6e 6e"
	truncateHex  = "54 00000002 03 00004001 00004002"
	messageHex   = "4d 01 00000000019a2b30 766563666572727900 00000002 7b7d"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	var digits []byte
	for i := range len(s) {
		if s[i] != ' ' {
			digits = append(digits, s[i])
		}
	}
	b, err := hex.DecodeString(string(digits))
	require.NoError(tb, err)
	return b
}

func TestParseRelation(t *testing.T) {
	t.Parallel()
	rel, err := ParseRelation(unhex(t, relationHex))
	require.NoError(t, err)
	require.Equal(t, &Relation{
		OID: 0x4001, Schema: "public", Name: "docs", Identity: 'd',
		Columns: []RelationColumn{
			{Name: "id", Type: 20, Typmod: -1, Key: true},
			{Name: "note", Type: 25, Typmod: -1},
			{Name: "embedding", Type: 0x401d, Typmod: 3},
		},
	}, rel)
	rel, err = ParseRelation(unhex(t, "52 00000001 00 7400 64 0000"))
	require.NoError(t, err)
	require.Equal(t, "pg_catalog", rel.Schema)
}

// columns writes a tuple as its columns' kinds and bytes.
func columns(t *testing.T, tuple Tuple) string {
	t.Helper()
	if tuple == nil {
		return ""
	}
	list, err := tuple.Columns(nil)
	require.NoError(t, err)
	var s []byte
	for _, c := range list {
		s = append(s, c.Kind)
		if c.Data != nil {
			s = append(s, hex.EncodeToString(c.Data)...)
		}
		s = append(s, ' ')
	}
	return string(s)
}

func TestParseMessage(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		raw      string
		op       Op
		oid      uint32
		old, now string
		whole    bool
	}{
		"insert":                      {insertHex, OpInsert, 0x4001, "", "b0000000000000001 b6f6e65 b000300003f80000040000000bf000000 ", false},
		"update, vector unchanged":    {unchangedHex, OpUpdate, 0x4001, "", "b0000000000000001 b756e6f u ", false},
		"update of the key":           {rekeyHex, OpUpdate, 0x4001, "b0000000000000001 n n ", "b0000000000000002 b756e6f u ", false},
		"update with a whole old row": {fullHex, OpUpdate, 0x4001, "t31 ", "t32 ", true},
		"delete":                      {deleteHex, OpDelete, 0x4001, "b0000000000000002 n n ", "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Change{Old: Tuple{1}, New: Tuple{1}, OldWhole: true} // of the message before
			oid, err := ParseMessage(unhex(t, tt.raw), &c)
			require.NoError(t, err)
			require.Equal(t, tt.oid, oid)
			require.Equal(t, tt.op, c.Op)
			require.Equal(t, tt.whole, c.OldWhole)
			require.Equal(t, tt.old != "", c.Old != nil)
			require.Equal(t, tt.now != "", c.New != nil)
			require.Equal(t, tt.old, columns(t, c.Old))
			require.Equal(t, tt.now, columns(t, c.New))
		})
	}
}

func TestParseMessageWithoutRow(t *testing.T) {
	t.Parallel()
	var c Change
	oid, err := ParseMessage(unhex(t, truncateHex), &c)
	require.NoError(t, err)
	require.Zero(t, oid)
	require.Equal(t, OpTruncate, c.Op)
	require.Equal(t, []uint32{0x4001, 0x4002}, c.Tables)

	oid, err = ParseMessage(unhex(t, messageHex), &c)
	require.NoError(t, err)
	require.Zero(t, oid)
	require.Equal(t, OpMark, c.Op)
	require.Equal(t, "vecferry", string(c.Prefix))
	require.Equal(t, "{}", string(c.Content))
}

// Every shorter and every longer message is refused, and none panics.
func TestParseMessageRefusesCutBytes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{insertHex, unchangedHex, rekeyHex, fullHex, deleteHex, truncateHex, messageHex} {
		raw := unhex(t, s)
		var c Change
		for n := range raw {
			_, err := ParseMessage(raw[:n], &c)
			require.ErrorIs(t, err, ErrCorrupt, "%d of %d bytes of %s", n, len(raw), s)
		}
		_, err := ParseMessage(append(raw, 0), &c)
		require.ErrorIs(t, err, ErrCorrupt)
	}
	raw := unhex(t, relationHex)
	for n := range raw {
		_, err := ParseRelation(raw[:n])
		require.ErrorIs(t, err, ErrCorrupt, "%d bytes", n)
	}
	_, err := ParseRelation(unhex(t, insertHex))
	require.ErrorIs(t, err, ErrCorrupt)
}

func TestParseMessageRefusesForeignForms(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"unknown kind":           "5a 00004001",
		"insert with an old row": "49 00004001 4b 0000 4e 0000",
		"delete with a new row":  "44 00004001 4e 0000",
		"a size beyond the end":  "49 00004001 4e 0001 62 ffffffff 00",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c Change
			_, err := ParseMessage(unhex(t, s), &c)
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}

func TestColumnsOfACutTuple(t *testing.T) {
	t.Parallel()
	_, err := Tuple{0, 2, 'n'}.Columns(nil)
	require.ErrorIs(t, err, ErrCorrupt)
}

func FuzzParseMessage(f *testing.F) {
	for _, s := range []string{insertHex, unchangedHex, rekeyHex, fullHex, deleteHex, truncateHex, messageHex} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c Change
		if _, err := ParseMessage(raw, &c); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		for _, tuple := range []Tuple{c.Old, c.New} {
			if tuple == nil {
				continue
			}
			list, err := tuple.Columns(nil)
			require.NoError(t, err, "a tuple of a message that was accepted")
			require.Len(t, list, int(binary.BigEndian.Uint16(tuple)))
		}
	})
}

func FuzzParseRelation(f *testing.F) {
	f.Add(unhex(f, relationHex))
	f.Fuzz(func(t *testing.T, raw []byte) {
		rel, err := ParseRelation(raw)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		require.NotEmpty(t, rel.Schema)
	})
}

// wideInsert is the insert of a row with a vector of 1536 dimensions: 6175 bytes.
func wideInsert() []byte {
	b := []byte{'I', 0, 0, 0x40, 1, 'N', 0, 2, 'b', 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 'b'}
	b = binary.BigEndian.AppendUint32(b, 4+4*1536)
	b = append(b, 6, 0, 0, 0)
	return append(b, make([]byte, 4*1536)...)
}

func TestParsingARowAllocatesNothing(t *testing.T) {
	raw := wideInsert()
	var c Change
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := ParseMessage(raw, &c); err != nil {
			t.Fatal(err)
		}
	}))
	list := make([]Column, 0, 2)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := c.New.Columns(list); err != nil {
			t.Fatal(err)
		}
	}))
}

func BenchmarkParseMessage(b *testing.B) {
	raw := wideInsert()
	var c Change
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := ParseMessage(raw, &c); err != nil {
			b.Fatal(err)
		}
	}
}
