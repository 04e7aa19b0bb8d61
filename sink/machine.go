package sink

import (
	"errors"
	"slices"

	"github.com/vecferry/vecferry"
)

// Decoder turns the tuples of one table's relation into keys and rows.
type Decoder interface {
	// Key returns the key in a tuple that may hold nothing else.
	Key(vecferry.Tuple) (vecferry.Key, error)
	// Row returns the mapped columns; what was not sent is absent. An error
	// that is a *vecferry.RowError concerns this row alone.
	Row(vecferry.Tuple, vecferry.Position) (vecferry.Row, error)
}

// A half is what one change does to one key. A key change has two halves.
type half struct {
	key vecferry.Key
	row vecferry.Row // empty if delete
	del bool
	// arrives says that the change put a row under a key that had none.
	arrives bool
	bad     *vecferry.RowError // the row cannot be decoded
	from    *final             // where absent values come from, nil for what stands under key
	tx      vecferry.Tx
	lsn     vecferry.LSN

	truncate bool         // a TRUNCATE, held back
	moves    bool         // a key change inside one chunk, held back whole
	old      vecferry.Key // of moves
}

// bytes estimates what holding the half back costs.
func (h *half) bytes() int {
	n := 128
	for _, v := range h.row.Values {
		n += 64 + len(v.Text()) + 4*len(v.Vector())
	}
	return n
}

// heldLimit bounds the memory of the changes held back for one chunk; beyond it
// the chunk is void and read again.
const heldLimit = 64 << 20

type heldBack struct {
	halves []half
	bytes  int
}

// machine is the chunk protocol of one table: it takes the changes and marks in
// order and decides what a run comes to. It does no input or output.
type machine struct {
	rules  Rules
	table  *vecferry.Table
	state  *vecferry.TableState
	held   map[uint64]*heldBack // by attempt; lost in a restart, which voids the chunk
	run    *run
	start  vecferry.Position // of the run
	replay bool              // the run is done again after a crash
	count  Counts
}

// Counts are the events of one table that an operator wants to see.
type Counts struct {
	Applied  int64 // halves of changes applied
	Dropped  int64 // in a todo range
	HeldBack int64 // in a copying range
	Gated    int64 // held back, and already in the chunk
	Void     int64 // chunks that must be read again
	Tainted  int64 // keys given up and read again
	Breaches int64 // changes that met an entity that cannot be: a bug, here or in the target
}

func newMachine(rules Rules, t *vecferry.Table, st *vecferry.TableState) *machine {
	m := &machine{rules: rules, table: t, state: st, held: make(map[uint64]*heldBack), run: newRun()}
	m.restart()
	return m
}

// restart forgets what a restart forgets: the open chunks.
func (m *machine) restart() {
	m.state.Ranges = replace(m.state.Ranges, inState(vecferry.Copying), vecferry.Todo)
	m.state.Copies = make(map[uint64]*vecferry.Copy)
	m.state.Recent = m.rules.Restores(m.state.Recent)
}

func (m *machine) rangeOf(k vecferry.Key) vecferry.MappedRange {
	return m.state.Ranges[find(m.state.Ranges, k)]
}

func (m *machine) set(r vecferry.Range, s vecferry.RangeState) {
	m.state.Ranges = assign(m.state.Ranges, vecferry.MappedRange{Range: r, State: s})
}

// change takes an insert, update or delete.
func (m *machine) change(c *vecferry.Change, d Decoder) error {
	keys, err := keysOf(c, d)
	if err != nil {
		return err
	}
	ranges := []vecferry.MappedRange{m.rangeOf(keys.key)}
	if keys.moved {
		ranges = append(ranges, m.rangeOf(keys.old))
	}
	m.remember(c.Tx.XID, ranges)
	if !slices.ContainsFunc(ranges, func(r vecferry.MappedRange) bool { return r.State != vecferry.Todo }) {
		m.count.Dropped++
		return nil // the commonest case during a copy; the row need not be decoded
	}
	h := half{key: keys.key, del: c.Op == vecferry.OpDelete, arrives: c.Op == vecferry.OpInsert || keys.moved, tx: c.Tx, lsn: c.LSN}
	if err := m.decode(&h, c, d); err != nil {
		return err
	}
	if keys.moved {
		m.move(h, keys.old, ranges[1], ranges[0])
		return nil
	}
	m.half(h)
	return nil
}

