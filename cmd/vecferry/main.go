// Command vecferry carries a live PostgreSQL + pgvector table into Milvus.
//
// This package only wires: it reads flags and signals, builds the stages from
// the configuration, gives each the others through the small interfaces that
// they declare, and maps errors to exit codes. vecferry run owns one goroutine
// a stage, all started and ended by lifecycle.Group.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/vecferry/vecferry/internal/config"
	"github.com/vecferry/vecferry/internal/testenv"
)

// Exit codes, the same for every command; docs/reference/exit-codes.md has them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitDifferent   = 4
	exitKilled      = 130
)

func main() {
	testenv.Guard() // a server of the demo is guarded by this program itself
	ctx, stop := signals()
	defer stop()
	cmd := newRoot()
	err := cmd.ExecuteContext(ctx)
	if err != nil && !isQuiet(err) {
		fmt.Fprintln(os.Stderr, "vecferry:", err)
	}
	os.Exit(exitCode(err))
}

// signals ends the context at the first ^C or SIGTERM and the process at the second.
func signals() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ch
		fmt.Fprintln(os.Stderr, "vecferry: stopping; what is on its way is finished first, at most 30 s (again to stop at once)")
		cancel()
		<-ch
		os.Exit(exitKilled)
	}()
	return ctx, cancel
}

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// quietError has been reported already; it only carries an exit code.
type quietError struct{ code int }

func (e *quietError) Error() string { return fmt.Sprintf("exit %d", e.code) }

func isQuiet(err error) bool {
	var q *quietError
	return errors.As(err, &q)
}

// exitCode maps an error by what it is, never by its text.
func exitCode(err error) int {
	var quiet *quietError
	var usage *usageError
	var conf *config.Error
	var reach interface{ Unreachable() bool }
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &quiet):
		return quiet.code
	case errors.As(err, &usage), errors.As(err, &conf), errors.Is(err, fs.ErrNotExist):
		return exitUsage
	case errors.As(err, &reach) && reach.Unreachable():
		return exitUnreachable
	}
	return exitFailed
}
