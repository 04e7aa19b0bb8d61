package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	graceEnv     = "VECFERRY_TEST_GRACE"
	defaultGrace = 30 * time.Second

	// protocol names the records of shared servers: change it with reply or spec,
	// so that two checkouts on one machine do not talk past each other.
	protocol = "v1"
)

// record says where the shared server of a kind is.
type record struct{ Dir string }

// share leases the server of a kind, which start makes if there is none. One
// process at a time looks and starts.
func share(ctx context.Context, opts Options, kind string, start func(context.Context) (*instance, error)) (*instance, error) {
	if err := prepareCache(opts.Cache); err != nil {
		return nil, err
	}
	path := filepath.Join(opts.Cache, "run", "shared-"+kind+"-"+protocol)
	lock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if found := attach(ctx, path+".json"); found != nil {
		return found, nil
	}
	started, err := start(ctx)
	if err != nil {
		return nil, err
	}
	if err := writeJSON(path+".json", record{Dir: started.dir}); err != nil {
		return nil, joinEnd(err, started)
	}
	// The guard is a child of this process, but not its to wait for: it stays.
	if err := started.guard.Release(); err != nil {
		return nil, fmt.Errorf("testenv: share: %w", err)
	}
	started.guard = nil
	return started, nil
}

// attach leases a recorded server. A record may be old, its guard may be ending, or
// the server may have crashed: nil means that a new one is needed.
func attach(ctx context.Context, path string) *instance {
	var r record
	if readJSON(path, &r) != nil {
		return nil
	}
	i := &instance{dir: r.Dir}
	if readJSON(specPath(i.dir), &i.spec) != nil || i.dial(ctx) != nil {
		return nil
	}
	state, err := i.call(cmdStatus)
	if err != nil || !state.Running {
		_ = i.enc.Encode(cmdEnd) // of no use to anybody
		_ = i.conn.Close()
		return nil
	}
	return i
}

func sharedGrace() (time.Duration, error) {
	text := os.Getenv(graceEnv)
	if text == "" {
		return defaultGrace, nil
	}
	grace, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("testenv: %s: %w", graceEnv, err)
	}
	return grace, nil
}

// sharedPostgres returns a lease: the caller closes it with release.
func sharedPostgres(ctx context.Context, opts PostgresOptions) (*PostgresServer, error) {
	opts = opts.withDefaults()
	var err error
	if opts.grace, err = sharedGrace(); err != nil {
		return nil, err
	}
	server, err := share(ctx, opts.Options, "pg"+strconv.Itoa(opts.Version), func(ctx context.Context) (*instance, error) {
		p, err := StartPostgres(ctx, opts)
		if err != nil {
			return nil, err
		}
		return p.server, nil
	})
	if err != nil {
		return nil, err
	}
	p := &PostgresServer{server: server, version: opts.Version, port: server.spec.Ports[0]}
	return p, releaseOn(p.await(ctx), server)
}

// sharedMilvus returns a lease: the caller closes it with release.
func sharedMilvus(ctx context.Context, opts MilvusOptions) (*MilvusServer, error) {
	opts.Options = opts.withDefaults()
	var err error
	if opts.grace, err = sharedGrace(); err != nil {
		return nil, err
	}
	server, err := share(ctx, opts.Options, "milvus", func(ctx context.Context) (*instance, error) {
		m, err := StartMilvus(ctx, opts)
		if err != nil {
			return nil, err
		}
		return m.server, nil
	})
	if err != nil {
		return nil, err
	}
	m := attachMilvus(server)
	return m, releaseOn(m.await(ctx), server)
}

func releaseOn(err error, server *instance) error {
	if err == nil {
		return nil
	}
	return errors.Join(err, server.release())
}
