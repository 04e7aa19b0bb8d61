package testenv

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// cleanupTimeout bounds what a test's cleanup may take.
const cleanupTimeout = 30 * time.Second

// TB is what the helpers need of *testing.T, *testing.B and testing.TB. Programs
// that start servers need not link package testing for it.
type TB interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// TestDB is a fresh database with extension vector on a shared server.
type TestDB struct {
	Name    string // of the database; fit to be part of a slot's or stream's name
	DSN     string // of the database, as superuser
	Version int    // 16 or 18

	tb    TB
	admin string // another database of the same server
}

// Postgres gives a test a database on the shared server of a version. Cleanup drops
// it together with its replication slots. VECFERRY_TEST_POSTGRES_16 or _18, a DSN
// of a superuser, names a server to use instead.
func Postgres(tb TB, version int) *TestDB {
	tb.Helper()
	admin := os.Getenv("VECFERRY_TEST_POSTGRES_" + strconv.Itoa(version))
	if admin == "" {
		p, err := sharedPostgres(tb.Context(), PostgresOptions{Options: Options{Logf: tb.Logf}, Version: version})
		if err != nil {
			tb.Fatalf("shared PostgreSQL: %v", err)
			return nil
		}
		tb.Cleanup(func() { report(tb, p.server.release()) })
		admin = p.DSN("postgres")
	}
	return newTestDB(tb, admin, version)
}

// Database gives a test a database on a server of its own.
func Database(tb TB, p *PostgresServer) *TestDB {
	tb.Helper()
	return newTestDB(tb, p.DSN("postgres"), p.version)
}

func newTestDB(tb TB, admin string, version int) *TestDB {
	tb.Helper()
	db := &TestDB{Name: "t_" + randomName(), Version: version, tb: tb, admin: admin}
	db.DSN = withDatabase(admin, db.Name)
	err := cmp.Or(execSQL(tb.Context(), admin, "create database "+db.Name), execSQL(tb.Context(), db.DSN, "create extension vector"))
	if err != nil {
		tb.Fatalf("test database: %v", err)
		return nil
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), cleanupTimeout)
		defer cancel()
		report(tb, db.drop(ctx))
	})
	return db
}

// Exec runs one statement, or several without arguments, and fails the test on an
// error.
func (db *TestDB) Exec(sql string, args ...any) {
	db.tb.Helper()
	if err := execSQL(db.tb.Context(), db.DSN, sql, args...); err != nil {
		db.tb.Fatalf("%v", err)
	}
}

// drop removes the slots first: they hold the database. A walsender that was told
// to go needs a moment to release its slot. A server that the test has ended needs
// no cleaning.
func (db *TestDB) drop(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, db.admin)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("testenv: drop database: %w", err)
	}
	defer conn.Close(ctx)
	return poll(ctx, 20*time.Millisecond, func(ctx context.Context) error {
		for _, sql := range []string{
			"select pg_terminate_backend(active_pid) from pg_replication_slots where database = '%s' and active",
			"select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '%s'",
			"drop database if exists %s with (force)",
		} {
			if _, err := conn.Exec(ctx, fmt.Sprintf(sql, db.Name)); err != nil {
				return fmt.Errorf("testenv: drop database: %w", err)
			}
		}
		return nil
	})
}

// OwnPostgres starts a server for this test alone, to be killed or reconfigured.
func OwnPostgres(tb TB, version int, settings map[string]string) *PostgresServer {
	tb.Helper()
	opts := PostgresOptions{Options: Options{Logf: tb.Logf}, Version: version, Settings: settings, Fresh: true}
	p, err := StartPostgres(tb.Context(), opts)
	if err != nil {
		tb.Fatalf("%v", err)
		return nil
	}
	tb.Cleanup(func() { report(tb, p.Stop()) })
	return p
}

// TestMilvus is a share of a Milvus server.
type TestMilvus struct {
	Address string // gRPC
	Metrics string // /metrics and /healthz; empty if the server was given from outside
	Prefix  string // of the names of all collections of this test
}

// Milvus gives a test a share of the shared server. Cleanup drops the collections
// whose names begin with the prefix. VECFERRY_TEST_MILVUS, host:port, names a server
// to use instead.
func Milvus(tb TB) *TestMilvus {
	tb.Helper()
	share := &TestMilvus{Address: os.Getenv("VECFERRY_TEST_MILVUS"), Prefix: "t_" + randomName() + "_"}
	if share.Address == "" {
		m, err := sharedMilvus(tb.Context(), MilvusOptions{Options: Options{Logf: tb.Logf}})
		if err != nil {
			tb.Fatalf("shared Milvus: %v", err)
			return nil
		}
		tb.Cleanup(func() { report(tb, m.server.release()) })
		share.Address, share.Metrics = m.Address(), m.MetricsAddress()
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), cleanupTimeout)
		defer cancel()
		report(tb, share.drop(ctx))
	})
	return share
}

// drop needs no list of aliases: they go with their collection.
func (s *TestMilvus) drop(ctx context.Context) error {
	names, err := listCollections(ctx, s.Address)
	for _, name := range names {
		if strings.HasPrefix(name, s.Prefix) {
			err = errors.Join(err, dropCollection(ctx, s.Address, name))
		}
	}
	return err
}

// OwnMilvus starts a server for this test alone, to be killed or reconfigured. The
// names in config are dotted paths of milvus.yaml.
func OwnMilvus(tb TB, config map[string]string) *MilvusServer {
	tb.Helper()
	m, err := StartMilvus(tb.Context(), MilvusOptions{Options: Options{Logf: tb.Logf}, Config: config})
	if err != nil {
		tb.Fatalf("%v", err)
		return nil
	}
	tb.Cleanup(func() { report(tb, m.Stop()) })
	return m
}

// report fails the test in a cleanup, where Fatalf has no use.
func report(tb TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Errorf("testenv: cleanup: %v", err)
	}
}

func randomName() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // documented to never fail
	return hex.EncodeToString(b[:])
}

// withDatabase changes the database of a DSN in either form.
func withDatabase(dsn, name string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn + " dbname=" + name // the last one counts
	}
	u.Path = "/" + name
	return u.String()
}

func execSQL(ctx context.Context, dsn, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("testenv: connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("testenv: %s: %w", sql, err)
	}
	return nil
}