type changedKeys struct {
	key, old vecferry.Key
	moved    bool
}

func keysOf(c *vecferry.Change, d Decoder) (k changedKeys, err error) {
	if c.Op == vecferry.OpDelete {
		k.key, err = d.Key(c.Old)
		return k, err
	}
	if k.key, err = d.Key(c.New); err != nil || c.Old == nil {
		return k, err
	}
	k.old, err = d.Key(c.Old)
	k.moved = k.old != k.key
	return k, err
}

// decode fills the row of a half. Under REPLICA IDENTITY FULL the old row has
// what the new one left out.
func (m *machine) decode(h *half, c *vecferry.Change, d Decoder) (err error) {
	if h.del {
		return nil
	}
	h.row, err = d.Row(c.New, c.Position)
	if err == nil && c.OldWhole && !h.row.Complete() {
		var old vecferry.Row
		if old, err = d.Row(c.Old, c.Position); err == nil {
			h.row = h.row.MergeOnto(old)
		}
	}
	if errors.As(err, &h.bad) {
		return nil
	}
	return err
}

// remember puts a transaction into the recent ones.
func (m *machine) remember(x vecferry.XID, touched []vecferry.MappedRange) {
	if slices.ContainsFunc(touched, func(r vecferry.MappedRange) bool { return m.rules.Remembers(r.State) }) {
		m.state.Recent.Add(x)
	}
}

// move takes a key change: two halves, each by the state of its own range. What
// the event did not send can come only from an entity that is known to stand
// exactly at the event's position.
func (m *machine) move(h half, old vecferry.Key, ro, rn vecferry.MappedRange) {
	if h.bad == nil && !h.row.Complete() && rn.State != vecferry.Todo {
		switch {
		case m.rules.Carries(ro.State):
			h.from = m.run.at(old, len(m.table.Fields))
		case ro.State == vecferry.Copying && rn.State == vecferry.Copying && ro.Attempt == rn.Attempt:
			h.moves, h.old = true, old
			m.half(h)
			return
		default:
			h.from = &final{lost: true}
		}
	}
	m.half(half{key: old, del: true, tx: h.tx, lsn: h.lsn})
	m.half(h)
}

// half does what the state of the key's range says.
func (m *machine) half(h half) {
	switch r := m.rangeOf(h.key); r.State {
	case vecferry.Todo:
		m.count.Dropped++
	case vecferry.Copying:
		m.hold(r.Attempt, h)
	case vecferry.Dead:
		m.revive(h)
	default:
		m.apply(h)
	}
}

func (m *machine) hold(attempt uint64, h half) {
	b := m.held[attempt]
	if b == nil || !m.rules.Holds() {
		return
	}
	m.count.HeldBack++
	b.halves = append(b.halves, h)
	if b.bytes += h.bytes(); b.bytes > heldLimit {
		m.void(attempt)
	}
}

// revive takes a change to a key that is in the dead letters. A whole row
// brings it back, a part of one has it read again.
func (m *machine) revive(h half) {
	switch {
	case h.bad != nil:
		m.apply(h)
	case h.del, h.row.Complete():
		m.set(vecferry.Only(h.key), vecferry.Live)
		m.apply(h)
	default: // over what the run has for it so far: it may have failed again
		m.run.become(h.key, &final{lost: true, lsn: h.lsn})
	}
}

// apply takes a change to a live range into the run.
func (m *machine) apply(h half) {
	m.count.Applied++
	switch {
	case h.del:
		m.run.delete(h.key, h.lsn)
	case h.bad != nil:
		m.run.kill(h.key, h.bad, h.lsn)
	default:
		from := h.from
		if from == nil {
			from = m.run.at(h.key, len(m.table.Fields))
			m.witness(h.row, from)
		}
		// In a redo the first try may have put the row already.
		m.run.put(h.row, from, h.arrives && !m.replay, h.lsn)
	}
}

// witness counts an update without a vector of a row that is not there, which
// cannot be outside a redo.
func (m *machine) witness(row vecferry.Row, from *final) {
	if from.deleted && row.Values[m.table.Vector].IsAbsent() && !m.replay {
		m.count.Breaches++
	}
}

