package conformance

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
)

// roundTrips writes rows of any values, all at once for the sake of real servers, and
// reads them back.
func roundTrips(t *testing.T, s *subject) {
	byKey := map[vecferry.Key]vecferry.Row{}
	rapid.Check(t, func(rt *rapid.T) {
		for range 10 {
			k := anyKey(s.table.KeyType).Draw(rt, "key")
			byKey[k] = anyRow(rt, s.table, k)
			require.NoError(rt, s.Check(byKey[k]))
		}
	})
	rows := slices.Collect(maps.Values(byKey))
	s.put(t, vecferry.Write{New: rows})
	s.holds(t, rows)
	s.put(t, vecferry.Write{Put: rows})
	s.holds(t, rows)
}

func anyKey(t vecferry.KeyType) *rapid.Generator[vecferry.Key] {
	if t == vecferry.KeyInt {
		return rapid.Map(rapid.Int64Range(math.MinInt64, math.MaxInt64-1), vecferry.IntKey)
	}
	return rapid.Map(anyText(KeyLength), func(s string) vecferry.Key { return vecferry.Key(s) })
}

// anyText returns text of at most n bytes without a zero byte, which PostgreSQL does
// not have.
func anyText(n int) *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringN(0, -1, n),
		rapid.StringOfN(rapid.RuneFrom([]rune("\"\\/'`$ \t\n\r\x01\x1f\x7f<>&{}[],:é Ω日本🙂\u2028\u200b\ufffd")), 0, -1, n),
		rapid.SampledFrom([]string{"", "null", "{}", `\u0041`, strings.Repeat("x", n)}),
	).Filter(func(s string) bool { return !strings.Contains(s, "\x00") })
}

func anyRow(rt *rapid.T, t *vecferry.Table, k vecferry.Key) vecferry.Row {
	r := vecferry.Row{Key: k, Position: vecferry.Position(rapid.Int64().Draw(rt, "position")), Values: make([]vecferry.Value, len(t.Fields))}
	for i, f := range t.Fields {
		switch {
		case i == t.Key:
			r.Values[i] = KeyValue(t, k)
		case f.Dynamic && rapid.IntRange(0, 4).Draw(rt, "null") == 0:
			r.Values[i] = vecferry.NullValue()
		default:
			r.Values[i] = anyValue(f).Draw(rt, f.Name)
		}
	}
	return r
}

func anyValue(f vecferry.Field) *rapid.Generator[vecferry.Value] {
	switch f.Type {
	case vecferry.FieldBool:
		return rapid.Map(rapid.Bool(), vecferry.BoolValue)
	case vecferry.FieldInt16:
		return rapid.Map(rapid.Int64Range(math.MinInt16, math.MaxInt16), vecferry.IntValue)
	case vecferry.FieldInt32:
		return rapid.Map(rapid.Int64Range(math.MinInt32, math.MaxInt32), vecferry.IntValue)
	case vecferry.FieldInt64:
		return rapid.Map(rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, 1<<53 + 1})), vecferry.IntValue)
	case vecferry.FieldFloat:
		return rapid.Map(rapid.OneOf(rapid.Float32(), rapid.SampledFrom(awkwardFloats())), func(v float32) vecferry.Value {
			return vecferry.FloatValue(float64(v))
		})
	case vecferry.FieldDouble:
		return rapid.Map(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
			math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64, 1e21, 0.1, 1 << 53, 2.2250738585072011e-308,
		})), vecferry.FloatValue)
	case vecferry.FieldVarChar:
		return rapid.Map(anyText(f.MaxLength), vecferry.TextValue)
	case vecferry.FieldJSON:
		docs := anyJSON()
		if !f.Dynamic {
			docs = docs.Filter(func(s string) bool { return strings.HasPrefix(strings.TrimSpace(s), "{") })
		}
		return rapid.Map(docs, vecferry.JSONValue)
	}
	return rapid.Map(rapid.SliceOfN(rapid.OneOf(rapid.Float32(), rapid.SampledFrom(awkwardFloats())), f.Dim, f.Dim), vecferry.VectorValue)
}

func awkwardFloats() []float32 {
	return []float32{float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, math.MaxFloat32, 0.1, 1.17549421e-38, 16777216}
}

// anyJSON returns JSON as people and databases write it: with blanks, doubled keys,
// numbers of any length, depth.
func anyJSON() *rapid.Generator[string] {
	samples := rapid.SampledFrom([]string{
		`null`, `true`, `0`, `-0`, `-0.0`, `1.50`, `1e5`, `9223372036854775807`, `12345678901234567890123456789.0123456789`, `""`, `"\u0000"`, `"\ud83d\ude42"`,
		`{}`, `[]`, ` {  "a" : 1 , "a":2 }`, "{\n\t\"b\": [1, 2 ,3]\r\n} ", `{"a":{"b":{"c":[[[]]]}}}`, `"<>&` + "\u2028" + `"`, `{"$meta": 1, "id": 2}`,
		`["a","b\"c","{}"]`, `{"é":"日本 🙂"}`, `[` + strings.Repeat(`[`, 500) + strings.Repeat(`]`, 500) + `]`, `{"":""}`,
	})
	text := rapid.Map(anyText(50), func(s string) string {
		b, err := json.Marshal(map[string]any{s: []any{s, 1.5, nil}})
		if err != nil {
			return `""`
		}
		return string(b)
	})
	return rapid.OneOf(samples, text)
}

