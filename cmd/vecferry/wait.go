package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/config"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

func newWait(g *globals) *cobra.Command {
	var caughtUp bool
	var lsn string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait (--caught-up | --lsn X/Y)",
		Short: "Waits until Milvus has everything that was committed before the call",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if caughtUp == (lsn != "") {
				return &usageError{errors.New("give one of --caught-up and --lsn X/Y")}
			}
			c, err := g.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, errWaitOver)
			defer cancel()
			until, err := waitTarget(ctx, c.HTTP, lsn)
			if err != nil {
				return err
			}
			return waitApplied(ctx, c.HTTP, until, timeout)
		},
	}
	cmd.Flags().BoolVar(&caughtUp, "caught-up", false, "everything committed before this call")
	cmd.Flags().StringVar(&lsn, "lsn", "", "everything committed up to this position, such as pg_current_wal_lsn() returns")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this time")
	return cmd
}

var errWaitOver = errors.New("the time for waiting is over")

// waitTarget returns the position to wait for.
func waitTarget(ctx context.Context, c config.HTTP, lsn string) (vecferry.LSN, error) {
	var f Fence
	err := callAPI(ctx, c, http.MethodPost, "/api/v1/fence", &f)
	for errors.Is(err, errStarting) && lifecycle.Sleep(ctx, 200*time.Millisecond) {
		err = callAPI(ctx, c, http.MethodPost, "/api/v1/fence", &f)
	}
	if err != nil {
		return 0, err
	}
	if lsn == "" {
		return f.LSN, nil
	}
	until, err := vecferry.ParseLSN(lsn)
	if err != nil {
		return 0, &usageError{err}
	}
	if until > f.LSN {
		return 0, &usageError{fmt.Errorf("--lsn %s lies after the end of the source's log, %s", until, f.LSN)}
	}
	return until, nil
}

// waitApplied polls until every table is live and the position is applied.
func waitApplied(ctx context.Context, c config.HTTP, until vecferry.LSN, timeout time.Duration) error {
	for {
		r, err := fetchStatus(ctx, c)
		if err == nil && applied(r) >= until && allLive(r) {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		if !lifecycle.Sleep(ctx, 50*time.Millisecond) {
			if errors.Is(context.Cause(ctx), errWaitOver) {
				return fmt.Errorf("not there after %s: applied %s of %s, %s", timeout, applied(r), until, describe(r))
			}
			return context.Cause(ctx)
		}
	}
}

func describe(r Report) string {
	if r.Reason == "" {
		return r.State
	}
	return r.State + ": " + r.Reason
}

func applied(r Report) vecferry.LSN {
	for _, h := range r.Hops {
		if h.Hop == "sink" {
			return h.Position
		}
	}
	return 0
}

func allLive(r Report) bool {
	for _, t := range r.Tables {
		if t.State != "live" {
			return false
		}
	}
	return len(r.Tables) > 0
}

func newHealthcheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Exits with 0 if the running pipeline is ready, for a container's health check", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			r, err := fetchStatus(cmd.Context(), c.HTTP)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), describe(r))
			return err
		},
	}
}
