package milvus

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/vecferry/vecferry"
)

// maxJSON is what Milvus allows in bytes for a JSON field, and for the whole dynamic
// field of an entity (common.JSONMaxLength).
const maxJSON = 65536

// check returns a *vecferry.RowError for a row that Milvus would refuse, or would not
// give back as it is.
func (l *layout) check(r vecferry.Row) error {
	t := l.table
	if len(r.Values) != len(t.Fields) {
		return t.RowError(r.Key, "", fmt.Sprintf("has %d values, the mapping has %d fields", len(r.Values), len(t.Fields)))
	}
	if reason := l.badKey(r.Key); reason != "" {
		return t.RowError(r.Key, t.KeyField().Column, reason)
	}
	for i := range t.Fields {
		if i == t.Key {
			continue
		}
		if reason := badValue(&t.Fields[i], r.Values[i]); reason != "" {
			return t.RowError(r.Key, t.Fields[i].Column, reason)
		}
	}
	if len(l.dynamic) > 0 {
		if n := l.dynamicBytes(r); n > maxJSON {
			return t.RowError(r.Key, "", fmt.Sprintf("its dynamic fields take %d bytes as JSON; Milvus holds %d", n, maxJSON))
		}
	}
	return nil
}

func (l *layout) badKey(k vecferry.Key) string {
	if l.table.KeyType == vecferry.KeyInt {
		if len(k) != len(vecferry.IntKey(0)) {
			return "is not an integer key"
		}
		if k.Int() == math.MaxInt64 {
			// The proxy merges results by the least key and starts from this one as infinity.
			return "is the largest int64, which no query of Milvus ever returns"
		}
		return ""
	}
	return badText(string(k), l.table.KeyField().MaxLength)
}

// badValue says what is wrong with a value, or nothing.
func badValue(f *vecferry.Field, v vecferry.Value) string {
	switch {
	case v.IsAbsent():
		return "was not sent"
	case v.IsNull() && f.Dynamic:
		return ""
	case v.IsNull():
		return "is NULL; a field of the schema cannot hold NULL: map the column to a dynamic field"
	case v.Kind() != kindOf(f.Type):
		return fmt.Sprintf("is not a value of a field of type %s", f.Type)
	}
	switch f.Type {
	case vecferry.FieldInt16:
		return outside(v.Int(), math.MinInt16, math.MaxInt16)
	case vecferry.FieldInt32:
		return outside(v.Int(), math.MinInt32, math.MaxInt32)
	case vecferry.FieldFloat:
		if f64 := v.Float(); !math.IsNaN(f64) && float64(float32(f64)) != f64 {
			return fmt.Sprintf("%g does not fit 32 bits exactly: map the column to a double", f64)
		}
		return badFloat(f, v.Float())
	case vecferry.FieldDouble:
		return badFloat(f, v.Float())
	case vecferry.FieldVarChar:
		if f.Dynamic {
			return badText(v.Text(), maxJSON)
		}
		return badText(v.Text(), f.MaxLength)
	case vecferry.FieldJSON:
		return badJSON(v.Text(), f.Dynamic)
	case vecferry.FieldVector:
		return badVector(v.Vector(), f.Dim)
	}
	return ""
}

// kindOf returns the kind of the values of a field.
func kindOf(t vecferry.FieldType) vecferry.Kind {
	switch t {
	case vecferry.FieldBool:
		return vecferry.Bool
	case vecferry.FieldInt16, vecferry.FieldInt32, vecferry.FieldInt64:
		return vecferry.Int
	case vecferry.FieldFloat, vecferry.FieldDouble:
		return vecferry.Float
	case vecferry.FieldVarChar:
		return vecferry.Text
	case vecferry.FieldJSON:
		return vecferry.JSON
	case vecferry.FieldVector:
		return vecferry.Vector
	}
	return vecferry.Absent
}

func outside(v, lo, hi int64) string {
	if v < lo || v > hi {
		return fmt.Sprintf("%d is not between %d and %d", v, lo, hi)
	}
	return ""
}

// badFloat refuses what JSON cannot say; a typed field holds it.
func badFloat(f *vecferry.Field, v float64) string {
	if f.Dynamic && (math.IsNaN(v) || math.IsInf(v, 0)) {
		return fmt.Sprintf("is %g, which JSON cannot hold: map the column to a field of the schema", v)
	}
	return ""
}

func badText(s string, most int) string {
	switch {
	case len(s) > most:
		return fmt.Sprintf("has %d bytes; the field holds %d", len(s), most)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	}
	return ""
}

// badJSON is stricter for a field of the schema: the server takes objects there only.
func badJSON(s string, dynamic bool) string {
	switch {
	case len(s) > maxJSON:
		return fmt.Sprintf("has %d bytes; Milvus holds %d of JSON", len(s), maxJSON)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case !json.Valid([]byte(s)):
		return "is not JSON, or is nested too deeply"
	case !dynamic && !strings.HasPrefix(strings.TrimLeft(s, " \t\r\n"), "{"):
		return "is not a JSON object, which a JSON field of Milvus must be: map the column to a dynamic field"
	case hugeNumber(s):
		return "holds a number beyond 1.8e308, which Milvus refuses"
	}
	return ""
}

// hugeNumber reports whether valid JSON holds a number that no double can: the server
// decodes the dynamic field and refuses it. The decoding is only paid for by texts
// that could hold one.
func hugeNumber(s string) bool {
	if !couldBeHuge(s) {
		return false
	}
	var v any
	return json.Unmarshal([]byte(s), &v) != nil
}

// couldBeHuge looks for an exponent, or for as many digits as 1.8e308 has.
func couldBeHuge(s string) bool {
	digits := 0
	for i := range len(s) {
		c := s[i]
		if '0' <= c && c <= '9' {
			digits++
			continue
		}
		if digits > 308 || digits > 0 && (c == 'e' || c == 'E') {
			return true
		}
		digits = 0
	}
	return digits > 308
}

func badVector(v []float32, dim int) string {
	if len(v) != dim {
		return fmt.Sprintf("has %d dimensions; the collection has %d", len(v), dim)
	}
	for i, x := range v {
		// The exponent is all ones: NaN or an infinity.
		if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
			return fmt.Sprintf("element %d is %g", i, x)
		}
	}
	return ""
}

// dynamicBytes returns the size of the dynamic field, or less than maxJSON if it
// cannot reach that.
func (l *layout) dynamicBytes(r vecferry.Row) int {
	most := 2
	for _, d := range l.dynamic {
		v := r.Values[d.index]
		const number, escaped = 26, 6
		most += len(d.prefix) + 3 + number
		if v.Kind() == vecferry.JSON {
			most += len(v.Text())
		} else {
			most += escaped * len(v.Text())
		}
	}
	if most <= maxJSON {
		return most
	}
	return len(l.appendDynamic(nil, r))
}
