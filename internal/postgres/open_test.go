package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

func TestSessionSettings(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, _ *Source) {
		for _, set := range []string{
			"statement_timeout = 1000", "search_path = public", "datestyle = 'SQL, DMY'", "intervalstyle = iso_8601",
			"timezone = 'Asia/Tokyo'", "row_security = on", "synchronous_commit = 'on'", "extra_float_digits = 0", "bytea_output = 'escape'",
		} {
			db.Exec("ALTER DATABASE " + db.Name + " SET " + set)
		}
		if db.Version >= 17 {
			db.Exec("ALTER DATABASE " + db.Name + " SET transaction_timeout = 1000")
		}
		s := open(t, db.DSN)
		want := map[string]string{
			"application_name": "vecferry", "synchronous_commit": "local", "row_security": "off", "search_path": "", "TimeZone": "UTC",
			"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0",
			"DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "client_encoding": "UTF8", "extra_float_digits": "1", "bytea_output": "hex",
			"tcp_keepalives_idle": "30",
		}
		if db.Version >= 17 {
			want["transaction_timeout"] = "0"
		}
		for name, value := range want {
			var got string
			require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT current_setting($1::text)", name).Scan(&got))
			require.Equal(t, value, got, name)
		}
	})
}

func TestReplicationConfig(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		cfg := s.ReplicationConfig()
		conn, err := pgconn.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		for sql, want := range map[string]string{"SHOW search_path": "", "SHOW TimeZone": "UTC", "SHOW application_name": "vecferry"} {
			result, err := conn.Exec(t.Context(), sql).ReadAll()
			require.NoError(t, err)
			require.Equal(t, want, string(result[0].Rows[0][0]))
		}
		cfg.RuntimeParams["application_name"] = "changed"
		require.Equal(t, "vecferry", s.ReplicationConfig().RuntimeParams["application_name"])
	})
}

func connectError(t *testing.T, err error) *ConnectError {
	t.Helper()
	var e *ConnectError
	require.ErrorAs(t, err, &e)
	require.NotContains(t, err.Error(), "s3cret")
	return e
}

func TestOpenTellsAwayFromRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 16)
	try := func(dsn string) *ConnectError {
		_, err := Open(t.Context(), Options{DSN: dsn, ConnectTimeout: time.Second})
		return connectError(t, err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() // takes connections and says nothing
	silent := listener.Addr().(*net.TCPAddr).Port
	require.True(t, try(fmt.Sprintf("postgres://u:s3cret@127.0.0.1:%d/x?sslmode=disable", silent)).Unreachable())
	require.True(t, try("postgres://u:s3cret@127.0.0.1:1/x").Unreachable())
	require.True(t, try("postgres://u:s3cret@host.invalid/x").Unreachable())
	require.False(t, try(as(t, db.DSN, "nobody_of_that_name")+" password=s3cret").Unreachable())
	require.False(t, try(as(t, db.DSN, "postgres")+" dbname=no_such_database").Unreachable())
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	server := testenv.OwnPostgres(t, 16, nil)
	db := testenv.Database(t, server)
	db.Exec("ALTER ROLE postgres PASSWORD 's3cret'")
	hba := filepath.Join(server.DataDir(), "pg_hba.conf")
	require.NoError(t, os.WriteFile(hba, []byte("host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"), 0o644))
	db.Exec("SELECT pg_reload_conf()")
	require.Eventually(t, func() bool {
		_, err := Open(t.Context(), Options{DSN: as(t, db.DSN, "postgres") + " password=s3cret-no"})
		return err != nil && !connectError(t, err).Unreachable()
	}, patience, 50*time.Millisecond)
	s, err := Open(t.Context(), Options{DSN: as(t, db.DSN, "postgres") + " password=s3cret"})
	require.NoError(t, err)
	_, err = s.Identity(t.Context())
	require.NoError(t, err)
	s.Close()
	require.NoError(t, os.WriteFile(hba, []byte("host all all 127.0.0.1/32 trust\n"), 0o644))
	require.NoError(t, server.Restart(t.Context()))
}

// A server that goes away is told from a statement that fails.
func TestServerGoesAway(t *testing.T) {
	t.Parallel()
	server := testenv.OwnPostgres(t, 18, map[string]string{"max_connections": "8", "superuser_reserved_connections": "0", "reserved_connections": "0", "max_wal_senders": "2"})
	db := testenv.Database(t, server)
	s := open(t, db.DSN)
	_, err := s.Snapshot(t.Context())
	require.NoError(t, err)
	require.NoError(t, server.Kill())
	for range 2 { // on the broken connection, then on a new one
		_, err = s.Snapshot(t.Context())
		require.True(t, connectError(t, err).Unreachable(), "%v", err)
	}
	require.NoError(t, server.Restart(t.Context()))
	_, err = s.Snapshot(t.Context())
	require.NoError(t, err, "the pool recovers by itself")

	var full error
	for range 9 { // more than the server takes
		conn, err := Open(t.Context(), Options{DSN: db.DSN, MaxConns: 1})
		if err == nil {
			t.Cleanup(conn.Close)
		}
		full = errors.Join(full, err)
	}
	require.True(t, connectError(t, full).Unreachable(), "full is no refusal: %v", full)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Snapshot(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorAs(t, err, new(*ConnectError))
}

func TestBadDSNKeepsThePassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://u:s3cret#x@h:5432/db?sslmode=nonsense", "postgres://u:s3%cret@h/db", "host=h password='s3cret", "postgres://u:p@h:s3cret/db",
		"postgres://u:s3cret@h/db?sslmode=wrong", "postgres://u:s3cret@h/db?connect_timeout=x",
	} {
		_, err := Open(t.Context(), Options{DSN: dsn})
		require.ErrorIs(t, err, ErrDSN, dsn)
		require.NotContains(t, err.Error(), "cret", dsn)
	}
	_, err := Open(t.Context(), Options{DSN: "postgres://u:s3cret@h/db?sslmode=verify-full&sslrootcert=/no/such/file"})
	require.ErrorIs(t, err, ErrDSN)
	require.ErrorContains(t, err, "/no/such/file")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestLiteral(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "''", "a'b": "'a''b'", `a\'`: `E'a\\'''`, "日": "'日'"} {
		got, err := literal(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.Equal(t, `"a""b"."C"`, relation(&vecferry.Table{Schema: `a"b`, Name: "C"}))
}
