package snapshot

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
)

func k(i int64) vecferry.Key { return vecferry.IntKey(i) }

func span(lo, hi int64) vecferry.Range { return vecferry.Range{Lo: k(lo), Hi: k(hi)} }

func mapped(s vecferry.RangeState, r vecferry.Range) vecferry.MappedRange {
	return vecferry.MappedRange{Range: r, State: s}
}

func TestPickChunk(t *testing.T) {
	t.Parallel()
	one := vecferry.Only
	tests := []struct {
		name   string
		bounds []vecferry.Key
		open   []vecferry.Range // one chunk each
		ranges []vecferry.MappedRange
		want   []vecferry.Range
	}{
		{"nothing to do", nil, nil, []vecferry.MappedRange{mapped(vecferry.Live, vecferry.Everything())}, nil},
		{"the first piece", []vecferry.Key{k(10), k(20)}, nil,
			[]vecferry.MappedRange{mapped(vecferry.Todo, vecferry.Everything())}, []vecferry.Range{{Hi: k(10)}}},
		{"the next piece while the record does not know the first", []vecferry.Key{k(10), k(20)}, []vecferry.Range{{Hi: k(10)}},
			[]vecferry.MappedRange{mapped(vecferry.Todo, vecferry.Everything())}, []vecferry.Range{span(10, 20)}},
		{"the end", []vecferry.Key{k(10), k(20)}, nil,
			[]vecferry.MappedRange{mapped(vecferry.Live, vecferry.Range{Hi: k(20)}), mapped(vecferry.Todo, vecferry.Range{Lo: k(20), ToEnd: true})},
			[]vecferry.Range{{Lo: k(20), ToEnd: true}}},
		{"copying by a dead worker", []vecferry.Key{k(10), k(20)}, nil,
			[]vecferry.MappedRange{mapped(vecferry.Live, vecferry.Range{Hi: k(10)}), mapped(vecferry.Copying, span(10, 20)), mapped(vecferry.Live, vecferry.Range{Lo: k(20), ToEnd: true})},
			[]vecferry.Range{span(10, 20)}},
		{"copying by our own worker", []vecferry.Key{k(10), k(20)}, []vecferry.Range{span(10, 20)},
			[]vecferry.MappedRange{mapped(vecferry.Live, vecferry.Range{Hi: k(10)}), mapped(vecferry.Copying, span(10, 20)), mapped(vecferry.Live, vecferry.Range{Lo: k(20), ToEnd: true})}, nil},
		{"a piece that overlaps an open chunk waits", []vecferry.Key{k(10)}, []vecferry.Range{span(3, 5)},
			[]vecferry.MappedRange{mapped(vecferry.Todo, span(0, 20))}, []vecferry.Range{span(10, 20)}},
		{"tainted keys first, together", nil, nil,
			[]vecferry.MappedRange{mapped(vecferry.Todo, span(0, 5)), mapped(vecferry.Todo, one(k(7))), mapped(vecferry.Live, span(8, 9)), mapped(vecferry.Copying, one(k(9)))},
			[]vecferry.Range{one(k(7)), one(k(9))}},
		{"one chunk of tainted keys at a time", nil, []vecferry.Range{one(k(1))},
			[]vecferry.MappedRange{mapped(vecferry.Todo, one(k(7)))}, nil},
		{"dead keys are left alone", nil, nil, []vecferry.MappedRange{mapped(vecferry.Dead, one(k(7)))}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tab := &table{Table: &vecferry.Table{OID: 1}}
			tab.plan.add(vecferry.Everything(), tt.bounds)
			for _, r := range tt.open {
				_, single := r.Single()
				tab.open = append(tab.open, &chunk{table: tab, ranges: []vecferry.Range{r}, singles: single})
			}
			s := &Snapshot{tables: []*table{tab}}
			c := s.pickChunk(&vecferry.Checkpoint{Tables: map[uint32]*vecferry.TableState{1: {Ranges: tt.ranges}}})
			if tt.want == nil {
				require.Nil(t, c)
				return
			}
			require.NotNil(t, c)
			require.Equal(t, tt.want, c.ranges)
		})
	}
}

func TestSinglesAreBoundedByNumberAndBytes(t *testing.T) {
	t.Parallel()
	state := func(n, size int) *vecferry.TableState {
		st := &vecferry.TableState{}
		for i := range n {
			st.Ranges = append(st.Ranges, mapped(vecferry.Todo, vecferry.Only(vecferry.Key(fmt.Sprintf("%0*d", size, i)))))
		}
		return st
	}
	require.Len(t, singles(&table{}, state(700, 8)), maxSingles)
	require.Len(t, singles(&table{}, state(3, 40_000)), 1, "one key is taken however long it is")
	many := singles(&table{}, state(700, 2000))
	m := vecferry.Mark{Kind: vecferry.Low, Table: 1, Attempt: 1, Ranges: many}
	b, err := m.Encode()
	require.NoError(t, err)
	require.Greater(t, len(many), 10)
	require.Less(t, len(b), maxMarkBytes+1000)
	require.Len(t, singles(&table{plan: plan{singles: 3}}, state(700, 8)), 3)
}

