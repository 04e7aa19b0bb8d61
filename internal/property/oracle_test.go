package property

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink"
)

// value is a row as the oracle compares it.
type value struct {
	meta int32
	body string // absent is NULL
	note string
	vec  uint64 // hash of the elements' bits, 0 is NULL
}

const (
	absent    = "\x00"
	noteBytes = 24 // more go to the dead letters
)

// String is short: of the body only the beginning.
func (v value) String() string {
	return fmt.Sprintf("{meta %d body %.6q note %.6q vec %x}", v.meta, v.body, v.note, v.vec)
}

// bad reports whether the target cannot hold the row.
func (v value) bad() bool { return len(v.note) > noteBytes }

// event is one change as the log has it.
type event struct {
	op        vecferry.Op
	table     uint32
	key, old  vecferry.Key
	row       value
	sent      [4]bool // of row's columns
	xid       vecferry.XID
	truncates []uint32
}

// batch is what the sink was given under a number.
type batch struct {
	sum    uint32
	events []event
}

// oracle knows the source at the end of each batch, from the log alone.
type oracle struct {
	mu      sync.Mutex
	tables  map[uint32]*vecferry.Table
	cache   vecferry.RelationCache
	batches map[uint64]batch
	rows    map[uint32]map[vecferry.Key]value
	at      uint64 // batch
	pending uint64 // a redo must bring the sink over this batch before anything can be said; 0 for none
	redoing bool

	traces     map[traced][]string
	violations []string
	checks     int64
	keys       int64
	redos      int64
}

type traced struct {
	table uint32
	key   vecferry.Key
}

func newOracle(tables []*vecferry.Table) *oracle {
	o := &oracle{tables: map[uint32]*vecferry.Table{}, batches: map[uint64]batch{}, traces: map[traced][]string{},
		rows: map[uint32]map[vecferry.Key]value{}}
	for _, t := range tables {
		o.tables[t.OID], o.rows[t.OID] = t, map[vecferry.Key]value{}
	}
	return o
}

const (
	traceLines    = 40
	maxViolations = 5
)

// note remembers what happened to a key.
func (o *oracle) note(table uint32, k vecferry.Key, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trace(table, k, format, args...)
}

func (o *oracle) trace(table uint32, k vecferry.Key, format string, args ...any) {
	at := traced{table, k}
	lines := append(o.traces[at], fmt.Sprintf(format, args...))
	o.traces[at] = lines[max(0, len(lines)-traceLines):]
}

// violate notes that something is wrong.
func (o *oracle) violate(table uint32, k vecferry.Key, format string, args ...any) {
	if len(o.violations) >= maxViolations {
		return
	}
	t := o.tables[table]
	o.violations = append(o.violations, fmt.Sprintf("%s key %s: %s\n    %s", t, k.Format(t.KeyType),
		fmt.Sprintf(format, args...), strings.Join(o.traces[traced{table, k}], "\n    ")))
}

func (o *oracle) violateAny(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.violations) < maxViolations {
		o.violations = append(o.violations, fmt.Sprintf(format, args...))
	}
}

func (o *oracle) found() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.violations)
}

// tap takes a batch that the sink is given.
func (o *oracle) tap(m sink.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum := crc32.ChecksumIEEE(m.Data)
	if seen, ok := o.batches[m.Batch]; ok || m.Batch <= o.at {
		if ok && seen.sum != sum {
			o.violations = append(o.violations, fmt.Sprintf("batch %d is another one than before", m.Batch))
		}
		return
	}
	b := batch{sum: sum}
	r, err := vecferry.NewBatchReader(bytes.Clone(m.Data), &o.cache)
	for more := err == nil; more; {
		var c vecferry.Change
		if more, err = r.Next(&c); more {
			b.events = append(b.events, o.decode(&c)...)
		}
	}
	if err != nil {
		o.violations = append(o.violations, fmt.Sprintf("batch %d cannot be read: %v", m.Batch, err))
	}
	for _, e := range b.events {
		o.trace(e.table, e.key, "log %d %c %s<-%q xid %d %s %v", m.Batch, e.op, e.key, e.old, e.xid, e.row, e.sent)
		if e.old != "" {
			o.trace(e.table, e.old, "log %d %c %q moves to %q xid %d", m.Batch, e.op, e.old, e.key, e.xid)
		}
	}
	o.batches[m.Batch] = b
}

