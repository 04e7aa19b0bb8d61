package vecferry

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Op is the kind of a change.
type Op byte

// The operations, by their letters in the protocol of pgoutput.
const (
	OpInsert   Op = 'I'
	OpUpdate   Op = 'U'
	OpDelete   Op = 'D'
	OpTruncate Op = 'T'
	OpMark     Op = 'M'
)

// Tx is the transaction of a change.
type Tx struct {
	XID       XID
	CommitLSN LSN // of the commit record; EndLSN of the batch header lies after it
	Time      time.Time
}

// A Change is one record of a batch. Its slices alias the batch and live as
// long as that.
type Change struct {
	Position Position
	Tx       Tx
	LSN      LSN // of the change itself; several changes may share one
	Op       Op
	Relation *Relation // of an insert, update or delete
	Old      Tuple     // update and delete: the old key, or the whole old row under REPLICA IDENTITY FULL; may be nil
	OldWhole bool      // Old is a whole row
	New      Tuple     // insert and update
	Tables   []uint32  // truncate: OIDs
	Prefix   []byte    // mark
	Content  []byte    // mark
}

// Relation describes the columns of a table as they were when a change was
// written (PostgreSQL manual, "Logical Replication Message Formats", Relation).
type Relation struct {
	OID      uint32
	Schema   string
	Name     string
	Identity byte // d default, f full, i index, n nothing
	Columns  []RelationColumn
}

// RelationColumn is one column of a Relation.
type RelationColumn struct {
	Name   string
	Type   uint32
	Typmod int32
	Key    bool // part of the replica identity; every column has it under FULL
}

// The kinds of a tuple's column.
const (
	ColumnNull   = 'n' // NULL, or not sent in an old key
	ColumnAbsent = 'u' // unchanged TOAST value, not sent
	ColumnText   = 't'
	ColumnBinary = 'b'
)

// Column is one column of a tuple; Data aliases the tuple.
type Column struct {
	Kind byte
	Data []byte
}

// Tuple is a row as pgoutput sends it: int16 count, then for each column its
// kind and, if it has data, int32 length and bytes.
type Tuple []byte

// Columns appends the tuple's columns to dst[:0].
func (t Tuple) Columns(dst []Column) ([]Column, error) {
	dst = dst[:0]
	c := cursor{b: t}
	for range c.u16() {
		col := Column{Kind: c.u8()}
		if col.Kind == ColumnText || col.Kind == ColumnBinary {
			col.Data = c.take(int(c.u32()))
		}
		dst = append(dst, col)
	}
	if c.bad {
		return dst, corruptf("tuple of %d bytes is cut off", len(t))
	}
	return dst, nil
}

// cursor reads big-endian fields; once it runs out it stays bad and returns
// zeros, so that a decoder checks once at its end.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) cstring() []byte {
	i := bytes.IndexByte(c.b, 0)
	if i < 0 {
		c.bad, c.b = true, nil
		return nil
	}
	return c.take(i + 1)[:i]
}

// tuple takes one whole tuple.
func (c *cursor) tuple() Tuple {
	start := c.b
	for range c.u16() {
		if k := c.u8(); k == ColumnText || k == ColumnBinary {
			c.take(int(c.u32()))
		}
	}
	if c.bad {
		return nil
	}
	return Tuple(start[: len(start)-len(c.b) : len(start)-len(c.b)])
}

// ParseRelation decodes the body of a Relation message, with its leading 'R'.
func ParseRelation(b []byte) (*Relation, error) {
	c := cursor{b: b}
	if c.u8() != 'R' {
		return nil, corruptf("relation message starts with another letter than R")
	}
	r := &Relation{OID: c.u32(), Schema: string(c.cstring()), Name: string(c.cstring()), Identity: c.u8()}
	for range c.u16() {
		if c.bad {
			break
		}
		col := RelationColumn{Key: c.u8()&1 != 0, Name: string(c.cstring())}
		col.Type, col.Typmod = c.u32(), int32(c.u32())
		r.Columns = append(r.Columns, col)
	}
	if c.bad {
		return nil, corruptf("relation message of %d bytes is cut off", len(b))
	}
	if r.Schema == "" {
		r.Schema = "pg_catalog" // pgoutput leaves this one name out
	}
	return r, nil
}

// ParseMessage decodes one row, truncate or logical message of pgoutput,
// protocol version 1, into c without allocating. The relation is not set; its
// OID is returned.
func ParseMessage(b []byte, c *Change) (oid uint32, err error) {
	r := cursor{b: b}
	c.Op = Op(r.u8())
	c.Old, c.New, c.OldWhole = nil, nil, false
	switch c.Op {
	case OpInsert, OpUpdate, OpDelete:
		oid = r.u32()
		r.row(c)
	case OpTruncate:
		r.truncate(c)
	case OpMark:
		r.take(1 + 8) // flags and LSN
		c.Prefix = r.cstring()
		c.Content = r.take(int(r.u32()))
	default:
		return 0, corruptf("message of unknown kind %q", byte(c.Op))
	}
	if r.bad || len(r.b) != 0 {
		return 0, corruptf("message %q of %d bytes is cut off or too long", byte(c.Op), len(b))
	}
	return oid, nil
}

// row reads the tuples of an insert, update or delete.
func (c *cursor) row(ch *Change) {
	kind := c.u8()
	if (kind == 'K' || kind == 'O') && ch.Op != OpInsert {
		ch.Old, ch.OldWhole = c.tuple(), kind == 'O'
		if ch.Op == OpDelete {
			return
		}
		kind = c.u8()
	}
	if kind != 'N' || ch.Op == OpDelete {
		c.bad = true
		return
	}
	ch.New = c.tuple()
}

// truncate reads the tables of a truncate.
func (c *cursor) truncate(ch *Change) {
	n := int(c.u32())
	c.u8() // cascade and restart identity make no difference to the target
	ids := c.take(4 * n)
	ch.Tables = make([]uint32, 0, len(ids)/4)
	for ; len(ids) >= 4; ids = ids[4:] {
		ch.Tables = append(ch.Tables, binary.BigEndian.Uint32(ids))
	}
}
