package testenv

import (
	"fmt"
	"os"
	"os/exec"
)

// child is a server process; exited is closed once it has been waited for.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// startChild runs on the guard's locked thread; its one goroutine ends with the
// process.
func startChild(s spec, logPath string) (*child, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: s.Path, Args: append([]string{s.Path}, s.Args...), Dir: s.Dir, Env: s.Env,
		Stdout: log, Stderr: log, SysProcAttr: bound(s.User, s.EndSignal),
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	c := &child{cmd: cmd, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the state is what counts
		close(c.exited)
	}()
	return c, nil
}

// state of a child that was never started is the zero reply.
func (c *child) state() reply {
	if c == nil {
		return reply{}
	}
	select {
	case <-c.exited:
		return reply{PID: c.cmd.Process.Pid, Exit: c.cmd.ProcessState.String()}
	default:
		return reply{PID: c.cmd.Process.Pid, Running: true}
	}
}
