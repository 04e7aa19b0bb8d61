package milvus

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Replace makes exactly the rows of Put and New stand under their keys, one entity each, and
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
	o := &outcome{rejected: rejected}
	g, lane := errgroup.WithContext(ctx)
	g.SetLimit(c.lanes)
	for _, p := range pieces {
		g.Go(func() error { return c.apply(lane, p, o) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := c.resolve(ctx, o); err != nil {
		return nil, err
	}
	return o.rejected, nil
}

// outcome is what the lanes could not write.
type outcome struct {
	mu       sync.Mutex
	rejected []vecferry.Rejected
	suspects []piece // lone rows that were refused without a reason
}

func (o *outcome) suspect(p piece) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.suspects = append(o.suspects, p)
}

func (o *outcome) reject(r vecferry.Rejected) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rejected = append(o.rejected, r)
}

// validate finds a Write that breaks its rules: a fault of the program.
func (c *Collection) validate(w vecferry.Write) error {
	t := c.layout.table
	seen := make(map[vecferry.Key]struct{}, len(w.Delete)+w.Rows())
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
	for _, r := range slices.Concat(w.Put, w.New) {
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
	// before is how many inserts the server had taken when the piece, or the one that
	// it was cut from, was first tried. If it took more since, it is not the server
	// that is at fault.
	before uint64
}

// plan cuts a write into pieces and takes out the rows that cannot be sent. Those
// still lose their old entity: a stale one would look like the row.
func (c *Collection) plan(w vecferry.Write) (pieces []piece, rejected []vecferry.Rejected) {
	gone := append([]vecferry.Key(nil), w.Delete...)
	pieces, bad := c.cut(w.Put, false)
	for _, r := range bad {
		gone = append(gone, r.Row.Key)
	}
	fresh, rejected := c.cut(w.New, true)
	pieces = append(pieces, fresh...)
	for len(gone) > 0 {
		n := min(pieceDeletes, len(gone))
		pieces = append(pieces, piece{gone: gone[:n:n]})
		gone = gone[n:]
	}
	return pieces, append(rejected, bad...)
}

// cut divides rows by number and bytes, without those that cannot be sent.
func (c *Collection) cut(rows []vecferry.Row, fresh bool) (pieces []piece, bad []vecferry.Rejected) {
	most := c.layout.table.BatchRows
	if most <= 0 {
		most = pieceRows
	}
	p, bytes := piece{fresh: fresh}, 0
	for _, r := range rows {
		if err, is := errors.AsType[*vecferry.RowError](c.layout.check(r)); is {
			bad = append(bad, vecferry.Rejected{Row: r, Err: err})
			continue
		}
		n := c.layout.rowBytes(r)
		if len(p.put) == most || len(p.put) > 0 && bytes+n > pieceBytes {
			pieces = append(pieces, p)
			p, bytes = piece{fresh: fresh}, 0
		}
		p.put, bytes = append(p.put, r), bytes+n
	}
	if len(p.put) > 0 {
		pieces = append(pieces, p)
	}
	return pieces, bad
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
func (c *Collection) apply(ctx context.Context, p piece, o *outcome) error {
	if p.before == 0 {
		p.before = c.retry.inserted()
	}
	err := c.retry.do(ctx, task{name: c.name("write to"), divisible: true}, c.pair(&p))
	if !divisible(ctx, err) {
		return err
	}
	if n, g := len(p.put), len(p.gone); n+g > 1 {
		first, second := p, p
		first.gone, second.gone = p.gone[:g/2], p.gone[g/2:]
		first.put, second.put = p.put[:n/2], p.put[n/2:]
		if err := c.apply(ctx, first, o); err != nil {
			return err
		}
		return c.apply(ctx, second, o)
	}
	var e *Error
	errors.As(err, &e)
	switch {
	case len(p.put) == 0:
		return haltError(c.name("delete a key from"), e)
	case e.Class == Ambiguous:
		o.suspect(p)
		return nil
	}
	return c.reject(ctx, p, e, o)
}

// resolve goes round the suspects until each stands, or the server has taken another
// row since it refused this one. Before that nobody knows which is at fault.
func (c *Collection) resolve(ctx context.Context, o *outcome) error {
	suspects := o.suspects
	for len(suspects) > 0 {
		var rest []piece
		for _, p := range suspects {
			t := task{name: c.name("write a refused row to"), divisible: true}
			atFault := func() bool { return c.retry.inserted() != p.before }
			if len(suspects) == 1 {
				t.hopeless = atFault // there is nothing else to try
			}
			err := c.retry.do(ctx, t, c.pair(&p))
			if !divisible(ctx, err) {
				if err != nil {
					return err
				}
				continue
			}
			var e *Error
			errors.As(err, &e)
			if !atFault() {
				rest = append(rest, p)
			} else if err := c.reject(ctx, p, e, o); err != nil {
				return err
			}
		}
		suspects = rest
	}
	return nil
}

// reject hands a lone row back, once its key is known to be gone.
func (c *Collection) reject(ctx context.Context, p piece, e *Error, o *outcome) error {
	row := p.put[0]
	if err := c.apply(ctx, piece{gone: []vecferry.Key{row.Key}, doubt: p.doubt}, o); err != nil {
		return err
	}
	o.reject(vecferry.Rejected{Row: row, Err: c.layout.table.RowError(row.Key, "", "Milvus refuses the row: "+e.Reason)})
	return nil
}

// pair returns the delete and the insert of a piece as one thing to try. It notes in
// the piece what a failure leaves behind.
func (c *Collection) pair(p *piece) func(context.Context) error {
	keys := p.keys()
	return func(ctx context.Context) error {
		err := c.deleteAndInsert(ctx, p, keys)
		if e, ok := errors.AsType[*Error](err); ok {
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
