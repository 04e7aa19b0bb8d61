package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// vectors are random unit vectors in one block of memory.
type vectors struct {
	dim  int
	data []float32
}

// newVectors makes the same vectors for the same arguments.
func newVectors(n, dim int) *vectors {
	r := rand.New(rand.NewPCG(1536, 20))
	v := &vectors{dim: dim, data: make([]float32, n*dim)}
	for i := range n {
		row, square := v.data[i*dim:(i+1)*dim], 0.0
		for j := range row {
			x := r.NormFloat64()
			row[j], square = float32(x), square+x*x
		}
		length := float32(math.Sqrt(square))
		for j := range row {
			row[j] /= length
		}
	}
	return v
}

func (v *vectors) len() int { return len(v.data) / v.dim }

// at returns the vector of a key in a version of its row. Versions of one key, and
// keys of one version, have different ones.
func (v *vectors) at(key int64, version int) []float32 {
	i := int((key + int64(version)*7919) % int64(v.len()))
	return v.data[i*v.dim : (i+1)*v.dim]
}

// row is one row of the table, known without asking anybody.
type row struct {
	key     int64
	version int // of its vector
	title   int // of its title
}

func titleOf(key int64, version int) string {
	return "document " + strconv.FormatInt(key, 10) + ", edition " + strconv.Itoa(version)
}

func metaOf(key int64) string {
	return `{"lang": "en", "words": ` + strconv.FormatInt(100+key%900, 10) + `}`
}

// rowsFrom returns n rows with keys from first on.
func rowsFrom(first int64, n, version int) []row {
	out := make([]row, n)
	for i := range out {
		out[i] = row{key: first + int64(i), version: version, title: version}
	}
	return out
}

// createTable makes an empty table.
func (b *bench) createTable(ctx context.Context, name string, dim int) error {
	return b.exec(ctx, fmt.Sprintf("create table %s (id bigint primary key, title text not null, meta jsonb, v vector(%d) not null)", name, dim))
}

// load copies rows into a table, in one transaction.
func (b *bench) load(ctx context.Context, table string, v *vectors, rows []row) error {
	read, write := io.Pipe()
	go func() { _ = write.CloseWithError(encodeRows(write, v, rows)) }()
	_, err := b.db.PgConn().CopyFrom(ctx, read, fmt.Sprintf("copy %s (id, title, meta, v) from stdin binary", pgx.Identifier{table}.Sanitize()))
	_ = read.CloseWithError(err) // ends the writer if the server gave up
	if err != nil {
		return fmt.Errorf("load %s: %w", table, err)
	}
	return nil
}

// encodeRows writes PostgreSQL's binary COPY format.
func encodeRows(w io.Writer, v *vectors, rows []row) error {
	buf := append([]byte("PGCOPY\n\xff\r\n\x00"), make([]byte, 8)...)
	for i, r := range rows {
		buf = appendRow(buf, v, r)
		if len(buf) > 1<<20 || i == len(rows)-1 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err := w.Write([]byte{0xff, 0xff})
	return err
}

func appendRow(buf []byte, v *vectors, r row) []byte {
	be := binary.BigEndian
	buf = be.AppendUint16(buf, 4)
	buf = be.AppendUint64(be.AppendUint32(buf, 8), uint64(r.key))
	buf = appendText(buf, titleOf(r.key, r.title))
	buf = appendText(buf, "\x01"+metaOf(r.key)) // jsonb, version 1
	buf = be.AppendUint32(buf, uint32(4+4*v.dim))
	buf = be.AppendUint16(be.AppendUint16(buf, uint16(v.dim)), 0)
	for _, x := range v.at(r.key, r.version) {
		buf = be.AppendUint32(buf, math.Float32bits(x))
	}
	return buf
}

func appendText(buf []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(s))), s...)
}
