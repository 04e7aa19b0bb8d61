package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// query returns the one value of a statement.
func query[T any](t *testing.T, dsn, sql string) T {
	t.Helper()
	var value T
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&value))
	return value
}

func startReplication(db *TestDB) *pgproto3.Query {
	return &pgproto3.Query{String: "START_REPLICATION SLOT s_" + db.Name + " LOGICAL 0/0 (proto_version '1', publication_names 'p')"}
}

func contextWithin(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}
