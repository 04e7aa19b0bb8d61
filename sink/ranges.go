package sink

import (
	"slices"
	"sort"

	"github.com/vecferry/vecferry"
)

// find returns the index of the range that holds k. The ranges are sorted,
// disjoint and together everything.
func find(rs []vecferry.MappedRange, k vecferry.Key) int {
	return sort.Search(len(rs), func(i int) bool { return !rs[i].Before(k) })
}

// assign gives a part of the key space a new state. Ranges of one state that
// touch are merged, so that the map stays as small as the work at hand.
func assign(rs []vecferry.MappedRange, to vecferry.MappedRange) []vecferry.MappedRange {
	if to.Empty() {
		return rs
	}
	out := make([]vecferry.MappedRange, 0, len(rs)+2)
	placed := false
	place := func() {
		if !placed {
			out, placed = appendMerged(out, to), true
		}
	}
	for _, r := range rs {
		if !r.Overlaps(to.Range) {
			if to.Before(r.Lo) {
				place()
			}
			out = appendMerged(out, r)
			continue
		}
		out = appendMerged(out, withRange(r, vecferry.Range{Lo: r.Lo, Hi: to.Lo}))
		place()
		if !to.ToEnd {
			out = appendMerged(out, withRange(r, vecferry.Range{Lo: to.Hi, Hi: r.Hi, ToEnd: r.ToEnd}))
		}
	}
	return out
}

func withRange(r vecferry.MappedRange, rng vecferry.Range) vecferry.MappedRange {
	r.Range = rng
	return r
}

// appendMerged appends r, or extends the last range if it is of the same kind.
func appendMerged(rs []vecferry.MappedRange, r vecferry.MappedRange) []vecferry.MappedRange {
	if r.Empty() {
		return rs
	}
	if n := len(rs); n > 0 {
		last := &rs[n-1]
		if last.State == r.State && last.Attempt == r.Attempt && last.Virgin == r.Virgin && !last.ToEnd && last.Hi == r.Lo {
			last.Hi, last.ToEnd = r.Hi, r.ToEnd
			return rs
		}
	}
	return append(rs, r)
}

// replace gives every selected range another state.
func replace(rs []vecferry.MappedRange, is func(vecferry.MappedRange) bool, state vecferry.RangeState) []vecferry.MappedRange {
	out := make([]vecferry.MappedRange, 0, len(rs))
	for _, r := range rs {
		if is(r) {
			r = vecferry.MappedRange{Range: r.Range, State: state}
		}
		out = appendMerged(out, r)
	}
	return out
}

// ofAttempt selects the ranges of one open chunk.
func ofAttempt(a uint64) func(vecferry.MappedRange) bool {
	return func(r vecferry.MappedRange) bool { return r.State == vecferry.Copying && r.Attempt == a }
}

// inState selects the ranges of one state.
func inState(s vecferry.RangeState) func(vecferry.MappedRange) bool {
	return func(r vecferry.MappedRange) bool { return r.State == s }
}

// covered returns what the selected ranges cover inside within.
func covered(rs []vecferry.MappedRange, is func(vecferry.MappedRange) bool, within vecferry.Range) []vecferry.Range {
	var out []vecferry.Range
	for _, r := range rs {
		if cut := r.Intersect(within); is(r) && !cut.Empty() {
			out = append(out, cut)
		}
	}
	return out
}

// hasKey reports whether one of the ranges has the key.
func hasKey(rs []vecferry.Range, k vecferry.Key) bool {
	return slices.ContainsFunc(rs, func(r vecferry.Range) bool { return r.Has(k) })
}