// limits writes rows at the edge of what the check lets through: the server takes it.
func limits(t *testing.T, s *subject) {
	var rows []vecferry.Row
	add := func(field string, v vecferry.Value) {
		r := Row(s.table, s.key(len(rows)), 1)
		r.Values[s.index(field)] = v
		require.NoError(t, s.Check(r))
		rows = append(rows, r)
	}
	add("c_varchar", vecferry.TextValue(strings.Repeat("é", 100)))
	add("c_json", vecferry.JSONValue(`{"":"`+strings.Repeat("x", 65529)+`"}`))
	add("d_json", vecferry.JSONValue(s.fill()))
	add("d_json", vecferry.JSONValue(strings.Repeat("[", 9000)+strings.Repeat("]", 9000)))
	add("c_json", vecferry.JSONValue(`{"":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+"}"))
	add("d_json", vecferry.JSONValue("1e308"))
	add("c_double", vecferry.FloatValue(math.Inf(1)))
	add("c_float", vecferry.FloatValue(math.Inf(-1)))
	add("embedding", vecferry.VectorValue([]float32{math.MaxFloat32, -math.MaxFloat32, 0, math.SmallestNonzeroFloat32}))
	add("embedding", vecferry.VectorValue(make([]float32, Dim)))
	s.put(t, vecferry.Write{New: rows})
	s.holds(t, rows)
}

// fill returns a JSON string that makes the dynamic field of a plain row just fit.
func (s *subject) fill() string {
	i := s.index("d_json")
	fits := func(n int) bool {
		r := Row(s.table, s.key(0), 1)
		r.Values[i] = vecferry.JSONValue(`"` + strings.Repeat("x", n) + `"`)
		return s.Check(r) == nil
	}
	lo, hi := 0, 65536
	for lo+1 < hi {
		if mid := (lo + hi) / 2; fits(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return `"` + strings.Repeat("x", lo) + `"`
}

func (s *subject) index(column string) int {
	for i, f := range s.table.Fields {
		if f.Column == column {
			return i
		}
	}
	return -1
}

// refusedRows mixes rows that cannot stand with rows that can.
func refusedRows(t *testing.T, s *subject) {
	good := s.some(0, 250, 1)
	s.put(t, vecferry.Write{New: good})
	bad := map[vecferry.Key]string{}
	rows := s.some(0, 250, 2)
	spoil := func(n int, column string, v vecferry.Value) {
		rows[n].Values[s.index(column)] = v
		bad[rows[n].Key] = column
	}
	spoil(3, "c_varchar", vecferry.TextValue(strings.Repeat("é", 101)))
	spoil(50, "c_varchar", vecferry.TextValue("a\xff"))
	spoil(51, "c_int16", vecferry.NullValue())
	spoil(99, "embedding", vecferry.VectorValue([]float32{1, 2, 3, float32(math.NaN())}))
	spoil(100, "embedding", vecferry.VectorValue([]float32{1, 2, 3, float32(math.Inf(-1))}))
	spoil(101, "embedding", vecferry.VectorValue([]float32{1, 2, 3}))
	spoil(150, "d_double", vecferry.FloatValue(math.NaN()))
	spoil(151, "d_json", vecferry.JSONValue(`{"a":1`))
	spoil(152, "d_json", vecferry.JSONValue(`1e400`))
	spoil(153, "c_json", vecferry.JSONValue(`{"":"`+strings.Repeat("x", 65530)+`"}`))
	spoil(158, "c_json", vecferry.JSONValue(`[1]`))
	spoil(159, "c_json", vecferry.JSONValue(`{"a":1e400}`))
	spoil(154, "c_int32", vecferry.IntValue(1<<31))
	spoil(155, "c_float", vecferry.FloatValue(0.1))
	spoil(156, "c_bool", vecferry.TextValue("true"))
	spoil(157, "c_int16", vecferry.IntValue(-1<<15-1))
	for n, column := range map[int]string{249: "d_varchar", 248: "d_json"} {
		rows[n].Values[s.index(column)] = map[string]vecferry.Value{
			"d_varchar": vecferry.TextValue(strings.Repeat(`"`, 40_000)), // 80,000 bytes once escaped
			"d_json":    vecferry.JSONValue(`"` + strings.Repeat("x", 65534) + `"`),
		}[column]
		bad[rows[n].Key] = "" // the whole row is too large
	}
	rejected, err := s.Replace(t.Context(), vecferry.Write{Put: rows})
	require.NoError(t, err)
	require.Len(t, rejected, len(bad))
	var gone []vecferry.Key
	for _, r := range rejected {
		column, ok := bad[r.Row.Key]
		require.True(t, ok)
		require.Equal(t, column, r.Err.Column, r.Err.Error())
		var again *vecferry.RowError
		require.ErrorAs(t, s.Check(r.Row), &again)
		gone = append(gone, r.Row.Key)
	}
	var left []vecferry.Row
	for _, r := range rows {
		if _, isBad := bad[r.Key]; !isBad {
			left = append(left, r)
		}
	}
	s.holds(t, left, gone...) // the old entity of a refused row is gone too
}