// truncate empties what is live; what is being copied learns of it in its turn.
func (m *machine) truncate(c *vecferry.Change) {
	m.remember(c.Tx.XID, m.state.Ranges)
	for attempt := range m.state.Copies {
		m.hold(attempt, half{truncate: true, tx: c.Tx, lsn: c.LSN})
	}
	m.wipe(vecferry.Everything())
}

// wipe empties the live part of a range; its dead letters are gone as well.
func (m *machine) wipe(within vecferry.Range) {
	for _, dead := range covered(m.state.Ranges, inState(vecferry.Dead), within) {
		m.set(dead, vecferry.Live)
	}
	m.run.clear(covered(m.state.Ranges, inState(vecferry.Live), within))
}

// low opens a chunk. It takes its ranges over from whoever has them.
func (m *machine) low(mark vecferry.Mark, at vecferry.Position) {
	c := &vecferry.Copy{Low: at, Need: m.rules.Need(m.state.Recent), Virgin: true}
	for _, r := range mark.Ranges {
		m.takeOver(r, c)
		m.state.Ranges = assign(m.state.Ranges, vecferry.MappedRange{Range: r, State: vecferry.Copying, Attempt: mark.Attempt})
	}
	m.run.forget(mark.Ranges)
	m.state.Copies[mark.Attempt] = c
	m.held[mark.Attempt] = &heldBack{}
}

// takeOver voids the open chunks that a new one overlaps, and notes whether
// anything was ever written to the range.
func (m *machine) takeOver(r vecferry.Range, c *vecferry.Copy) {
	for _, have := range m.state.Ranges {
		if !have.Overlaps(r) {
			continue
		}
		c.Virgin = c.Virgin && have.State == vecferry.Todo && have.Virgin
		if have.State == vecferry.Copying {
			m.void(have.Attempt)
		}
	}
}

// void gives a chunk up; its ranges wait to be read again.
func (m *machine) void(attempt uint64) {
	m.count.Void++
	m.state.Ranges = replace(m.state.Ranges, ofAttempt(attempt), vecferry.Todo)
	delete(m.state.Copies, attempt)
	delete(m.held, attempt)
}

// high closes a chunk: its ranges are live, and what was held back is walked.
// It reports whether the chunk was accepted.
func (m *machine) high(mark vecferry.Mark, s vecferry.Visibility) bool {
	c := m.state.Copies[mark.Attempt]
	if c == nil {
		return false // lost in a restart, or taken over
	}
	if !m.rules.Accepts(c.Need, s) {
		m.void(mark.Attempt)
		return false
	}
	within := covered(m.state.Ranges, ofAttempt(mark.Attempt), vecferry.Everything())
	walk := m.held[mark.Attempt].halves
	m.state.Ranges = replace(m.state.Ranges, ofAttempt(mark.Attempt), vecferry.Live)
	for _, k := range mark.Dead {
		m.set(vecferry.Only(k), vecferry.Dead)
	}
	delete(m.state.Copies, mark.Attempt)
	delete(m.held, mark.Attempt)
	m.state.Rows, m.state.Nulls = m.state.Rows+mark.Rows, m.state.Nulls+mark.Nulls
	m.state.Dead, m.state.Chunks = m.state.Dead+int64(len(mark.Dead)), m.state.Chunks+1
	m.walk(walk, within, s)
	return true
}

// walk applies the held changes that the chunk's snapshot did not see.
func (m *machine) walk(held []half, within []vecferry.Range, s vecferry.Visibility) {
	for _, h := range held {
		switch {
		case m.rules.Skips(s, h.tx):
			m.count.Gated++
		case h.truncate:
			for _, r := range within {
				m.wipe(r)
			}
		case h.moves:
			h.moves = false
			h.from = &final{lost: true}
			if m.rules.Carries(m.rangeOf(h.old).State) {
				h.from = m.run.at(h.old, len(m.table.Fields))
			}
			m.half(half{key: h.old, del: true, tx: h.tx, lsn: h.lsn})
			m.half(h)
		default:
			m.half(h)
		}
	}
}

// forgetSeen takes the transactions that a snapshot in the stream has seen out
// of the recent ones: every later chunk's snapshot sees them too.
func (m *machine) forgetSeen(v vecferry.Visibility) { m.state.Recent.DropSeen(v) }
