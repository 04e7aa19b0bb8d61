package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/internal/testenv"
)

// program is vecferry as a process of its own.
type program struct {
	t    *testing.T
	file string
	cmd  *exec.Cmd
	log  syncBuffer
	done chan error
}

// newProgram writes the world's configuration to a file, with an address to
// ask for its status.
func newProgram(t *testing.T, w *world) *program {
	t.Helper()
	w.cfg.HTTP.Listen = freeAddress(t)
	p := &program{t: t, file: filepath.Join(t.TempDir(), "vecferry.yaml")}
	yaml := strings.Replace(w.yaml, "127.0.0.1:0\"", w.cfg.HTTP.Listen+"\"", 1)
	require.NoError(t, os.WriteFile(p.file, []byte(yaml), 0o600))
	t.Cleanup(func() {
		p.kill(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the program's log ends with\n%s", p.text()[max(0, len(p.text())-4000):])
		}
	})
	return p
}

// syncBuffer is read while the program writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

// text is the program's log so far.
func (p *program) text() string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return p.log.b.String()
}

func (p *program) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), os.Args[0], append(args, "-c", p.file)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

func (p *program) start() {
	p.t.Helper()
	p.cmd = p.command("run")
	p.cmd.Stderr = &p.log
	require.NoError(p.t, p.cmd.Start())
	p.done = make(chan error, 1)
	go func(c *exec.Cmd, done chan error) { done <- c.Wait() }(p.cmd, p.done)
}

// kill ends the program and returns its exit code, -1 if a signal ended it.
func (p *program) kill(s os.Signal) int {
	if p.cmd == nil {
		return 0
	}
	_ = p.cmd.Process.Signal(s)
	require.NotErrorIs(p.t, <-p.done, exec.ErrNotFound)
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code
}

// caughtUp runs vecferry wait, again while the program is not up yet.
func (p *program) caughtUp() {
	p.t.Helper()
	var out []byte
	require.Eventually(p.t, func() bool {
		var err error
		out, err = p.command("wait", "--caught-up", "--timeout", "4m").CombinedOutput()
		return err == nil
	}, 5*time.Minute, 100*time.Millisecond, "%s", out)
}

// The program is killed at random moments of the copy and of the stream.
func TestKilledAtRandomTimes(t *testing.T) {
	t.Parallel()
	m := testenv.Milvus(t)
	w := stormWorld(t, 16, m.Address, m.Prefix)
	p := newProgram(t, w)
	calm := storm(t, w.dsn, 3)
	for range 6 {
		p.start()
		lifecycle.Sleep(t.Context(), 300*time.Millisecond+rand.N(3*time.Second)) // the random time
		require.Equal(t, -1, p.kill(syscall.SIGKILL))
	}
	p.start()
	p.caughtUp()
	calm()
	p.caughtUp()
	w.equal()
	require.Equal(t, exitDone, p.kill(syscall.SIGTERM))
}

// Milvus is killed and started again; the program lives through it.
func TestMilvusIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	server := testenv.OwnMilvus(t, nil)
	w := stormWorld(t, 18, server.Address(), "m_")
	calm := storm(t, w.dsn, 3)
	w.start()
	for range 2 {
		require.NoError(t, server.Kill())
		require.Eventually(t, func() bool { return w.p.probe.report().State == "waiting" }, time.Minute, 20*time.Millisecond)
		require.NoError(t, server.Restart(t.Context()))
	}
	calm()
	w.caughtUp()
	w.equal()
}
