package vecferry

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// KeyType says how a table's key column is kept in the target.
type KeyType uint8

// The key types.
const (
	KeyInt  KeyType = iota + 1 // int2, int4, int8: an Int64 primary key
	KeyText                    // text, uuid and the like: a VarChar primary key
)

// String names the key type.
func (t KeyType) String() string {
	switch t {
	case KeyInt:
		return "int"
	case KeyText:
		return "text"
	}
	return "KeyType(" + strconv.Itoa(int(t)) + ")"
}

// Key is the primary key of a row in a form whose byte order is the key order:
// an integer is 8 bytes big-endian with the sign bit flipped, a text is its
// bytes. Text is compared by bytes whatever the collation of the column, which
// both PostgreSQL (~<~) and Milvus can do.
type Key string

// IntKey returns the key of an integer.
func IntKey(v int64) Key {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(v)^1<<63)
	return Key(b[:])
}

// Int returns the integer of a KeyInt key.
func (k Key) Int() int64 {
	if len(k) < 8 {
		return 0
	}
	var b [8]byte
	copy(b[:], k)
	return int64(binary.BigEndian.Uint64(b[:]) ^ 1<<63)
}

// Format returns the key as a person writes it.
func (k Key) Format(t KeyType) string {
	if t == KeyInt {
		return strconv.FormatInt(k.Int(), 10)
	}
	return string(k)
}

// MarshalText implements encoding.TextMarshaler by hexadecimal digits, so that
// a key survives JSON whatever its bytes are.
func (k Key) MarshalText() ([]byte, error) {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(k))
	for i := range len(k) {
		out = append(out, digits[k[i]>>4], digits[k[i]&15])
	}
	return out, nil
}

// UnmarshalText is the inverse of MarshalText.
func (k *Key) UnmarshalText(b []byte) error {
	if len(b)%2 != 0 {
		return corruptf("key %q has an odd number of digits", b)
	}
	out := make([]byte, len(b)/2)
	for i := range out {
		v, err := strconv.ParseUint(string(b[2*i:2*i+2]), 16, 8)
		if err != nil {
			return corruptf("key %q is not hexadecimal", b)
		}
		out[i] = byte(v)
	}
	*k = Key(out)
	return nil
}

// next is appended to a key to name its immediate successor in byte order.
// PostgreSQL's text never holds a zero byte and integers have 8 bytes, so no
// key ends in one by itself.
const next = "\x00"

// Range is the half-open interval of keys [Lo, Hi), or [Lo, end) if ToEnd.
type Range struct {
	Lo    Key  `json:"lo"`
	Hi    Key  `json:"hi,omitempty"`
	ToEnd bool `json:"to_end,omitempty"`
}

// Everything is the range of all keys.
func Everything() Range { return Range{ToEnd: true} }

// Only is the range of one key.
func Only(k Key) Range { return Range{Lo: k, Hi: k + next} }

// Single returns the key of a range that Only made.
func (r Range) Single() (Key, bool) { return r.Lo, !r.ToEnd && r.Hi == r.Lo+next }

// Empty reports whether no key is in the range.
func (r Range) Empty() bool { return !r.ToEnd && r.Hi <= r.Lo }

// Has reports whether a key is in the range.
func (r Range) Has(k Key) bool { return k >= r.Lo && (r.ToEnd || k < r.Hi) }

// Before reports whether the range ends at or before k.
func (r Range) Before(k Key) bool { return !r.ToEnd && r.Hi <= k }

// Overlaps reports whether two ranges share a key.
func (r Range) Overlaps(o Range) bool { return !r.Before(o.Lo) && !o.Before(r.Lo) }

// Intersect returns the keys that are in both ranges; it may be empty.
func (r Range) Intersect(o Range) Range {
	out := Range{Lo: max(r.Lo, o.Lo)}
	switch {
	case r.ToEnd:
		out.Hi, out.ToEnd = o.Hi, o.ToEnd
	case o.ToEnd:
		out.Hi = r.Hi
	default:
		out.Hi = min(r.Hi, o.Hi)
	}
	return out
}

// A Bound is one side of a range in the terms of a query: a comparison with a
// key that exists in the key's own type.
type Bound struct {
	Key       Key
	Inclusive bool // compare with >= or <= instead of > or <
}

// Lower returns the lower bound, or false if the range starts at the first key.
func (r Range) Lower(t KeyType) (Bound, bool) {
	if r.Lo == "" {
		return Bound{}, false
	}
	k, successor := cutNext(r.Lo, t)
	return Bound{Key: k, Inclusive: !successor}, true
}

// Upper returns the upper bound, or false if the range has no end.
func (r Range) Upper(t KeyType) (Bound, bool) {
	if r.ToEnd {
		return Bound{}, false
	}
	k, successor := cutNext(r.Hi, t)
	return Bound{Key: k, Inclusive: successor}, true
}

// cutNext splits a bound that is the successor of a key into that key.
func cutNext(k Key, t KeyType) (Key, bool) {
	if t == KeyInt && len(k) <= 8 {
		return k, false // the last byte of an integer may be zero
	}
	cut, ok := strings.CutSuffix(string(k), next)
	return Key(cut), ok
}
