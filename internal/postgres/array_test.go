package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

func arrayField(typ string, to vecferry.FieldType) *vecferry.Field {
	return &vecferry.Field{Column: "x", TypeName: "_" + typ, Type: to, Dynamic: true, Enum: typ == "mood"}
}

func convertArray(t *testing.T, typ string, to vecferry.FieldType, c vecferry.Column) (vecferry.Value, error) {
	t.Helper()
	convert, ok := converterOf(arrayField(typ, to))
	require.True(t, ok)
	return convert(c)
}

// Arrays of every type, with NULLs and in two dimensions, print as the server
// prints them, and their elements are JSON of what the single values would be.
func TestArrayOfEveryType(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec("CREATE TYPE public.mood AS ENUM ('happy', 'so so')")
		for _, c := range textCases() {
			t.Run(c.typ, func(t *testing.T) {
				typ := c.typ
				element := "to_json(CASE WHEN x IS NULL THEN NULL ELSE x::text END)"
				switch fam, _ := familyOf(typ, typ == "mood"); {
				case typ == "bytea":
					element = `to_json(translate(encode(x, 'base64'), E'\n', ''))`
				case fam.json == jsonMicros:
					element = `to_json(CASE WHEN x > '9999-01-01' THEN NULL ELSE (extract(epoch FROM x) * 1000000)::int8 END)`
				case fam.json != jsonString:
					element = "to_json(x)"
				}
				c.typ = strings.ReplaceAll(c.typ, "mood", "public.mood")
				c.random = strings.ReplaceAll(c.random, "mood", "public.mood")
				values := c.query("x, row_number() OVER () AS n", 300)
				where := "true"
				switch {
				case strings.HasPrefix(typ, "timestamp"):
					where = "x BETWEEN '-4000-01-01'::text::timestamp AND '9999-01-01'"
					where = strings.Replace(where, "'-4000-01-01'::text::timestamp", "'4000-01-01 BC'", 1)
				case strings.HasPrefix(typ, "float"), typ == "numeric":
					where = "x::text NOT IN ('NaN', 'Infinity', '-Infinity')"
				}
				sql := fmt.Sprintf(`SELECT a, a::text, j::text, ARRAY[a, a], CASE WHEN n %% 2 = 0 THEN ('[2:4]=' || a::text)::text END FROM (
					SELECT n / 3 AS n, array_agg(x ORDER BY n) AS a, json_agg(%s ORDER BY n) AS j FROM (
						SELECT CASE WHEN n %% 7 = 5 THEN NULL ELSE x END AS x, n FROM (%s) v WHERE %s) w GROUP BY n / 3) y`, element, values, where)
				rows := copyRows(t, s, sql)
				require.Greater(t, len(rows), 90)
				for _, row := range rows {
					requireArray(t, typ, row)
				}
			})
		}
	})
}

// requireArray checks one array in all forms: binary, its text, the JSON wanted,
// and twice itself.
func requireArray(t *testing.T, typ string, row []vecferry.Column) {
	t.Helper()
	text := vecferry.Column{Kind: vecferry.ColumnText, Data: row[1].Data}
	if typ != "mood" {
		v, err := convertArray(t, typ, vecferry.FieldVarChar, row[0])
		require.NoError(t, err)
		require.Equal(t, string(row[1].Data), v.Text())
	}
	fromBinary, err := convertArray(t, typ, vecferry.FieldJSON, row[0])
	require.NoError(t, err)
	fromText, err := convertArray(t, typ, vecferry.FieldJSON, text)
	require.NoError(t, err)
	require.Equal(t, fromBinary, fromText, "%s", row[1].Data)
	require.Equal(t, decodeJSON(t, row[2].Data), decodeJSON(t, []byte(fromBinary.Text())), "%s", row[1].Data)
	twice, err := convertArray(t, typ, vecferry.FieldJSON, row[3])
	require.NoError(t, err)
	require.Equal(t, "["+fromBinary.Text()+","+fromBinary.Text()+"]", twice.Text())
	if row[4].Kind != vecferry.ColumnNull {
		bounded, err := convertArray(t, typ, vecferry.FieldJSON, vecferry.Column{Kind: vecferry.ColumnText, Data: row[4].Data})
		require.NoError(t, err)
		require.Equal(t, fromBinary, bounded)
	}
}

