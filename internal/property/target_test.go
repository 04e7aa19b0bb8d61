package property

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/memory"
)

// target is Milvus: the model, or a real server.
type target struct {
	w      *world
	memory *memory.Server // nil with a real server
	client *milvus.Client

	mu      sync.Mutex
	writing map[int]write // under way
	next    int
}

// write is one request that changes entities.
type write struct {
	who   string
	table uint32
	sel   milvus.Selection
}

func (a write) overlaps(b write) bool {
	if a.table != b.table {
		return false
	}
	switch {
	case a.sel.Keys != nil && b.sel.Keys != nil:
		return slices.ContainsFunc(a.sel.Keys, func(k vecferry.Key) bool { return slices.Contains(b.sel.Keys, k) })
	case a.sel.Keys != nil:
		return slices.ContainsFunc(a.sel.Keys, b.sel.Range.Has)
	case b.sel.Keys != nil:
		return slices.ContainsFunc(b.sel.Keys, a.sel.Range.Has)
	}
	return a.sel.Range.Overlaps(b.sel.Range)
}

// inspectable reports whether the target can be looked at after each run.
func (g *target) inspectable() bool { return g.memory != nil }

// entities returns everything in a table's collection.
func (g *target) entities(t *vecferry.Table) entities {
	out := entities{}
	for _, e := range g.memory.Entities(t.Collection) {
		out[e.Row.Key] = append(out[e.Row.Key], e.Row)
	}
	return out
}

// prepare makes a collection and reports whether it is empty.
func (g *target) prepare(ctx context.Context, t *vecferry.Table) (bool, error) {
	var p milvus.Prepared
	var err error
	if g.memory != nil {
		p, err = g.memory.Prepare(ctx, t)
	} else {
		p, err = g.client.Prepare(ctx, t)
	}
	return p.Entities == 0, err
}

// collection is a table's collection as one life of a stage sees it.
func (g *target) collection(t *vecferry.Table, m mortal, who string) *milvus.Collection {
	cfg := milvus.Config{Lanes: 1 + m.life.dice.n(3)}
	b := &shaky{mortal: m, table: t, who: who, step: m.life.step}
	if who == "copy" {
		b.step = m.life.stumble
	}
	if g.memory != nil {
		cfg.Pace, b.Backend = memory.Fast(), g.memory.Backend(t)
	} else {
		b.Backend = g.client.Backend(t)
	}
	return milvus.NewCollection(t, b, cfg)
}

// begin notes a request that changes entities. No two touch the same key at the
// same time, whoever they belong to: a dead worker's requests have ended before
// anybody else writes there.
func (g *target) begin(w write) (end func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, other := range g.writing {
		if w.overlaps(other) && !g.w.o.mutant.careless {
			g.w.oracle.violateAny("%s and %s write to the same keys of table %d at once", w.who, other.who, w.table)
		}
	}
	g.next++
	n := g.next
	g.writing[n] = w
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.writing, n)
	}
}

// shaky is a backend whose caller may die before or after each request.
type shaky struct {
	mortal
	milvus.Backend
	table *vecferry.Table
	who   string
	step  func() error
}

// change does one request that changes entities. Once begun it is carried out,
// though its caller may be dead by then.
func (b *shaky) change(ctx context.Context, sel milvus.Selection, do func() error) error {
	return around(b.step, func() error {
		defer b.w.target.begin(write{who: b.who, table: b.table.OID, sel: sel})()
		b.w.nap(context.WithoutCancel(ctx), b.life.dice, b.w.o.callDelay)
		return do()
	})
}

// Insert implements milvus.Backend.
func (b *shaky) Insert(ctx context.Context, rows []vecferry.Row) error {
	keys := make([]vecferry.Key, len(rows))
	for i, r := range rows {
		keys[i] = r.Key
		b.w.oracle.note(b.table.OID, r.Key, "%s inserts %s %s", b.who, r.Position, entityValue(b.table, r))
	}
	return b.change(ctx, milvus.Selection{Keys: keys}, func() error { return b.Backend.Insert(ctx, rows) })
}

// Delete implements milvus.Backend.
func (b *shaky) Delete(ctx context.Context, sel milvus.Selection) error {
	for _, k := range sel.Keys {
		b.w.oracle.note(b.table.OID, k, "%s deletes", b.who)
	}
	return b.change(ctx, sel, func() error { return b.Backend.Delete(ctx, sel) })
}

// Query implements milvus.Backend.
func (b *shaky) Query(ctx context.Context, q milvus.Query) (rows []vecferry.Row, err error) {
	err = around(b.step, func() (err error) { rows, err = b.Backend.Query(ctx, q); return err })
	return rows, err
}

// Count implements milvus.Backend.
func (b *shaky) Count(ctx context.Context, sel milvus.Selection) (n int64, err error) {
	err = around(b.step, func() (err error) { n, err = b.Backend.Count(ctx, sel); return err })
	return n, err
}

// flaky makes requests fail now and then: not carried out at all, carried out
// with the reply lost, in part, or only before the next request of anybody.
func flaky(w *world, d *dice) memory.Hook {
	return func(c memory.Call) memory.Outcome {
		if w.calm.Load() || !d.happens(w.o.flaky) {
			return memory.Outcome{}
		}
		err := &milvus.Error{RPC: "Unavailable", Method: string(c.Method), Reason: fmt.Sprintf("call %d", c.Number), Class: milvus.Retry}
		w.count.faults.Add(1)
		switch d.n(4) {
		case 0:
			return memory.Outcome{Err: err}
		case 1:
			return memory.Outcome{Err: err, Lands: true}
		case 2:
			return memory.Outcome{Err: err, Lands: true, Rows: 1 + d.n(max(1, len(c.Rows)))}
		}
		return memory.Outcome{Err: err, Lands: true, Behind: 1}
	}
}

// stall holds a run of the sink back, so that others run ahead of it.
func (w *world) stall(ctx context.Context) {
	d := w.sinkDice
	most := w.o.lag
	if d.n(60) == 0 {
		most *= 20
	}
	w.nap(ctx, d, min(most, time.Second))
}
