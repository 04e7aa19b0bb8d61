package milvus

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

func TestExpression(t *testing.T) {
	t.Parallel()
	ints := &layout{table: &vecferry.Table{KeyType: vecferry.KeyInt, Fields: []vecferry.Field{{Name: "id"}}}}
	texts := &layout{table: &vecferry.Table{KeyType: vecferry.KeyText, Fields: []vecferry.Field{{Name: "id"}}}}
	number := vecferry.IntKey
	for _, c := range []struct {
		layout *layout
		in     Selection
		want   string
	}{
		{ints, Selection{Keys: []vecferry.Key{number(1), number(-2), number(math.MinInt64)}}, "id in [1,-2,(-9223372036854775807-1)]"},
		{ints, Selection{Range: vecferry.Everything()}, "id >= (-9223372036854775807-1)"},
		{ints, Selection{Range: vecferry.Only(number(7))}, "id in [7]"},
		{ints, Selection{Range: vecferry.Range{Lo: number(0), Hi: number(256)}}, "id >= 0 && id < 256"},
		{ints, Selection{Range: vecferry.Range{Lo: vecferry.Only(number(0)).Hi, Hi: vecferry.Only(number(256)).Hi}}, "id > 0 && id <= 256"},
		{texts, Selection{Keys: []vecferry.Key{"", `a"b\`, "é\x01"}}, `id in ["","a\"b\\","é\x01"]`},
		{texts, Selection{Range: vecferry.Everything()}, `id >= ""`},
		{texts, Selection{Range: vecferry.Range{Lo: "a", ToEnd: true}}, `id >= "a"`},
		{texts, Selection{Range: vecferry.Range{Hi: "b\x00"}}, `id >= "" && id <= "b"`},
	} {
		require.Equal(t, c.want, c.layout.expression(c.in))
	}
}
