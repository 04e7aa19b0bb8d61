package capture

import (
	"context"
	"fmt"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

// confirm is the only goroutine that sends to the server. It answers at once
// when it is asked, keeps the connection alive while the reader is held back,
// and after the drain says how far the log is.
func (n *session) confirm(ctx context.Context) error {
	tick := time.NewTicker(n.o.interval)
	defer tick.Stop()
	for {
		select {
		case <-n.asked:
			// First the answer, then what may take longer: a server that shuts
			// down asks again until it is told its own end.
			if err := n.send(ctx); err != nil {
				return err
			}
			if err := n.advance(ctx); err != nil {
				return err
			}
		case <-n.progress.nudge:
			if err := n.advance(ctx); err != nil {
				return err
			}
		case <-tick.C:
			if err := n.advance(ctx); err != nil {
				return err
			}
		case <-n.settled:
			return n.advance(ctx)
		case <-ctx.Done():
			return nil // who failed says why
		}
	}
}

// advance stores a quiet position if there is one, then sends a status.
func (n *session) advance(ctx context.Context) error {
	if at, batch, ok := n.progress.storable(); ok {
		next := quietRecord{Incarnation: n.o.id.value.Incarnation, LSN: at, Batch: batch}
		limited, cancel := context.WithTimeout(ctx, n.o.interval)
		defer cancel()
		if err := n.o.quiet.save(limited, n.c.opts.Store, next); err != nil {
			return err
		}
		n.progress.keep(at)
	}
	return n.send(ctx)
}

func (n *session) send(ctx context.Context) error {
	at := n.progress.confirmable()
	if err := n.s.confirm(ctx, at); err != nil {
		return err
	}
	n.progress.tell(at)
	n.c.board.raise(0, 0, at, 0)
	return nil
}

// refresh is how often the reference for transaction ids is renewed while
// nothing changes: ids of other tables go on, and 32 of their 64 bits must stay
// unambiguous.
const refresh = 10 * time.Minute

// beat writes a beat once per interval while rows change. A beat that fails is
// only logged: what it is for, the next one does as well.
func (n *session) beat(ctx context.Context) error {
	last, renewed := n.c.count.rows(), time.Now()
	for lifecycle.Sleep(ctx, n.c.opts.Heartbeat) {
		rows := n.c.count.rows()
		if rows == last && time.Since(renewed) < refresh {
			continue
		}
		if err := n.beatOnce(ctx, rows != last); err != nil {
			if ctx.Err() == nil {
				n.c.log.Warn("heartbeat failed", "error", err)
			}
			continue
		}
		last, renewed = rows, time.Now()
	}
	return nil
}

// beatOnce takes a snapshot, renews the reference for transaction ids and, if
// asked to, puts the snapshot into the stream.
func (n *session) beatOnce(ctx context.Context, emit bool) error {
	snapshot, err := n.c.opts.Source.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	v, err := vecferry.ParseVisibility(snapshot)
	if err != nil {
		return err
	}
	n.near.Store(uint64(v.Next()))
	if !emit {
		return nil
	}
	_, err = n.c.opts.Source.Emit(ctx, n.c.opts.Pipeline, vecferry.Mark{Kind: vecferry.Beat, Snapshot: snapshot})
	return err
}
