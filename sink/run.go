package sink

import (
	"maps"
	"slices"

	"github.com/vecferry/vecferry"
)

// A final is what one key comes to within a run.
type final struct {
	row     vecferry.Row
	deleted bool
	// base names the entity, as it stood before the run, that the absent values
	// of row come from; hasBase is false for a whole row.
	base    vecferry.Key
	hasBase bool
	// fresh says that nothing stood under the key before the run.
	fresh bool
	lost  bool               // the base cannot be known: the key is tainted
	dead  *vecferry.RowError // the row cannot be held by the target
	lsn   vecferry.LSN       // of the last change, for a dead letter
}

// run collapses the changes of one table to one final state per key. It knows
// the target only as "the entity that stood under this key before the run".
type run struct {
	finals  map[vecferry.Key]*final
	cleared []vecferry.Range // emptied by a TRUNCATE in this run
}

func newRun() *run { return &run{finals: make(map[vecferry.Key]*final)} }

// at returns what stands under a key at this point of the run, as a final whose
// absent values, if any, come from a base.
func (r *run) at(k vecferry.Key, width int) *final {
	if f, ok := r.finals[k]; ok {
		return f
	}
	if hasKey(r.cleared, k) {
		return &final{deleted: true}
	}
	return &final{base: k, hasBase: true, row: vecferry.Row{Key: k, Values: make([]vecferry.Value, width)}}
}

// become makes f what a key comes to.
func (r *run) become(k vecferry.Key, f *final) {
	if before := r.finals[k]; before != nil {
		f.fresh = before.fresh
	}
	r.finals[k] = f
}

// delete leaves nothing under a key.
func (r *run) delete(k vecferry.Key, lsn vecferry.LSN) {
	r.become(k, &final{deleted: true, lsn: lsn})
}

// put lays a row over what stood under from, which is the row's own key or, in
// a key change, the old one. A row that arrives takes a key that is free.
func (r *run) put(row vecferry.Row, from *final, arrives bool, lsn vecferry.LSN) {
	f := &final{row: row, fresh: arrives, lsn: lsn}
	if !row.Complete() {
		f.lay(from)
	}
	r.become(row.Key, f)
}

// lay takes the absent values of f from what stood before it.
func (f *final) lay(from *final) {
	if from.deleted || from.lost || from.dead != nil {
		f.lost = true
		return
	}
	f.row = f.row.MergeOnto(from.row)
	if !f.row.Complete() {
		f.base, f.hasBase = from.base, from.hasBase
	}
}

// kill sends a key's row to the dead letters.
func (r *run) kill(k vecferry.Key, err *vecferry.RowError, lsn vecferry.LSN) {
	r.become(k, &final{dead: err, lsn: lsn})
}

// forget drops what was decided for the keys of some ranges: somebody else
// writes them from here on, or they are emptied.
func (r *run) forget(ranges []vecferry.Range) {
	maps.DeleteFunc(r.finals, func(k vecferry.Key, _ *final) bool { return hasKey(ranges, k) })
}

// clear empties ranges.
func (r *run) clear(ranges []vecferry.Range) {
	r.forget(ranges)
	r.cleared = append(r.cleared, ranges...)
}

// keys returns the keys with a final state, sorted, so that writes are the same
// in every redo.
func (r *run) keys() []vecferry.Key { return slices.Sorted(maps.Keys(r.finals)) }
