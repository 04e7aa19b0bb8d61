package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/vecferry/vecferry"
)

// vectorConverter reads int16 dimension, int16 0 and that many big-endian
// float4, or the print [1,2,3] (pgvector, src/vector.c).
func vectorConverter(dim int) converter {
	return func(c vecferry.Column) (vecferry.Value, error) {
		read := readVector
		if c.Kind == vecferry.ColumnText {
			read = parseVector
		}
		v, err := read(c.Data)
		if err == nil && len(v) != dim {
			err = valueError(fmt.Sprintf("vector has %d dimensions, the collection has %d", len(v), dim))
		}
		return vecferry.VectorValue(v), err
	}
}

func readVector(b []byte) ([]float32, error) {
	if len(b) < 4 || len(b) != 4+4*int(binary.BigEndian.Uint16(b)) {
		return nil, corruptf("vector of %d bytes", len(b))
	}
	out := make([]float32, len(b)/4-1)
	b, rest := b[4:], out
	for len(b) >= 8 && len(rest) >= 2 { // two at a time: half the loads
		two := binary.BigEndian.Uint64(b)
		rest[0] = math.Float32frombits(uint32(two >> 32))
		rest[1] = math.Float32frombits(uint32(two))
		b, rest = b[8:], rest[2:]
	}
	if len(b) >= 4 && len(rest) >= 1 {
		rest[0] = math.Float32frombits(binary.BigEndian.Uint32(b))
	}
	return out, nil
}

func parseVector(b []byte) ([]float32, error) {
	if len(b) < 3 || b[0] != '[' || b[len(b)-1] != ']' {
		return nil, corruptf("vector in text of %d bytes", len(b))
	}
	parts := bytes.Split(b[1:len(b)-1], []byte(","))
	out := make([]float32, len(parts))
	for i, p := range parts {
		v, err := strconv.ParseFloat(string(p), 32)
		if err != nil {
			return nil, corruptf("vector element %q", p)
		}
		out[i] = float32(v)
	}
	return out, nil
}
