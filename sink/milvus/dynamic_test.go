package milvus

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
)

func dynamicLayout(types ...vecferry.FieldType) *layout {
	t := &vecferry.Table{KeyType: vecferry.KeyInt, PartitionKey: -1, Vector: 1, Fields: []vecferry.Field{
		{Name: "id", Type: vecferry.FieldInt64}, {Name: "v", Type: vecferry.FieldVector, Dim: 2},
	}}
	for _, typ := range types {
		t.Fields = append(t.Fields, vecferry.Field{Name: "a " + typ.String() + ` "\`, Type: typ, Dynamic: true})
	}
	return newLayout(t)
}

func TestDynamicFieldOfEachKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ   vecferry.FieldType
		value vecferry.Value
		want  string
	}{
		{vecferry.FieldBool, vecferry.BoolValue(true), `true`},
		{vecferry.FieldInt64, vecferry.IntValue(math.MinInt64), `-9223372036854775808`},
		{vecferry.FieldDouble, vecferry.FloatValue(math.Copysign(0, -1)), `-0.0`},
		{vecferry.FieldDouble, vecferry.FloatValue(math.SmallestNonzeroFloat64), `5e-324`},
		{vecferry.FieldFloat, vecferry.FloatValue(float64(float32(0.1))), `0.1`},
		{vecferry.FieldDouble, vecferry.FloatValue(float64(float32(0.1))), `0.10000000149011612`},
		{vecferry.FieldVarChar, vecferry.TextValue("a\"\\\n<é🙂\u2028"), "\"a\\\"\\\\\\u000a<é🙂\u2028\""},
		{vecferry.FieldJSON, vecferry.JSONValue(` {"b" : 1,"a":[ "}" ]} `), ` {"b" : 1,"a":[ "}" ]} `},
		{vecferry.FieldJSON, vecferry.JSONValue(`null`), `null`},
	} {
		l := dynamicLayout(c.typ)
		text := string(l.appendDynamic(nil, vecferry.Row{Values: []vecferry.Value{{}, {}, c.value}}))
		require.Equal(t, `{"a `+c.typ.String()+` \"\\":`+c.want+`}`, text)
		require.True(t, json.Valid([]byte(text)))
		got := make([]vecferry.Value, 3)
		require.True(t, l.readDynamic(text, got))
		require.True(t, c.value.Equal(got[2]), "%s read back as %#v", text, got[2])
	}
}

// What somebody else wrote is read without a fault, and equals nothing by accident.
func TestForeignDynamicField(t *testing.T) {
	t.Parallel()
	l := dynamicLayout(vecferry.FieldInt64)
	key := `"a int64 \"\\"`
	for text, want := range map[string]vecferry.Value{
		`{}`:             vecferry.NullValue(),
		` null `:         vecferry.NullValue(),
		`{"other":[{}]}`: vecferry.NullValue(),
		"{ " + key + " :\n 5 , \"x\": \"\\\"}\" }": vecferry.IntValue(5),
		"{" + key + ":null}":                       vecferry.NullValue(),
		"{" + key + ":1.5}":                        vecferry.JSONValue("1.5"),
		"{" + key + `:"5"}`:                        vecferry.JSONValue(`"5"`),
	} {
		values := make([]vecferry.Value, 3)
		require.True(t, l.readDynamic(text, values), text)
		require.True(t, want.Equal(values[2]), "%s read as %#v", text, values[2])
	}
	for _, text := range []string{``, `[]`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{a:1}`, `{"a`, `{"a\`} {
		require.False(t, l.readDynamic(text, make([]vecferry.Value, 3)), text)
	}
}

func FuzzReadDynamic(f *testing.F) {
	for _, s := range []string{`{"a int64 \"\\":1,"b":[1,{"c":"}"}]}`, `null`, `{"`, `{"a":"\`, `{"a":[`} {
		f.Add(s)
	}
	l := dynamicLayout(vecferry.FieldInt64, vecferry.FieldJSON, vecferry.FieldVarChar)
	f.Fuzz(func(t *testing.T, text string) {
		ok := l.readDynamic(text, make([]vecferry.Value, 5))
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &object) == nil && !ok {
			t.Errorf("a JSON object was refused: %q", text)
		}
	})
}

func TestScannerAgreesWithJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.MapOf(rapid.String(), rapid.Custom(func(t *rapid.T) json.RawMessage {
			b, err := json.Marshal([]any{rapid.String().Draw(t, "s"), rapid.Float64().Draw(t, "f"), map[string]string{rapid.String().Draw(t, "k"): "]}"}})
			require.NoError(t, err)
			return b
		})).Draw(t, "object")
		b, err := json.Marshal(object)
		require.NoError(t, err)
		got := map[string]json.RawMessage{}
		s := scanner{rest: string(b)}
		require.True(t, s.object(func(k, raw string) { got[k] = json.RawMessage(raw) }))
		var want map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(b, &want))
		require.Equal(t, want, got)
	})
}
