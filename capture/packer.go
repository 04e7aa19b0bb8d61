package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/vecferry/vecferry"
)

// The sizes of what a record adds to a batch, see vecferry.BatchBuilder.
const (
	beginBytes    = 1 + 3*8
	relationBytes = 1 + 4
	changeBytes   = 1 + 4 + 8
)

// resume says where a stream starts: what the log has already.
type resume struct {
	// start: every transaction that ends at or before it is complete in the
	// log, or had nothing for it.
	start vecferry.LSN
	// open is the commit LSN of the transaction that the log ends in, 0 if
	// none, and changes the number of its messages that are dealt with.
	open    vecferry.LSN
	changes uint32
	total   uint64 // changes in the log
	newest  int64  // commit time of the last of them, microseconds since 1970
}

// limits cut batches.
type limits struct {
	bytes    int    // a batch is cut before it grows over this
	changes  uint32 // or has this many changes
	maxBatch int    // the log takes no longer one
}

// emit hands a full builder over and returns an empty one.
type emit func(*vecferry.BatchBuilder, vecferry.BatchHeader) (*vecferry.BatchBuilder, error)

// relation is the newest description of a table.
type relation struct {
	raw    []byte // the Relation message
	name   string // schema.name
	mapped bool
	batch  uint64 // the batch under construction that has it already
}

// packer turns the messages of one replication connection into batches. It
// owns no goroutine and does no input or output; a row costs no allocation.
//
//	idle --Begin--> in a transaction (skipping | storing) --Commit--> idle
type packer struct {
	limits limits
	resume resume
	tables map[uint32]struct{} // mapped tables by OID,
	names  map[string]struct{} // and by schema.name: a table may be renamed, or made again
	prefix []byte
	near   func() vecferry.XID
	emit   emit
	quiet  func(end vecferry.LSN) // everything that ends up to here was handed over
	count  *counters

	relations map[uint32]*relation
	b         *vecferry.BatchBuilder
	batch     uint64          // batches handed over, plus one
	end       vecferry.LSN    // everything up to here was seen; grows outside transactions only
	newest    int64           // commit time of the newest stored change, microseconds since 1970
	total     uint64          // changes handed over since the log began
	logOpen   bool            // the last batch handed over ends inside a transaction
	scratch   vecferry.Change // reused by every message

	tx      vecferry.Tx
	inTx    bool
	skipTx  bool   // the log has the whole transaction
	skip    uint32 // the log has this many messages of it
	counted uint32 // messages of it so far, whether stored or not
	stored  bool   // the log has some of it
	named   bool   // the batch under construction names it
}

// start begins packing into b.
func (p *packer) start(b *vecferry.BatchBuilder) {
	p.relations = make(map[uint32]*relation)
	p.b, p.batch = b, 1
	p.end, p.logOpen = p.resume.start, p.resume.open != 0
	p.total, p.newest = p.resume.total, p.resume.newest
}

// message takes one message of pgoutput; lsn is its WAL start. The bytes are
// copied.
func (p *packer) message(lsn vecferry.LSN, raw []byte) error {
	if len(raw) == 0 {
		return fmt.Errorf("%w: empty message", vecferry.ErrCorrupt)
	}
	switch raw[0] {
	case 'I', 'U', 'D', 'T':
		return p.change(lsn, raw)
	case 'B':
		return p.begin(raw)
	case 'C':
		return p.commit(raw)
	case 'M':
		return p.logical(lsn, raw)
	case 'R':
		return p.relation(raw)
	case 'S', 'b':
		return fmt.Errorf("%w: message %q of a protocol that was not asked for", vecferry.ErrCorrupt, raw[0])
	}
	return nil // Type and Origin say nothing about rows; a stream abort comes unasked from PostgreSQL 18
}

