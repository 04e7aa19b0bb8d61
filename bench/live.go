package main

import (
	"context"
	"fmt"
	"time"

	"github.com/vecferry/vecferry"
)

// liveWorld is a table that vecferry has copied and follows, and a second collection
// with the same rows that the floors write to. Both reach Milvus over the same proxy.
// The cases stream, scalar and latency share it.
type liveWorld struct {
	b     *bench
	v     *vectors
	ferry *ferry
	floor target // of the floors, with their connections
	rows  []row  // as they stand in the table; the key is the index + 1
}

const liveTable = "live_docs"

// world makes the live world at its first use.
func (b *bench) world(ctx context.Context) (*liveWorld, error) {
	if b.live != nil {
		return b.live, nil
	}
	w := &liveWorld{b: b, v: b.vectors(), floor: target{name: "floor_live"}, rows: rowsFrom(1, b.rows, 0)}
	b.say("  making two live collections of %d rows", b.rows)
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	b.live = w
	return w, nil
}

func (w *liveWorld) open(ctx context.Context) (err error) {
	b := w.b
	if err := b.createTable(ctx, liveTable, w.v.dim); err != nil {
		return err
	}
	if err := b.load(ctx, liveTable, w.v, w.rows); err != nil {
		return err
	}
	if err := b.exec(ctx, "vacuum analyze "+liveTable); err != nil {
		return err
	}
	if err := b.exec(ctx, "create unlogged table staged (like "+liveTable+" including all)"); err != nil {
		return err
	}
	if w.ferry, err = b.newFerry(ctx, liveTable, liveTable, b.proxy.Addr()); err != nil {
		return err
	}
	if err := w.ferry.startLive(ctx); err != nil {
		return err
	}
	if w.floor.conns, err = dialMilvus(ctx, b.proxy.Addr(), 2); err != nil {
		return err
	}
	for _, c := range w.floor.conns {
		b.later(c.Close)
	}
	if err := b.create(ctx, w.floor.name, w.v.dim); err != nil {
		return err
	}
	by := cell{verb: verbInsert, batch: 1000, lanes: 2}
	return target{b.conns, w.floor.name}.write(ctx, by, parcels(w.v, w.rows, by.batch), nil)
}

// stamp is a place in the source's log and the changes that lie before it.
type stamp struct {
	lsn     vecferry.LSN
	changes int
}

// drain measures how vecferry applies a backlog: Milvus is cut off while the source is
// written and the change log takes it all; then it comes back. What was stuck when it
// came back is not counted, neither its time nor its changes: how long a client waits
// before it tries again is no matter of throughput.
func (w *liveWorld) drain(ctx context.Context, label string, write func(context.Context) ([]stamp, error)) (sample, error) {
	b, f := w.b, w.ferry
	if err := f.caughtUp(ctx); err != nil {
		return sample{}, err
	}
	if err := resetPeak(f.pid()); err != nil {
		return sample{}, err
	}
	b.proxy.Block()
	defer b.proxy.Unblock()
	stamps, err := write(ctx)
	if err != nil {
		return sample{}, err
	}
	to, err := f.fence(ctx)
	if err != nil {
		return sample{}, err
	}
	r, err := f.until(ctx, pollEvery, func(r report) bool { return r.captured() >= to })
	if err != nil {
		return sample{}, err
	}
	if err := b.settle(ctx); err != nil {
		return sample{}, err
	}
	stuck := r.applied()
	b.proxy.Unblock()
	r, err = f.until(ctx, 2*time.Millisecond, func(r report) bool { return r.applied() > stuck })
	if err != nil {
		return sample{}, err
	}
	m, err := b.meter(ctx, f, label)
	if err != nil {
		return sample{}, err
	}
	left := after(stamps, r.applied())
	if left < stamps[len(stamps)-1].changes/2 {
		return sample{}, fmt.Errorf("only %d changes were left when the first progress showed; give more -rows", left)
	}
	if _, err := f.until(ctx, pollEvery, func(r report) bool { return r.applied() >= to }); err != nil {
		return sample{}, err
	}
	return m.stop(ctx, left)
}

// after counts the changes behind a position, those of a transaction that it may
// lie in not among them.
func after(stamps []stamp, applied vecferry.LSN) int {
	all, done := stamps[len(stamps)-1].changes, 0
	for i, s := range stamps {
		if i == 0 || stamps[i-1].lsn < applied {
			done = s.changes
		}
	}
	return all - done
}
