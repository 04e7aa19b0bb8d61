package milvus

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/vecferry/vecferry"
)

// The dynamic field of an entity is one JSON object. Milvus keeps its bytes as they
// are sent, so the text of a JSON value survives to the last blank, and an int64
// never becomes a double. A NULL has no key.

// appendDynamic appends the dynamic field of a row that passed check.
func (l *layout) appendDynamic(dst []byte, r vecferry.Row) []byte {
	dst = append(dst, '{')
	first := true
	for _, d := range l.dynamic {
		v := r.Values[d.index]
		if v.IsNull() {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, d.prefix...)
		dst = appendValue(dst, v, l.table.Fields[d.index].Type)
	}
	return append(dst, '}')
}

// appendValue appends one value as JSON.
func appendValue(dst []byte, v vecferry.Value, t vecferry.FieldType) []byte {
	switch v.Kind() {
	case vecferry.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case vecferry.Int:
		return strconv.AppendInt(dst, v.Int(), 10)
	case vecferry.Float:
		return appendFloat(dst, v.Float(), floatBits(t))
	case vecferry.Text:
		return appendString(dst, v.Text())
	}
	return append(dst, v.Text()...) // JSON
}

// floatBits is how many bits a float of a field has, which decides its shortest text.
func floatBits(t vecferry.FieldType) int {
	if t == vecferry.FieldFloat {
		return 32
	}
	return 64
}

// appendFloat appends the shortest text that reads back as the same bits.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if f == 0 && math.Signbit(f) {
		return append(dst, "-0.0"...) // "-0" is an integer to most readers
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// appendString appends text as a JSON string. Only what must be escaped is.
func appendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		if c < 0x20 {
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, '\\', c)
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// readDynamic sets the dynamic values of a row from a dynamic field. Keys that are
// not mapped are passed over; a field without a key becomes NULL. It returns false
// if the bytes are no JSON object.
func (l *layout) readDynamic(text string, values []vecferry.Value) bool {
	for _, d := range l.dynamic {
		values[d.index] = vecferry.NullValue()
	}
	s := scanner{rest: text}
	return s.object(func(key, raw string) {
		for _, d := range l.dynamic {
			if f := &l.table.Fields[d.index]; f.Name == key {
				values[d.index] = parseValue(raw, f.Type)
				return
			}
		}
	})
}

// parseValue is the inverse of appendValue. What is not of the field's type, because
// somebody else wrote it, comes back as JSON, which equals no value of that type.
func parseValue(raw string, t vecferry.FieldType) vecferry.Value {
	if t == vecferry.FieldJSON {
		return vecferry.JSONValue(raw)
	}
	text := strings.Trim(raw, " \t\r\n")
	if text == "null" {
		return vecferry.NullValue()
	}
	switch t {
	case vecferry.FieldBool:
		if text == "true" || text == "false" {
			return vecferry.BoolValue(text == "true")
		}
	case vecferry.FieldInt16, vecferry.FieldInt32, vecferry.FieldInt64:
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			return vecferry.IntValue(v)
		}
	case vecferry.FieldFloat, vecferry.FieldDouble:
		if v, err := strconv.ParseFloat(text, floatBits(t)); err == nil {
			return vecferry.FloatValue(v)
		}
	case vecferry.FieldVarChar:
		if v, ok := unquote(text); ok {
			return vecferry.TextValue(v)
		}
	}
	return vecferry.JSONValue(raw)
}

// unquote returns the text of a JSON string.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", false
	}
	if body := s[1 : len(s)-1]; strings.IndexByte(body, '\\') < 0 {
		return body, true
	}
	var out string
	err := json.Unmarshal([]byte(s), &out)
	return out, err == nil
}

// scanner cuts the top level of a JSON object into keys and raw values. It does not
// judge what is inside a value: the server did.
type scanner struct {
	rest string
}

// object calls each for every key. An object of null counts as empty: Milvus takes it.
func (s *scanner) object(each func(key, raw string)) bool {
	s.blanks()
	if strings.TrimRight(s.rest, " \t\r\n") == "null" {
		return true
	}
	if !s.take('{') {
		return false
	}
	s.blanks()
	if s.take('}') {
		return true
	}
	for {
		s.blanks()
		key, ok := unquote(s.rest[:s.quoted()])
		s.rest = s.rest[s.quoted():]
		s.blanks()
		if !ok || !s.take(':') {
			return false
		}
		n := s.value()
		each(key, s.rest[:n])
		s.rest = s.rest[n:]
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

func (s *scanner) blanks() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

func (s *scanner) take(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// quoted returns the length of the string that rest starts with, 0 if none.
func (s *scanner) quoted() int {
	if s.rest == "" || s.rest[0] != '"' {
		return 0
	}
	for i := 1; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// value returns the length up to the comma or brace that ends the value at rest.
func (s *scanner) value() int {
	depth := 0
	for i := 0; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '"':
			n := (&scanner{rest: s.rest[i:]}).quoted()
			if n == 0 {
				return len(s.rest)
			}
			i += n - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return len(s.rest)
}
