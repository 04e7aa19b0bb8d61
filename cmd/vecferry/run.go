package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/vecferry/vecferry/internal/config"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

func newRun(g *globals) *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "run", Short: "Copies the tables and follows them, until it is stopped", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			limitMemory(c)
			return runPipeline(cmd.Context(), c, newLogger(c.Logging), patience)
		},
	}
	cmd.Flags().DurationVar(&patience, "start-timeout", startTime, "how long servers that cannot be reached are tried at the start")
	return cmd
}

// embeddedMemory is the soft limit of the Go heap with an embedded log. The
// server keeps what was read from disk for 10 s; the collector frees it earlier.
const embeddedMemory = 400 << 20

// limitMemory sets the soft limit unless the user has set one.
func limitMemory(c *config.Config) {
	if c.Log.Embedded != nil && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(embeddedMemory)
	}
}

// startTime is how long servers may take to come up.
const startTime = time.Minute

// runPipeline serves the HTTP address and runs the pipeline until ctx ends or a
// stage halts.
func runPipeline(ctx context.Context, c *config.Config, log *slog.Logger, patience time.Duration) error {
	srv, err := listen(ctx, c.HTTP.Listen)
	if err != nil {
		return err
	}
	log.Info("starting", "pipeline", c.Pipeline, "http", srv.ln.Addr().String(), "version", version)
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { return srv.serve(work) })
	g.Go(func() error {
		defer cancel()
		p, err := open(ctx, c, log, patience)
		if err != nil {
			return startError(ctx, err)
		}
		defer p.close()
		srv.p <- p
		err = p.run(ctx)
		<-srv.p
		if err == nil {
			log.Info("stopped", "applied_lsn", p.sink.Status().AppliedLSN.String())
		}
		return err
	})
	return g.Wait()
}

// startError is nil if the start was stopped by the user.
func startError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// logEvery is the time between lines of progress where there is no terminal.
const logEvery = 10 * time.Second

// progress shows how far the copy is: a bar a table on a terminal, else a line
// now and then.
func (p *pipeline) progress(ctx context.Context) error {
	if term.IsTerminal(int(os.Stderr.Fd())) && p.cfg.Logging.Format != "json" {
		p.bars(ctx, os.Stderr)
	}
	for copied := false; lifecycle.Sleep(ctx, logEvery); {
		r := p.probe.report()
		done := true
		for _, t := range r.Tables {
			if t.State == "live" {
				continue
			}
			done = false
			p.log.Info("copying", "table", t.Source, "rows", t.CopiedRows, "of_about", t.Estimated,
				"rows_per_second", int(t.RowsPerSec), "eta", etaText(t.ETASeconds), "waiting", t.Reason)
		}
		if done && !copied {
			p.log.Info("all tables are copied and followed", "tables", len(r.Tables))
		}
		copied = done
		if r.State == "waiting" || r.State == "catching up" {
			p.log.Info("not at the end of the stream", "state", r.State, "reason", r.Reason)
		}
	}
	return nil
}

// bars draws the copy until every table is live or ctx ends.
func (p *pipeline) bars(ctx context.Context, w io.Writer) {
	out := mpb.NewWithContext(ctx, mpb.WithOutput(w), mpb.WithAutoRefresh())
	bars := make(map[string]*mpb.Bar)
	for {
		open := 0
		for _, t := range p.probe.report().Tables {
			if bars[t.Source] == nil {
				bars[t.Source] = out.AddBar(0, mpb.PrependDecorators(decor.Name(t.Source+" "), decor.CountersNoUnit("%d of about %d")),
					mpb.AppendDecorators(decor.Percentage(), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)))
			}
			bars[t.Source].SetTotal(max(t.Estimated, t.CopiedRows), t.State == "live")
			bars[t.Source].SetCurrent(t.CopiedRows)
			if t.State != "live" {
				open++
			}
		}
		if len(bars) > 0 && open == 0 || !lifecycle.Sleep(ctx, 200*time.Millisecond) {
			break
		}
	}
	for _, b := range bars {
		b.Abort(false) // leaves a finished bar as it is
	}
	out.Wait()
	fmt.Fprintln(w)
}

// trim removes what was applied longer ago than the replay window.
func (p *pipeline) trim(ctx context.Context) error {
	for lifecycle.Sleep(ctx, 15*time.Second) {
		if err := p.changes.TrimApplied(ctx, p.sink.Status().Applied, p.cfg.Log.ReplayWindow); err != nil {
			return err
		}
	}
	return nil
}
