// Package conformance is the one suite that the model in memory and real servers both
// pass: what holds for one holds for the other, so a test on the model says something
// about Milvus.
//
// It is imported by tests only.
package conformance

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vecferry/vecferry"
)

// Dim is the dimension of the tables' vectors.
const Dim = 4

// KeyLength is the length of a text key in bytes.
const KeyLength = 64

// Table returns a table with a field of every type, in the schema and dynamic, over
// collection name.
func Table(name string, key vecferry.KeyType) *vecferry.Table {
	id := vecferry.Field{Column: "id", Name: "id", Type: vecferry.FieldInt64}
	if key == vecferry.KeyText {
		id.Type, id.MaxLength = vecferry.FieldVarChar, KeyLength
	}
	t := &vecferry.Table{
		Schema: "public", Name: name, Collection: name, KeyType: key,
		Fields: []vecferry.Field{
			id,
			{Column: "embedding", Name: "embedding", Type: vecferry.FieldVector, Dim: Dim},
			{Column: "workspace", Name: "workspace", Type: vecferry.FieldVarChar, MaxLength: 40},
		},
		Key: 0, Vector: 1, PartitionKey: -1, Shards: 1, BatchRows: 100,
		Index: vecferry.Index{Type: "HNSW", Metric: "L2", M: 8, EfConstruction: 32},
	}
	for _, typ := range []vecferry.FieldType{
		vecferry.FieldBool, vecferry.FieldInt16, vecferry.FieldInt32, vecferry.FieldInt64, vecferry.FieldFloat,
		vecferry.FieldDouble, vecferry.FieldVarChar, vecferry.FieldJSON,
	} {
		f := vecferry.Field{Column: "c_" + typ.String(), Name: "c_" + typ.String(), Type: typ}
		if typ == vecferry.FieldVarChar {
			f.MaxLength = 200
		}
		t.Fields = append(t.Fields, f)
		f.Column, f.Name, f.Dynamic = "d_"+typ.String(), "d \""+typ.String()+"\" é", true
		t.Fields = append(t.Fields, f)
	}
	return t
}

// Partitioned returns a table whose partition key is the field workspace.
func Partitioned(name string, key vecferry.KeyType) *vecferry.Table {
	t := Table(name, key)
	t.PartitionKey, t.Partitions, t.Shards = 2, 16, 2
	return t
}

// Row returns a plain row of such a table; version tells its states apart.
func Row(t *vecferry.Table, k vecferry.Key, version int) vecferry.Row {
	r := vecferry.Row{Key: k, Position: vecferry.Position(version), Values: make([]vecferry.Value, len(t.Fields))}
	for i, f := range t.Fields {
		r.Values[i] = plain(f, version)
	}
	r.Values[t.Key] = KeyValue(t, k)
	return r
}

// KeyValue returns a key as the value of its column.
func KeyValue(t *vecferry.Table, k vecferry.Key) vecferry.Value {
	if t.KeyType == vecferry.KeyInt {
		return vecferry.IntValue(k.Int())
	}
	return vecferry.TextValue(string(k))
}

func plain(f vecferry.Field, version int) vecferry.Value {
	switch f.Type {
	case vecferry.FieldBool:
		return vecferry.BoolValue(version%2 == 1)
	case vecferry.FieldInt16, vecferry.FieldInt32, vecferry.FieldInt64:
		return vecferry.IntValue(int64(version))
	case vecferry.FieldFloat, vecferry.FieldDouble:
		return vecferry.FloatValue(float64(version) + 0.5)
	case vecferry.FieldVarChar:
		return vecferry.TextValue(fmt.Sprintf("v%d", version))
	case vecferry.FieldJSON:
		return vecferry.JSONValue(fmt.Sprintf(`{"version": %d}`, version))
	}
	v := make([]float32, f.Dim)
	for i := range v {
		v[i] = float32(version) + float32(i)/8
	}
	return vecferry.VectorValue(v)
}

// Keys returns keys of a type in their order, the awkward ones among them.
func Keys(t vecferry.KeyType) []vecferry.Key {
	if t == vecferry.KeyInt {
		var out []vecferry.Key
		for _, v := range []int64{
			math.MinInt64, math.MinInt64 + 1, -1 << 53, -256, -1, 0, 1, 255, 256, 1<<53 + 1, math.MaxInt64 - 1,
		} {
			out = append(out, vecferry.IntKey(v))
		}
		return out
	}
	out := []vecferry.Key{
		"", "\x01", "\t", "\n", " ", "\"", "$meta", "'", "0", "A", "\\", "\\x41", "\\\"", "`", "a", "a\x01", "a b", "a\"b\\c", "ab", "b",
		"\x7f", "\u0080", "é", "Ω", "\u200b", "\u2028", "日本", "\ufeff", "\ufffd", "🙂", "\U0010ffff",
	}
	slices.Sort(out)
	return out
}

// Longest returns a text key of the full length.
func Longest() vecferry.Key { return vecferry.Key(strings.Repeat("é", KeyLength/2)) }
