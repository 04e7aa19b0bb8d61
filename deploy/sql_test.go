package deploy

import (
	"context"
	"os"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// TestSetUpScripts runs what Postgres runs on its first start. The server is
// the test's own, because a role belongs to the whole of it.
func TestSetUpScripts(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, testenv.OwnPostgres(t, 16, nil))
	db.Exec(script(t, "compose/postgres/10-documents.sql"))
	db.Exec(script(t, "compose/postgres/20-vecferry.sql"))

	var rows, tables int
	var norm float64
	owner := connect(t, db.DSN)
	require.NoError(t, owner.QueryRow(t.Context(),
		"SELECT count(*), min(vector_norm(embedding)) FROM documents WHERE vector_dims(embedding) = 1536").Scan(&rows, &norm))
	require.Equal(t, 2000, rows)
	require.InDelta(t, 1, norm, 1e-5)
	require.NoError(t, owner.QueryRow(t.Context(),
		"SELECT count(*) FROM pg_publication_tables WHERE pubname = 'vecferry_documents'").Scan(&tables))
	require.Equal(t, 1, tables)

	for range 40 { // each of the four kinds, with near certainty
		_, err := owner.Exec(t.Context(), "CALL demo_write()")
		require.NoError(t, err)
	}

	role, err := pgx.ParseConfig(db.DSN)
	require.NoError(t, err)
	role.User, role.Password = "vecferry", "vecferry-demo"
	conn, err := pgx.ConnectConfig(t.Context(), role)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM documents").Scan(&rows))
	require.Positive(t, rows)
	_, err = conn.Exec(t.Context(), "DELETE FROM documents")
	require.Error(t, err, "vecferry reads; it has no business writing the table")
	_, err = conn.Exec(t.Context(), "SELECT pg_create_logical_replication_slot('by_vecferry', 'pgoutput', true)")
	require.NoError(t, err)
}

// script returns a file as the server gets it from psql.
func script(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text = regexp.MustCompile(`(?m)^\\getenv password VECFERRY_PASSWORD$`).ReplaceAll(text, nil)
	text = regexp.MustCompile(`:'password'`).ReplaceAll(text, []byte("'vecferry-demo'"))
	require.NotRegexp(t, `(?m)^\\`, string(text), "a command of psql that this test does not know")
	return string(text)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}
