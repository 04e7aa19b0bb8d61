package snapshot_test

import (
	"cmp"
	"slices"

	"github.com/vecferry/vecferry"
)

func (w *world) state() *vecferry.TableState { return w.cp.Tables[w.table.OID] }

func (w *world) stateOf(k vecferry.Key) vecferry.MappedRange {
	rs := w.state().Ranges
	return rs[slices.IndexFunc(rs, func(r vecferry.MappedRange) bool { return r.Has(k) })]
}

// save persists what is in memory.
func (w *world) save() {
	w.show()
	w.saved, w.savedAt = w.shown, w.at()
}

// show gives the watchers what is in memory.
func (w *world) show() {
	b, err := w.cp.Encode()
	if err != nil {
		w.breach("encode: %v", err)
	}
	w.shown = b
	for bell := range w.watchers {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
}

// assign gives keys a state.
func (w *world) assign(to vecferry.MappedRange) {
	var out []vecferry.MappedRange
	cut := func(r vecferry.MappedRange, rng vecferry.Range) {
		if r.Range = rng; !rng.Empty() {
			out = append(out, r)
		}
	}
	for _, r := range w.state().Ranges {
		if !r.Overlaps(to.Range) {
			out = append(out, r)
			continue
		}
		cut(r, vecferry.Range{Lo: r.Lo, Hi: to.Lo})
		if !to.ToEnd {
			cut(r, vecferry.Range{Lo: to.Hi, Hi: r.Hi, ToEnd: r.ToEnd})
		}
	}
	out = append(out, to)
	slices.SortFunc(out, func(a, b vecferry.MappedRange) int { return cmp.Compare(a.Lo, b.Lo) })
	w.state().Ranges = merge(out)
}

// merge joins neighbours of one kind.
func merge(rs []vecferry.MappedRange) []vecferry.MappedRange {
	out := rs[:1:1]
	for _, r := range rs[1:] {
		last := &out[len(out)-1]
		if last.State == r.State && last.Attempt == r.Attempt && last.Virgin == r.Virgin && last.Hi == r.Lo {
			last.Hi, last.ToEnd = r.Hi, r.ToEnd
			continue
		}
		out = append(out, r)
	}
	return out
}

// forget gives open chunks up.
func (w *world) forget(is func(attempt uint64) bool) {
	for i, r := range w.state().Ranges {
		if r.State == vecferry.Copying && is(r.Attempt) {
			w.state().Ranges[i] = vecferry.MappedRange{Range: r.Range, State: vecferry.Todo}
			delete(w.state().Copies, r.Attempt)
			delete(w.held, r.Attempt)
		}
	}
	w.state().Ranges = merge(w.state().Ranges)
}

// run applies some of the log, or crashes.
func (w *world) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chance(w.sinkCrash) {
		w.stats["sink crash"]++
		cp, err := vecferry.DecodeCheckpoint(w.saved)
		if err != nil {
			w.breach("decode: %v", err)
			return
		}
		w.cp, w.replayUntil = cp, len(w.log)
		if w.state().Copies == nil {
			w.state().Copies = map[uint64]*vecferry.Copy{}
		}
		w.forget(func(uint64) bool { return true })
		w.held = map[uint64][]entry{}
		w.save()
		return
	}
	if w.at() == len(w.log) && w.savedAt == w.at() && w.taint == 0 {
		return
	}
	for range 1 + w.rnd.IntN(12) {
		if w.at() == len(w.log) {
			break
		}
		w.apply(w.log[w.at()], vecferry.PositionAt(uint64(w.at()+1), 0))
		w.cp.AppliedLSN++
	}
	w.judge()
	if w.chance(w.taint) {
		w.taintKey(vecferry.IntKey(int64(w.rnd.IntN(len(w.history)))))
	}
	switch {
	case !w.chance(w.unsaved):
		w.save()
	case w.leak:
		w.show()
	}
}

// at is how much of the log is applied.
func (w *world) at() int { return int(w.cp.AppliedLSN) }

// taintKey gives a key up. It is persisted at once, since no redo would find the
// reason for it in the log.
func (w *world) taintKey(k vecferry.Key) {
	if w.stateOf(k).State == vecferry.Live {
		w.stats["taint"]++
		w.assign(vecferry.MappedRange{Range: vecferry.Only(k), State: vecferry.Todo})
		w.save()
		delete(w.target, k)
	}
}

func (w *world) apply(e entry, at vecferry.Position) {
	if e.mark == nil {
		w.state().Recent.Add(e.xid)
		for _, c := range e.changes {
			w.half(e.xid, c)
		}
		return
	}
	sees, err := vecferry.ParseVisibility(e.mark.Snapshot)
	if err != nil {
		w.breach("mark: %v", err)
		return
	}
	if e.mark.Kind == vecferry.High {
		w.high(e.mark, sees)
		return
	}
	w.state().Recent.DropSeen(sees)
	w.low(e.mark, at)
}

func (w *world) half(xid vecferry.XID, c change) {
	switch r := w.stateOf(c.key); r.State {
	case vecferry.Copying:
		w.held[r.Attempt] = append(w.held[r.Attempt], entry{xid: xid, changes: []change{c}})
	case vecferry.Live, vecferry.Dead:
		w.put(c)
	}
}

// put applies a whole row.
func (w *world) put(c change) {
	delete(w.target, c.key)
	state := vecferry.Live
	switch {
	case c.version == 0:
	case refuses(c.version) || c.version%29 == 0:
		w.buried[c.key], state = true, vecferry.Dead
	default:
		w.target[c.key] = c.version
	}
	w.assign(vecferry.MappedRange{Range: vecferry.Only(c.key), State: state})
}

func (w *world) low(m *vecferry.Mark, at vecferry.Position) {
	c := &vecferry.Copy{Low: at, Need: slices.Clone(w.state().Recent), Virgin: true}
	taken := map[uint64]bool{}
	for _, r := range m.Ranges {
		for _, have := range w.state().Ranges {
			if have.Overlaps(r) {
				c.Virgin = c.Virgin && have.State == vecferry.Todo && have.Virgin
				taken[have.Attempt] = have.State == vecferry.Copying
			}
		}
	}
	w.forget(func(a uint64) bool { return taken[a] })
	for _, r := range m.Ranges {
		w.assign(vecferry.MappedRange{Range: r, State: vecferry.Copying, Attempt: m.Attempt})
	}
	w.state().Copies[m.Attempt], w.held[m.Attempt] = c, nil
}

func (w *world) high(m *vecferry.Mark, sees vecferry.Visibility) {
	c := w.state().Copies[m.Attempt]
	if c == nil || !sees.SeesAll(c.Need) || w.chance(w.emit) {
		w.stats["void"]++
		w.forget(func(a uint64) bool { return a == m.Attempt })
		return
	}
	w.state().Recent.DropSeen(sees)
	for _, r := range slices.Clone(w.state().Ranges) {
		if r.State == vecferry.Copying && r.Attempt == m.Attempt {
			w.assign(vecferry.MappedRange{Range: r.Range, State: vecferry.Live})
		}
	}
	for _, k := range m.Dead {
		w.assign(vecferry.MappedRange{Range: vecferry.Only(k), State: vecferry.Dead})
	}
	w.state().Rows += m.Rows
	w.state().Chunks++
	w.state().Dead += int64(len(m.Dead))
	held := w.held[m.Attempt]
	delete(w.state().Copies, m.Attempt)
	delete(w.held, m.Attempt)
	for _, e := range held {
		if !sees.Sees(e.xid) {
			w.half(e.xid, e.changes[0])
		}
	}
}