func decodeJSON(t *testing.T, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v), "%s", b)
	return v
}

func TestArrayShapes(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.Postgres(t, 16).DSN)
	for _, c := range []struct{ typ, literal, json string }{
		{"int4", "{}", "[]"},
		{"int4", "{{1,2},{NULL,4}}", "[[1,2],[null,4]]"},
		{"int4", "[0:1]={1,2}", "[1,2]"},
		{"int4", "[0:0][-1:1]={{1,2,3}}", "[[1,2,3]]"},
		{"text", `{"a,b","{}",NULL,"null","","\"q\"","back\\slash"," x "}`, `["a,b","{}",null,"null","","\"q\"","back\\slash"," x "]`},
		{"numeric", "{1.500,-0.10}", "[1.500,-0.10]"},
		{"bool", "{t,f}", "[true,false]"},
		{"timestamptz", `{"1970-01-01 00:00:01+00"}`, "[1000000]"},
		{"jsonb", `{"{\"a\": [1]}",null,"null"}`, `[{"a": [1]},null,null]`},
	} {
		for _, row := range copyRows(t, s, fmt.Sprintf("SELECT x, x::text FROM (SELECT '%s'::%s[] AS x) v", c.literal, c.typ)) {
			got, err := convertArray(t, c.typ, vecferry.FieldJSON, row[0])
			require.NoError(t, err)
			require.Equal(t, c.json, got.Text())
			got, err = convertArray(t, c.typ, vecferry.FieldVarChar, row[0])
			require.NoError(t, err)
			require.Equal(t, string(row[1].Data), got.Text())
			got, err = convertArray(t, c.typ, vecferry.FieldJSON, vecferry.Column{Kind: vecferry.ColumnText, Data: row[1].Data})
			require.NoError(t, err)
			require.Equal(t, c.json, got.Text())
		}
	}
}

func TestNumbersThatJSONDoesNotHave(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.Postgres(t, 16).DSN)
	for _, typ := range []string{"float4", "float8", "numeric"} {
		for _, row := range copyRows(t, s, "SELECT ARRAY[x, 1]::"+typ+"[] FROM unnest('{NaN,Infinity,-Infinity}'::"+typ+"[]) x") {
			_, err := convertArray(t, typ, vecferry.FieldJSON, row[0])
			require.ErrorAs(t, err, new(valueError))
		}
	}
}

// Bytes from elsewhere are an error, never a panic.
func FuzzConverters(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01\xff\xff\xff\xff"), true)
	f.Add([]byte("\x00\x02\x00\x01\x40\x00\x00\x03\x00\x01\x00\x02"), true)
	f.Add([]byte(`[1:2]={"a\\",{1,NULL}}`), false)
	f.Add([]byte(`{""0`), false)
	f.Add([]byte("4713-01-01 00:00:00.5+05:30:01 BC"), false)
	f.Add([]byte("\x00\x01\x00\x00\x3f\x80\x00\x00"), true)
	var fields []*vecferry.Field
	for _, c := range textCases() {
		fam, _ := familyOf(c.typ, c.typ == "mood")
		fields = append(fields, &vecferry.Field{TypeName: c.typ, Enum: c.typ == "mood", Type: fam.native, Dynamic: true},
			arrayField(c.typ, vecferry.FieldJSON))
		if c.typ != "mood" {
			fields = append(fields, arrayField(c.typ, vecferry.FieldVarChar))
		}
	}
	fields = append(fields, &vecferry.Field{TypeName: "vector", Type: vecferry.FieldVector, Dim: 1})
	f.Fuzz(func(t *testing.T, data []byte, binary bool) {
		kind := byte(vecferry.ColumnText)
		if binary {
			kind = vecferry.ColumnBinary
		}
		for _, field := range fields {
			convert, ok := converterOf(field)
			require.True(t, ok, field.TypeName)
			_, _ = convert(vecferry.Column{Kind: kind, Data: data}) // whatever it says, it returns
		}
	})
}
