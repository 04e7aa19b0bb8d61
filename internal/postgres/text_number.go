package postgres

import (
	"encoding/binary"
	"strconv"
)

func outputBool(dst, b []byte) ([]byte, error) {
	if len(b) != 1 {
		return dst, corruptf("bool of %d bytes", len(b))
	}
	if b[0] != 0 {
		return append(dst, 't'), nil
	}
	return append(dst, 'f'), nil
}

func castBool(out []byte) []byte {
	if string(out) == "t" {
		return []byte("true")
	}
	return []byte("false")
}

// readInt reads int2, int4 or int8.
func readInt(b []byte) (int64, error) {
	switch len(b) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(b))), nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case 8:
		return int64(binary.BigEndian.Uint64(b)), nil
	}
	return 0, corruptf("integer of %d bytes", len(b))
}

func outputInt(dst, b []byte) ([]byte, error) {
	v, err := readInt(b)
	if err != nil {
		return dst, err
	}
	return strconv.AppendInt(dst, v, 10), nil
}

// The signs of a numeric on the wire (PostgreSQL source, numeric.c).
const (
	numericPositive = 0x0000
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericInf      = 0xD000
	numericNegInf   = 0xF000
)

// outputNumeric prints int16 count, int16 weight, uint16 sign, int16 scale and
// then count digits to the base of 10000, the first worth 10000^weight.
func outputNumeric(dst, b []byte) ([]byte, error) {
	if len(b) < 8 {
		return dst, corruptf("numeric of %d bytes", len(b))
	}
	n := numeric{
		weight: int(int16(binary.BigEndian.Uint16(b[2:]))),
		scale:  int(binary.BigEndian.Uint16(b[6:])),
		digits: b[8:],
	}
	if len(n.digits) != 2*int(binary.BigEndian.Uint16(b)) {
		return dst, corruptf("numeric of %d bytes says it has %d digits", len(b), binary.BigEndian.Uint16(b))
	}
	switch binary.BigEndian.Uint16(b[4:]) {
	case numericPositive:
		return n.print(dst), nil
	case numericNegative:
		return n.print(append(dst, '-')), nil
	case numericNaN:
		return append(dst, "NaN"...), nil
	case numericInf:
		return append(dst, "Infinity"...), nil
	case numericNegInf:
		return append(dst, "-Infinity"...), nil
	}
	return dst, corruptf("numeric of unknown sign %#x", b[4:6])
}

type numeric struct {
	weight int
	scale  int // decimal digits after the point
	digits []byte
}

// at returns the four decimal digits that are worth 10000^weight.
func (n numeric) at(weight int) int {
	i := 2 * (n.weight - weight)
	if i < 0 || i >= len(n.digits) {
		return 0
	}
	return int(binary.BigEndian.Uint16(n.digits[i:]))
}

func (n numeric) print(dst []byte) []byte {
	dst = strconv.AppendInt(dst, int64(n.at(max(n.weight, 0))), 10)
	for w := n.weight - 1; w >= 0; w-- {
		dst = appendPadded(dst, n.at(w), 4)
	}
	if n.scale == 0 {
		return dst
	}
	dst = append(dst, '.')
	end := len(dst) + n.scale
	for w := -1; len(dst) < end; w-- {
		dst = appendPadded(dst, n.at(w), 4)
	}
	return dst[:end]
}

// appendPadded appends v >= 0 with at least width digits.
func appendPadded(dst []byte, v, width int) []byte {
	var buf [20]byte
	digits := strconv.AppendInt(buf[:0], int64(v), 10)
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}
