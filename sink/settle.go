package sink

import (
	"github.com/vecferry/vecferry"
)

// An outcome is what a run comes to for one table: the calls on the target, in
// this order, and the rows that the target cannot hold.
type outcome struct {
	clear []vecferry.Range
	write vecferry.Write
	dead  []deadRow
}

// deadRow is a row on its way to the dead letters.
type deadRow struct {
	key vecferry.Key
	row vecferry.Row
	lsn vecferry.LSN
	err *vecferry.RowError
}

// bases returns the keys whose entities, as they stand before the run, are
// needed to complete rows.
func (m *machine) bases() []vecferry.Key {
	seen := make(map[vecferry.Key]bool)
	var out []vecferry.Key
	want := func(f *final) {
		if f.hasBase && !seen[f.base] {
			seen[f.base] = true
			out = append(out, f.base)
		}
	}
	for _, k := range m.run.keys() {
		if f := m.run.finals[k]; !f.isNull(m.table) {
			want(f)
		}
	}
	for _, h := range m.waiting() {
		want(h.from)
	}
	return out
}

// waiting returns the held changes that take values from an entity as it stands
// before this run, and so must be completed in it.
func (m *machine) waiting() []*half {
	var out []*half
	for _, b := range m.held {
		for i := range b.halves {
			if h := &b.halves[i]; h.from != nil && h.from.hasBase {
				out = append(out, h)
			}
		}
	}
	return out
}

// isNull reports whether the row has no vector and so no entity.
func (f *final) isNull(t *vecferry.Table) bool {
	return len(f.row.Values) > 0 && f.row.Values[t.Vector].IsNull()
}

// settle ends the run: it completes the rows from their bases and says what is
// to be done. check tells whether the target can hold a row.
func (m *machine) settle(bases map[vecferry.Key]vecferry.Row, check func(vecferry.Row) error) *outcome {
	for _, h := range m.waiting() {
		m.completeHeld(h, bases)
	}
	out := &outcome{clear: m.run.cleared}
	for _, k := range m.run.keys() {
		f := m.run.finals[k]
		switch done := m.complete(k, f, bases); {
		case done:
		case f.lost:
			out.write.Delete = append(out.write.Delete, k)
			m.count.Tainted++
			m.state.Taints++
			m.set(vecferry.Only(k), vecferry.Todo)
		case f.dead != nil:
			m.bury(out, k, f)
		case f.deleted, f.isNull(m.table):
			if !f.fresh {
				out.write.Delete = append(out.write.Delete, k)
			}
		default:
			m.putOrBury(out, k, f, check)
		}
	}
	m.run = newRun()
	return out
}

// complete takes a final's absent values from its base. It reports true if the
// target already has the result, which only a redo finds.
func (m *machine) complete(k vecferry.Key, f *final, bases map[vecferry.Key]vecferry.Row) bool {
	if !f.hasBase || f.isNull(m.table) {
		return false
	}
	base, ok := bases[f.base]
	switch {
	case ok && m.rules.MergesOnto(base.Position, m.start):
		f.row = f.row.MergeOnto(base)
	case ok && m.replay && f.base == k && base.Position == f.row.Position:
		return true
	default:
		// An absent vector on an absent entity, or one from the future, cannot
		// be outside a redo; other values are absent with the entity after the
		// row had no vector for a while.
		if f.row.Values[m.table.Vector].IsAbsent() && !m.replay {
			m.count.Breaches++
		}
		f.lost = true
	}
	return false
}

// completeHeld is complete for a held half of a key change.
func (m *machine) completeHeld(h *half, bases map[vecferry.Key]vecferry.Row) {
	f := &final{row: h.row}
	f.lay(h.from)
	m.complete(h.key, f, bases)
	if f.lost {
		h.from = &final{lost: true}
		return
	}
	h.row, h.from = f.row, nil
}

// putOrBury puts a whole row if the target can hold it.
func (m *machine) putOrBury(out *outcome, k vecferry.Key, f *final, check func(vecferry.Row) error) {
	if err := check(f.row); err != nil {
		f.dead = m.table.AsRowError(k, err)
		m.bury(out, k, f)
		return
	}
	if f.fresh {
		out.write.New = append(out.write.New, f.row)
		return
	}
	out.write.Put = append(out.write.Put, f.row)
}

// bury takes a row to the dead letters: what stood under its key is deleted,
// since it is no longer what the source has.
func (m *machine) bury(out *outcome, k vecferry.Key, f *final) {
	out.write.Delete = append(out.write.Delete, k)
	out.dead = append(out.dead, deadRow{key: k, row: f.row, lsn: f.lsn, err: f.dead})
	m.markDead(k)
}

// markDead makes a key wait for a whole row.
func (m *machine) markDead(k vecferry.Key) {
	m.state.Dead++
	m.set(vecferry.Only(k), vecferry.Dead)
}
