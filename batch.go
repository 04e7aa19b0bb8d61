package vecferry

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"
)

// A batch is one message of the change log: changes in commit order, cut by
// bytes, not by transactions. All integers are big-endian.
//
//	offset  0  "vfb1"        format and version
//	        4  uint32        CRC-32C of everything behind it
//	        8  BatchHeader   56 bytes
//	       64  records:
//	  'B' uint64 xid, uint64 commit LSN, int64 microseconds since 1970
//	  'R' uint32 length, a Relation message of pgoutput
//	  'W' uint32 length, uint64 LSN, a row, truncate or logical message of pgoutput
//
// A batch stands alone: it repeats the transaction that it continues and the
// relations of its rows. The ordinal of a change counts the 'W' records.
const (
	batchMagic  = "vfb1"
	headerBytes = 64
)

// BatchHeader says where a batch belongs.
type BatchHeader struct {
	Epoch  uint64 // of the writer
	Batch  uint64 // one more than the batch before
	EndLSN LSN    // end of the last transaction that is complete in the log up to here
	// OpenLSN is the commit LSN of the transaction that goes on in the next
	// batch, 0 if none; OpenChanges counts its changes stored so far.
	OpenLSN     LSN
	OpenChanges uint32
	Changes     uint32 // changes in this batch
	CommitTime  int64  // microseconds since 1970 of the newest transaction in it
	Total       uint64 // changes in the log up to and with this batch, since it began
}

// castagnoli has hardware support on every platform that matters.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// BatchBuilder packs messages of pgoutput into a batch. The zero value is
// ready; Reset reuses its memory.
type BatchBuilder struct {
	buf       []byte
	relations map[uint32]struct{}
	changes   uint32
	begun     bool
}

// Reset empties the builder and takes over buf's memory.
func (b *BatchBuilder) Reset(buf []byte) {
	b.buf = append(buf[:0], make([]byte, headerBytes)...)
	if b.relations == nil {
		b.relations = make(map[uint32]struct{})
	}
	clear(b.relations)
	b.changes, b.begun = 0, false
}

// Len returns the bytes so far.
func (b *BatchBuilder) Len() int { return len(b.buf) }

// Changes returns the number of changes so far.
func (b *BatchBuilder) Changes() uint32 { return b.changes }

// Begun reports whether a transaction was begun since the last Reset.
func (b *BatchBuilder) Begun() bool { return b.begun }

// Begin starts a transaction, or names again the one that goes on.
func (b *BatchBuilder) Begin(tx Tx) {
	b.begun = true
	b.buf = append(b.buf, 'B')
	b.buf = binary.BigEndian.AppendUint64(b.buf, uint64(tx.XID))
	b.buf = binary.BigEndian.AppendUint64(b.buf, uint64(tx.CommitLSN))
	b.buf = binary.BigEndian.AppendUint64(b.buf, uint64(tx.Time.UnixMicro()))
}

// Relation adds a Relation message unless the batch has that table already.
func (b *BatchBuilder) Relation(oid uint32, raw []byte) {
	if _, ok := b.relations[oid]; ok {
		return
	}
	b.relations[oid] = struct{}{}
	b.buf = append(b.buf, 'R')
	b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(len(raw)))
	b.buf = append(b.buf, raw...)
}

// Forget makes the next Relation of a table be added again, because it changed.
func (b *BatchBuilder) Forget(oid uint32) { delete(b.relations, oid) }

// Change adds one message.
func (b *BatchBuilder) Change(lsn LSN, raw []byte) {
	b.changes++
	b.buf = append(b.buf, 'W')
	b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(len(raw)))
	b.buf = binary.BigEndian.AppendUint64(b.buf, uint64(lsn))
	b.buf = append(b.buf, raw...)
}

// Seal writes the header and the checksum and returns the batch, which is the
// builder's memory until the next Reset.
func (b *BatchBuilder) Seal(h BatchHeader) []byte {
	be := binary.BigEndian
	copy(b.buf, batchMagic)
	be.PutUint64(b.buf[8:], h.Epoch)
	be.PutUint64(b.buf[16:], h.Batch)
	be.PutUint64(b.buf[24:], uint64(h.EndLSN))
	be.PutUint64(b.buf[32:], uint64(h.OpenLSN))
	be.PutUint32(b.buf[40:], h.OpenChanges)
	be.PutUint32(b.buf[44:], b.changes)
	be.PutUint64(b.buf[48:], uint64(h.CommitTime))
	be.PutUint64(b.buf[56:], h.Total)
	be.PutUint32(b.buf[4:], checksum(b.buf[8:]))
	return b.buf
}

