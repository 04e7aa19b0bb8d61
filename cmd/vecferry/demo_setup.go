package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/config"
	"github.com/vecferry/vecferry/internal/demo"
	"github.com/vecferry/vecferry/internal/postgres"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/sink/milvus"
)

// demonstration is what the steps share; each fills in its part.
type demonstration struct {
	o       demoOptions
	page    *page
	fail    context.CancelCauseFunc
	closers []func() error

	dir      string // configuration, log and change log of vecferry
	postgres *testenv.PostgresServer
	milvus   *testenv.MilvusServer
	docs     []demo.Document
	dsn      string
	db       *pgx.Conn

	cfg        *config.Config
	ferry      *ferry
	source     *postgres.Source
	table      *vecferry.Table
	collection *milvus.Collection
	writer     *demo.Writer
	pause      func() error // ends the writer's run; nil if it does not write
}

// later has something done at the end.
func (d *demonstration) later(f func() error) { d.closers = append(d.closers, f) }

// startServers starts both servers and, meanwhile, collects the documents.
func (d *demonstration) startServers(ctx context.Context) (err error) {
	d.page.step("Start PostgreSQL 16 with pgvector, and Milvus", "Nothing below is simulated: these are the real servers, and they belong to this run alone.")
	if d.dir, err = os.MkdirTemp("", "vecferry-demo-"); err != nil {
		return err
	}
	opts := testenv.Options{Logf: d.page.line}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		d.postgres, err = testenv.StartPostgres(gctx, testenv.PostgresOptions{Options: opts})
		return err
	})
	g.Go(func() (err error) {
		d.milvus, err = testenv.StartMilvus(gctx, testenv.MilvusOptions{Options: opts, Config: demoMilvus()})
		return err
	})
	g.Go(func() (err error) {
		d.docs, err = demo.Corpus(gctx, d.o.rows)
		return err
	})
	err = g.Wait()
	if d.postgres != nil {
		d.later(d.postgres.Stop)
	}
	if d.milvus != nil {
		d.later(d.milvus.Stop)
	}
	return err
}

// demoMilvus are settings of the server that make the demonstration exact and short:
// rows that are not indexed yet are searched one by one instead of with an index in
// between that misses some, and a server that was killed is taken for dead after
// 15 s, not 30.
func demoMilvus() map[string]string {
	return map[string]string{"queryNode.segcore.interimIndex.enableIndex": "false", "common.session.ttl": "15"}
}

const demoDatabase = "app"

// fillTable makes the application's database.
func (d *demonstration) fillTable(ctx context.Context) error {
	d.dsn = d.postgres.DSN(demoDatabase)
	if err := demo.CreateDatabase(ctx, d.postgres.DSN("postgres"), d.dsn, demoDatabase); err != nil {
		return err
	}
	var err error
	if d.db, err = demo.Connect(ctx, d.dsn); err != nil {
		return err
	}
	d.later(func() error {
		ctx, cancel := lasting(ctx)
		defer cancel()
		return d.db.Close(ctx)
	})
	if err := d.describeServers(ctx); err != nil {
		return err
	}
	d.page.step("Fill a table", "The source is an ordinary table: key, texts, flags, jsonb, a time, and a vector of 1,536 elements.")
	if err := demo.CreateTable(ctx, d.db); err != nil {
		return err
	}
	start := time.Now()
	n, err := demo.Fill(ctx, d.db, d.docs)
	if err != nil {
		return err
	}
	var size int64
	if err := d.db.QueryRow(ctx, "select pg_total_relation_size($1::regclass)", demo.TableName).Scan(&size); err != nil {
		return err
	}
	d.page.line("%s: %s rows, %s, in %s", demo.TableName, thousands(n), bytesText(size), seconds(time.Since(start)))
	d.page.line("a row is the comment of a declaration in Go's standard library, its vector is made of the words")
	return nil
}

func (d *demonstration) describeServers(ctx context.Context) error {
	var version, extension string
	err := d.db.QueryRow(ctx, "select current_setting('server_version'), extversion from pg_extension where extname = 'vector'").Scan(&version, &extension)
	if err != nil {
		return err
	}
	target, err := milvus.Connect(ctx, milvus.Options{Address: d.milvus.Address(), Connections: 1})
	if err != nil {
		return err
	}
	defer target.Close()
	release, err := target.Version(ctx)
	if err != nil {
		return err
	}
	d.page.pairs(
		"PostgreSQL", fmt.Sprintf("127.0.0.1:%d   %s, pgvector %s", d.postgres.Port(), version, extension),
		"Milvus", fmt.Sprintf("%s   %s, standalone", d.milvus.Address(), strings.TrimPrefix(release, "v")))
	return nil
}

// writeConfig writes the smallest file that does the job, and connects the
// demonstration's own eyes: to both stores, past vecferry.
func (d *demonstration) writeConfig(ctx context.Context) error {
	d.page.step("Write vecferry.yaml", "This is all that has to be said: key, vector, types and index are found in the table.")
	text, err := d.configText(ctx)
	if err != nil {
		return err
	}
	d.page.block(text)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	d.ferry = &ferry{program: self, config: filepath.Join(d.dir, "vecferry.yaml"), dir: d.dir, fail: func(err error) { d.fail(err) }}
	if err := os.WriteFile(d.ferry.config, []byte(text), 0o600); err != nil {
		return err
	}
	nothing := func(string) (string, bool) { return "", false } // as the child, which gets no secrets either
	if d.cfg, err = config.Load(d.ferry.config, config.Options{Env: nothing}); err != nil {
		return err
	}
	return d.openEyes(ctx)
}

func (d *demonstration) configText(ctx context.Context) (string, error) {
	http, err := unusedAddress(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`version: 1
pipeline: demo
postgres:
  dsn: %s
milvus:
  address: %s
log:
  embedded: { dir: ./data }
http:
  listen: %s
tables:
  - source: %s
    collection: %[4]s
`, d.dsn, d.milvus.Address(), http, demo.TableName), nil
}

// unusedAddress is a local address that nobody listens on.
func unusedAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func (d *demonstration) openEyes(ctx context.Context) (err error) {
	d.source, err = postgres.Open(ctx, sourceOptions(d.cfg.Postgres, 2))
	if err != nil {
		return err
	}
	d.later(func() error { d.source.Close(); return nil })
	if d.table, _, err = d.source.Inspect(ctx, tableSpec(d.cfg.Tables[0])); err != nil {
		return err
	}
	target, err := milvus.Connect(ctx, milvus.Options{Address: d.milvus.Address()})
	if err != nil {
		return err
	}
	d.later(target.Close)
	d.collection = target.Collection(d.table)
	return nil
}

// startWriter lets the application work until stopWriter.
func (d *demonstration) startWriter(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		err := d.writer.Run(ctx)
		if err != nil {
			d.fail(err)
		}
		done <- err
	}()
	d.pause = func() error {
		cancel()
		return <-done
	}
}

// stopWriter returns once the transaction at hand is finished.
func (d *demonstration) stopWriter() error {
	if d.pause == nil {
		return nil
	}
	err := d.pause()
	d.pause = nil
	return err
}

// endFerry ends what writes and what reads, at once.
func (d *demonstration) endFerry() error {
	_ = d.stopWriter() // its error has ended the demonstration already
	return d.ferry.kill()
}
