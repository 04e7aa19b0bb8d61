package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/config"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/verify"
)

// TestMain lets the test binary be the program as well, so that it can be killed.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	testenv.Main(m)
}

const asProgram = "VECFERRY_TEST_AS_PROGRAM"

// world is a pipeline over real servers.
type world struct {
	t    *testing.T
	db   *pgx.Conn
	dsn  string
	yaml string
	cfg  *config.Config
	p    *pipeline
	stop func()
}

// newWorld creates the tables in a database of its own and configures a
// pipeline for them.
func newWorld(t *testing.T, version int, address string, ddl string, tables ...string) *world {
	t.Helper()
	return worldOn(t, testenv.Postgres(t, version).DSN, address, ddl, tables...)
}

// worldOn is newWorld in a given database.
func worldOn(t *testing.T, dsn, address, ddl string, tables ...string) *world {
	t.Helper()
	w := &world{t: t, dsn: dsn, db: connect(t, dsn)}
	w.exec(ddl)
	yaml := fmt.Sprintf("version: 1\npipeline: p%d\npostgres: {dsn: %q}\nmilvus: {address: %q}\nlog: {embedded: {dir: %q}}\nhttp: {listen: \"127.0.0.1:0\"}\ntables:\n",
		time.Now().UnixNano()%1e9, w.dsn, address, filepath.Join(t.TempDir(), "log"))
	for _, line := range tables {
		yaml += "  - " + line + "\n"
	}
	w.yaml = yaml
	var err error
	w.cfg, err = config.Parse("test.yaml", []byte(yaml), config.Options{})
	require.NoError(t, err)
	return w
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// testLogger shows warnings only.
func testLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// target is a connection to Milvus of the test's own.
func (w *world) target() *milvus.Client {
	w.t.Helper()
	p := &pipeline{cfg: w.cfg, log: slog.New(slog.DiscardHandler), patience: startTime}
	require.NoError(w.t, p.openTarget(w.t.Context()))
	w.t.Cleanup(p.close)
	return p.target
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// start runs the pipeline until the returned stop, or w.stop, is called.
func (w *world) start() {
	w.t.Helper()
	p, err := open(w.t.Context(), w.cfg, testLogger(), startTime)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	w.p = p
	w.stop = func() {
		w.stop = func() {}
		cancel()
		require.NoError(w.t, <-done)
		p.close()
	}
	w.t.Cleanup(func() { w.stop() })
}

// caughtUp waits until Milvus has everything.
func (w *world) caughtUp() {
	w.t.Helper()
	until, err := w.p.fence(w.t.Context())
	require.NoError(w.t, err)
	require.Eventually(w.t, func() bool {
		r := w.p.probe.report()
		return applied(r) >= until && allLive(r)
	}, 4*time.Minute, 20*time.Millisecond, "%+v", w.p.probe.report())
}

// equal compares every row of every table, over connections of its own.
func (w *world) equal() {
	w.t.Helper()
	ctx := w.t.Context()
	p := &pipeline{cfg: w.cfg, log: slog.New(slog.DiscardHandler), patience: startTime}
	defer p.close()
	require.NoError(w.t, p.openSource(ctx))
	require.NoError(w.t, p.openTarget(ctx))
	require.NoError(w.t, p.mapTables(ctx))
	for _, table := range p.tables {
		res, err := verify.Compare(ctx, table, rowSource{p.source}, p.target.Collection(table))
		require.NoError(w.t, err)
		require.True(w.t, res.OK(), "%s: %s\n%+v", table, res, res.Differences)
		require.NotZero(w.t, res.Rows)
	}
}

func TestCopyThenFollow(t *testing.T) {
	t.Parallel()
	m := testenv.Milvus(t)
	name := m.Prefix + "docs"
	w := newWorld(t, 16, m.Address, `create table docs (id bigint primary key, title text not null, body text, meta jsonb, v vector(1536))`,
		fmt.Sprintf("{source: docs, collection: %s}", name))
	w.exec(`create function rv(n int) returns vector language sql volatile as $$ select array_agg(random()::real)::vector from generate_series(1, n) $$`)
	w.exec(`insert into docs select i, 'title '||i, case when i%3=0 then repeat('x', 3000) end, jsonb_build_object('i', i), rv(1536) from generate_series(1, 3000) i`)
	w.start()
	for i := range 20 {
		w.exec(`update docs set title = 'new '||id where id % 20 = $1`, i)
		w.exec(`update docs set v = rv(1536) where id = $1`, i+1)
		w.exec(`delete from docs where id = $1`, 100+i)
		w.exec(`update docs set id = id + 10000 where id = $1`, 200+i)
	}
	w.caughtUp()
	w.equal()
	w.exec(`update docs set v = null where id < 10`)
	w.exec(`update docs set title = 'x' where id > 2900`)
	w.caughtUp()
	w.equal()
}
