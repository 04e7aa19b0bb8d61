package demo

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// corpus is read once: it takes a second.
var corpus = sync.OnceValues(func() ([]Document, error) { return Corpus(context.Background(), 300) })

// newTable fills the table in a database of its own.
func newTable(t *testing.T, rows int) (db *pgx.Conn, dsn string, docs []Document) {
	t.Helper()
	dsn = testenv.Postgres(t, 16).DSN
	db = openSession(t, dsn)
	all, err := corpus()
	require.NoError(t, err)
	docs = all[:rows]
	require.NoError(t, CreateTable(t.Context(), db))
	n, err := Fill(t.Context(), db, docs)
	require.NoError(t, err)
	require.EqualValues(t, rows, n)
	return db, dsn, docs
}

func openSession(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	db, err := Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(t.Context()) })
	return db
}

// one returns the only value of a query.
func one[T any](t *testing.T, db *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return v
}
