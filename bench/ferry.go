package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vecferry/vecferry"
)

// ferry is one pipeline: vecferry as a process of its own, for one table.
type ferry struct {
	b          *bench
	name       string // of pipeline and collection
	table      string
	dir        string
	http       string
	pprof      string
	log        tail
	cmd        *exec.Cmd
	done       chan struct{} // closed when the process has ended
	profiling  int
	collection string
}

// newFerry configures a pipeline from a table to a collection of the same name as
// the pipeline, behind the given address of Milvus.
func (b *bench) newFerry(ctx context.Context, name, table, milvus string) (*ferry, error) {
	f := &ferry{b: b, name: name, table: table, collection: name, dir: filepath.Join(b.dir, name)}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, fmt.Errorf("pipeline folder: %w", err)
	}
	var err error
	if f.http, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if f.pprof, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("version: 1\npipeline: %s\npostgres: {dsn: %q}\nmilvus: {address: %q}\nlog: {embedded: {dir: %q}}\nhttp: {listen: %q}\ntables:\n  - {source: %s, collection: %s}\n",
		name, b.pg.DSN("postgres"), milvus, filepath.Join(f.dir, "log"), f.http, table, f.collection)
	if err := os.WriteFile(f.file(), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("pipeline configuration: %w", err)
	}
	b.later(func() error { f.kill(); return nil })
	return f, nil
}

func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("free port: %w", err)
	}
	return ln.Addr().String(), ln.Close()
}

func (f *ferry) file() string { return filepath.Join(f.dir, "vecferry.yaml") }

// start returns when the process runs; up waits until it works.
func (f *ferry) start(ctx context.Context) error {
	args := []string{"run", "-c", f.file(), "--log-format", "text"}
	for _, s := range f.b.config {
		args = append(args, "--set", s)
	}
	f.cmd = exec.CommandContext(ctx, f.b.binary, args...)
	f.cmd.Env = append(os.Environ(), pprofEnv+"="+f.pprof)
	f.cmd.Stderr = &f.log
	if f.b.verbose {
		f.cmd.Stderr = io.MultiWriter(&f.log, f.b.log)
	}
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := f.cmd.Start(); err != nil {
		return fmt.Errorf("start vecferry: %w", err)
	}
	f.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // the exit code says nothing that the log does not
		close(done)
	}(f.cmd, f.done)
	return nil
}

func (f *ferry) pid() int {
	if f == nil || f.cmd == nil {
		return 0
	}
	return f.cmd.Process.Pid
}

// stopTime is how long a vecferry may take to end.
const stopTime = 30 * time.Second

// stop ends the process as an operator would.
func (f *ferry) stop() error {
	if f.cmd == nil {
		return nil
	}
	_ = f.cmd.Process.Signal(syscall.SIGTERM) // ended already: what we want
	select {
	case <-f.done:
		f.cmd = nil
		return nil
	case <-time.After(stopTime):
		f.kill()
		return fmt.Errorf("vecferry did not stop within %v\n%s", stopTime, f.log.String())
	}
}

func (f *ferry) kill() {
	if f.cmd != nil {
		_ = f.cmd.Process.Kill()
		<-f.done
		f.cmd = nil
	}
}

// remove stops the process and deletes everything that it made.
func (f *ferry) remove(ctx context.Context) error {
	if err := f.stop(); err != nil {
		return err
	}
	if err := f.b.dropSlot(ctx, "vecferry_"+f.name); err != nil {
		return err
	}
	return errors.Join(
		f.b.exec(ctx, "drop publication if exists vecferry_"+f.name),
		f.b.drop(ctx, f.collection), os.RemoveAll(f.dir))
}

// dropSlot waits until the server has noticed that the slot's user is gone.
func (b *bench) dropSlot(ctx context.Context, slot string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := b.exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", slot)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// report is what we need of GET /api/v1/status.
type report struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
	Tables []struct {
		State  string `json:"state"`
		Copied int64  `json:"copied_rows"`
	} `json:"tables"`
	Hops []struct {
		Hop      string       `json:"hop"`
		Position vecferry.LSN `json:"position"`
	} `json:"hops"`
}

func (r report) position(hop string) vecferry.LSN {
	for _, h := range r.Hops {
		if h.Hop == hop {
			return h.Position
		}
	}
	return 0
}

// captured is the position up to which the change log has everything.
func (r report) captured() vecferry.LSN { return r.position("capture") }

// applied is the position up to which Milvus has everything.
func (r report) applied() vecferry.LSN { return r.position("sink") }

func (r report) live() bool { return len(r.Tables) == 1 && r.Tables[0].State == "live" }

// errStarting means that vecferry does not answer yet.
var errStarting = errors.New("vecferry is not up yet")

func (f *ferry) call(ctx context.Context, method, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.http+path, nil)
	if err != nil {
		return fmt.Errorf("ask vecferry: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errStarting
	}
	if err != nil {
		return fmt.Errorf("ask vecferry: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(resp.Body).Decode(out)
	case http.StatusServiceUnavailable:
		return errStarting
	}
	return fmt.Errorf("ask vecferry: %s answers %s", path, resp.Status)
}

// patience bounds every wait for vecferry, so that a fault ends the run.
const patience = 10 * time.Minute

// until polls the status until a condition holds, and returns that status.
func (f *ferry) until(ctx context.Context, every time.Duration, done func(report) bool) (report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("nothing came of waiting for %v", patience))
	defer cancel()
	for {
		var r report
		err := f.call(ctx, http.MethodGet, "/api/v1/status", &r)
		if err == nil && done(r) {
			return r, nil
		}
		if err != nil && !errors.Is(err, errStarting) && ctx.Err() == nil {
			return r, fmt.Errorf("%w\n%s", err, f.log.String())
		}
		select {
		case <-f.done:
			return r, fmt.Errorf("vecferry has ended\n%s", f.log.String())
		case <-ctx.Done():
			return r, fmt.Errorf("%w: %s %s\n%s", context.Cause(ctx), r.State, r.Reason, f.log.String())
		case <-time.After(every):
		}
	}
}

// up waits until the servers are connected and the collection is ready.
func (f *ferry) up(ctx context.Context) error {
	_, err := f.until(ctx, 5*time.Millisecond, func(report) bool { return true })
	return err
}

// startLive starts the process and waits until its table is copied.
func (f *ferry) startLive(ctx context.Context) error {
	if err := f.start(ctx); err != nil {
		return err
	}
	_, err := f.until(ctx, pollEvery, report.live)
	return err
}

// pollEvery is how exactly an end is seen. Asking costs vecferry a few thousandths of
// a core.
const pollEvery = 50 * time.Millisecond

// fence returns a position behind everything that is committed.
func (f *ferry) fence(ctx context.Context) (vecferry.LSN, error) {
	var answer struct {
		LSN vecferry.LSN `json:"lsn"`
	}
	err := f.call(ctx, http.MethodPost, "/api/v1/fence", &answer)
	return answer.LSN, err
}

// caughtUp waits until Milvus has everything that is committed.
func (f *ferry) caughtUp(ctx context.Context) error {
	to, err := f.fence(ctx)
	if err != nil {
		return err
	}
	_, err = f.until(ctx, pollEvery, func(r report) bool { return r.live() && r.applied() >= to })
	return err
}

// tail keeps the end of a log.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	const most = 16 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*most {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-most:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.buf), []byte("\n"))
	return strings.TrimSpace(string(bytes.Join(lines[max(0, len(lines)-25):], []byte("\n"))))
}
