package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"github.com/milvus-io/milvus-sdk-go/v2/entity"
	"golang.org/x/sync/errgroup"
)

// latencyCase commits rows at a steady pace and looks when a search finds them. The
// floor commits to a table that nobody follows, and then writes the row to Milvus.
func latencyCase(ctx context.Context, b *bench) error {
	w, err := b.world(ctx)
	if err != nil {
		return err
	}
	const alone = "alone_docs"
	if err := b.createTable(ctx, alone, w.v.dim); err != nil {
		return err
	}
	for round := range b.rounds {
		first := int64(len(w.rows) + 1)
		n := int(b.latency.Seconds() * float64(b.commits))
		w.rows = append(w.rows, rowsFrom(first, n, 50+round)...)
		fresh := w.rows[len(w.rows)-n:]
		err := b.oneTurn(round,
			func() error { return w.newPacing(alone, fresh).measure(ctx) },
			func() error { return w.newPacing(liveTable, fresh).measure(ctx) })
		if err != nil {
			return err
		}
	}
	return b.exec(ctx, "drop table "+alone)
}

// pacing is one measurement: one goroutine commits, some search.
type pacing struct {
	*liveWorld
	watch      watch
	table      string
	fresh      []row
	collection string
	followed   *ferry // nil for the floor, which writes to Milvus itself
}

func (w *liveWorld) newPacing(table string, fresh []row) *pacing {
	p := &pacing{liveWorld: w, watch: watch{open: make(map[int64]pending)}, table: table, fresh: fresh, collection: w.floor.name}
	if table == liveTable {
		p.followed, p.collection = w.ferry, w.ferry.collection
	}
	return p
}

func (p *pacing) measure(ctx context.Context) error {
	if err := p.b.settle(ctx); err != nil {
		return err
	}
	m, err := p.b.meter(ctx, p.followed, "latency")
	if err != nil {
		return err
	}
	if err := p.commitAndSearch(ctx); err != nil {
		return err
	}
	s, err := m.stop(ctx, len(p.fresh))
	if err != nil {
		return err
	}
	slices.Sort(p.watch.seen)
	s.p50, s.p99 = percentile(p.watch.seen, 0.5), percentile(p.watch.seen, 0.99)
	if p.followed == nil {
		p.b.record("latency", floorArm, "commit, then insert the row with the SDK", p.v.dim, s)
	} else {
		p.b.record("latency", ferryArm, "", p.v.dim, s)
		if err := p.followed.caughtUp(ctx); err != nil {
			return err
		}
	}
	return p.b.check(ctx, p.collection, p.v, p.rows)
}

// searchers is how many searches are under way at any moment. Strong searches wait
// for Milvus' clock, so that one alone would see a row late by half a wait.
const searchers = 4

func (p *pacing) commitAndSearch(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer p.watch.finish()
		return p.commit(ctx)
	})
	for i := range searchers {
		conn := p.floor.conns[i%len(p.floor.conns)]
		g.Go(func() error { return p.search(ctx, conn) })
	}
	return g.Wait()
}

// commit commits one row at each beat. Where nobody follows the table it also writes
// them to Milvus, each in a goroutine of its own so that the pace is kept.
func (p *pacing) commit(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.b.pg.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	beat := time.NewTicker(time.Second / time.Duration(p.b.commits))
	defer beat.Stop()
	g, gctx := errgroup.WithContext(ctx)
	for i, r := range p.fresh {
		select {
		case <-beat.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		_, err := conn.Exec(ctx, "insert into "+p.table+" values ($1, $2, $3, $4::real[]::vector)",
			r.key, titleOf(r.key, r.title), metaOf(r.key), p.v.at(r.key, r.version))
		if err != nil {
			return fmt.Errorf("commit a row: %w", err)
		}
		p.watch.add(r)
		if p.followed == nil {
			g.Go(func() error {
				to := p.floor.conns[i%len(p.floor.conns)]
				return writeParcel(gctx, to, p.collection, verbInsert, parcels(p.v, p.fresh[i:i+1], 1)[0])
			})
		}
	}
	return g.Wait()
}

// search looks for everything that was committed and not found yet, again and again.
func (p *pacing) search(ctx context.Context, conn client.Client) error {
	for {
		open, more := p.watch.list()
		if !more {
			return nil
		}
		if len(open) == 0 {
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		if err := p.look(ctx, conn, open); err != nil {
			return err
		}
	}
}

// look searches once, for each open row by its own vector.
func (p *pacing) look(ctx context.Context, conn client.Client, open []row) error {
	param, err := entity.NewIndexHNSWSearchParam(64)
	if err != nil {
		return fmt.Errorf("search parameters: %w", err)
	}
	wanted := make([]entity.Vector, len(open))
	for i, r := range open {
		wanted[i] = entity.FloatVector(p.v.at(r.key, r.version))
	}
	found, err := conn.Search(ctx, p.collection, nil, among(keysOf(open)), nil, wanted, "v", entity.COSINE, 1, param,
		client.WithSearchQueryConsistencyLevel(entity.ClStrong))
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	for i, result := range found {
		if ids, ok := result.IDs.(*entity.ColumnInt64); ok && ids.Len() == 1 && ids.Data()[0] == open[i].key {
			p.watch.found(open[i].key)
		}
	}
	return nil
}

// pending is a row that no search has found yet.
type pending struct {
	row row
	at  time.Time // of its commit
}

// watch is what the committer and the searchers share.
type watch struct {
	mu   sync.Mutex
	open map[int64]pending
	done bool
	seen []float64 // seconds
}

func (w *watch) add(r row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[r.key] = pending{row: r, at: time.Now()}
}

func (w *watch) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
}

func (w *watch) found(key int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p, ok := w.open[key]; ok {
		w.seen = append(w.seen, time.Since(p.at).Seconds())
		delete(w.open, key)
	}
}

// list returns the oldest rows that are open, and false once there will be none.
func (w *watch) list() ([]row, bool) {
	const most = 32
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]row, 0, len(w.open))
	for _, p := range w.open {
		out = append(out, p.row)
	}
	slices.SortFunc(out, func(a, b row) int { return int(a.key - b.key) })
	return out[:min(most, len(out))], len(out) > 0 || !w.done
}

// percentile is the nearest-rank percentile of sorted values.
func percentile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
