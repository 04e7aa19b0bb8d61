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
			func() error { return w.pace(ctx, floorArm, alone, fresh) },
			func() error { return w.pace(ctx, ferryArm, liveTable, fresh) })
		if err != nil {
			return err
		}
	}
	return b.exec(ctx, "drop table "+alone)
}

// pace measures one arm: one goroutine commits, some search.
func (w *liveWorld) pace(ctx context.Context, arm, table string, rows []row) error {
	b, collection := w.b, w.floor
	var f *ferry
	if arm == ferryArm {
		f, collection = w.ferry, w.ferry.collection
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	watch := &watch{open: make(map[int64]pending)}
	m, err := b.meter(ctx, f, "latency")
	if err != nil {
		return err
	}
	if err := w.commitAndSearch(ctx, watch, table, collection, rows, arm == floorArm); err != nil {
		return err
	}
	s, err := m.stop(ctx, len(rows))
	if err != nil {
		return err
	}
	slices.Sort(watch.seen)
	s.p50, s.p99 = percentile(watch.seen, 0.5), percentile(watch.seen, 0.99)
	how := ""
	if arm == floorArm {
		how = "commit, then write the row with the SDK"
	}
	b.record("latency", arm, how, w.v.dim, s)
	if f != nil {
		if err := f.caughtUp(ctx); err != nil {
			return err
		}
	}
	return b.check(ctx, collection, w.v, w.rows)
}

// searchers is how many searches are under way at any moment. Strong searches wait
// for Milvus' clock, so that one alone would see a row late by half a wait.
const searchers = 4

func (w *liveWorld) commitAndSearch(ctx context.Context, watch *watch, table, collection string, rows []row, write bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer watch.finish()
		return w.commitRows(ctx, watch, table, collection, rows, write)
	})
	for i := range searchers {
		conn := w.conns[i%len(w.conns)]
		g.Go(func() error { return w.search(ctx, watch, conn, collection) })
	}
	return g.Wait()
}

// commitRows commits one row at each beat. If write is set it also writes them to
// Milvus, each in a goroutine of its own so that the pace is kept.
func (w *liveWorld) commitRows(ctx context.Context, watch *watch, table, collection string, rows []row, write bool) error {
	conn, err := pgx.Connect(ctx, w.b.pg.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	beat := time.NewTicker(time.Second / time.Duration(w.b.commits))
	defer beat.Stop()
	g, gctx := errgroup.WithContext(ctx)
	for i := range rows {
		select {
		case <-beat.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		_, err := conn.Exec(ctx, "insert into "+table+" values ($1, $2, $3, $4::real[]::vector)",
			rows[i].key, titleOf(rows[i].key, rows[i].title), metaOf(rows[i].key), w.v.at(rows[i].key, rows[i].version))
		if err != nil {
			return fmt.Errorf("commit a row: %w", err)
		}
		watch.add(rows[i])
		if write {
			g.Go(func() error {
				return writeParcel(gctx, w.conns[i%len(w.conns)], collection, verbReplace, parcels(w.v, rows[i:i+1], 1)[0])
			})
		}
	}
	return g.Wait()
}

// search looks for everything that was committed and not found yet, again and again.
func (w *liveWorld) search(ctx context.Context, watch *watch, conn client.Client, collection string) error {
	param, err := entity.NewIndexHNSWSearchParam(64)
	if err != nil {
		return fmt.Errorf("search parameters: %w", err)
	}
	for {
		open, more := watch.list()
		if !more {
			return nil
		}
		if len(open) == 0 {
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		wanted := make([]entity.Vector, len(open))
		for i, r := range open {
			wanted[i] = entity.FloatVector(w.v.at(r.key, r.version))
		}
		found, err := conn.Search(ctx, collection, nil, among(keysOf(open)), nil, wanted, "v", entity.COSINE, 1, param,
			client.WithSearchQueryConsistencyLevel(entity.ClStrong))
		if err != nil {
			return fmt.Errorf("search: %w", err)
		}
		for i, result := range found {
			if ids, ok := result.IDs.(*entity.ColumnInt64); ok && ids.Len() == 1 && ids.Data()[0] == open[i].key {
				watch.found(open[i].key)
			}
		}
	}
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
