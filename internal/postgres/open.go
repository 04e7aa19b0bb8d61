package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	defaultMaxConns       = 4
	defaultConnectTimeout = 10 * time.Second
	pgxConnectTimeout     = 2 * time.Minute // pgx' own when the DSN has none
)

// Options say how to reach the source. Only DSN is required.
type Options struct {
	DSN            string        // URL or key=value form
	Password       string        // in place of the DSN's, if not empty
	MaxConns       int           // most connections at once, default 4; ReplicationConfig is not counted
	ConnectTimeout time.Duration // of one attempt, default 10 s unless the DSN has connect_timeout
}

// Source is the PostgreSQL database that vecferry reads. Its methods may be
// called by several goroutines.
type Source struct {
	pool   *pgxpool.Pool
	config *pgx.ConnConfig
	server string
}

// Open connects to the source and returns once a session has answered. The
// error is ErrDSN or a *ConnectError.
func Open(ctx context.Context, opts Options) (*Source, error) {
	cfg, err := poolConfig(opts)
	if err != nil {
		return nil, err
	}
	s := &Source{config: cfg.ConnConfig.Copy(), server: serverName(&cfg.ConnConfig.Config)}
	s.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, s.fail(ctx, "open source", err)
	}
	if err := s.pool.Ping(ctx); err != nil {
		s.pool.Close()
		return nil, s.fail(ctx, "open source", err)
	}
	return s, nil
}

// Close ends all sessions; it waits for those in use.
func (s *Source) Close() { s.pool.Close() }

// ReplicationConfig returns what a session needs that speaks the replication
// protocol on the source's database. The caller may change it; it is a copy.
func (s *Source) ReplicationConfig() *pgconn.Config {
	cfg := s.config.Config.Copy()
	cfg.RuntimeParams["replication"] = "database"
	return cfg
}

func poolConfig(opts Options) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(opts.DSN)
	if err != nil {
		return nil, dsnError(err)
	}
	cfg.MaxConns = int32(cmp.Or(opts.MaxConns, defaultMaxConns))
	cfg.MinConns = 0
	cfg.AfterConnect = afterConnect
	conn := cfg.ConnConfig
	conn.Password = cmp.Or(opts.Password, conn.Password)
	// No named statements: plans would outlive changes of the tables.
	conn.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn.ConnectTimeout = connectTimeout(opts.ConnectTimeout, conn.ConnectTimeout)
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3,
	}}
	conn.DialFunc = dialer.DialContext
	maps.Copy(conn.RuntimeParams, sessionSettings())
	return cfg, nil
}

func connectTimeout(option, fromDSN time.Duration) time.Duration {
	if fromDSN == pgxConnectTimeout {
		fromDSN = 0
	}
	return cmp.Or(option, fromDSN, defaultConnectTimeout)
}

// sessionSettings go into the start-up packet, where they win over those of the
// role and the database.
func sessionSettings() map[string]string {
	return map[string]string{
		"application_name":                    "vecferry",
		"client_encoding":                     "UTF8",
		"DateStyle":                           "ISO",
		"IntervalStyle":                       "postgres",
		"TimeZone":                            "UTC",
		"bytea_output":                        "hex",
		"extra_float_digits":                  "1",
		"search_path":                         "",
		"row_security":                        "off",
		"synchronous_commit":                  "local",
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_in_transaction_session_timeout": "0",
		"idle_session_timeout":                "0",
		"tcp_keepalives_idle":                 "30",
		"tcp_keepalives_interval":             "10",
		"tcp_keepalives_count":                "3",
	}
}

// afterConnect switches off the timeout that only newer servers (17) know.
func afterConnect(ctx context.Context, conn *pgx.Conn) error {
	const sql = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'"
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("set up session: %w", err)
	}
	return nil
}

// dsnError keeps a file that could not be read, and nothing else of the cause:
// any part of a broken string may be the password.
func dsnError(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%w: %w", ErrDSN, file)
	}
	return ErrDSN
}

func serverName(cfg *pgconn.Config) string {
	return net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))) + "/" + cfg.Database
}
