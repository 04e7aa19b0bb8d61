package postgres

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/vecferry/vecferry"
)

// A converter makes the value of a column that has data. The value does not
// share memory with it.
type converter func(c vecferry.Column) (vecferry.Value, error)

// converterOf returns how a column becomes a field, or false if it cannot.
func converterOf(f *vecferry.Field) (converter, bool) {
	if f.Type == vecferry.FieldVector {
		return vectorConverter(f.Dim), f.TypeName == "vector"
	}
	if element, ok := elementOf(f.TypeName); ok && !(f.Enum && f.Type != vecferry.FieldJSON) {
		return arrayConverter(element, f)
	}
	fam, ok := familyOf(f.TypeName, f.Enum)
	if !ok || !widens(fam.native, f.Type) {
		return nil, false
	}
	switch f.Type {
	case vecferry.FieldBool:
		return toBool(fam), true
	case vecferry.FieldInt16, vecferry.FieldInt32, vecferry.FieldInt64:
		if fam.json == jsonMicros {
			return toMicros, true
		}
		return toInt, true
	case vecferry.FieldFloat, vecferry.FieldDouble:
		return toFloat(f), true
	case vecferry.FieldVarChar:
		return toText(fam.bytes, f.MaxLength), true
	case vecferry.FieldJSON:
		return toJSON(fam.bytes), true
	}
	return nil, false
}

// widens reports whether every value of one type has exactly one in the other.
func widens(from, to vecferry.FieldType) bool {
	switch to {
	case from, vecferry.FieldVarChar:
		return true
	case vecferry.FieldInt32:
		return from == vecferry.FieldInt16
	case vecferry.FieldInt64:
		return from == vecferry.FieldInt16 || from == vecferry.FieldInt32
	case vecferry.FieldDouble:
		return from == vecferry.FieldFloat
	}
	return false
}

func arrayConverter(element string, f *vecferry.Field) (converter, bool) {
	fam, ok := familyOf(element, f.Enum)
	if !ok {
		return nil, false
	}
	switch f.Type {
	case vecferry.FieldJSON:
		return toJSON(fam.arrayJSON), true
	case vecferry.FieldVarChar:
		return toText(fam.arrayText, f.MaxLength), true
	}
	return nil, false
}

func toBool(fam family) converter {
	return func(c vecferry.Column) (vecferry.Value, error) {
		out, err := fam.print(nil, c)
		return vecferry.BoolValue(string(out) == "t"), err
	}
}

func toInt(c vecferry.Column) (vecferry.Value, error) {
	if c.Kind == vecferry.ColumnText {
		v, err := strconv.ParseInt(string(c.Data), 10, 64)
		if err != nil {
			return vecferry.Value{}, corruptf("integer %q", c.Data)
		}
		return vecferry.IntValue(v), nil
	}
	v, err := readInt(c.Data)
	return vecferry.IntValue(v), err
}

func toMicros(c vecferry.Column) (vecferry.Value, error) {
	v, err := readMicros(c)
	return vecferry.IntValue(v), err
}

// toFloat refuses what JSON cannot write where the value goes into JSON.
func toFloat(f *vecferry.Field) converter {
	bits := 64
	if f.TypeName == "float4" {
		bits = 32
	}
	dynamic := f.Dynamic
	return func(c vecferry.Column) (vecferry.Value, error) {
		v, err := floatOf(c, bits)
		if err == nil && dynamic && (math.IsNaN(v) || math.IsInf(v, 0)) {
			err = valueError(fmt.Sprintf("%v cannot be in the dynamic field, which is JSON", v))
		}
		return vecferry.FloatValue(v), err
	}
}

func floatOf(c vecferry.Column, bits int) (float64, error) {
	if c.Kind == vecferry.ColumnText {
		v, err := strconv.ParseFloat(string(c.Data), bits)
		if err != nil {
			return 0, corruptf("float %q", c.Data)
		}
		return v, nil
	}
	v, _, err := readFloat(c.Data)
	return v, err
}

// A printer returns text, perhaps in the column's own memory.
type printer func(c vecferry.Column) ([]byte, error)

// toText refuses what is no UTF-8 or longer than limit bytes; limit 0 means
// none.
func toText(print printer, limit int) converter {
	return func(c vecferry.Column) (vecferry.Value, error) {
		out, err := print(c)
		if err != nil {
			return vecferry.Value{}, err
		}
		if limit > 0 && len(out) > limit {
			return vecferry.Value{}, valueError(fmt.Sprintf("%d bytes of text are more than max_length %d", len(out), limit))
		}
		if !utf8.Valid(out) {
			return vecferry.Value{}, valueError("text is not UTF-8")
		}
		return vecferry.TextValue(string(out)), nil
	}
}

func toJSON(print printer) converter {
	return func(c vecferry.Column) (vecferry.Value, error) {
		out, err := print(c)
		if err != nil {
			return vecferry.Value{}, err
		}
		if !utf8.Valid(out) {
			return vecferry.Value{}, valueError("JSON is not UTF-8")
		}
		return vecferry.JSONValue(string(out)), nil
	}
}
