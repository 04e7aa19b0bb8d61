package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vecferry/vecferry"
)

// The source that the tests follow: a table of id, meta, body and v, of which
// body and v may go unsent when they did not change. Commits reach the log
// before they are visible, as with a synchronous standby that is away.

const (
	fieldID = iota
	fieldMeta
	fieldBody
	fieldV
)

const testOID = 4711

func testTable() *vecferry.Table {
	return &vecferry.Table{OID: testOID, Schema: "public", Name: "t", Collection: "t", KeyType: vecferry.KeyText,
		Key: fieldID, Vector: fieldV, PartitionKey: -1, Fields: []vecferry.Field{
			{Column: "id", Name: "id", Type: vecferry.FieldVarChar},
			{Column: "meta", Name: "meta", Type: vecferry.FieldInt64},
			{Column: "body", Name: "body", Type: vecferry.FieldVarChar},
			{Column: "v", Name: "v", Type: vecferry.FieldVector, Dim: 1},
		}}
}

// srcRow is a row of the source; v 0 is NULL.
type srcRow struct{ meta, body, v int }

// event is a change in the source; a body or v of -1 was not sent.
type event struct {
	op       vecferry.Op
	key, old string
	row      srcRow
	mark     *vecferry.Mark
}

type tx struct {
	xid     vecferry.XID
	events  []event
	visible bool
	ended   bool
}

// source is a PostgreSQL with one table, by the commits in its log.
type source struct {
	nextXID vecferry.XID
	txs     []*tx // in commit order
	open    []*tx // not committed
}

func (s *source) begin() *tx {
	s.nextXID++
	t := &tx{xid: s.nextXID}
	s.open = append(s.open, t)
	return t
}

func (s *source) commit(t *tx, visible bool) {
	s.open = slices.DeleteFunc(s.open, func(o *tx) bool { return o == t })
	t.visible, t.ended = visible, true
	s.txs = append(s.txs, t)
}

// snapshot is pg_current_snapshot().
func (s *source) snapshot() string {
	var running []string
	xmin := s.nextXID + 1
	for _, t := range slices.Concat(s.txs, s.open) {
		if !t.visible {
			running = append(running, strconv.Itoa(int(t.xid)))
			xmin = min(xmin, t.xid)
		}
	}
	return fmt.Sprintf("%d:%d:%s", xmin, s.nextXID+1, strings.Join(running, ","))
}

// rows returns the table after some transactions.
func rowsAfter(txs []*tx, seen func(*tx) bool) map[string]srcRow {
	rows := map[string]srcRow{}
	for _, t := range txs {
		if !seen(t) {
			continue
		}
		for _, e := range t.events {
			e.replayOn(rows)
		}
	}
	return rows
}

func (e event) replayOn(rows map[string]srcRow) {
	switch e.op {
	case vecferry.OpInsert, vecferry.OpUpdate:
		from := e.key
		if e.old != "" {
			from = e.old
		}
		row := e.row
		if row.body < 0 {
			row.body = rows[from].body
		}
		if row.v < 0 {
			row.v = rows[from].v
		}
		delete(rows, from)
		rows[e.key] = row
	case vecferry.OpDelete:
		delete(rows, e.key)
	case vecferry.OpTruncate:
		clear(rows)
	}
}

// visibleRows is what a query sees now.
func (s *source) visibleRows() map[string]srcRow {
	return rowsAfter(s.txs, func(t *tx) bool { return t.visible })
}

// latestRows is what the next writer finds.
func (s *source) latestRows() map[string]srcRow {
	return rowsAfter(s.txs, func(*tx) bool { return true })
}

// locked are the keys whose last writer is not visible yet.
func (s *source) locked() map[string]bool {
	out := map[string]bool{}
	for _, t := range s.txs {
		for _, e := range t.events {
			if !t.visible {
				out[e.key], out[e.old] = true, true
				out["*"] = out["*"] || e.op == vecferry.OpTruncate
			}
		}
	}
	return out
}

// pgoutput's bytes.

