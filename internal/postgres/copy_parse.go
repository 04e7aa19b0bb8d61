package postgres

import (
	"bytes"
	"encoding/binary"

	"github.com/vecferry/vecferry"
)

const (
	copySignature  = "PGCOPY\n\xff\r\n\x00"
	copyHeaderSize = len(copySignature) + 4 + 4 // flags, length of an extension
)

// A copyParser takes the stream of COPY in binary format in pieces of any size
// and hands out rows (PostgreSQL manual, "COPY", Binary Format). The columns of
// a row alias the stream: they are valid during the call only.
type copyParser struct {
	row func(cols []vecferry.Column) error

	cols    []vecferry.Column
	rest    []byte // the beginning of a row whose end is not here yet
	started bool
	done    bool
	bytes   int64
}

// Write implements io.Writer.
func (p *copyParser) Write(b []byte) (int, error) {
	p.bytes += int64(len(b))
	in := b
	if len(p.rest) > 0 {
		p.rest = append(p.rest, b...)
		in = p.rest
	}
	used, err := p.consume(in)
	if err != nil {
		return 0, err
	}
	p.rest = append(p.rest[:0], in[used:]...)
	return len(b), nil
}

// close reports whether the stream came to its end.
func (p *copyParser) close() error {
	if !p.done || len(p.rest) != 0 {
		return corruptf("COPY ended in the middle of its data")
	}
	return nil
}

// consume parses as many whole rows as there are.
func (p *copyParser) consume(in []byte) (used int, err error) {
	if !p.started {
		if used, err = copyHeader(in); used == 0 || err != nil {
			return 0, err
		}
		p.started = true
	}
	for {
		n, err := p.parseRow(in[used:])
		if n == 0 || err != nil {
			return used, err
		}
		used += n
	}
}

// copyHeader returns the size of the header, 0 if it is not all here.
func copyHeader(in []byte) (int, error) {
	if len(in) < copyHeaderSize {
		return 0, nil
	}
	if !bytes.HasPrefix(in, []byte(copySignature)) {
		return 0, corruptf("COPY does not start with its signature")
	}
	size := copyHeaderSize + int(binary.BigEndian.Uint32(in[copyHeaderSize-4:]))
	if len(in) < size {
		return 0, nil
	}
	return size, nil
}

// parseRow handles the first row of in and returns its size, 0 if it is not all
// here. A count of -1 is the end.
func (p *copyParser) parseRow(in []byte) (int, error) {
	if p.done && len(in) > 0 {
		return 0, corruptf("COPY goes on after its end")
	}
	if len(in) < 2 {
		return 0, nil
	}
	count := int(int16(binary.BigEndian.Uint16(in)))
	if count == -1 {
		p.done = true
		return 2, nil
	}
	at := 2
	p.cols = p.cols[:0]
	for range count {
		if len(in)-at < 4 {
			return 0, nil
		}
		size := int(int32(binary.BigEndian.Uint32(in[at:])))
		at += 4
		if size < 0 {
			p.cols = append(p.cols, vecferry.Column{Kind: vecferry.ColumnNull})
			continue
		}
		if len(in)-at < size {
			return 0, nil
		}
		p.cols = append(p.cols, vecferry.Column{Kind: vecferry.ColumnBinary, Data: in[at : at+size]})
		at += size
	}
	return at, p.row(p.cols)
}