// begin opens a transaction and decides how much of it the log has.
func (p *packer) begin(raw []byte) error {
	if len(raw) != 21 || p.inTx {
		return fmt.Errorf("%w: begin of %d bytes, inside a transaction: %t", vecferry.ErrCorrupt, len(raw), p.inTx)
	}
	be := binary.BigEndian
	commit := vecferry.LSN(be.Uint64(raw[1:]))
	p.tx = vecferry.Tx{
		XID:       vecferry.Widen(be.Uint32(raw[17:]), p.near()),
		CommitLSN: commit,
		Time:      pgTime(int64(be.Uint64(raw[9:]))),
	}
	p.inTx, p.named, p.stored, p.counted, p.skip = true, false, false, 0, 0
	p.skipTx = commit < p.resume.start
	switch open := p.resume.open; {
	case p.skipTx:
	case open != 0 && commit != open:
		return p.lostOpen(fmt.Sprintf("the server goes on with the transaction at %s", commit))
	case open != 0:
		p.skip, p.resume.open = p.resume.changes, 0
	case commit < p.end:
		return &vecferry.HaltError{
			What: fmt.Sprintf("the transaction at %s came after everything up to %s was complete", commit, p.end),
			Fix:  "copy the tables again into a new pipeline",
		}
	}
	return nil
}

// commit closes the transaction.
func (p *packer) commit(raw []byte) error {
	if len(raw) != 26 || !p.inTx {
		return fmt.Errorf("%w: commit of %d bytes, inside a transaction: %t", vecferry.ErrCorrupt, len(raw), p.inTx)
	}
	if p.counted < p.skip {
		return p.lostOpen(fmt.Sprintf("sent again it has %d changes, the log has %d of them", p.counted, p.skip))
	}
	p.inTx = false
	if p.skipTx {
		return nil
	}
	p.end = max(p.end, vecferry.LSN(binary.BigEndian.Uint64(raw[10:])))
	p.count.transaction(p.tx.Time)
	return nil
}

// lostOpen says that the transaction in which the log ends cannot be finished.
func (p *packer) lostOpen(what string) error {
	open := p.resume.open
	if p.inTx && open == 0 {
		open = p.tx.CommitLSN
	}
	return &vecferry.HaltError{
		What: fmt.Sprintf("the change log ends inside the transaction that commits at %s, but %s", open, what),
		Fix:  "the server is not the one that wrote it, or its log went back: copy the tables again into a new pipeline",
	}
}

// relation remembers the description of a table.
func (p *packer) relation(raw []byte) error {
	rel, err := vecferry.ParseRelation(raw)
	if err != nil {
		return err
	}
	old := p.relations[rel.OID]
	if old != nil && bytes.Equal(old.raw, raw) {
		return nil
	}
	name := rel.Schema + "." + rel.Name
	_, byOID := p.tables[rel.OID]
	_, byName := p.names[name]
	p.relations[rel.OID] = &relation{raw: bytes.Clone(raw), name: name, mapped: byOID || byName}
	p.b.Forget(rel.OID)
	return nil
}

// change takes a row or truncate message. It is counted before anything is
// left out, so that the count is the same when the server sends it again.
func (p *packer) change(lsn vecferry.LSN, raw []byte) error {
	oid, err := vecferry.ParseMessage(raw, &p.scratch)
	if err != nil {
		return err
	}
	fresh, err := p.advance()
	if !fresh || err != nil {
		return err
	}
	if p.scratch.Op == vecferry.OpTruncate {
		return p.truncate(lsn, raw)
	}
	rel := p.relations[oid]
	if rel == nil {
		return fmt.Errorf("%w: a row of table %d came before its description", vecferry.ErrCorrupt, oid)
	}
	if !rel.mapped {
		p.count.unmapped.Add(1)
		return nil
	}
	p.count.op(p.scratch.Op)
	return p.store(lsn, raw, oid, rel)
}

// advance counts one message of the transaction and reports whether it is new
// to the log.
func (p *packer) advance() (bool, error) {
	switch {
	case !p.inTx:
		return false, fmt.Errorf("%w: a change outside a transaction", vecferry.ErrCorrupt)
	case p.skipTx:
		return false, nil
	case p.counted == math.MaxUint32:
		return false, &vecferry.HaltError{
			What: fmt.Sprintf("the transaction at %s has more than %d changes", p.tx.CommitLSN, p.counted),
			Fix:  "copy the tables again into a new pipeline",
		}
	}
	p.counted++
	return p.counted > p.skip, nil
}

// truncate stores the message if one of its tables is mapped; the sink passes
// over the others.
func (p *packer) truncate(lsn vecferry.LSN, raw []byte) error {
	for _, oid := range p.scratch.Tables {
		if rel := p.relations[oid]; rel != nil && rel.mapped {
			p.count.op(vecferry.OpTruncate)
			return p.store(lsn, raw, 0, nil)
		}
	}
	p.count.unmapped.Add(1)
	return nil
}