func appendTuple(b []byte, key string, row *srcRow) []byte {
	b = binary.BigEndian.AppendUint16(b, 4)
	text := func(s string) {
		b = append(b, vecferry.ColumnText)
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	text(key)
	if row == nil {
		return append(b, "nnn"...)
	}
	text(strconv.Itoa(row.meta))
	for i, v := range []int{row.body, row.v} {
		switch {
		case v < 0:
			b = append(b, vecferry.ColumnAbsent)
		case v == 0 && i == 1:
			b = append(b, vecferry.ColumnNull)
		default:
			text(strconv.Itoa(v))
		}
	}
	return b
}

func (e event) bytes() []byte {
	oid := binary.BigEndian.AppendUint32([]byte{byte(e.op)}, testOID)
	switch e.op {
	case vecferry.OpInsert:
		return appendTuple(append(oid, 'N'), e.key, &e.row)
	case vecferry.OpUpdate:
		if e.old != "" {
			oid = appendTuple(append(oid, 'K'), e.old, nil)
		}
		return appendTuple(append(oid, 'N'), e.key, &e.row)
	case vecferry.OpDelete:
		return appendTuple(append(oid, 'K'), e.key, nil)
	case vecferry.OpTruncate:
		return binary.BigEndian.AppendUint32([]byte{'T', 0, 0, 0, 1, 0}, testOID)
	}
	content, _ := e.mark.Encode()
	b := append([]byte{'M', 1, 0, 0, 0, 0, 0, 0, 0, 0}, vecferry.MarkPrefix("test")+"\x00"...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(content))), content...)
}

func relationBytes() []byte {
	b := binary.BigEndian.AppendUint32([]byte{'R'}, testOID)
	b = append(b, "public\x00t\x00d\x00\x04"...)
	for _, name := range []string{"id", "meta", "body", "v"} {
		b = append(append(append(b, 0), name...), 0, 0, 0, 0, 25, 255, 255, 255, 255)
	}
	return b
}

// testDecoder reads those tuples.
type testDecoder struct{}

func (testDecoder) columns(t vecferry.Tuple) []vecferry.Column {
	cols, _ := t.Columns(nil)
	return cols
}

func (d testDecoder) Key(t vecferry.Tuple) (vecferry.Key, error) {
	return vecferry.Key(d.columns(t)[fieldID].Data), nil
}

func (d testDecoder) Row(t vecferry.Tuple, p vecferry.Position) (vecferry.Row, error) {
	row := vecferry.Row{Position: p, Values: make([]vecferry.Value, 4)}
	for i, c := range d.columns(t) {
		switch {
		case c.Kind == vecferry.ColumnNull:
			row.Values[i] = vecferry.NullValue()
		case c.Kind == vecferry.ColumnText:
			row.Values[i] = testValue(i, string(c.Data))
		}
	}
	row.Key = vecferry.Key(row.Values[fieldID].Text())
	if row.Values[fieldMeta].Int() == badMeta {
		return row, testTable().RowError(row.Key, "meta", "bad")
	}
	return row, nil
}

// badMeta is a value that the target cannot hold.
const badMeta = 13

func testValue(field int, s string) vecferry.Value {
	n, _ := strconv.Atoi(s)
	switch field {
	case fieldID:
		return vecferry.TextValue(s)
	case fieldV:
		return vecferry.VectorValue([]float32{float32(n)})
	}
	return vecferry.IntValue(int64(n))
}

func targetRow(k string, r srcRow, p vecferry.Position) vecferry.Row {
	return vecferry.Row{Key: vecferry.Key(k), Position: p, Values: []vecferry.Value{vecferry.TextValue(k),
		vecferry.IntValue(int64(r.meta)), vecferry.IntValue(int64(r.body)), vecferry.VectorValue([]float32{float32(r.v)})}}
}

// fakeTarget keeps every entity, duplicates too, and can fail between any two
// of its steps.
type fakeTarget struct {
	entities map[vecferry.Key][]vecferry.Row
	failIn   int // steps until errCrash, 0 never
}

var errCrash = errors.New("crash")

func (f *fakeTarget) step() error {
	if f.failIn > 0 {
		if f.failIn--; f.failIn == 0 {
			return errCrash
		}
	}
	return nil
}

func (f *fakeTarget) Check(vecferry.Row) error { return nil }

