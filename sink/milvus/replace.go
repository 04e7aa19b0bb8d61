package milvus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
)

// Sizes of a piece. The server takes 64 MiB in a request.
const (
	pieceBytes   = 8 << 20
	pieceRows    = 1000
	pieceDeletes = 2000
)

// Replace makes exactly the rows of Put stand under their keys, one entity each, and
// the keys of Delete be gone. It returns when the server acknowledged all of it, and
// with the rows that were refused; their keys are gone, for an old entity would pass
// for the row. It is safe to repeat. On an error, which is a
// vecferry.HaltError, the end of ctx or a Write that breaks its rules, any part may
// have been done.
func (c *Collection) Replace(ctx context.Context, w vecferry.Write) ([]vecferry.Rejected, error) {
	if err := c.validate(w); err != nil {
		return nil, err
	}
	pieces, rejected := c.plan(w)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.lanes)
	for _, p := range pieces {
		g.Go(func() error {
			refused, err := c.apply(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			rejected = append(rejected, refused...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return rejected, nil
}

// validate finds a Write that breaks its rules: a fault of the program.
func (c *Collection) validate(w vecferry.Write) error {
	t := c.layout.table
	seen := make(map[vecferry.Key]struct{}, len(w.Delete)+len(w.Put))
	once := func(k vecferry.Key) error {
		if _, twice := seen[k]; twice {
			return fmt.Errorf("write to %s: key %s appears twice", t.Collection, k.Format(t.KeyType))
		}
		seen[k] = struct{}{}
		return nil
	}
	for _, k := range w.Delete {
		if err := once(k); err != nil {
			return err
		}
	}
	for _, r := range w.Put {
		if err := once(r.Key); err != nil {
			return err
		}
		if len(r.Values) != len(t.Fields) || !r.Complete() || r.Values[t.Vector].IsNull() {
			return fmt.Errorf("write to %s: row %s is not whole", t.Collection, r.Key.Format(t.KeyType))
		}
	}
	return nil
}

// piece is what is written by one delete and one insert, and redone as one. It has
// keys to be gone or rows to put, never both.
type piece struct {
	gone  []vecferry.Key
	put   []vecferry.Row
	fresh bool // nothing stands under the keys of put
	doubt bool // an earlier request may still land
}

// plan cuts a write into pieces and takes out the rows that cannot be sent. Those
// still lose their old entity: a stale one would look like the row.
func (c *Collection) plan(w vecferry.Write) (pieces []piece, rejected []vecferry.Rejected) {
	gone := append([]vecferry.Key(nil), w.Delete...)
	most := c.layout.table.BatchRows
	if most <= 0 {
		most = pieceRows
	}
	p, bytes := piece{fresh: w.Fresh}, 0
	for _, r := range w.Put {
		var bad *vecferry.RowError
		if errors.As(c.layout.check(r), &bad) {
			rejected = append(rejected, vecferry.Rejected{Row: r, Err: bad})
			if !w.Fresh {
				gone = append(gone, r.Key)
			}
			continue
		}
		n := c.layout.rowBytes(r)
		if len(p.put) == most || len(p.put) > 0 && bytes+n > pieceBytes {
			pieces = append(pieces, p)
			p, bytes = piece{fresh: w.Fresh}, 0
		}
		p.put, bytes = append(p.put, r), bytes+n
	}
	if len(p.put) > 0 {
		pieces = append(pieces, p)
	}
	for len(gone) > 0 {
		n := min(pieceDeletes, len(gone))
		pieces = append(pieces, piece{gone: gone[:n:n]})
		gone = gone[n:]
	}
	return pieces, rejected
}

// keys returns the keys that the piece deletes.
func (p piece) keys() []vecferry.Key {
	out := make([]vecferry.Key, 0, len(p.gone)+len(p.put))
	out = append(out, p.gone...)
	for _, r := range p.put {
		out = append(out, r.Key)
	}
	return out
}

// apply brings one piece home, in halves if the server refuses it as a whole.
func (c *Collection) apply(ctx context.Context, p piece) ([]vecferry.Rejected, error) {
	err := c.attempt(ctx, &p)
	if !divisible(ctx, err) {
		return nil, err
	}
	if len(p.gone)+len(p.put) > 1 {
		return c.applyHalves(ctx, p)
	}
	var e *Error
	errors.As(err, &e)
	if len(p.put) == 0 {
		return nil, haltError(c.name("delete a key from"), e)
	}
	return c.reject(ctx, p, e)
}

func (c *Collection) applyHalves(ctx context.Context, p piece) ([]vecferry.Rejected, error) {
	first, second := p, p
	g, n := len(p.gone)/2, len(p.put)/2
	first.gone, second.gone = p.gone[:g], p.gone[g:]
	first.put, second.put = p.put[:n], p.put[n:]
	rejected, err := c.apply(ctx, first)
	if err != nil {
		return rejected, err
	}
	more, err := c.apply(ctx, second)
	return append(rejected, more...), err
}

// reject hands a lone row back, once its key is known to be gone.
func (c *Collection) reject(ctx context.Context, p piece, e *Error) ([]vecferry.Rejected, error) {
	row := p.put[0]
	if _, err := c.apply(ctx, piece{gone: []vecferry.Key{row.Key}, doubt: p.doubt}); err != nil {
		return nil, err
	}
	return []vecferry.Rejected{{Row: row, Err: c.layout.table.RowError(row.Key, "", "Milvus refuses the row: "+e.Reason)}}, nil
}

// attempt repeats the pair until it succeeds or must be divided. A lone row that is
// refused without a reason is only given up once the server took other rows: else the
// server may be at fault, not the row.
func (c *Collection) attempt(ctx context.Context, p *piece) error {
	t := task{name: c.name("write to"), divisible: true}
	if len(p.gone)+len(p.put) == 1 {
		before := c.retry.inserted()
		t.hopeless = func() bool { return c.retry.inserted() != before }
	}
	return c.retry.do(ctx, t, c.pair(p))
}

// pair returns the delete and the insert of a piece as one thing to try. It notes in
// the piece what a failure leaves behind.
func (c *Collection) pair(p *piece) func(context.Context) error {
	keys := p.keys()
	return func(ctx context.Context) error {
		err := c.deleteAndInsert(ctx, p, keys)
		var e *Error
		if errors.As(err, &e) {
			p.fresh = false
			p.doubt = p.doubt || e.InDoubt()
		}
		return err
	}
}

func (c *Collection) deleteAndInsert(ctx context.Context, p *piece, keys []vecferry.Key) error {
	if !p.fresh {
		if err := c.backend.Delete(ctx, Selection{Keys: keys}); err != nil {
			return err
		}
	}
	if len(p.put) > 0 {
		if err := c.backend.Insert(ctx, p.put); err != nil {
			return err
		}
		c.retry.accepted()
	}
	if !p.doubt {
		return nil
	}
	return c.verify(ctx, p, keys)
}

// verify counts the entities of a piece whose earlier requests may have landed late.
// A server that has just restarted counts later than it writes; the writes are not
// redone for that.
func (c *Collection) verify(ctx context.Context, p *piece, keys []vecferry.Key) error {
	n, err := c.count(ctx, Selection{Keys: keys})
	if err != nil {
		return err
	}
	if n != int64(len(p.put)) {
		return unsettled(fmt.Sprintf("%d entities stand under the keys of %d rows", n, len(p.put)))
	}
	return nil
}
