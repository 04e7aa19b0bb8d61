package postgres

import (
	"encoding/binary"
	"strconv"

	"github.com/vecferry/vecferry"
)

// maxDimensions is MAXDIM of the server.
const maxDimensions = 6

// An arrayHeader is what stands before the elements of an array on the wire:
// int32 dimensions, int32 whether there are NULLs, the element's type, then for
// each dimension int32 length and int32 lower bound.
type arrayHeader struct {
	lengths []int
	lower   []int
	body    []byte
}

func readArrayHeader(b []byte) (arrayHeader, error) {
	if len(b) < 12 {
		return arrayHeader{}, corruptf("array of %d bytes", len(b))
	}
	n := int(int32(binary.BigEndian.Uint32(b)))
	if n < 0 || n > maxDimensions || len(b) < 12+8*n {
		return arrayHeader{}, corruptf("array of %d dimensions in %d bytes", n, len(b))
	}
	h := arrayHeader{body: b[12+8*n:]}
	elements := 1
	for i := range n {
		length := int(int32(binary.BigEndian.Uint32(b[12+8*i:])))
		elements *= length
		if length < 1 || elements > len(h.body)/4 { // each has a length of 4 bytes at least
			return arrayHeader{}, corruptf("array of %d elements in %d bytes", elements, len(b))
		}
		h.lengths = append(h.lengths, length)
		h.lower = append(h.lower, int(int32(binary.BigEndian.Uint32(b[16+8*i:]))))
	}
	return h, nil
}

// An arrayWriter walks the elements and prints them in brackets.
type arrayWriter struct {
	open, close byte
	element     func(dst []byte, c vecferry.Column) ([]byte, error)
	body        []byte
}

func (w *arrayWriter) write(dst []byte, lengths []int) ([]byte, error) {
	if len(lengths) == 0 {
		return w.next(dst)
	}
	dst = append(dst, w.open)
	for i := range lengths[0] {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = w.write(dst, lengths[1:]); err != nil {
			return dst, err
		}
	}
	return append(dst, w.close), nil
}

// next prints one element.
func (w *arrayWriter) next(dst []byte) ([]byte, error) {
	if len(w.body) < 4 {
		return dst, corruptf("array is cut off")
	}
	size := int(int32(binary.BigEndian.Uint32(w.body)))
	w.body = w.body[4:]
	if size == -1 {
		return w.element(dst, vecferry.Column{Kind: vecferry.ColumnNull})
	}
	if size < 0 || size > len(w.body) {
		return dst, corruptf("array element of %d bytes, %d are left", size, len(w.body))
	}
	c := vecferry.Column{Kind: vecferry.ColumnBinary, Data: w.body[:size]}
	w.body = w.body[size:]
	return w.element(dst, c)
}

// arrayJSON prints an array in either format as nested JSON arrays.
func (f family) arrayJSON(c vecferry.Column) ([]byte, error) {
	if c.Kind == vecferry.ColumnText {
		p := arrayParser{in: c.Data, element: f.appendJSON}
		return p.parse()
	}
	h, err := readArrayHeader(c.Data)
	if err != nil {
		return nil, err
	}
	if len(h.lengths) == 0 {
		return []byte("[]"), nil
	}
	w := arrayWriter{open: '[', close: ']', element: f.appendJSON, body: h.body}
	return w.write(nil, h.lengths)
}

// arrayText prints an array as the server does (array_out).
func (f family) arrayText(c vecferry.Column) ([]byte, error) {
	if c.Kind == vecferry.ColumnText {
		return c.Data, nil
	}
	h, err := readArrayHeader(c.Data)
	if err != nil {
		return nil, err
	}
	if len(h.lengths) == 0 {
		return []byte("{}"), nil
	}
	w := arrayWriter{open: '{', close: '}', element: f.appendElement, body: h.body}
	return w.write(h.bounds(nil), h.lengths)
}

// bounds prints [2:4]= for arrays that do not start at 1.
func (h arrayHeader) bounds(dst []byte) []byte {
	plain := true
	for _, l := range h.lower {
		plain = plain && l == 1
	}
	if plain {
		return dst
	}
	for i, l := range h.lower {
		dst = strconv.AppendInt(append(dst, '['), int64(l), 10)
		dst = strconv.AppendInt(append(dst, ':'), int64(l+h.lengths[i]-1), 10)
		dst = append(dst, ']')
	}
	return append(dst, '=')
}

// appendElement prints one element, quoted where it could be misread.
func (f family) appendElement(dst []byte, c vecferry.Column) ([]byte, error) {
	if c.Kind == vecferry.ColumnNull {
		return append(dst, "NULL"...), nil
	}
	start := len(dst)
	dst, err := f.print(dst, c)
	if err != nil || !needsQuotes(dst[start:]) {
		return dst, err
	}
	text := string(dst[start:])
	dst = append(dst[:start], '"')
	for i := range len(text) {
		if text[i] == '"' || text[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, text[i])
	}
	return append(dst, '"'), nil
}

func needsQuotes(s []byte) bool {
	if len(s) == 0 || isNullWord(s) {
		return true
	}
	for _, b := range s {
		switch b {
		case '"', '\\', '{', '}', ',', ' ', '\t', '\n', '\r', '\v', '\f':
			return true
		}
	}
	return false
}

func isNullWord(s []byte) bool {
	return len(s) == 4 && s[0]|0x20 == 'n' && s[1]|0x20 == 'u' && s[2]|0x20 == 'l' && s[3]|0x20 == 'l'
}