// decode reads a change without the product's decoder.
func (o *oracle) decode(c *vecferry.Change) []event {
	e := event{op: c.Op, xid: c.Tx.XID}
	switch c.Op {
	case vecferry.OpMark:
		return nil
	case vecferry.OpTruncate:
		e.truncates = c.Tables
		return []event{e}
	}
	e.table = c.Relation.OID
	t := o.tables[e.table]
	if t == nil {
		return nil
	}
	if c.Op == vecferry.OpDelete {
		e.key, _, _ = o.tuple(t, c.Relation, c.Old)
		return []event{e}
	}
	e.key, e.row, e.sent = o.tuple(t, c.Relation, c.New)
	if c.Old != nil {
		if e.old, _, _ = o.tuple(t, c.Relation, c.Old); e.old == e.key {
			e.old = ""
		}
	}
	return []event{e}
}

func (o *oracle) tuple(t *vecferry.Table, rel *vecferry.Relation, tuple vecferry.Tuple) (k vecferry.Key, v value, sent [4]bool) {
	cols, err := tuple.Columns(nil)
	if err != nil || len(cols) != len(rel.Columns) {
		o.violations = append(o.violations, fmt.Sprintf("tuple of %d columns for %d: %v", len(cols), len(rel.Columns), err))
		return k, v, sent
	}
	for i, c := range cols {
		if rel.Columns[i].Name == t.KeyField().Column {
			k = rawKey(t, c.Data)
			continue
		}
		at := slices.Index(columnNames(), rel.Columns[i].Name)
		if at < 0 || c.Kind == vecferry.ColumnAbsent {
			continue
		}
		sent[at] = true
		v.set(at, c.Data, c.Kind == vecferry.ColumnNull)
	}
	return k, v, sent
}

// columnNames are the columns beside the key, in the order of a value.
func columnNames() []string { return []string{"meta", "body", "note", "emb"} }

func rawKey(t *vecferry.Table, b []byte) vecferry.Key {
	if t.KeyType == vecferry.KeyInt {
		return vecferry.IntKey(int64(int32(binary.BigEndian.Uint32(b))))
	}
	return vecferry.Key(b)
}

// set takes a column in PostgreSQL's binary form.
func (v *value) set(column int, b []byte, null bool) {
	switch column {
	case 0:
		if !null { // as in the old tuple of a key change
			v.meta = int32(binary.BigEndian.Uint32(b))
		}
	case 1:
		v.body = string(b)
		if null {
			v.body = absent
		}
	case 2:
		v.note = string(b)
	default:
		v.vec = 0
		if !null {
			v.vec = hashBytes(b[4:])
		}
	}
}

func hashBytes(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// entityValue is what the target holds, in the oracle's form.
func entityValue(t *vecferry.Table, r vecferry.Row) value {
	var v value
	for i, f := range t.Fields {
		x := r.Values[i]
		switch f.Column {
		case "meta":
			v.meta = int32(x.Int())
		case "body":
			v.body = x.Text()
			if x.IsNull() || x.IsAbsent() {
				v.body = absent
			}
		case "note":
			v.note = x.Text()
		case "emb":
			var b []byte
			for _, f := range x.Vector() {
				b = binary.BigEndian.AppendUint32(b, math.Float32bits(f))
			}
			v.vec = hashBytes(b)
		}
	}
	return v
}

// advance replays the log up to a batch.
func (o *oracle) advance(to uint64) bool {
	for o.at < to {
		b, ok := o.batches[o.at+1]
		if !ok {
			o.violations = append(o.violations, fmt.Sprintf("the sink says %d, but was never given batch %d", to, o.at+1))
			return false
		}
		for _, e := range b.events {
			o.replay(e)
		}
		o.at++
		delete(o.batches, o.at-64) // what a redo may ask for again stays
	}
	return true
}

func (o *oracle) replay(e event) {
	rows := o.rows[e.table]
	switch e.op {
	case vecferry.OpTruncate:
		for _, oid := range e.truncates {
			clear(o.rows[oid])
		}
	case vecferry.OpDelete:
		delete(rows, e.key)
	default:
		from := e.key
		if e.old != "" {
			from = e.old
		}
		row := rows[from].with(e)
		delete(rows, from)
		rows[e.key] = row
	}
}

// with lays an event's columns over a row.
func (v value) with(e event) value {
	if e.sent[0] {
		v.meta = e.row.meta
	}
	if e.sent[1] {
		v.body = e.row.body
	}
	if e.sent[2] {
		v.note = e.row.note
	}
	if e.sent[3] {
		v.vec = e.row.vec
	}
	return v
}

// restarted says with which record a sink begins.
func (o *oracle) restarted(cp *vecferry.Checkpoint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending, o.redoing = 0, false
	if cp != nil && cp.Applying != 0 {
		o.pending, o.redoing = cp.Applied, true
		o.redos++
	}
}

// entities returns what a collection holds, by key.
type entities map[vecferry.Key][]vecferry.Row

// check compares the target with the source at the end of the sink's last run.
func (o *oracle) check(cp *vecferry.Checkpoint, held func(*vecferry.Table) entities) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.redoing && cp.Applied == o.pending {
		return // what was interrupted is about to be redone
	}
	o.redoing = false
	if cp.Applied < o.at {
		o.violations = append(o.violations, fmt.Sprintf("the sink went back from batch %d to %d", o.at, cp.Applied))
		return
	}
	if !o.advance(cp.Applied) {
		return
	}
	o.checks++
	for oid, t := range o.tables {
		if st := cp.Tables[oid]; st != nil {
			o.checkTable(t, st, held(t))
		}
	}
}

