package demo

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Hit is one result of a search, from either store.
type Hit struct {
	ID    int64
	Title string
	Score float64 // 1 - cosine distance: 1 is the same direction
}

// Nearest returns the k rows nearest to a vector by cosine distance, the nearest
// first. The table has no index on the vector, so PostgreSQL looks at every row and
// the answer is exact.
func Nearest(ctx context.Context, conn *pgx.Conn, vector []float32, k int) ([]Hit, error) {
	const sql = `select id, title, 1 - (embedding <=> $1) as score from documents
where embedding is not null order by embedding <=> $1, id limit $2`
	rows, err := conn.Query(ctx, sql, wire(vector), k)
	if err != nil {
		return nil, fmt.Errorf("demo: search in PostgreSQL: %w", err)
	}
	hits, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Hit])
	if err != nil {
		return nil, fmt.Errorf("demo: search in PostgreSQL: %w", err)
	}
	return hits, nil
}

// Common counts the keys that are in both answers.
func Common(a, b []Hit) int {
	in := make(map[int64]bool, len(a))
	for _, h := range a {
		in[h.ID] = true
	}
	n := 0
	for _, h := range b {
		if in[h.ID] {
			in[h.ID] = false
			n++
		}
	}
	return n
}
