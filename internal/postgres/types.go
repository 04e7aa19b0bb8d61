package postgres

import (
	"strings"

	"github.com/vecferry/vecferry"
)

// jsonForm says how an element of an array is written in JSON.
type jsonForm uint8

const (
	jsonString jsonForm = iota // the text form
	jsonNumber                 // the text form without quotes
	jsonBool
	jsonRaw    // json and jsonb
	jsonMicros // a timestamp, as in a field of its own
)

// A family is what is known of one scalar type of PostgreSQL.
type family struct {
	// native is the field type that a column gets unless the mapping says more.
	native vecferry.FieldType
	// verbatim says that the wire, in either format, holds the text form itself.
	verbatim bool
	// output appends to dst what the type's output function prints for the
	// bytes that its send function wrote.
	output func(dst, wire []byte) ([]byte, error)
	// cast turns that print into what ::text prints (base64 for bytea); nil
	// where the two are the same. It may change out in place.
	cast func(out []byte) []byte
	// json is the form as an element of an array.
	json jsonForm
}

// familyOf returns the family of a scalar type in pg_catalog, or of an enum.
func familyOf(name string, enum bool) (family, bool) {
	if enum {
		return family{native: vecferry.FieldVarChar, output: outputText, verbatim: true}, true
	}
	if f, ok := numberFamily(name); ok {
		return f, true
	}
	if f, ok := timeFamily(name); ok {
		return f, true
	}
	switch name {
	case "text", "varchar", "name":
		return family{native: vecferry.FieldVarChar, output: outputText, verbatim: true}, true
	case "bpchar":
		return family{native: vecferry.FieldVarChar, output: outputText, cast: trimPadding}, true
	case "uuid":
		return family{native: vecferry.FieldVarChar, output: outputUUID}, true
	case "inet":
		return family{native: vecferry.FieldVarChar, output: outputInet, cast: castInet}, true
	case "cidr":
		return family{native: vecferry.FieldVarChar, output: outputCIDR}, true
	case "macaddr", "macaddr8":
		return family{native: vecferry.FieldVarChar, output: outputMAC}, true
	case "bytea":
		return family{native: vecferry.FieldVarChar, output: outputBytea, cast: castBytea}, true
	case "json":
		return family{native: vecferry.FieldJSON, output: outputText, verbatim: true, json: jsonRaw}, true
	case "jsonb":
		return family{native: vecferry.FieldJSON, output: outputJSONB, json: jsonRaw}, true
	}
	return family{}, false
}

func numberFamily(name string) (family, bool) {
	switch name {
	case "bool":
		return family{native: vecferry.FieldBool, output: outputBool, cast: castBool, json: jsonBool}, true
	case "int2":
		return family{native: vecferry.FieldInt16, output: outputInt, json: jsonNumber}, true
	case "int4":
		return family{native: vecferry.FieldInt32, output: outputInt, json: jsonNumber}, true
	case "int8":
		return family{native: vecferry.FieldInt64, output: outputInt, json: jsonNumber}, true
	case "float4":
		return family{native: vecferry.FieldFloat, output: outputFloat, json: jsonNumber}, true
	case "float8":
		return family{native: vecferry.FieldDouble, output: outputFloat, json: jsonNumber}, true
	case "numeric":
		return family{native: vecferry.FieldVarChar, output: outputNumeric, json: jsonNumber}, true
	}
	return family{}, false
}

func timeFamily(name string) (family, bool) {
	switch name {
	case "date":
		return family{native: vecferry.FieldVarChar, output: outputDate}, true
	case "time":
		return family{native: vecferry.FieldVarChar, output: outputTime}, true
	case "timetz":
		return family{native: vecferry.FieldVarChar, output: outputTimeTZ}, true
	case "interval":
		return family{native: vecferry.FieldVarChar, output: outputInterval}, true
	case "timestamp":
		return family{native: vecferry.FieldInt64, output: outputTimestamp, json: jsonMicros}, true
	case "timestamptz":
		return family{native: vecferry.FieldInt64, output: outputTimestampTZ, json: jsonMicros}, true
	}
	return family{}, false
}

// elementOf returns the name of an array's element type. The name of an array
// begins with an underscore; no scalar type of pg_catalog does.
func elementOf(typeName string) (string, bool) { return strings.CutPrefix(typeName, "_") }

// text returns what ::text prints for a column in either format.
func (f family) text(dst []byte, c vecferry.Column) ([]byte, error) {
	start := len(dst)
	dst, err := f.print(dst, c)
	if err != nil || f.cast == nil {
		return dst, err
	}
	return append(dst[:start], f.cast(dst[start:])...), nil
}

// bytes returns the text form of a column; it may be the column's own memory.
func (f family) bytes(c vecferry.Column) ([]byte, error) {
	if f.verbatim {
		return c.Data, nil
	}
	return f.text(make([]byte, 0, textSize), c)
}

// textSize is enough for most text forms of numbers, times and addresses.
const textSize = 48

// print returns what the output function prints for a column in either format.
func (f family) print(dst []byte, c vecferry.Column) ([]byte, error) {
	if c.Kind == vecferry.ColumnText {
		return append(dst, c.Data...), nil
	}
	return f.output(dst, c.Data)
}
