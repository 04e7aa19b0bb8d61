package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	maxSocketPath = 107 // what the kernel allows for the name of a unix socket
	callTimeout   = 30 * time.Second
)

// instance is one server's directory, and this process's lease on its guard.
type instance struct {
	dir   string
	spec  spec
	alive *os.File      // locked; handed to the guard by launch
	conn  net.Conn      // the lease
	guard *os.Process   // nil if another process started it
	enc   *json.Encoder // commands
	dec   *json.Decoder // replies
}

// newInstance creates a directory with n ports of its own. Whoever gets it calls
// launch, or release with alive still held if no guard is wanted.
func newInstance(ctx context.Context, opts Options, kind string, n int) (*instance, error) {
	if os.Getenv(guardEnv) != "" {
		return nil, ErrNoGuard // we are that second process: do not start a third
	}
	if err := prepareCache(opts.Cache); err != nil {
		return nil, err
	}
	run := filepath.Join(opts.Cache, "run")
	lock, err := lockFile(ctx, filepath.Join(run, "lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	claimed, err := sweep(run)
	if err != nil {
		return nil, err
	}
	i := &instance{}
	if i.spec.Ports, err = choosePorts(ctx, n, claimed); err != nil {
		return nil, err
	}
	if i.dir, err = os.MkdirTemp(run, kind+"-"); err != nil {
		return nil, fmt.Errorf("testenv: instance: %w", err)
	}
	if err := i.claim(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(i.dir))
	}
	return i, nil
}

// claim makes the directory reachable, and visibly in use with these ports.
func (i *instance) claim(ctx context.Context) error {
	if err := os.Chmod(i.dir, 0o755); err != nil {
		return fmt.Errorf("testenv: instance: %w", err)
	}
	if len(i.socket()) > maxSocketPath {
		return fmt.Errorf("testenv: the cache path is too long for a socket: %s", i.socket())
	}
	if err := writeJSON(specPath(i.dir), i.spec); err != nil {
		return err
	}
	var err error
	i.alive, err = lockFile(ctx, filepath.Join(i.dir, "alive"))
	return err
}

// sweep deletes what dead guards left behind and returns the ports of the living.
func sweep(run string) (map[int]bool, error) {
	entries, err := os.ReadDir(run)
	if err != nil {
		return nil, fmt.Errorf("testenv: sweep: %w", err)
	}
	claimed := map[int]bool{}
	for _, entry := range entries {
		dir := filepath.Join(run, entry.Name())
		if !entry.IsDir() {
			continue
		}
		if !inUse(dir) {
			_ = os.RemoveAll(dir) // what resists is tried again next time
			continue
		}
		var s spec
		if err := readJSON(specPath(dir), &s); err == nil { // else it is being deleted
			for _, port := range s.Ports {
				claimed[port] = true
			}
		}
	}
	return claimed, nil
}

func inUse(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "alive"), os.O_RDWR, 0)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) // without the file it is half made, or half deleted
	}
	defer f.Close()
	free, err := tryFlock(f)
	return err != nil || !free
}

func (i *instance) socket() string  { return filepath.Join(i.dir, "socket") }
func (i *instance) logPath() string { return filepath.Join(i.dir, "log") }

// launch starts the guard and, through it, the server. The connection is made
// before the guard exists, so that it cannot find itself without a user.
func (i *instance) launch(ctx context.Context, s spec) error {
	s.Ports = i.spec.Ports
	i.spec = s
	if err := writeJSON(specPath(i.dir), s); err != nil {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: i.socket(), Net: "unix"})
	if err != nil {
		return fmt.Errorf("testenv: guard socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	if err := i.dial(ctx); err != nil {
		return err
	}
	if err := i.spawn(listener); err != nil {
		return err
	}
	if err := listener.Close(); err != nil { // the guard's alone, so that its death shows
		return fmt.Errorf("testenv: guard socket: %w", err)
	}
	return i.command(cmdStart)
}