// TestPiecesCoverTheirRange: whatever the bounds, the pieces are the range, in
// order, without gap or overlap, and none is empty.
func TestPiecesCoverTheirRange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.Map(rapid.Int64Range(0, 50), k)
		var p plan
		p.add(vecferry.Everything(), rapid.SliceOf(key).Draw(t, "bounds"))
		r := vecferry.Range{Lo: key.Draw(t, "lo"), Hi: key.Draw(t, "hi"), ToEnd: rapid.Bool().Draw(t, "to end")}
		if r.ToEnd {
			r.Hi = ""
		}
		if r.Empty() {
			t.Skip("no range")
		}
		at := r.Lo
		last := vecferry.Range{}
		for piece := range p.pieces(r) {
			require.False(t, piece.Empty())
			require.Equal(t, at, piece.Lo)
			require.False(t, slices.ContainsFunc(p.bounds, func(b vecferry.Key) bool { return b > piece.Lo && piece.Has(b) }))
			at, last = piece.Hi, piece
		}
		require.Equal(t, r.Hi, last.Hi)
		require.Equal(t, r.ToEnd, last.ToEnd)
	})
}

func TestRowsPerChunk(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	tests := []struct {
		name string
		dim  int
		est  Estimate
		want int
	}{
		{"by the statistics", 1536, Estimate{Rows: 1_000_000, Bytes: 8_192_000_000}, 24 * mib / 8192},
		{"without statistics", 1536, Estimate{}, 24 * mib / (1536*4 + 500)},
		{"well compressed on disk", 1536, Estimate{Rows: 1000, Bytes: 50_000}, 24 * mib / (1536*4 + 1)},
		{"tiny rows", 3, Estimate{Rows: 1000, Bytes: 64_000}, 50_000},
		{"huge rows", 1536, Estimate{Rows: 10, Bytes: 100 * mib}, 100},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tab := &vecferry.Table{Fields: []vecferry.Field{{Dim: tt.dim}}}
			require.Equal(t, tt.want, rowsPerChunk(tab, tt.est, 24*mib))
		})
	}
}

func TestHeldCopy(t *testing.T) {
	t.Parallel()
	c := &vecferry.Copy{}
	cp := &vecferry.Checkpoint{Tables: map[uint32]*vecferry.TableState{1: {
		Copies: map[uint64]*vecferry.Copy{5: c},
		Ranges: []vecferry.MappedRange{
			mapped(vecferry.Live, vecferry.Range{Hi: k(10)}),
			{Range: span(10, 20), State: vecferry.Copying, Attempt: 5},
			mapped(vecferry.Todo, vecferry.Range{Lo: k(20), ToEnd: true}),
		},
	}}}
	require.Same(t, c, heldCopy(cp, 1, 5, []vecferry.Range{span(10, 20)}))
	require.Nil(t, heldCopy(cp, 1, 5, []vecferry.Range{span(10, 21)}), "a part is not held")
	require.Nil(t, heldCopy(cp, 1, 5, []vecferry.Range{span(12, 15), vecferry.Only(k(30))}), "one of them is not held")
	require.Nil(t, heldCopy(cp, 1, 6, []vecferry.Range{span(10, 20)}), "another attempt holds it")
	require.Nil(t, heldCopy(cp, 2, 5, []vecferry.Range{span(10, 20)}), "another table")
	require.Nil(t, heldCopy(nil, 1, 5, nil), "no record yet")
}

func TestMissing(t *testing.T) {
	t.Parallel()
	got := missing([]vecferry.Range{vecferry.Only(k(1)), vecferry.Only(k(2)), vecferry.Only(k(3))}, []vecferry.Row{{Key: k(2)}})
	require.Equal(t, []vecferry.Key{k(1), k(3)}, got)
}

func TestRateAndETA(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tab := &table{Table: &vecferry.Table{Schema: "public", Name: "docs"}, estimate: Estimate{Rows: 10_000}}
	state := &vecferry.TableState{Ranges: []vecferry.MappedRange{mapped(vecferry.Todo, vecferry.Everything())}}
	var now time.Time
	for i := range 30 { // 100 rows a second at first, 200 for the last 10 s
		now = start.Add(time.Duration(i) * time.Second)
		tab.meter.observe(now, state)
		state.Rows += 100
		if i >= 19 {
			state.Rows += 100
		}
	}
	now = now.Add(time.Second)
	st := tab.status(state, now)
	require.Equal(t, Copying, st.State)
	require.InDelta(t, 200, st.Rate, 20)
	require.InDelta(t, float64(10_000-state.Rows)/200, st.ETA.Seconds(), 5)
	require.Equal(t, start, st.Started)
	require.LessOrEqual(t, len(tab.meter.samples), 12)

	state.Ranges[0].State = vecferry.Live
	st = tab.status(state, now)
	require.Equal(t, Live, st.State)
	require.Zero(t, st.Rate)
	require.Zero(t, st.ETA)
}