// logical takes a logical message. One that is not transactional comes at once,
// outside transactions, and also if its transaction rolls back: it is nobody's.
func (p *packer) logical(lsn vecferry.LSN, raw []byte) error {
	if _, err := vecferry.ParseMessage(raw, &p.scratch); err != nil {
		return err
	}
	if transactional := raw[1]&1 != 0; !transactional {
		return nil
	}
	fresh, err := p.advance()
	if !fresh || err != nil || !bytes.Equal(p.scratch.Prefix, p.prefix) {
		return err
	}
	p.count.op(vecferry.OpMark)
	return p.store(lsn, raw, 0, nil)
}

// store adds one message to the batch, after cutting it if there is no room.
func (p *packer) store(lsn vecferry.LSN, raw []byte, oid uint32, rel *relation) error {
	full := p.b.Len()+p.need(raw, rel) > p.limits.bytes || p.b.Changes() >= p.limits.changes
	if full && p.b.Changes() > 0 {
		if err := p.cut(p.counted - 1); err != nil {
			return err
		}
	}
	if size := p.b.Len() + p.need(raw, rel); size > p.limits.maxBatch {
		return p.tooLarge(size, rel)
	}
	if !p.named {
		p.b.Begin(p.tx)
		p.named = true
	}
	if rel != nil {
		p.b.Relation(oid, rel.raw)
		rel.batch = p.batch
	}
	p.b.Change(lsn, raw)
	p.stored, p.newest = true, p.tx.Time.UnixMicro()
	return nil
}

// need returns the bytes that a message adds to the batch.
func (p *packer) need(raw []byte, rel *relation) int {
	n := changeBytes + len(raw)
	if !p.named {
		n += beginBytes
	}
	if rel != nil && rel.batch != p.batch {
		n += relationBytes + len(rel.raw)
	}
	return n
}

func (p *packer) tooLarge(size int, rel *relation) error {
	of := "a logical message"
	if rel != nil {
		of = "a row of table " + rel.name
	}
	return &vecferry.HaltError{
		What: fmt.Sprintf("%s, committed at %s, takes %d bytes and the change log's largest message has %d",
			of, p.tx.CommitLSN, size, p.limits.maxBatch),
		Fix: "raise the largest message of the change log (max_payload), or take the wide column out of the publication",
	}
}

// cut hands the batch over. Inside a transaction the header says how many of
// its messages are dealt with; one of which nothing is stored is left out: it
// is simply read again.
func (p *packer) cut(counted uint32) error {
	p.total += uint64(p.b.Changes())
	h := vecferry.BatchHeader{EndLSN: p.end, CommitTime: p.newest, Total: p.total}
	if p.inTx && p.stored && counted > 0 {
		h.OpenLSN, h.OpenChanges = p.tx.CommitLSN, counted
	}
	b, err := p.emit(p.b, h)
	if err != nil {
		return err
	}
	p.b, p.named, p.logOpen = b, false, h.OpenLSN != 0
	p.batch++
	return nil
}

// keepalive takes the WAL position up to which the server has decoded and sent
// everything.
func (p *packer) keepalive(end vecferry.LSN) error {
	if p.inTx {
		return nil
	}
	if open := p.resume.open; open != 0 && end > open {
		return p.lostOpen(fmt.Sprintf("the server has nothing more to send up to %s", end))
	}
	p.end = max(p.end, end)
	return nil
}

// boundary is called when the stream may have come to rest; drained says that
// nothing more is buffered, so that waiting for a fuller batch costs latency.
// A batch without changes closes the transaction that the log ended in.
func (p *packer) boundary(drained bool) error {
	if p.inTx || p.resume.open != 0 {
		return nil
	}
	if p.b.Changes() == 0 && !p.logOpen {
		p.quiet(p.end)
		return nil
	}
	if !drained {
		return nil
	}
	if err := p.cut(0); err != nil {
		return err
	}
	p.quiet(p.end)
	return nil
}

// rest hands over what is left when the stream ends.
func (p *packer) rest() error {
	if p.b.Changes() > 0 {
		return p.cut(p.counted)
	}
	return p.boundary(true)
}

// y2k is the epoch of PostgreSQL's timestamps, in microseconds since 1970.
const y2k = 946_684_800_000_000

func pgTime(us int64) time.Time { return time.UnixMicro(us + y2k) }