func (f *fakeTarget) Read(_ context.Context, keys []vecferry.Key) (map[vecferry.Key]vecferry.Row, error) {
	out := map[vecferry.Key]vecferry.Row{}
	for _, k := range keys {
		if have := f.entities[k]; len(have) > 0 {
			out[k] = have[0]
		}
	}
	return out, f.step()
}

func (f *fakeTarget) Replace(_ context.Context, w vecferry.Write) ([]vecferry.Rejected, error) {
	for _, k := range w.Delete {
		if err := f.step(); err != nil {
			return nil, err
		}
		delete(f.entities, k)
	}
	for i, r := range slices.Concat(w.Put, w.New) {
		if err := f.step(); err != nil {
			return nil, err
		}
		if i < len(w.Put) {
			delete(f.entities, r.Key)
		}
		if err := f.step(); err != nil {
			return nil, err
		}
		f.insert(r)
	}
	return nil, f.step()
}

func (f *fakeTarget) insert(r vecferry.Row) { f.entities[r.Key] = append(f.entities[r.Key], r) }

func (f *fakeTarget) Clear(_ context.Context, r vecferry.Range) error {
	for _, k := range slices.Sorted(maps.Keys(f.entities)) {
		if err := f.step(); err != nil {
			return err
		}
		if r.Has(k) {
			delete(f.entities, k)
		}
	}
	return nil
}

// fakeStore keeps the checkpoint and can fail.
type fakeStore struct {
	value []byte
	rev   uint64
	crash func() error
}

func (f *fakeStore) Load(context.Context) ([]byte, uint64, error) { return f.value, f.rev, nil }

func (f *fakeStore) Save(_ context.Context, v []byte, rev uint64) (uint64, error) {
	if rev != f.rev {
		return 0, fmt.Errorf("revision %d, have %d", rev, f.rev)
	}
	if err := f.crash(); err != nil {
		return 0, err
	}
	f.value, f.rev = slices.Clone(v), f.rev+1
	return f.rev, nil
}

func (f *fakeStore) checkpoint() *vecferry.Checkpoint {
	cp, err := vecferry.DecodeCheckpoint(f.value)
	if err != nil {
		return &vecferry.Checkpoint{}
	}
	return cp
}

// fakeLog is the change log in memory.
type fakeLog struct {
	batches []Message
	headers []vecferry.BatchHeader
}

func (l *fakeLog) ID() string { return "log" }

func (l *fakeLog) Check(context.Context, uint64, uint64, vecferry.LSN) error { return nil }

func (l *fakeLog) Reader(_ context.Context, after uint64) (Reader, error) {
	return &fakeReader{log: l, next: after}, nil
}

// append adds changes as one batch; a transaction may go on in the next one.
func (l *fakeLog) append(t *tx, events []event, last bool) {
	var b vecferry.BatchBuilder
	b.Reset(nil)
	b.Begin(vecferry.Tx{XID: t.xid, CommitLSN: vecferry.LSN(len(l.batches)), Time: time.UnixMicro(1)})
	for _, e := range events {
		b.Relation(testOID, relationBytes())
		b.Change(1, e.bytes())
	}
	h := vecferry.BatchHeader{Epoch: 1, Batch: uint64(len(l.batches) + 1), CommitTime: 1}
	if last {
		h.EndLSN = vecferry.LSN(h.Batch)
	}
	l.headers = append(l.headers, h)
	l.batches = append(l.batches, Message{Batch: h.Batch, Data: b.Seal(h)})
}

type fakeReader struct {
	log  *fakeLog
	next uint64
	stop uint64 // the last batch to give out, 0 for all
}

func (r *fakeReader) Next(_ context.Context, block bool) (Message, bool, error) {
	if int(r.next) >= len(r.log.batches) || r.stop > 0 && r.next >= r.stop {
		if block {
			return Message{}, false, errors.New("the test reads past the log")
		}
		return Message{}, false, nil
	}
	r.next++
	return r.log.batches[r.next-1], true, nil
}

func (r *fakeReader) Applied(uint64) {}
func (r *fakeReader) Close()         {}

type fakeDead struct{ letters []DeadLetter }

func (f *fakeDead) Bury(_ context.Context, d DeadLetter) error {
	f.letters = append(f.letters, d)
	return nil
}
