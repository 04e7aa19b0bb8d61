package verify

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

// stores are a source and a target in memory.
type stores struct {
	table  *vecferry.Table
	rows   map[vecferry.Key]vecferry.Row
	target map[vecferry.Key]vecferry.Row
	count  int64 // entities beyond the keys of target
	broken error
}

func newStores() *stores {
	s := &stores{rows: map[vecferry.Key]vecferry.Row{}, target: map[vecferry.Key]vecferry.Row{},
		table: &vecferry.Table{Schema: "public", Name: "t", KeyType: vecferry.KeyInt, Fields: []vecferry.Field{{Name: "id"}, {Name: "v"}}, Vector: 1}}
	for i := range int64(2500) {
		r := row(i, float32(i))
		s.rows[r.Key], s.target[r.Key] = r, r
	}
	return s
}

func row(id int64, x float32) vecferry.Row {
	return vecferry.Row{Key: vecferry.IntKey(id), Values: []vecferry.Value{vecferry.IntValue(id), vecferry.VectorValue([]float32{x, 1})}}
}

func (s *stores) Split(_ context.Context, _ *vecferry.Table, r vecferry.Range, rows int) (cuts []vecferry.Key, err error) {
	for i, k := range slices.Sorted(maps.Keys(s.rows)) {
		if i > 0 && i%rows == 0 && r.Has(k) {
			cuts = append(cuts, k)
		}
	}
	return cuts, nil
}

func (s *stores) Rows(_ context.Context, _ *vecferry.Table, r vecferry.Range) (out []vecferry.Row, nulls int64, err error) {
	for _, k := range slices.Sorted(maps.Keys(s.rows)) {
		if r.Has(k) {
			out = append(out, s.rows[k])
		}
	}
	return out, 0, nil
}

func (s *stores) Read(_ context.Context, keys []vecferry.Key) (map[vecferry.Key]vecferry.Row, error) {
	out := map[vecferry.Key]vecferry.Row{}
	for _, k := range keys {
		if r, ok := s.target[k]; ok {
			out[k] = r
		}
	}
	return out, s.broken
}

func (s *stores) Count(context.Context) (int64, error) { return int64(len(s.target)) + s.count, nil }

func (s *stores) Keys(_ context.Context, r vecferry.Range, _ int) (out []vecferry.Key, err error) {
	for _, k := range slices.Sorted(maps.Keys(s.target)) {
		if r.Has(k) {
			out = append(out, k)
		}
	}
	return out, nil
}

// Each fault in the target is found and named.
func TestCompareFindsEveryKindOfDifference(t *testing.T) {
	t.Parallel()
	negativeZero := float32(math.Copysign(0, -1))
	for name, c := range map[string]struct {
		harm func(s *stores)
		want []Kind
	}{
		"nothing":       {func(*stores) {}, nil},
		"missing":       {func(s *stores) { delete(s.target, vecferry.IntKey(1700)) }, []Kind{Missing}},
		"extra":         {func(s *stores) { s.target[vecferry.IntKey(-5)] = row(-5, 0) }, []Kind{Extra}},
		"last extra":    {func(s *stores) { s.target[vecferry.IntKey(1<<62)] = row(1<<62, 0) }, []Kind{Extra}},
		"one ulp":       {func(s *stores) { s.target[vecferry.IntKey(7)] = row(7, math.Nextafter32(7, 8)) }, []Kind{Different}},
		"sign of zero":  {func(s *stores) { s.target[vecferry.IntKey(0)] = row(0, negativeZero) }, []Kind{Different}},
		"duplicate":     {func(s *stores) { s.count = 1 }, []Kind{Duplicate}},
		"several":       {func(s *stores) { delete(s.target, vecferry.IntKey(1)); delete(s.target, vecferry.IntKey(2)) }, []Kind{Missing, Missing}},
		"empty target":  {func(s *stores) { clear(s.target) }, slices.Repeat([]Kind{Missing}, keepMost)},
		"null in place": {func(s *stores) { r := row(3, 3); r.Values[1] = vecferry.NullValue(); s.target[r.Key] = r }, []Kind{Different}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStores()
			c.harm(s)
			res, err := Compare(t.Context(), s.table, s, s)
			require.NoError(t, err)
			var have []Kind
			for _, d := range res.Differences {
				have = append(have, d.Kind)
			}
			require.Equal(t, c.want, have)
			require.Equal(t, c.want == nil, res.OK(), "%s", res)
			require.EqualValues(t, 2500, res.Rows)
		})
	}
}

// A read that fails is no success.
func TestCompareFailsIfItCannotRead(t *testing.T) {
	t.Parallel()
	s := newStores()
	s.broken = errors.New("not loaded")
	_, err := Compare(t.Context(), s.table, s, s)
	require.ErrorIs(t, err, s.broken)
}
