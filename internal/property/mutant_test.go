package property

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/snapshot"
)

// mutant is the protocol with one rule missing. Nothing in the product knows of
// it: rules, targets and records are exchanged from outside. The zero value is
// the protocol as it must be.
type mutant struct {
	name   string
	with   func(*world) sink.Rules
	target func(snapshot.Target) snapshot.Target
	// leaks shows the copy what the sink has in memory, persisted or not.
	leaks bool
	// hasty shows the copy every chunk of a range that was never live as held,
	// as soon as its LOW is written.
	hasty bool
	// blind reads chunks with any snapshot.
	blind bool
	// lsn notes where the log ends before a chunk is read.
	lsn bool
	// careless says that writes to the same keys at once are to be expected.
	careless bool
}

func (m mutant) rules(w *world) sink.Rules {
	if m.with == nil {
		return sink.Protocol{}
	}
	return m.with(w)
}

func (m mutant) copyTarget(c *milvus.Collection) snapshot.Target {
	if m.target == nil {
		return c
	}
	return m.target(c)
}

// mutation is what the mutants need to know of the world.
type mutation struct {
	mutationMu sync.Mutex
	next       int
	listeners  map[int]func(*vecferry.Checkpoint)
	shown      *vecferry.Checkpoint
	hasty      map[uint64]*hasty // by attempt
	noted      map[string]vecferry.LSN
}

// hasty is a chunk that did not wait.
type hasty struct {
	low vecferry.Mark
	// end is a position behind the last of its marks: from there on the record
	// itself tells.
	end vecferry.LSN
}

// listen registers who is told of the sink's record.
func (w *world) listen(f func(*vecferry.Checkpoint)) (stop func()) {
	w.mutationMu.Lock()
	defer w.mutationMu.Unlock()
	w.next++
	n := w.next
	w.listeners[n] = f
	return func() {
		w.mutationMu.Lock()
		defer w.mutationMu.Unlock()
		delete(w.listeners, n)
	}
}

// tell shows a record to the copy.
func (w *world) tell(cp *vecferry.Checkpoint) {
	w.mutationMu.Lock()
	defer w.mutationMu.Unlock()
	w.shown = cp
	w.show()
}

func (w *world) show() {
	cp := w.shown
	for attempt, h := range w.hasty {
		t := cp.Tables[h.low.Table]
		if t == nil || t.Copies[attempt] != nil || cp.AppliedLSN >= h.end {
			delete(w.hasty, attempt)
			continue
		}
		cp = pretend(cp, h.low)
	}
	for _, f := range w.listeners {
		f(cp)
	}
}

// pretend returns a record in which a chunk is open.
func pretend(cp *vecferry.Checkpoint, low vecferry.Mark) *vecferry.Checkpoint {
	out := *cp
	out.Tables = make(map[uint32]*vecferry.TableState, len(cp.Tables))
	for oid, t := range cp.Tables {
		copied := *t
		out.Tables[oid] = &copied
	}
	t := out.Tables[low.Table]
	t.Copies = map[uint64]*vecferry.Copy{low.Attempt: {}}
	var rest []vecferry.MappedRange
	for _, r := range t.Ranges {
		rest = append(rest, without(r, low.Ranges)...)
	}
	for _, r := range low.Ranges {
		rest = append(rest, vecferry.MappedRange{Range: r, State: vecferry.Copying, Attempt: low.Attempt})
	}
	slices.SortFunc(rest, func(a, b vecferry.MappedRange) int { return strings.Compare(string(a.Lo), string(b.Lo)) })
	t.Ranges = rest
	return &out
}

// without cuts ranges out of one.
func without(r vecferry.MappedRange, cuts []vecferry.Range) []vecferry.MappedRange {
	out := []vecferry.MappedRange{r}
	for _, c := range cuts {
		var next []vecferry.MappedRange
		for _, r := range out {
			if !r.Overlaps(c) {
				next = append(next, r)
				continue
			}
			before, after := r, r
			before.Range = vecferry.Range{Lo: r.Lo, Hi: c.Lo}
			after.Range = vecferry.Range{Lo: c.Hi, Hi: r.Hi, ToEnd: r.ToEnd}
			if !before.Empty() {
				next = append(next, before)
			}
			if !c.ToEnd && !after.Empty() {
				next = append(next, after)
			}
		}
		out = next
	}
	return out
}

// lowWritten makes a chunk hasty, if the mutant is and its ranges were never live.
func (w *world) lowWritten(m vecferry.Mark, end vecferry.LSN) {
	w.mutationMu.Lock()
	defer w.mutationMu.Unlock()
	if !w.o.mutant.hasty || w.shown == nil {
		return
	}
	for _, r := range m.Ranges {
		for _, have := range w.shown.Tables[m.Table].Ranges {
			if have.Overlaps(r) && have.State == vecferry.Live {
				return
			}
		}
		maps.DeleteFunc(w.hasty, func(_ uint64, h *hasty) bool {
			return h.low.Table == m.Table && slices.ContainsFunc(h.low.Ranges, r.Overlaps)
		})
	}
	w.hasty[m.Attempt] = &hasty{low: m, end: end}
	w.show()
}

// highWritten notes where a chunk's HIGH is.
func (w *world) highWritten(attempt uint64, end vecferry.LSN) {
	w.mutationMu.Lock()
	defer w.mutationMu.Unlock()
	if h := w.hasty[attempt]; h != nil {
		h.end = end
	}
}

// notedLSN keeps the position that belongs to a snapshot.
func (w *world) notedLSN(snapshot string, at vecferry.LSN) {
	v, err := vecferry.ParseVisibility(snapshot)
	if err != nil || at == 0 {
		return
	}
	w.mutationMu.Lock()
	defer w.mutationMu.Unlock()
	w.noted[fmt.Sprint(v)] = at
}

// lsnOf returns the position that belongs to a snapshot.
func (w *world) lsnOf(v vecferry.Visibility) vecferry.LSN {
	w.mutationMu.Lock()
	defer w.mutationMu.Unlock()
	return w.noted[fmt.Sprint(v)]
}