// ParseBatchHeader checks a batch's format and checksum and returns its header.
func ParseBatchHeader(b []byte) (BatchHeader, error) {
	if len(b) < headerBytes || string(b[:4]) != batchMagic {
		return BatchHeader{}, corruptf("batch of %d bytes is not of format %s", len(b), batchMagic)
	}
	be := binary.BigEndian
	if got, want := checksum(b[8:]), be.Uint32(b[4:]); got != want {
		return BatchHeader{}, corruptf("batch has checksum %08x, its header says %08x", got, want)
	}
	return BatchHeader{
		Epoch: be.Uint64(b[8:]), Batch: be.Uint64(b[16:]), EndLSN: LSN(be.Uint64(b[24:])),
		OpenLSN: LSN(be.Uint64(b[32:])), OpenChanges: be.Uint32(b[40:]),
		Changes: be.Uint32(b[44:]), CommitTime: int64(be.Uint64(b[48:])),
		Total: be.Uint64(b[56:]),
	}, nil
}

// RelationCache keeps the parsed relations of the tables by their bytes, so
// that a reader parses each once. It is not safe for concurrent use.
type RelationCache struct {
	byOID map[uint32]cachedRelation
}

type cachedRelation struct {
	raw []byte
	rel *Relation
}

// get returns the relation of a Relation message, the same pointer for the same bytes.
func (c *RelationCache) get(raw []byte) (*Relation, error) {
	if len(raw) < 5 {
		return nil, corruptf("relation message of %d bytes", len(raw))
	}
	oid := binary.BigEndian.Uint32(raw[1:])
	if hit, ok := c.byOID[oid]; ok && bytes.Equal(hit.raw, raw) {
		return hit.rel, nil
	}
	rel, err := ParseRelation(raw)
	if err != nil {
		return nil, err
	}
	if c.byOID == nil {
		c.byOID = make(map[uint32]cachedRelation)
	}
	c.byOID[oid] = cachedRelation{raw: bytes.Clone(raw), rel: rel}
	return rel, nil
}

// BatchReader walks the changes of a batch in order.
type BatchReader struct {
	Header BatchHeader

	rest  cursor
	cache *RelationCache
	here  map[uint32]*Relation
	tx    Tx
	next  int
}

// NewBatchReader checks a batch and returns a reader of its changes, which
// alias b.
func NewBatchReader(b []byte, cache *RelationCache) (*BatchReader, error) {
	h, err := ParseBatchHeader(b)
	if err != nil {
		return nil, err
	}
	return &BatchReader{Header: h, rest: cursor{b: b[headerBytes:]}, cache: cache, here: make(map[uint32]*Relation, 1)}, nil
}

// Next fills c with the next change; false means the end, or an error.
func (r *BatchReader) Next(c *Change) (bool, error) {
	for len(r.rest.b) > 0 {
		switch tag := r.rest.u8(); tag {
		case 'B':
			r.tx = Tx{XID: XID(r.rest.u64()), CommitLSN: LSN(r.rest.u64()), Time: time.UnixMicro(int64(r.rest.u64()))}
		case 'R':
			rel, err := r.cache.get(r.rest.take(int(r.rest.u32())))
			if err != nil {
				return false, err
			}
			r.here[rel.OID] = rel
		case 'W':
			return true, r.change(c)
		default:
			return false, corruptf("batch %d has a record of unknown kind %q", r.Header.Batch, tag)
		}
	}
	if r.rest.bad || r.next != int(r.Header.Changes) {
		return false, corruptf("batch %d ends after %d of %d changes", r.Header.Batch, r.next, r.Header.Changes)
	}
	return false, nil
}

// change reads the rest of a 'W' record.
func (r *BatchReader) change(c *Change) error {
	n := int(r.rest.u32())
	*c = Change{Position: PositionAt(r.Header.Batch, r.next), Tx: r.tx, LSN: LSN(r.rest.u64())}
	raw := r.rest.take(n)
	if r.rest.bad {
		return corruptf("batch %d is cut off", r.Header.Batch)
	}
	if r.next >= MaxRecords {
		return corruptf("batch %d has more than %d changes", r.Header.Batch, MaxRecords)
	}
	oid, err := ParseMessage(raw, c)
	if err != nil {
		return err
	}
	r.next++
	if oid == 0 {
		return nil
	}
	if c.Relation = r.here[oid]; c.Relation == nil {
		return corruptf("batch %d has rows of table %d but not its relation", r.Header.Batch, oid)
	}
	return nil
}
