package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

func outputText(dst, b []byte) ([]byte, error) { return append(dst, b...), nil }

// trimPadding takes the blanks off a char(n), which mean nothing.
func trimPadding(out []byte) []byte { return bytes.TrimRight(out, " ") }

// outputJSONB prints the text after its version byte.
func outputJSONB(dst, b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != 1 {
		return dst, corruptf("jsonb of an unknown version, %d bytes", len(b))
	}
	return append(dst, b[1:]...), nil
}

func outputBytea(dst, b []byte) ([]byte, error) {
	return hex.AppendEncode(append(dst, `\x`...), b), nil
}

// castBytea turns \x... into base64. Sessions set bytea_output to hex.
func castBytea(out []byte) []byte {
	raw, err := hex.DecodeString(string(bytes.TrimPrefix(out, []byte(`\x`))))
	if err != nil {
		return out
	}
	return base64.StdEncoding.AppendEncode(nil, raw)
}

func outputUUID(dst, b []byte) ([]byte, error) {
	if len(b) != 16 {
		return dst, corruptf("uuid of %d bytes", len(b))
	}
	dst = append(hex.AppendEncode(dst, b[:4]), '-')
	dst = append(hex.AppendEncode(dst, b[4:6]), '-')
	dst = append(hex.AppendEncode(dst, b[6:8]), '-')
	dst = append(hex.AppendEncode(dst, b[8:10]), '-')
	return hex.AppendEncode(dst, b[10:]), nil
}

func outputMAC(dst, b []byte) ([]byte, error) {
	if len(b) != 6 && len(b) != 8 {
		return dst, corruptf("MAC address of %d bytes", len(b))
	}
	for i, x := range b {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = hex.AppendEncode(dst, []byte{x})
	}
	return dst, nil
}

// outputInet prints an address; its mask only if it is not the whole.
func outputInet(dst, b []byte) ([]byte, error) {
	if len(b) < 4 || len(b) != 4+int(b[3]) || (b[3] != 4 && b[3] != 16) {
		return dst, corruptf("network address of %d bytes", len(b))
	}
	if b[3] == 4 {
		dst = appendIPv4(dst, b[4:])
	} else {
		dst = appendIPv6(dst, b[4:])
	}
	if int(b[1]) == 8*int(b[3]) {
		return dst, nil
	}
	return strconv.AppendInt(append(dst, '/'), int64(b[1]), 10), nil
}

func outputCIDR(dst, b []byte) ([]byte, error) {
	start := len(dst)
	dst, err := outputInet(dst, b)
	if err != nil {
		return dst, err
	}
	return append(dst[:start], castInet(dst[start:])...), nil
}

// castInet adds the mask that the output function leaves out.
func castInet(out []byte) []byte {
	switch {
	case bytes.IndexByte(out, '/') >= 0:
		return out
	case bytes.IndexByte(out, ':') >= 0:
		return append(bytes.Clone(out), "/128"...)
	}
	return append(bytes.Clone(out), "/32"...)
}

func appendIPv4(dst, b []byte) []byte {
	for i, x := range b[:4] {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendUint(dst, uint64(x), 10)
	}
	return dst
}

// appendIPv6 shortens the longest run of zeros and writes an embedded IPv4
// address with dots (PostgreSQL source, inet_net_ntop.c).
func appendIPv6(dst, b []byte) []byte {
	from, to := longestZeros(b)
	for i := range 8 {
		switch {
		case i == from:
			dst = append(dst, ':')
			fallthrough
		case i > from && i < to:
			continue
		case i > 0:
			dst = append(dst, ':')
		}
		if i == 6 && embedsIPv4(b, from, to) {
			return appendIPv4(dst, b[12:])
		}
		dst = strconv.AppendUint(dst, uint64(word(b, i)), 16)
	}
	if to == 8 {
		dst = append(dst, ':')
	}
	return dst
}

func word(b []byte, i int) uint16 { return binary.BigEndian.Uint16(b[2*i:]) }

func embedsIPv4(b []byte, from, to int) bool {
	return from == 0 && (to == 6 || to == 5 && word(b, 5) == 0xffff)
}

// longestZeros returns the first longest run of at least two zero words, or
// -1, -1.
func longestZeros(b []byte) (from, to int) {
	from, to = -1, -1
	for i := 0; i < 8; i++ {
		j := i
		for j < 8 && word(b, j) == 0 {
			j++
		}
		if j-i >= 2 && j-i > to-from {
			from, to = i, j
		}
		i = j
	}
	return from, to
}
