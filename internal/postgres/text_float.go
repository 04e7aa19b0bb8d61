package postgres

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
)

// readFloat reads float4 or float8 and returns its size in bits.
func readFloat(b []byte) (v float64, bits int, err error) {
	switch len(b) {
	case 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b))), 32, nil
	case 8:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), 64, nil
	}
	return 0, 0, corruptf("float of %d bytes", len(b))
}

// outputFloat prints the shortest digits that read back as the same number, as
// the server does since version 12. It turns to exponents from 1e15 (float8) or
// 1e6 (float4) on and below 1e-4.
func outputFloat(dst, b []byte) ([]byte, error) {
	v, bits, err := readFloat(b)
	switch {
	case err != nil:
		return dst, err
	case math.IsNaN(v):
		return append(dst, "NaN"...), nil
	case math.IsInf(v, 1):
		return append(dst, "Infinity"...), nil
	case math.IsInf(v, -1):
		return append(dst, "-Infinity"...), nil
	}
	if math.Signbit(v) {
		dst, v = append(dst, '-'), -v
	}
	return appendFloat(dst, v, bits), nil
}

func appendFloat(dst []byte, v float64, bits int) []byte {
	digits := shortestDigits(v, bits)
	exp := exponent(digits)
	if exp < -4 || exp >= fixedDigits(bits) {
		return append(dst, digits...)
	}
	digits = digits[:bytes.IndexByte(digits, 'e')]
	if exp < 0 {
		dst = append(dst, "0.0000"[:1-exp]...)
		return append(append(dst, digits[0]), digits[min(2, len(digits)):]...)
	}
	dst = append(dst, digits[0])
	digits = digits[min(2, len(digits)):]
	for range exp {
		next := byte('0')
		if len(digits) > 0 {
			next, digits = digits[0], digits[1:]
		}
		dst = append(dst, next)
	}
	if len(digits) > 0 {
		dst = append(append(dst, '.'), digits...)
	}
	return dst
}

func fixedDigits(bits int) int {
	if bits == 32 {
		return 6
	}
	return 15
}

// exponent reads the decimal exponent of a number such as 1.5e-07.
func exponent(s []byte) int {
	i := len(s) - 1
	for s[i] != 'e' {
		i--
	}
	exp, _ := strconv.Atoi(string(s[i+1:])) // strconv wrote it
	return exp
}

// firstTie is below the first number whose shortest digits can lie exactly half
// way to the next number: further down that takes more digits than there are.
func firstTie(bits int) float64 {
	if bits == 32 {
		return 1 << 22
	}
	return 1 << 51
}

// shortestDigits returns the digits that the server chooses, as d.ddde+dd. They
// differ from Go's in two cases. Go takes digits that lie half way to the next
// number if reading them rounds to v; the server does not count on how they are
// rounded. And between two that are equally near the server takes the even one
// (PostgreSQL source, d2s.c and f2s.c: acceptBounds, vrIsTrailingZeros).
func shortestDigits(v float64, bits int) []byte {
	digits := strconv.AppendFloat(nil, v, 'e', -1, bits)
	precision := max(bytes.IndexByte(digits, 'e')-2, 0)
	even := strconv.AppendFloat(nil, v, 'e', precision, bits)
	if v < firstTie(bits) && bytes.Equal(digits, even) {
		return digits
	}
	near := newNearest(v, bits)
	for ; precision < 20; precision++ { // exact long before
		even = strconv.AppendFloat(even[:0], v, 'e', precision, bits)
		if near.holds(even) {
			return even
		}
		if near.holds(digits) {
			return digits
		}
	}
	return digits
}

// nearest is the open interval of what lies nearer to a number than to any
// other.
type nearest struct{ low, high *big.Rat }

func newNearest(v float64, bits int) nearest {
	below, above := math.Nextafter(v, 0), math.Nextafter(v, math.Inf(1))
	if bits == 32 {
		below = float64(math.Nextafter32(float32(v), 0))
		above = float64(math.Nextafter32(float32(v), float32(math.Inf(1))))
	}
	at, half := new(big.Rat).SetFloat64(v), big.NewRat(1, 2)
	low := new(big.Rat).SetFloat64(below)
	low.Mul(low.Add(low, at), half)
	high := new(big.Rat).SetFloat64(above)
	if high == nil { // v is the largest: the next would be as far above as the last below
		high = new(big.Rat).Sub(new(big.Rat).Add(at, at), low)
		return nearest{low, high}
	}
	return nearest{low, high.Mul(high.Add(high, at), half)}
}

func (n nearest) holds(digits []byte) bool {
	d, ok := new(big.Rat).SetString(string(digits))
	return ok && d.Cmp(n.low) > 0 && d.Cmp(n.high) < 0
}
