package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Guard()
	goleak.VerifyTestMain(m)
}

// onServers runs a test on each version, with a database of its own.
func onServers(t *testing.T, test func(t *testing.T, db *testenv.TestDB, s *Source)) {
	t.Parallel()
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprintf("pg%d", version), func(t *testing.T) {
			t.Parallel()
			db := testenv.Postgres(t, version)
			test(t, db, open(t, db.DSN))
		})
	}
}

func open(t testing.TB, dsn string) *Source {
	t.Helper()
	s, err := Open(t.Context(), Options{DSN: dsn})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// docs is the spec of table public.docs.
func docs() Spec { return Spec{Schema: "public", Name: "docs", Collection: "docs"} }

func inspect(t testing.TB, s *Source, spec Spec) *vecferry.Table {
	t.Helper()
	table, _, err := s.Inspect(t.Context(), spec)
	require.NoError(t, err)
	return table
}

// copyRows runs a query as COPY in binary format and copies what it sends.
func copyRows(t testing.TB, s *Source, query string) [][]vecferry.Column {
	t.Helper()
	conn, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	var rows [][]vecferry.Column
	p := &copyParser{row: func(cols []vecferry.Column) error {
		row := make([]vecferry.Column, len(cols))
		for i, c := range cols {
			row[i] = vecferry.Column{Kind: c.Kind, Data: append([]byte{}, c.Data...)}
		}
		rows = append(rows, row)
		return nil
	}}
	_, err = conn.Conn().PgConn().CopyTo(t.Context(), p, "COPY ("+query+") TO STDOUT (FORMAT binary)")
	require.NoError(t, err)
	require.NoError(t, p.close())
	return rows
}

// session is a connection beside the Source, such as the application's.
func session(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// as returns the DSN for another role.
func as(t testing.TB, dsn, role string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return fmt.Sprintf("host=%s port=%d dbname=%s user=%s sslmode=disable", cfg.Host, cfg.Port, cfg.Database, role)
}
