// Package verify compares the source with the target, row by row and bit by bit.
//
// Compare reads every row of a table and the entity under its key, and counts
// the entities, which also shows the ones without a row and the ones that are
// there twice. It takes no fence: it is right when nobody writes and the sink
// has caught up, and a difference found while somebody writes may be none.
// A row that could not be read is an error, never a success.
//
// Compare runs in its caller's goroutine and ends at the first failed request.
package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/vecferry/vecferry"
)

// Source reads a table.
type Source interface {
	// Split returns the keys that cut a range into pieces of so many rows.
	Split(ctx context.Context, t *vecferry.Table, r vecferry.Range, rows int) ([]vecferry.Key, error)
	// Rows returns the rows of a range that have a vector, and how many have none.
	Rows(ctx context.Context, t *vecferry.Table, r vecferry.Range) (rows []vecferry.Row, nulls int64, err error)
}

// Target reads a collection.
type Target interface {
	Read(ctx context.Context, keys []vecferry.Key) (map[vecferry.Key]vecferry.Row, error)
	Count(ctx context.Context) (int64, error)
	Keys(ctx context.Context, r vecferry.Range, limit int) ([]vecferry.Key, error)
}

// Kind says how a key differs.
type Kind string

// The kinds of differences.
const (
	Missing   Kind = "missing"   // the row has no entity
	Extra     Kind = "extra"     // the entity has no row
	Different Kind = "different" // a value differs
	Duplicate Kind = "duplicate" // more entities than keys
)

// Difference is one key that is not equal.
type Difference struct {
	Kind  Kind
	Key   vecferry.Key
	Field string // of Different
	Want  string // what the source has
	Have  string // what the target has
}

// Result is what a comparison found.
type Result struct {
	Rows        int64 // of the source, with a vector
	Nulls       int64 // of the source, without one: they have no entity
	Entities    int64 // by the target's exact count
	Equal       int64 // rows whose every value is equal
	Different   int64 // differences, of which Differences holds the first
	Differences []Difference
}

// OK reports whether both stores are equal.
func (r Result) OK() bool { return r.Different == 0 && r.Equal == r.Rows && r.Entities == r.Rows }

// String is the result in a line.
func (r Result) String() string {
	return fmt.Sprintf("%d rows, %d without a vector, %d entities: %d equal, %d different", r.Rows, r.Nulls, r.Entities, r.Equal, r.Different)
}

const (
	pieceRows = 1000 // rows read at a time
	keepMost  = 20   // differences that are kept
)

// Compare compares a whole table with its collection.
func Compare(ctx context.Context, t *vecferry.Table, s Source, target Target) (Result, error) {
	var res Result
	cuts, err := s.Split(ctx, t, vecferry.Everything(), pieceRows)
	if err != nil {
		return res, err
	}
	for _, r := range pieces(cuts) {
		if err := res.piece(ctx, piece{t, s, target, r}); err != nil {
			return res, fmt.Errorf("compare %s: %w", t, err)
		}
	}
	if res.Entities, err = target.Count(ctx); err != nil {
		return res, err
	}
	if res.Different == 0 && res.Entities != res.Equal {
		res.add(Difference{Kind: Duplicate, Want: fmt.Sprint(res.Equal), Have: fmt.Sprint(res.Entities)})
	}
	return res, nil
}

// pieces are the ranges between boundaries.
func pieces(cuts []vecferry.Key) []vecferry.Range {
	out := make([]vecferry.Range, 0, len(cuts)+1)
	last := vecferry.Everything()
	for _, k := range cuts {
		out = append(out, vecferry.Range{Lo: last.Lo, Hi: k})
		last.Lo = k
	}
	return append(out, last)
}

type piece struct {
	t      *vecferry.Table
	source Source
	target Target
	r      vecferry.Range
}

// piece compares one range.
func (r *Result) piece(ctx context.Context, p piece) error {
	rows, nulls, err := p.source.Rows(ctx, p.t, p.r)
	if err != nil {
		return err
	}
	r.Rows, r.Nulls = r.Rows+int64(len(rows)), r.Nulls+nulls
	keys := make([]vecferry.Key, len(rows))
	for i, row := range rows {
		keys[i] = row.Key
	}
	have := map[vecferry.Key]vecferry.Row{}
	if len(keys) > 0 {
		if have, err = p.target.Read(ctx, keys); err != nil {
			return err
		}
	}
	for _, row := range rows {
		r.row(p.t, row, have)
	}
	return r.extras(ctx, p, keys)
}

// row compares one row with the entity under its key.
func (r *Result) row(t *vecferry.Table, row vecferry.Row, have map[vecferry.Key]vecferry.Row) {
	entity, ok := have[row.Key]
	if !ok {
		r.add(Difference{Kind: Missing, Key: row.Key})
		return
	}
	for i, want := range row.Values {
		if !want.Equal(entity.Values[i]) {
			r.add(Difference{Kind: Different, Key: row.Key, Field: t.Fields[i].Name, Want: text(want), Have: text(entity.Values[i])})
			return
		}
	}
	r.Equal++
}

// extras finds the entities of a range that have no row.
func (r *Result) extras(ctx context.Context, p piece, keys []vecferry.Key) error {
	have, err := p.target.Keys(ctx, p.r, 0)
	if err != nil {
		return err
	}
	slices.Sort(keys)
	for _, k := range have {
		if _, ok := slices.BinarySearch(keys, k); !ok {
			r.add(Difference{Kind: Extra, Key: k})
		}
	}
	return nil
}

func (r *Result) add(d Difference) {
	if r.Different++; len(r.Differences) < keepMost {
		r.Differences = append(r.Differences, d)
	}
}

// text shows a value; of a vector the first elements.
func text(v vecferry.Value) string {
	switch v.Kind() {
	case vecferry.Absent:
		return "nothing"
	case vecferry.Null:
		return "NULL"
	case vecferry.Bool:
		return fmt.Sprint(v.Bool())
	case vecferry.Int:
		return fmt.Sprint(v.Int())
	case vecferry.Float:
		return fmt.Sprint(v.Float())
	case vecferry.Vector:
		return fmt.Sprintf("%d elements starting with %v", len(v.Vector()), v.Vector()[:min(3, len(v.Vector()))])
	}
	return fmt.Sprintf("%q", v.Text())
}
