package testenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	guardEnv = "VECFERRY_TESTENV_GUARD" // the instance directory to guard
	// guardArg lets a program end without doing anything if it never calls Guard:
	// a test binary runs no test, any other program refuses the flag.
	guardArg = "-test.run=^$"

	listenerFD = 3
	aliveFD    = 4

	firstLease   = 10 * time.Second // for the starter to connect
	politePeriod = 5 * time.Second  // for a server to follow a signal
	killPeriod   = 20 * time.Second // for the kernel to take a large process apart
)

// Guard returns at once, unless this process was started to guard a server: then
// it never returns. Call it first in main or TestMain of every program that starts
// servers. It is what ends them when the program dies.
func Guard() {
	dir := os.Getenv(guardEnv)
	if dir == "" {
		return
	}
	if err := runGuard(dir); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1) //nolint:forbidigo // a guard is a program of its own
	}
	os.Exit(0) //nolint:forbidigo // a guard is a program of its own
}

// Main runs the tests of a package that uses this one: call it from TestMain.
func Main(m interface{ Run() int }) {
	Guard()
	os.Exit(m.Run()) //nolint:forbidigo // what TestMain is for
}

// spec is what a guard needs to know to run a server.
type spec struct {
	Path, Dir  string
	Args, Env  []string
	User       int           // 0: the guard's own
	HaltSignal int           // ends the server, keeps its data usable
	EndSignal  int           // ends it at once and lets it release what the kernel keeps
	Grace      time.Duration // between the last lease and the end
	Ports      []int
	Litter     []string // files that the server leaves outside its directory
}

const (
	cmdStart  = "start"
	cmdHalt   = "halt"
	cmdKill   = "kill"
	cmdPause  = "pause"
	cmdResume = "resume"
	cmdStatus = "status"
	cmdEnd    = "end"

	evJoin  = "join"
	evLeave = "leave"
)

// reply is the answer to each command but end, which is answered by closing.
type reply struct {
	PID     int    `json:"pid"`
	Running bool   `json:"running"`
	Exit    string `json:"exit,omitempty"`
	Error   string `json:"error,omitempty"`
}

// event travels from a connection's goroutine to the owner of the state.
type event struct {
	what   string
	answer chan reply // nil for join and leave
}

// guard is owned by the goroutine in run; only events may be used by others.
type guard struct {
	dir    string
	spec   spec
	events chan event
	done   chan struct{}
	server *child
	users  int
}

func runGuard(dir string) error {
	runtime.LockOSThread() // the server's parent-death signal belongs to this thread
	g := &guard{dir: dir, events: make(chan event), done: make(chan struct{})}
	if err := readJSON(specPath(dir), &g.spec); err != nil {
		return err
	}
	if err := adoptOrphans(); err != nil {
		return err
	}
	alive := os.NewFile(aliveFD, "alive") // locked by the starter; ours until we exit
	closeOnExec(alive)
	defer alive.Close()
	socket := os.NewFile(listenerFD, "listener")
	listener, err := net.FileListener(socket) // a copy
	if err := errors.Join(err, socket.Close()); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	go g.accept(listener)
	g.run()
	close(g.done)
	err = errors.Join(listener.Close(), g.stop(g.spec.EndSignal))
	freeSharedMemory(filepath.Join(dir, "data", "postmaster.pid"))
	err = errors.Join(err, os.RemoveAll(dir))
	for _, path := range g.spec.Litter {
		_ = os.Remove(path) // it has one of several places
	}
	return err
}

// run handles one event after the other until nobody needs the server any more.
func (g *guard) run() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	idle := time.NewTimer(firstLease)
	for {
		select {
		case <-signals:
			return
		case <-idle.C:
			return
		case e := <-g.events:
			if e.what == cmdEnd {
				return
			}
			g.handle(e, idle)
		}
	}
}

func (g *guard) handle(e event, idle *time.Timer) {
	switch e.what {
	case evJoin:
		g.users++
		idle.Stop()
	case evLeave:
		if g.users--; g.users == 0 {
			idle.Reset(g.spec.Grace)
		}
	default:
		err := g.execute(e.what)
		answer := g.server.state()
		if err != nil {
			answer.Error = err.Error()
		}
		e.answer <- answer
	}
}

func (g *guard) execute(command string) error {
	switch command {
	case cmdStart:
		return g.start()
	case cmdHalt:
		return g.stop(g.spec.HaltSignal)
	case cmdKill:
		return g.stop(signalKill)
	case cmdPause:
		return g.pause()
	case cmdResume:
		signalAll(descendants(os.Getpid()), signalResume)
	case cmdStatus:
	default:
		return fmt.Errorf("unknown command %q", command)
	}
	return nil
}

func (g *guard) start() error {
	if g.server.state().Running {
		return errors.New("already running")
	}
	server, err := startChild(g.spec, filepath.Join(g.dir, "log"))
	if err == nil {
		g.server = server
	}
	return err
}

// pause returns when every thread stands still: a signal alone takes a moment.
func (g *guard) pause() error {
	for deadline := time.Now().Add(politePeriod); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		pids := descendants(os.Getpid())
		signalAll(pids, signalStop)
		if stopped(pids) {
			return nil
		}
	}
	return errors.New("processes do not stop")
}

// stop ends the server and everything below it. Orphans become children of the
// guard, so that an empty list means that nothing is left.
func (g *guard) stop(signal int) error {
	if g.server == nil {
		return nil
	}
	if signal != signalKill && g.server.state().Running {
		pids := []int{g.server.cmd.Process.Pid}
		signalAll(pids, signal)
		signalAll(pids, signalResume) // a paused process follows no signal
		select {
		case <-g.server.exited:
		case <-time.After(politePeriod):
		}
	}
	for deadline := time.Now().Add(killPeriod); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		signalAll(descendants(os.Getpid()), signalKill)
		if g.server.state().Running {
			continue
		}
		reapOrphans()
		if len(descendants(os.Getpid())) == 0 {
			return nil
		}
	}
	return errors.New("processes survive SIGKILL")
}

// accept ends when the listener is closed.
func (g *guard) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go g.serve(conn)
	}
}

// serve is the lease of one user: it lasts as long as the connection.
func (g *guard) serve(conn net.Conn) {
	defer conn.Close()
	if !g.send(event{what: evJoin}) {
		return
	}
	defer g.send(event{what: evLeave})
	decoder, encoder := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var command string
		if decoder.Decode(&command) != nil {
			return
		}
		e := event{what: command, answer: make(chan reply, 1)}
		if !g.send(e) || command == cmdEnd {
			<-g.done // hold the connection: its end tells that all is cleaned up
			select {}
		}
		if encoder.Encode(<-e.answer) != nil {
			return
		}
	}
}

func (g *guard) send(e event) bool {
	select {
	case g.events <- e:
		return true
	case <-g.done:
		return false
	}
}

func specPath(dir string) string { return filepath.Join(dir, "spec.json") }

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("testenv: read: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("testenv: %s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("testenv: encode: %w", err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("testenv: write: %w", err)
	}
	return nil
}
