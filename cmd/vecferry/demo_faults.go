package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

// until polls a condition, which says what it sees, and from time to time prints
// what is waited for. Over the limit, or if ctx ends, it is an error.
func (d *demonstration) until(ctx context.Context, what string, limit time.Duration, done func(context.Context) (bool, string)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errWaitOver)
	defer cancel()
	start := time.Now()
	for shown := start; ; {
		ok, seen := done(ctx)
		if ok {
			return nil
		}
		if !lifecycle.Sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("waiting for %s for %s: %w; last seen: %s", what, seconds(time.Since(start)), context.Cause(ctx), seen)
		}
		if time.Since(shown) > 5*time.Second {
			shown = time.Now()
			brief, _, _ := strings.Cut(seen, ": ") // the reason takes a line of its own
			d.page.tick("waiting for %s: %s", what, brief)
		}
	}
}

// caughtUp waits until all that is committed now is in Milvus.
func (d *demonstration) caughtUp(ctx context.Context, what string) error {
	var fence vecferry.LSN
	return d.until(ctx, what, 3*time.Minute, func(ctx context.Context) (bool, string) {
		if fence == 0 {
			lsn, err := waitTarget(ctx, d.cfg.HTTP, "")
			if err != nil {
				return false, err.Error()
			}
			fence = lsn
		}
		r, err := fetchStatus(ctx, d.cfg.HTTP)
		if err != nil {
			return false, err.Error()
		}
		return applied(r) >= fence && allLive(r), behind(r)
	})
}

// behind is a status in a few words.
func behind(r Report) string {
	text := thousands(lastHop(r).LagRows) + " changes behind, " + r.State
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// killFerry kills vecferry in the middle of its work.
func (d *demonstration) killFerry(ctx context.Context) error {
	d.page.step("Kill vecferry with SIGKILL, in the middle of writing", "A crash loses nothing and copies nothing again: it goes on where its checkpoint stands.")
	before, err := fetchStatus(ctx, d.cfg.HTTP)
	if err != nil {
		return err
	}
	if err := d.ferry.kill(); err != nil {
		return err
	}
	w := d.writer.Work()
	d.page.line("killed       applied up to %s, %s rows copied since the beginning", applied(before), thousands(theTable(before).CopiedRows))
	if !lifecycle.Sleep(ctx, 2*time.Second) {
		return context.Cause(ctx)
	}
	w = d.writer.Work().Since(w)
	d.page.line("down 2 s     the application committed %s transactions with %s changes", thousands(w.Transactions), thousands(w.Changes()))
	start := time.Now()
	if err := d.ferry.start(ctx); err != nil {
		return err
	}
	if err := d.caughtUp(ctx, "vecferry to be back and have caught up"); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := fetchStatus(ctx, d.cfg.HTTP)
	if err != nil {
		return err
	}
	if theTable(after).CopiedRows != theTable(before).CopiedRows {
		return fmt.Errorf("%d rows were copied before the crash, %d after it", theTable(before).CopiedRows, theTable(after).CopiedRows)
	}
	d.page.line("caught up    %s after its start: applied up to %s, %s rows copied since the beginning", seconds(took), applied(after), thousands(theTable(after).CopiedRows))
	return nil
}

const downTime = 8 * time.Second

// outage kills Milvus, watches, starts it again, and waits until all is caught up.
func (d *demonstration) outage(ctx context.Context) error {
	if d.o.fast {
		return nil
	}
	d.page.step("Kill Milvus with SIGKILL", "An outage of Milvus never reaches the application, and fills the change log, not PostgreSQL's disk.")
	if err := d.milvus.Kill(); err != nil {
		return err
	}
	if err := d.watchOutage(ctx); err != nil {
		return err
	}
	d.page.step("Start Milvus again", "What piled up is applied in order; nobody has to do anything.")
	if err := d.restartMilvus(ctx); err != nil {
		return err
	}
	d.page.tick("Milvus answers; before it can be read it loads the collection")
	if err := d.caughtUp(ctx, "Milvus to load and vecferry to catch up"); err != nil {
		return err
	}
	d.page.tick("caught up")
	return nil
}

// watchOutage prints the lag while Milvus is away.
func (d *demonstration) watchOutage(ctx context.Context) error {
	before, start := d.writer.Work(), time.Now()
	d.page.line("%8s %-10s %16s %8s %22s %29s", "", "state", "changes behind", "lag", "size of the change log", "only in PostgreSQL so far")
	var reason string
	for time.Since(start) < downTime {
		if !lifecycle.Sleep(ctx, 2*time.Second) {
			return context.Cause(ctx)
		}
		r, err := fetchStatus(ctx, d.cfg.HTTP)
		if err != nil {
			return err
		}
		h := lastHop(r)
		d.page.tick("%-10s %15s %8s %22s %29s", r.State, thousands(h.LagRows), fmt.Sprintf("%.1f s", h.LagSeconds),
			bytesText(int64(r.Log.Bytes)), bytesText(max(0, r.Hops[0].LagBytes)))
		if r.Reason != "" {
			reason = r.Reason
		}
	}
	now := d.writer.Work()
	d.page.gap()
	d.page.line("The reason that the status gives:")
	d.page.block(clip(reason, 2*pageWidth))
	d.page.line("Meanwhile the application committed %s transactions; the slowest of all so far took %s.",
		thousands(now.Since(before).Transactions), millis(now.Slowest))
	return nil
}

// restartMilvus returns when the server answers. It waits for the call in any case:
// the server is used by one goroutine at a time.
func (d *demonstration) restartMilvus(ctx context.Context) error {
	restarted := make(chan error, 1)
	go func() { restarted <- d.milvus.Restart(ctx) }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-restarted:
			return err
		case <-tick.C:
			d.page.tick("waiting for Milvus to start")
		}
	}
}
