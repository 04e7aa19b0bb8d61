package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// The demonstration starts PostgreSQL and Milvus for itself, lets an application
// write, runs this program as a process of its own between them, kills what can be
// killed, and compares every row at the end.
//
// Who owns what: the steps run one after the other in the caller's goroutine. It
// owns the servers, the child process (one goroutine waits for it) and the writer
// (one goroutine). What fails on its own, the child or the writer, ends the context
// of the steps with the reason. The servers and the child end with this process
// however it ends; the folder is kept if something failed.

// demoOptions are the flags.
type demoOptions struct {
	rows int
	keep bool
	fast bool
}

// fewestRows are enough for the writer and the searches to have something to find.
const fewestRows = 100

func newDemo(*globals) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Shows the whole pipeline on real servers, which it fetches, starts and ends by itself",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.rows < fewestRows {
				return &usageError{fmt.Errorf("--rows %d: it takes at least %d", o.rows, fewestRows)}
			}
			return runDemo(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().IntVar(&o.rows, "rows", 5000, "rows to start with")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "leave everything running after the comparison, until ^C")
	cmd.Flags().BoolVar(&o.fast, "fast", false, "leave out the outage of Milvus, whose recovery takes the longest")
	return cmd
}

// errAllEnded is the cause of the end of a demonstration's context after the last step.
var errAllEnded = errors.New("the demonstration has ended")

// runDemo plays the demonstration and tidies up. Whatever fails is reported here,
// with the place of the logs, and has the exit code 1; ^C has 130, or 0 if all was
// shown and only kept running.
func runDemo(parent context.Context, o demoOptions, out, errOut io.Writer) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(errAllEnded)
	d := &demonstration{o: o, page: newPage(out), fail: cancel}
	err := d.play(ctx)
	shown := err == nil
	if shown && o.keep {
		err = d.linger(ctx)
	}
	interrupted := parent.Err() != nil
	failed := err != nil && !interrupted
	if failed {
		d.page.failed(errOut, cause(ctx, err))
		d.saveLogs(errOut)
	}
	cancel(errAllEnded)
	if err := d.close(failed); err != nil {
		fmt.Fprintln(errOut, "demo: tidying up:", err)
		failed = true
	}
	switch {
	case failed:
		return &quietError{exitFailed}
	case interrupted && !shown:
		return &quietError{exitKilled}
	}
	return nil
}

// cause prefers the reason that ended the context over what that did to a step.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return why
	}
	return err
}

// play does the steps.
func (d *demonstration) play(ctx context.Context) error {
	d.page.title(d.o)
	steps := []func(context.Context) error{
		d.startServers, d.fillTable, d.writeConfig, d.copyTable, d.followRows, d.askBoth, d.killFerry, d.outage, d.compare}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// linger keeps everything running until ^C.
func (d *demonstration) linger(ctx context.Context) error {
	d.page.step("Everything keeps running, until ^C", "Change rows, search, look at the status.")
	d.page.pairs(
		"psql", fmt.Sprintf("%s '%s'", filepath.Join(d.postgres.BinDir(), "psql"), d.dsn),
		"Milvus", d.milvus.Address()+", collection "+d.table.Collection,
		"status", "http://"+d.cfg.HTTP.Listen+"/api/v1/status",
		"metrics", "http://"+d.cfg.HTTP.Listen+"/metrics",
		"config file", d.ferry.config,
		"log", d.ferry.logPath(),
		"try", "go run ./cmd/vecferry status --watch -c "+d.ferry.config)
	<-ctx.Done()
	return context.Cause(ctx)
}

// saveLogs copies the logs of the servers to where the program's own is, and says where.
func (d *demonstration) saveLogs(w io.Writer) {
	if d.dir == "" {
		return
	}
	if d.postgres != nil {
		_ = copyFile(filepath.Join(d.dir, "postgres.log"), d.postgres.LogPath())
	}
	if d.milvus != nil {
		_ = copyFile(filepath.Join(d.dir, "milvus.log"), d.milvus.LogPath())
	}
	fmt.Fprintln(w, "\nThe configuration and the logs of vecferry, PostgreSQL and Milvus are kept in", d.dir)
	if d.ferry != nil {
		fmt.Fprintf(w, "The log of vecferry ends with\n%s", lastLines(d.ferry.logPath(), 12))
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// close ends what was started, the last first, and deletes the folder unless it is
// to be kept.
func (d *demonstration) close(keepFolder bool) error {
	var errs []error
	for _, f := range slices.Backward(d.closers) {
		errs = append(errs, f())
	}
	if d.dir != "" && !keepFolder {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

// lasting gives work that must be finished some time after ctx ended.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}
