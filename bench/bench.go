package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"github.com/milvus-io/milvus-sdk-go/v2/entity"

	"github.com/vecferry/vecferry/internal/testenv"
)

// bench is one run: its servers, its rows and what was measured.
type bench struct {
	options

	log    io.Writer
	dir    string // of everything that goes with the run
	binary string // vecferry

	pg     *testenv.PostgresServer
	milvus *testenv.MilvusServer
	proxy  *testenv.TCPProxy // between vecferry and Milvus
	db     *pgx.Conn
	conns  []client.Client // of the floors, two as vecferry has
	procs  procs
	made   *vectors // by vectors, once
	shapes map[int]*entity.Schema

	skipped string     // why the plain script has no figures
	live    *liveWorld // shared by stream, scalar and latency
	ended   []func() error
	figures []figure
	begun   time.Time
	started load // when the run began
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%6.1fs  %s\n", time.Since(b.begun).Seconds(), fmt.Sprintf(format, args...))
}

// later adds a step of close, which runs them from the last to the first.
func (b *bench) later(step func() error) { b.ended = append(b.ended, step) }

func (b *bench) close() {
	for _, step := range slices.Backward(b.ended) {
		if err := step(); err != nil {
			b.say("cleaning up: %v", err)
		}
	}
}

// open builds vecferry and starts the servers.
func (b *bench) open(ctx context.Context) error {
	b.begun, b.started, b.shapes = time.Now(), loadNow(), make(map[int]*entity.Schema)
	dir, err := os.MkdirTemp("", "vecferry-bench-")
	if err != nil {
		return fmt.Errorf("bench folder: %w", err)
	}
	b.dir = dir
	b.later(func() error { return os.RemoveAll(dir) })
	if err := b.build(ctx); err != nil {
		return err
	}
	if err := b.startServers(ctx); err != nil {
		return err
	}
	if b.db, err = pgx.Connect(ctx, b.pg.DSN("postgres")); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	b.later(func() error { return b.db.Close(context.WithoutCancel(ctx)) })
	if _, err := b.db.Exec(ctx, "create extension vector"); err != nil {
		return fmt.Errorf("pgvector: %w", err)
	}
	if b.conns, err = dialMilvus(ctx, b.milvus.Address(), 2); err != nil {
		return err
	}
	b.later(func() error { return errors.Join(b.conns[0].Close(), b.conns[1].Close()) })
	b.procs, err = findProcs(b.pg, b.milvus)
	return err
}

func (b *bench) startServers(ctx context.Context) (err error) {
	opts := testenv.Options{Logf: b.say}
	b.say("starting PostgreSQL 16 and Milvus 2.3.5")
	b.pg, err = testenv.StartPostgres(ctx, testenv.PostgresOptions{Options: opts, Version: 16, Fresh: true, Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off",
	}})
	if err != nil {
		return err
	}
	b.later(b.pg.Stop)
	if b.milvus, err = testenv.StartMilvus(ctx, testenv.MilvusOptions{Options: opts}); err != nil {
		return err
	}
	b.later(b.milvus.Stop)
	if b.proxy, err = testenv.NewProxy(ctx, b.milvus.Address()); err != nil {
		return err
	}
	b.later(func() error { b.proxy.Close(); return nil })
	return nil
}

// build makes the program under test from this checkout.
func (b *bench) build(ctx context.Context) error {
	b.say("building vecferry")
	b.binary = filepath.Join(b.dir, "vecferry")
	args := []string{"build", "-trimpath", "-ldflags", "-s -w"}
	if b.profile != "" {
		overlay, err := b.overlay()
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", b.binary, "./cmd/vecferry")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build vecferry (run from the root of the checkout): %w\n%s", err, text)
	}
	return nil
}

// vectors returns the rows of the run; growth makes its own.
func (b *bench) vectors() *vectors {
	if b.made == nil {
		b.say("making %d unit vectors of %d dimensions", b.rows, b.dim)
		b.made = newVectors(b.rows, b.dim)
	}
	return b.made
}

// exec runs one statement.
func (b *bench) exec(ctx context.Context, sql string, args ...any) error {
	if _, err := b.db.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}
