package demo

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

// slowPipeline has a row in the log at the third look, in Milvus at the fifth, and
// finds it with the second search.
type slowPipeline struct {
	t        *testing.T
	db       *pgx.Conn
	looks    int
	searches int
	never    bool // finds another row for ever
}

func (p *slowPipeline) Positions(context.Context) (logged, applied vecferry.LSN, err error) {
	end, err := vecferry.ParseLSN(one[string](p.t, p.db, "select pg_current_wal_insert_lsn()::text"))
	p.looks++
	if p.looks >= 3 {
		logged = end
	}
	if p.looks >= 5 {
		applied = end
	}
	return logged, applied, err
}

func (p *slowPipeline) Search(ctx context.Context, vector []float32, k int) ([]Hit, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	p.searches++
	if p.never || p.searches < 2 {
		return []Hit{{ID: 1}}, nil
	}
	return Nearest(ctx, p.db, vector, k)
}

func traveller() Document {
	return Document{WorkspaceID: "w", Title: "a goat", Content: "crosses the lake at noon", UpdatedAt: time.Now()}
}

func TestTravelWaitsForEachPlace(t *testing.T) {
	t.Parallel()
	db, dsn, _ := newTable(t, 20)
	p := &slowPipeline{t: t, db: openSession(t, dsn)}
	trip, err := Travel(t.Context(), db, traveller(), p)
	require.NoError(t, err)
	require.Equal(t, 5, p.looks)
	require.Equal(t, 2, p.searches)
	require.EqualValues(t, 21, trip.ID)
	require.Positive(t, trip.Logged)
	require.Less(t, trip.Logged, trip.Applied)
	require.Less(t, trip.Applied, trip.Found)
	require.Equal(t, "a goat", one[string](t, db, "select title from documents where id = $1", trip.ID), "it is committed")
}

func TestTravelEndsWithItsContext(t *testing.T) {
	t.Parallel()
	db, dsn, _ := newTable(t, 20)
	late := errors.New("too late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, late)
	defer cancel()
	p := &slowPipeline{t: t, db: openSession(t, dsn), never: true}
	trip, err := Travel(ctx, db, traveller(), p)
	require.ErrorIs(t, err, late)
	require.Positive(t, trip.Applied, "how far it came is told")
	require.Zero(t, trip.Found)
}

// The position lies before the commit's end and behind everything earlier.
func TestCommitTellsItsPosition(t *testing.T) {
	t.Parallel()
	db, _, _ := newTable(t, 1)
	end := func() vecferry.LSN {
		lsn, err := vecferry.ParseLSN(one[string](t, db, "select pg_current_wal_insert_lsn()::text"))
		require.NoError(t, err)
		return lsn
	}
	before := end()
	id, lsn, err := commit(t.Context(), db, traveller())
	require.NoError(t, err)
	require.EqualValues(t, 2, id)
	require.Greater(t, lsn, before)
	require.Less(t, lsn, end())
}