// spawn hands the listener and the lock of the directory over to the guard.
func (i *instance) spawn(listener *net.UnixListener) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("testenv: guard: %w", err)
	}
	socket, err := listener.File()
	if err != nil {
		return fmt.Errorf("testenv: guard: %w", err)
	}
	defer socket.Close()
	output, err := os.Create(filepath.Join(i.dir, "guard.log"))
	if err != nil {
		return fmt.Errorf("testenv: guard: %w", err)
	}
	defer output.Close()
	cmd := &exec.Cmd{
		Path: self, Args: []string{self, guardArg}, Dir: "/", Env: append(os.Environ(), guardEnv+"="+i.dir),
		Stdout: output, Stderr: output, // never ours: go test waits for its pipes to close
		ExtraFiles: []*os.File{socket, i.alive}, SysProcAttr: detached(),
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("testenv: guard: %w", err)
	}
	i.guard = cmd.Process
	i.alive.Close()
	i.alive = nil
	return nil
}

func (i *instance) dial(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", i.socket())
	if err != nil {
		return fmt.Errorf("testenv: lease: %w", err)
	}
	i.conn, i.enc, i.dec = conn, json.NewEncoder(conn), json.NewDecoder(conn)
	return nil
}

// call sends one command; the guard bounds what each may take. After a failure the
// connection is good for nothing but end. One goroutine at a time uses it.
func (i *instance) call(command string) (reply, error) {
	if i.conn == nil {
		return reply{}, ErrStopped
	}
	if err := i.conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return reply{}, fmt.Errorf("testenv: guard: %w", err)
	}
	var answer reply
	if err := errors.Join(i.enc.Encode(command), i.dec.Decode(&answer)); err != nil {
		return reply{}, fmt.Errorf("%w: %s: %w", ErrNoGuard, command, err)
	}
	if answer.Error != "" {
		return answer, fmt.Errorf("testenv: guard: %s: %s", command, answer.Error)
	}
	return answer, nil
}

func (i *instance) command(command string) error {
	_, err := i.call(command)
	return err
}

// restart keeps ports and data.
func (i *instance) restart() error {
	if err := i.command(cmdHalt); err != nil {
		return err
	}
	return i.command(cmdStart)
}

// await polls until the server answers, or is seen to have exited.
func (i *instance) await(ctx context.Context, probe func(context.Context) error) error {
	return poll(ctx, 20*time.Millisecond, func(ctx context.Context) error {
		failure := probe(ctx)
		if failure == nil {
			return nil
		}
		state, err := i.call(cmdStatus)
		if err != nil {
			return finalError{err}
		}
		if !state.Running {
			return finalError{fmt.Errorf("%w: %s\n%s", ErrExited, state.Exit, tail(i.logPath()))}
		}
		return failure
	})
}

// end stops the server for all users and deletes its data; it returns when both is
// done. Only the process that started the guard may call it; again is harmless.
func (i *instance) end() error {
	if i.guard == nil {
		return i.release()
	}
	_ = i.conn.SetDeadline(time.Time{}) // a failed call may have left one
	sendErr := i.enc.Encode(cmdEnd)     // fails if the guard is gone, which Wait explains
	state, err := i.guard.Wait()
	if err != nil {
		err = fmt.Errorf("testenv: end: %w", errors.Join(sendErr, err))
	} else if !state.Success() {
		err = fmt.Errorf("testenv: end: guard: %s\n%s", state, tail(filepath.Join(i.dir, "guard.log")))
	}
	i.guard = nil
	return errors.Join(err, os.RemoveAll(i.dir), i.release())
}

// release gives up the lease, and the directory if there never was a guard.
func (i *instance) release() error {
	var err error
	if i.conn != nil {
		err = i.conn.Close()
		i.conn = nil
	}
	if i.alive != nil {
		err = errors.Join(err, os.RemoveAll(i.dir), i.alive.Close())
		i.alive = nil
	}
	return err
}

// tail returns the end of a log, where the reason is.
func tail(path string) []byte {
	const keep = 4 << 10
	b, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	b = b[max(0, len(b)-keep):]
	return bytes.TrimSpace(b)
}
