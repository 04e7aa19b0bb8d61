package postgres

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/vecferry/vecferry"
)

// appendJSON appends an element of an array as JSON: numbers as numbers,
// timestamps as microseconds since 1970, everything else as its text.
func (f family) appendJSON(dst []byte, c vecferry.Column) ([]byte, error) {
	if c.Kind == vecferry.ColumnNull {
		return append(dst, "null"...), nil
	}
	if f.json == jsonMicros {
		v, err := readMicros(c)
		return strconv.AppendInt(dst, v, 10), err
	}
	if f.json == jsonString {
		text, err := f.text(nil, c)
		if err != nil {
			return dst, err
		}
		return appendJSONString(dst, text)
	}
	start := len(dst)
	dst, err := f.text(dst, c)
	if err == nil && f.json == jsonNumber && !json.Valid(dst[start:]) {
		err = valueError(fmt.Sprintf("JSON has no number %s", dst[start:]))
	}
	return dst, err
}

// appendJSONString quotes text and leaves all letters as they are.
func appendJSONString(dst, text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return dst, valueError("text is not UTF-8")
	}
	dst = append(dst, '"')
	for _, b := range text {
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < 0x20:
			dst = fmt.Appendf(dst, `\u%04x`, b)
		default:
			dst = append(dst, b)
		}
	}
	return append(dst, '"'), nil
}
