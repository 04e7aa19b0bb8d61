package sink

import (
	"context"
	"errors"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink/milvus"
)

// A failpoint lets the program die at one step of its life, counted from its
// beginning. Every request to the target, every write of the checkpoint and every
// dead letter is two steps: one before it has its effect, one after.
type failpoint struct {
	passed int
	at     map[int]bool
	dead   bool
}

func (f *failpoint) step() error {
	if f.dead {
		return errCrash
	}
	f.passed++
	f.dead = f.at[f.passed]
	if f.dead {
		return errCrash
	}
	return nil
}

func (f *failpoint) around(do func() error) error {
	return errors.Join(f.step(), f.ifAlive(do))
}

func (f *failpoint) ifAlive(do func() error) error {
	if f.dead {
		return nil
	}
	return errors.Join(do(), f.step())
}

// mortalBackend, mortalStore and mortalDead die at a failpoint.
type mortalBackend struct {
	milvus.Backend
	*failpoint
}

func (b mortalBackend) Insert(ctx context.Context, rows []vecferry.Row) error {
	return b.around(func() error { return b.Backend.Insert(ctx, rows) })
}

func (b mortalBackend) Delete(ctx context.Context, s milvus.Selection) error {
	return b.around(func() error { return b.Backend.Delete(ctx, s) })
}

func (b mortalBackend) Query(ctx context.Context, q milvus.Query) (rows []vecferry.Row, err error) {
	err = b.around(func() (err error) { rows, err = b.Backend.Query(ctx, q); return err })
	return rows, err
}

func (b mortalBackend) Count(ctx context.Context, s milvus.Selection) (n int64, err error) {
	err = b.around(func() (err error) { n, err = b.Backend.Count(ctx, s); return err })
	return n, err
}

type mortalStore struct {
	fakeStore
	*failpoint
	before func(value []byte) // may be nil
}

func (s *mortalStore) Save(ctx context.Context, v []byte, rev uint64) (next uint64, err error) {
	if s.before != nil {
		s.before(v)
	}
	err = s.around(func() (err error) { next, err = s.fakeStore.Save(ctx, v, rev); return err })
	return next, err
}

type mortalDead struct {
	fakeDead
	*failpoint
}

func (d *mortalDead) Bury(ctx context.Context, l DeadLetter) error {
	return d.around(func() error { return d.fakeDead.Bury(ctx, l) })
}

// openLog shows the sink what was published, and lets it wait for more.
type openLog struct {
	*fakeLog
	published uint64
	more      chan struct{} // capacity 1
}

func (l *openLog) publish() {
	l.published = uint64(len(l.batches))
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *openLog) Reader(_ context.Context, after uint64) (Reader, error) {
	return &openReader{fakeReader{log: l.fakeLog, next: after}, l}, nil
}

type openReader struct {
	fakeReader
	open *openLog
}

func (r *openReader) Next(ctx context.Context, block bool) (Message, bool, error) {
	for block && r.next >= r.open.published {
		select {
		case <-ctx.Done():
			return Message{}, false, ctx.Err()
		case <-r.open.more:
		}
	}
	if r.next >= r.open.published {
		return Message{}, false, nil
	}
	return r.fakeReader.Next(ctx, block)
}
