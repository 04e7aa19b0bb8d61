package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// ferry is this program as a child process, with vecferry run. It is used by one
// goroutine.
type ferry struct {
	program string // this one
	config  string
	dir     string
	fail    func(error) // told if it ends unasked
	now     *child
}

// child is one life of a ferry.
type child struct {
	cmd   *exec.Cmd
	asked atomic.Bool // it was told to end
	ended chan struct{}
	err   error // once ended
}

func (f *ferry) logPath() string { return filepath.Join(f.dir, "vecferry.log") }

// start starts it; it ends with ctx, and with this process.
func (f *ferry) start(ctx context.Context) error {
	log, err := os.OpenFile(f.logPath(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c := &child{ended: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, f.program, "run", "-c", f.config, "--log-format", "text")
	c.cmd.Dir, c.cmd.Env, c.cmd.Stderr, c.cmd.SysProcAttr = f.dir, foreignEnv(), log, tied()
	started := make(chan error, 1)
	go c.live(ctx, started, f.fail)
	if err := <-started; err != nil {
		return fmt.Errorf("start vecferry: %w", err)
	}
	f.now = c
	return nil
}

// foreignEnv is the environment without what would change the configuration.
func foreignEnv() []string {
	var out []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "VECFERRY_") {
			out = append(out, e)
		}
	}
	return out
}

// live starts the process and waits for its end, on one thread: the signal at this
// process's death belongs to the thread that started the child.
func (c *child) live(ctx context.Context, started chan<- error, fail func(error)) {
	runtime.LockOSThread()
	defer close(c.ended)
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	c.err = c.cmd.Wait()
	if !c.asked.Load() && ctx.Err() == nil {
		fail(fmt.Errorf("vecferry ended by itself: %s", c.cmd.ProcessState))
	}
}

// kill ends it with SIGKILL.
func (f *ferry) kill() error { return f.end(os.Kill, 10*time.Second) }

// errNotEnded says that a process outlived its signal.
var errNotEnded = errors.New("vecferry does not end")

// end sends a signal and waits for the end; a clean one is no error, nor is a kill.
func (f *ferry) end(s os.Signal, limit time.Duration) error {
	c := f.now
	if c == nil {
		return nil
	}
	f.now = nil
	c.asked.Store(true)
	if err := c.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end vecferry: %w", err)
	}
	select {
	case <-c.ended:
	case <-time.After(limit):
		return errors.Join(errNotEnded, c.cmd.Process.Kill())
	}
	if s == syscall.SIGTERM && c.err != nil {
		return fmt.Errorf("vecferry did not end well: %w", c.err)
	}
	return nil
}
