package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vecferry/vecferry"
)

// Pipeline is what a row's travel is watched through.
type Pipeline interface {
	// Positions returns up to where the change log and Milvus have everything.
	Positions(ctx context.Context) (logged, applied vecferry.LSN, err error)
	// Search returns the entities nearest to a vector, the nearest first; it sees
	// every write that was acknowledged before.
	Search(ctx context.Context, vector []float32, k int) ([]Hit, error)
}

// Trip says when a row got where, counted from the moment its commit returned.
type Trip struct {
	ID      int64
	Logged  time.Duration // durable in the change log
	Applied time.Duration // acknowledged by Milvus, and the checkpoint is written
	Found   time.Duration // the first hit of a search for its vector
}

// look is the time between two looks at the positions.
const look = 2 * time.Millisecond

// Travel commits a document and watches until a search for its vector has it as the
// first hit. A document that is no nearer to its own vector than another is never
// found: give it a text of its own. ctx bounds the wait.
func Travel(ctx context.Context, conn *pgx.Conn, d Document, p Pipeline) (Trip, error) {
	id, lsn, err := commit(ctx, conn, d)
	if err != nil {
		return Trip{}, err
	}
	start, trip := time.Now(), Trip{ID: id}
	for trip.Applied == 0 {
		logged, applied, err := p.Positions(ctx)
		if err != nil {
			return trip, err
		}
		if trip.Logged == 0 && logged >= lsn {
			trip.Logged = time.Since(start)
		}
		if applied >= lsn {
			trip.Applied = time.Since(start)
			break
		}
		if err := wait(ctx, look); err != nil {
			return trip, fmt.Errorf("demo: row %d, committed at %s, log at %s, Milvus at %s: %w", id, lsn, logged, applied, err)
		}
	}
	vector := Embed(d.Text())
	for {
		hits, err := p.Search(ctx, vector, 1)
		if err != nil {
			return trip, err
		}
		if len(hits) > 0 && hits[0].ID == id {
			trip.Found = time.Since(start)
			return trip, nil
		}
		if err := wait(ctx, look); err != nil {
			return trip, fmt.Errorf("demo: row %d is applied but not found: %w", id, err)
		}
	}
}

// commit inserts a document in a transaction of one round trip. The position is
// taken right before the commit: with other writers at work, one taken afterwards
// would be theirs.
func commit(ctx context.Context, conn *pgx.Conn, d Document) (id int64, lsn vecferry.LSN, err error) {
	var text string
	var b pgx.Batch
	b.Queue("begin")
	b.Queue(insertSQL, d.values()...).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
	b.Queue("select pg_current_wal_insert_lsn()::text").QueryRow(func(row pgx.Row) error { return row.Scan(&text) })
	b.Queue("commit")
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return 0, 0, fmt.Errorf("demo: insert: %w", err)
	}
	lsn, err = vecferry.ParseLSN(text)
	return id, lsn, err
}

// wait returns the cause if ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
