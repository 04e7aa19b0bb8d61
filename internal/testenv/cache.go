package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// Errors that a caller may want to tell apart.
var (
	// ErrUnsupported means that there are no server programs for this platform.
	ErrUnsupported = errors.New("testenv: servers are available for linux/amd64 only")
	// ErrNoPip means that the one-time download has no client to use.
	ErrNoPip = errors.New("testenv: python3 with pip is needed for the one-time download (on Debian: apt-get install python3-pip)")
	// ErrChecksum means that a downloaded file is not the pinned one.
	ErrChecksum = errors.New("testenv: checksum mismatch")
	// ErrNoGuard means that the running program never calls Guard.
	ErrNoGuard = errors.New("testenv: the guard process did not come up: call testenv.Main from TestMain, or testenv.Guard first in main")
	// ErrExited means that a server ended instead of becoming ready.
	ErrExited = errors.New("testenv: the server exited")
	// ErrStopped means that the server was given up with Stop.
	ErrStopped = errors.New("testenv: the server was stopped")
	// ErrVersion means that there is no such PostgreSQL here.
	ErrVersion = errors.New("testenv: PostgreSQL version must be 16 or 18")
)

// Options are common to all servers. The zero value is good.
type Options struct {
	Cache string               // where programs and data live; default CacheDir()
	Logf  func(string, ...any) // told about slow steps; may be nil
}

func (o Options) withDefaults() Options {
	if o.Cache == "" {
		o.Cache = CacheDir()
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return o
}

// CacheDir is VECFERRY_CACHE, or else a directory that fits the user: PostgreSQL
// refuses to run as root, so root's cache must be searchable by everyone.
func CacheDir() string {
	if dir := os.Getenv("VECFERRY_CACHE"); dir != "" {
		return dir
	}
	if dir, err := os.UserCacheDir(); err == nil && os.Getuid() != 0 {
		return filepath.Join(dir, "vecferry")
	}
	return "/var/tmp/vecferry-" + strconv.Itoa(os.Getuid())
}

// prepareCache creates the cache and refuses one that others can write to: its
// programs are executed.
func prepareCache(dir string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return ErrUnsupported
	}
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("testenv: cache %s is not an absolute path", dir)
	}
	if err := mkdirOpen(filepath.Join(dir, "run")); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("testenv: cache: %w", err)
	}
	if !info.IsDir() || !ownedBySelf(info) {
		return fmt.Errorf("testenv: cache %s must be a directory that belongs to this user and that nobody else can write to", dir)
	}
	return nil
}

// mkdirOpen makes directories that other users can search, whatever the umask.
func mkdirOpen(dir string) error {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			break
		}
		missing = append(missing, d)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("testenv: make directory: %w", err)
	}
	for _, d := range missing {
		if err := os.Chmod(d, 0o755); err != nil {
			return fmt.Errorf("testenv: make directory: %w", err)
		}
	}
	return nil
}

// lockFile takes an exclusive lock that closing the file, or dying, gives back.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("testenv: lock: %w", err)
	}
	err = poll(ctx, 20*time.Millisecond, func(context.Context) error {
		ok, err := tryFlock(f)
		if err != nil {
			return finalError{err}
		}
		if !ok {
			return errors.New("held by another process")
		}
		return nil
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("testenv: lock %s: %w", path, err)
	}
	return f, nil
}

// finalError wraps an error that waiting will not heal.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// poll calls try until it succeeds, gives up for good, or the context ends.
func poll(ctx context.Context, every time.Duration, try func(context.Context) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		err := try(ctx)
		var final finalError
		if err == nil || errors.As(err, &final) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: last attempt: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
