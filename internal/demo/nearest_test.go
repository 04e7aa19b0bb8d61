package demo

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNearestIsExact(t *testing.T) {
	t.Parallel()
	db, _, docs := newTable(t, 200)
	question := Embed("read a line")
	type scored struct {
		id    int64
		score float64
	}
	var want []scored
	for i, d := range docs {
		want = append(want, scored{int64(i + 1), dot(question, Embed(d.Text()))})
	}
	slices.SortFunc(want, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	hits, err := Nearest(t.Context(), db, question, 7)
	require.NoError(t, err)
	require.Len(t, hits, 7)
	for i, h := range hits {
		require.Equal(t, want[i].id, h.ID)
		require.InDelta(t, want[i].score, h.Score, 1e-5)
		require.Equal(t, docs[h.ID-1].Title, h.Title)
	}
	itself, err := Nearest(t.Context(), db, Embed(docs[41].Text()), 1)
	require.NoError(t, err)
	require.EqualValues(t, 42, itself[0].ID)
	require.InDelta(t, 1, itself[0].Score, 1e-6)
}

func TestNearestLeavesOutRowsWithoutVector(t *testing.T) {
	t.Parallel()
	db, _, docs := newTable(t, 4)
	_, err := db.Exec(t.Context(), "update documents set embedding = null where id < 4")
	require.NoError(t, err)
	hits, err := Nearest(t.Context(), db, Embed(docs[0].Text()), 3)
	require.NoError(t, err)
	require.Len(t, hits, 1)
	require.EqualValues(t, 4, hits[0].ID)
}

func TestCommon(t *testing.T) {
	t.Parallel()
	hits := func(ids ...int64) (out []Hit) {
		for _, id := range ids {
			out = append(out, Hit{ID: id})
		}
		return out
	}
	require.Equal(t, 3, Common(hits(1, 2, 3), hits(3, 1, 2)))
	require.Equal(t, 1, Common(hits(1, 2, 3), hits(4, 5, 3)))
	require.Equal(t, 1, Common(hits(1, 2), hits(1, 1)), "a hit counts once")
	require.Zero(t, Common(nil, hits(1)))
}