func (o *oracle) checkTable(t *vecferry.Table, st *vecferry.TableState, have entities) {
	o.whole(t, st.Ranges)
	want := o.rows[t.OID]
	for k := range want {
		o.checkKey(t, st, k, have[k])
	}
	for k, rows := range have {
		if _, ok := want[k]; !ok {
			o.checkKey(t, st, k, rows)
		}
	}
}

func (o *oracle) checkKey(t *vecferry.Table, st *vecferry.TableState, k vecferry.Key, have []vecferry.Row) {
	state := stateAt(st.Ranges, k)
	if state != vecferry.Live && state != vecferry.Dead {
		return
	}
	o.keys++
	want, there := o.rows[t.OID][k]
	fault := ""
	switch {
	case state == vecferry.Dead && !want.bad():
		fault = "is in the dead letters"
	case state == vecferry.Live && want.bad() && want.vec != 0:
		fault = "is not in the dead letters"
	case state == vecferry.Dead || !there || want.vec == 0 || want.bad():
		if len(have) > 0 {
			fault = "must not be there"
		}
	case len(have) != 1:
		fault = fmt.Sprintf("has %d entities", len(have))
	case entityValue(t, have[0]) != want:
		fault = "has another value"
	case have[0].Position.Batch() > o.at:
		fault = "comes from the future"
	}
	if fault == "" {
		return
	}
	var got []string
	for _, r := range have {
		got = append(got, fmt.Sprintf("%s %s", r.Position, entityValue(t, r)))
	}
	o.violate(t.OID, k, "at batch %d, %s: %s: have %v, want %v %s", o.at, state, fault, got, there, want)
}

// whole checks that the ranges are sorted, disjoint and together everything.
func (o *oracle) whole(t *vecferry.Table, rs []vecferry.MappedRange) {
	ok := len(rs) > 0 && rs[0].Lo == "" && rs[len(rs)-1].ToEnd
	for i := range rs[:max(0, len(rs)-1)] {
		ok = ok && !rs[i].ToEnd && rs[i].Hi == rs[i+1].Lo && rs[i].Lo < rs[i].Hi
	}
	if !ok {
		o.violations = append(o.violations, fmt.Sprintf("ranges of %s: %v", t, rs))
	}
}

// stateAt is the state of the range that holds a key.
func stateAt(rs []vecferry.MappedRange, k vecferry.Key) vecferry.RangeState {
	for _, r := range rs {
		if r.Has(k) {
			return r.State
		}
	}
	return ""
}

// same compares the target, and the oracle itself, with the source at the end.
func (o *oracle) same(t *vecferry.Table, source map[vecferry.Key]value, have entities) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, want := range source {
		if got, ok := o.rows[t.OID][k]; !ok || got != want {
			o.violate(t.OID, k, "the log says %v %s, the source has %s", ok, got, want)
		}
		if want.vec == 0 || want.bad() {
			if len(have[k]) > 0 {
				o.violate(t.OID, k, "at the end: must not be there")
			}
			continue
		}
		if rows := have[k]; len(rows) != 1 || entityValue(t, rows[0]) != want {
			o.violate(t.OID, k, "at the end: have %d entities %s, want %s", len(rows), firstValue(t, rows), want)
		}
	}
	for k := range have {
		if _, ok := source[k]; !ok {
			o.violate(t.OID, k, "at the end: must not be there")
		}
	}
	for k := range o.rows[t.OID] {
		if _, ok := source[k]; !ok {
			o.violate(t.OID, k, "the log has a row that the source has not")
		}
	}
}

func firstValue(t *vecferry.Table, rows []vecferry.Row) (v value) {
	if len(rows) > 0 {
		v = entityValue(t, rows[0])
	}
	return v
}
