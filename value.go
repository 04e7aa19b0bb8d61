package vecferry

import (
	"math"
	"slices"
)

// Kind says what a Value holds.
type Kind uint8

// The kinds. The zero Value is Absent: PostgreSQL did not send it because it
// did not change, which is never the same as NULL.
const (
	Absent Kind = iota
	Null
	Bool
	Int
	Float
	Text
	JSON
	Vector
)

// Value is one column of a row in a form that neither store owns. It is
// immutable; the slice of a vector and the bytes of a text are shared, not
// copied.
type Value struct {
	kind Kind
	bits uint64 // Bool: 0 or 1; Int: two's complement; Float: IEEE 754 bits
	text string // Text, JSON
	vec  []float32
}

// NullValue is SQL NULL.
func NullValue() Value { return Value{kind: Null} }

// BoolValue holds a boolean.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: Bool, bits: 1}
	}
	return Value{kind: Bool}
}

// IntValue holds an integer of up to 64 bits.
func IntValue(v int64) Value { return Value{kind: Int, bits: uint64(v)} }

// FloatValue holds a float of up to 64 bits.
func FloatValue(v float64) Value { return Value{kind: Float, bits: math.Float64bits(v)} }

// TextValue holds text.
func TextValue(s string) Value { return Value{kind: Text, text: s} }

// JSONValue holds JSON text, kept as it was written.
func JSONValue(s string) Value { return Value{kind: JSON, text: s} }

// VectorValue holds a dense float32 vector.
func VectorValue(v []float32) Value { return Value{kind: Vector, vec: v} }

// Kind says what the value holds.
func (v Value) Kind() Kind { return v.kind }

// IsAbsent reports whether the value was not sent.
func (v Value) IsAbsent() bool { return v.kind == Absent }

// IsNull reports whether the value is SQL NULL.
func (v Value) IsNull() bool { return v.kind == Null }

// Bool returns the boolean of a Bool.
func (v Value) Bool() bool { return v.bits != 0 }

// Int returns the integer of an Int.
func (v Value) Int() int64 { return int64(v.bits) }

// Float returns the float of a Float.
func (v Value) Float() float64 { return math.Float64frombits(v.bits) }

// Text returns the text of a Text or a JSON.
func (v Value) Text() string { return v.text }

// Vector returns the elements of a Vector.
func (v Value) Vector() []float32 { return v.vec }

// Equal reports whether two values are the same bit for bit; NaN equals the
// same NaN, and 0 does not equal -0.
func (v Value) Equal(o Value) bool {
	return v.kind == o.kind && v.bits == o.bits && v.text == o.text &&
		slices.EqualFunc(v.vec, o.vec, func(a, b float32) bool {
			return math.Float32bits(a) == math.Float32bits(b)
		})
}

// A Row is one row of a table as the target keeps it: Values[i] belongs to
// Fields[i] of the table.
type Row struct {
	Key      Key
	Position Position // of the change, or of the LOW mark of the chunk, that wrote it
	Values   []Value
}

// Complete reports whether every value is there.
func (r Row) Complete() bool {
	return !slices.ContainsFunc(r.Values, Value.IsAbsent)
}

// MergeOnto returns the row with each absent value taken from base, which must
// stand exactly where this change found it.
func (r Row) MergeOnto(base Row) Row {
	out := Row{Key: r.Key, Position: r.Position, Values: slices.Clone(r.Values)}
	for i, v := range out.Values {
		if v.IsAbsent() {
			out.Values[i] = base.Values[i]
		}
	}
	return out
}
