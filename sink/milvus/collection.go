package milvus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
)

// Config of a collection over a backend.
type Config struct {
	Lanes  int          // writes in flight at once, 2 if 0
	Pace   Pace         // of retries
	Logger *slog.Logger // told about retries; may be nil
}

// Collection applies and reads the rows of one table. Its methods are safe for
// concurrent use as long as no two writes touch the same key at once: Milvus gives
// concurrent requests no order.
type Collection struct {
	layout  *layout
	backend Backend
	retry   *retrier
	lanes   int
}

// NewCollection returns the collection of a table over a backend, such as the model
// in package memory. For a server use Client.Collection.
func NewCollection(t *vecferry.Table, b Backend, cfg Config) *Collection {
	return newCollection(t, b, newRetrier(cfg.Pace, cfg.Logger), cfg.Lanes)
}

const defaultLanes = 2

func newCollection(t *vecferry.Table, b Backend, r *retrier, lanes int) *Collection {
	if lanes <= 0 {
		lanes = defaultLanes
	}
	return &Collection{layout: newLayout(t), backend: b, retry: r, lanes: lanes}
}

// Check returns a *vecferry.RowError for a row that Milvus cannot hold, or would not
// give back as it is: a text longer than its field in bytes, invalid UTF-8, a vector
// with NaN, an infinity or another dimension, a NULL in a field of the schema, JSON
// or dynamic fields over 65536 bytes. It asks nobody.
func (c *Collection) Check(row vecferry.Row) error { return c.layout.check(row) }

// Waiting tells why requests wait for their next attempt, since when, and after how
// many failures; the reason is empty if none waits.
func (c *Collection) Waiting() (reason string, since time.Time, attempts int) {
	return c.retry.waiting()
}

// Sizes of a read.
const (
	readBytes   = 16 << 20
	readKeys    = 2000
	readsAtOnce = 4
)

// Read returns the rows that stand under keys, whole, and nothing for a key without
// one. It sees every write that was acknowledged before. A Strong read costs a time
// tick, 200 to 400 ms, at any size: ask for many keys at once. The vectors of a read
// share memory: a row that is kept keeps its neighbours.
func (c *Collection) Read(ctx context.Context, keys []vecferry.Key) (map[vecferry.Key]vecferry.Row, error) {
	out := make(map[vecferry.Key]vecferry.Row, len(keys))
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsAtOnce)
	size := min(readKeys, max(1, readBytes/c.layout.replyBytes()))
	for part := range slices.Chunk(keys, size) {
		g.Go(func() error {
			return c.readPart(ctx, part, func(rows []vecferry.Row) {
				mu.Lock()
				defer mu.Unlock()
				for _, r := range rows {
					out[r.Key] = r
				}
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// readPart reads one slice of keys, in halves if the reply is too large.
func (c *Collection) readPart(ctx context.Context, keys []vecferry.Key, got func([]vecferry.Row)) error {
	t := task{name: c.name("read from"), divisible: len(keys) > 1}
	err := c.retry.do(ctx, t, func(ctx context.Context) error {
		rows, err := c.backend.Query(ctx, Query{Selection: Selection{Keys: keys}})
		if err == nil {
			got(rows)
		}
		return err
	})
	if !divisible(ctx, err) {
		return err
	}
	half := len(keys) / 2
	if err := c.readPart(ctx, keys[:half], got); err != nil {
		return err
	}
	return c.readPart(ctx, keys[half:], got)
}

// divisible reports whether do gave up because a smaller request may pass.
func divisible(ctx context.Context, err error) bool {
	var e *Error
	return ctx.Err() == nil && errors.As(err, &e) && !vecferry.Halts(err) &&
		(e.Class == Split || e.Class == BadRow || e.Class == Ambiguous)
}

// Count returns the number of entities; a duplicated key counts twice.
func (c *Collection) Count(ctx context.Context) (int64, error) {
	return c.count(ctx, Selection{Range: vecferry.Everything()})
}

func (c *Collection) count(ctx context.Context, s Selection) (n int64, err error) {
	err = c.retry.do(ctx, task{name: c.name("count")}, func(ctx context.Context) error {
		n, err = c.backend.Count(ctx, s)
		return err
	})
	return n, err
}

// Clear deletes every entity with a key in a range and makes sure of it by counting.
// Nobody else may write to the range meanwhile.
func (c *Collection) Clear(ctx context.Context, r vecferry.Range) error {
	if r.Empty() {
		return nil
	}
	s := Selection{Range: r}
	if k, ok := r.Single(); ok {
		s = Selection{Keys: []vecferry.Key{k}}
	}
	return c.retry.do(ctx, task{name: c.name("clear")}, func(ctx context.Context) error {
		if err := c.backend.Delete(ctx, s); err != nil {
			return err
		}
		n, err := c.backend.Count(ctx, s)
		if err == nil && n != 0 {
			err = unsettled(fmt.Sprintf("%d entities stand in a range that was cleared", n))
		}
		return err
	})
}

// unsettled is the error of a write whose outcome is not what it was acknowledged as.
func unsettled(reason string) *Error {
	return &Error{Method: methodDelete, Class: Retry, Legacy: "unsettled", Reason: reason}
}

// maxPage is the most rows that the server returns to a limited query.
const maxPage = 16384

// Keys returns the keys of the entities in a range in order, at most limit of them,
// or all if limit is 0. A key that is there twice is returned once.
func (c *Collection) Keys(ctx context.Context, r vecferry.Range, limit int) ([]vecferry.Key, error) {
	return c.pages(ctx, r, limit, maxPage)
}

func (c *Collection) pages(ctx context.Context, r vecferry.Range, limit, page int) ([]vecferry.Key, error) {
	var out []vecferry.Key
	for !r.Empty() && (limit <= 0 || len(out) < limit) {
		ask := page
		if limit > 0 {
			ask = min(page, limit-len(out))
		}
		rows, err := c.page(ctx, Query{Selection: Selection{Range: r}, KeysOnly: true, Limit: ask})
		if err != nil {
			return nil, err
		}
		slices.SortFunc(rows, func(a, b vecferry.Row) int { return strings.Compare(string(a.Key), string(b.Key)) })
		for _, row := range rows {
			if n := len(out); n == 0 || out[n-1] != row.Key {
				out = append(out, row.Key)
			}
		}
		if len(rows) == 0 {
			break
		}
		r.Lo = vecferry.Only(rows[len(rows)-1].Key).Hi
	}
	return out, nil
}

func (c *Collection) page(ctx context.Context, q Query) (rows []vecferry.Row, err error) {
	err = c.retry.do(ctx, task{name: c.name("list keys of")}, func(ctx context.Context) error {
		rows, err = c.backend.Query(ctx, q)
		return err
	})
	return rows, err
}

// name says what a request does, for people.
func (c *Collection) name(verb string) string { return verb + " " + c.layout.table.Collection }
