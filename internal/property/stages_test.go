package property

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/capture"
	"github.com/vecferry/vecferry/internal/changelog"
	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/internal/postgres"
	"github.com/vecferry/vecferry/sink"
	"github.com/vecferry/vecferry/snapshot"
)

// What the stages consume, over the real thing, with a death between any two
// steps. Each value belongs to one life of its stage.

const checkpointKey = "checkpoint"

// mortal is what the wrappers share.
type mortal struct {
	w    *world
	life *life
}

// Capture.

type captureLog struct {
	mortal
	log *changelog.Log
}

func (l captureLog) ID() string    { return l.log.ID() }
func (l captureLog) MaxBatch() int { return l.log.MaxBatch() }

func (l captureLog) Tail(ctx context.Context) (vecferry.BatchHeader, error) {
	t, err := l.log.Tail(ctx)
	return t.Header, err
}

func (l captureLog) Writer(ctx context.Context) (capture.Writer, vecferry.BatchHeader, error) {
	w, err := l.log.NewWriter(ctx)
	if err != nil {
		return nil, vecferry.BatchHeader{}, err
	}
	return captureWriter{Writer: w, mortal: l.mortal}, w.Durable().Header, nil
}

type captureWriter struct {
	*changelog.Writer
	mortal
}

func (w captureWriter) Append(ctx context.Context, b *vecferry.BatchBuilder, h vecferry.BatchHeader) (n uint64, err error) {
	err = around(w.life.step, func() (err error) { n, err = w.Writer.Append(ctx, b, h); return err })
	return n, err
}

func (w captureWriter) Durable(ctx context.Context) (vecferry.BatchHeader, error) {
	select {
	case a := <-w.Acked():
		return a.Header, w.life.step()
	case <-w.Done():
		return vecferry.BatchHeader{}, w.Err()
	case <-ctx.Done():
		return vecferry.BatchHeader{}, context.Cause(ctx)
	}
}

// stateStore is the log's state as records by key.
type stateStore struct {
	mortal
	log *changelog.Log
}

func (s stateStore) Load(ctx context.Context, key string) ([]byte, uint64, error) {
	e, err := s.log.Get(ctx, key)
	if errors.Is(err, changelog.ErrNotFound) {
		return nil, 0, nil
	}
	return e.Value, e.Revision, err
}

func (s stateStore) Save(ctx context.Context, key string, value []byte, revision uint64) (rev uint64, err error) {
	err = around(s.life.step, func() (err error) { rev, err = s.log.Put(ctx, key, value, revision); return err })
	return rev, err
}

// Sink.

// checkpointStore keeps the sink's record, and shows each end of a run to the
// oracle: what is about to be persisted is how the target stands now.
type checkpointStore struct{ stateStore }

func (s checkpointStore) Load(ctx context.Context) ([]byte, uint64, error) {
	b, rev, err := s.stateStore.Load(ctx, checkpointKey)
	if err != nil {
		return nil, 0, err
	}
	var cp *vecferry.Checkpoint
	if b != nil {
		if cp, err = vecferry.DecodeCheckpoint(b); err != nil {
			return nil, 0, err
		}
	}
	s.w.oracle.restarted(cp)
	return b, rev, nil
}

func (s checkpointStore) Save(ctx context.Context, value []byte, revision uint64) (uint64, error) {
	cp, err := vecferry.DecodeCheckpoint(value)
	if err != nil {
		return 0, err
	}
	if s.w.target.inspectable() {
		s.w.oracle.check(cp, s.w.target.entities)
	}
	if s.w.o.mutant.leaks {
		s.w.tell(cp)
		lifecycle.Sleep(ctx, 300*time.Millisecond)
		if s.w.wild.Load() && s.life.dice.n(4) == 0 {
			s.life.end() // the copy has seen what nobody will
		}
	}
	s.w.stall(ctx)
	rev, err := s.stateStore.Save(ctx, checkpointKey, value, revision)
	return rev, err
}

// sinkLog is the change log as the sink reads it.
type sinkLog struct {
	mortal
	log *changelog.Log
}

func (l sinkLog) ID() string { return l.log.ID() }

func (l sinkLog) Check(ctx context.Context, batch, epoch uint64, end vecferry.LSN) error {
	return l.log.Check(ctx, changelog.Point{Log: l.log.ID(), Batch: batch, Epoch: epoch, EndLSN: end})
}

func (l sinkLog) Reader(ctx context.Context, after uint64) (sink.Reader, error) {
	r, err := l.log.Reader(ctx, after)
	if err != nil {
		return nil, err
	}
	return sinkReader{mortal: l.mortal, r: r}, nil
}

type sinkReader struct {
	mortal
	r *changelog.Reader
}

func (r sinkReader) Next(ctx context.Context, block bool) (sink.Message, bool, error) {
	wait := time.Duration(0)
	if block {
		wait = -1
	}
	m, err := r.r.Next(ctx, wait)
	if errors.Is(err, changelog.ErrIdle) {
		return sink.Message{}, false, nil
	}
	if err != nil {
		return sink.Message{}, false, err
	}
	out := sink.Message{Batch: m.Batch, Data: m.Data}
	r.w.oracle.tap(out)
	if r.life.over.Load() {
		return out, false, errCrash
	}
	return out, true, nil
}

func (r sinkReader) Applied(batch uint64) { _ = r.r.Ack(batch) }
func (r sinkReader) Close()               { r.r.Close() }

func newDecoder(t *vecferry.Table, columns []vecferry.RelationColumn) (sink.Decoder, error) {
	return postgres.NewDecoder(t, columns)
}

// letters are the dead letters of both stages.
type letters struct {
	mortal
	log *changelog.Log
}

func (l letters) keep(ctx context.Context, t *vecferry.Table, pos vecferry.Position, err *vecferry.RowError) error {
	return around(l.life.step, func() error {
		l.w.count.letters.Add(1)
		return l.log.DeadLetter(ctx, changelog.DeadLetter{Table: t.String(), Key: err.Key, Column: err.Column, Reason: err.Reason, Position: pos})
	})
}

type sinkLetters struct{ letters }

func (l sinkLetters) Bury(ctx context.Context, d sink.DeadLetter) error {
	return l.keep(ctx, d.Table, d.Row.Position, d.Err)
}

type copyLetters struct{ letters }

func (l copyLetters) Bury(ctx context.Context, t *vecferry.Table, rows []vecferry.Rejected) error {
	for _, r := range rows {
		if err := l.keep(ctx, t, r.Row.Position, r.Err); err != nil {
			return err
		}
	}
	return nil
}

// Snapshot.

// marks writes marks; what was written may not be heard of.
type marks struct {
	mortal
	*postgres.Source
}

func (m marks) Emit(ctx context.Context, pipeline string, mark vecferry.Mark) (at vecferry.LSN, err error) {
	m.w.nap(ctx, m.life.dice, 5*time.Millisecond)
	err = around(m.life.stumble, func() (err error) {
		if at, err = m.Source.Emit(ctx, pipeline, mark); err != nil {
			return err
		}
		if mark.Kind == vecferry.Low {
			m.w.lowWritten(mark, at)
		} else {
			m.w.highWritten(mark.Attempt, at)
		}
		return nil
	})
	return at, err
}

// chunks reads chunks, in pieces that are smaller than the product's.
type chunks struct {
	mortal
	*postgres.Source
}

func (c chunks) Estimate(ctx context.Context, t *vecferry.Table) (snapshot.Estimate, error) {
	e, err := c.Source.Estimate(ctx, t)
	return snapshot.Estimate{Rows: e.Rows, Bytes: e.Bytes}, err
}

func (c chunks) Split(ctx context.Context, t *vecferry.Table, r vecferry.Range, _ int) ([]vecferry.Key, error) {
	return c.Source.Split(ctx, t, r, c.w.o.chunkRows)
}

func (c chunks) ReadChunk(ctx context.Context, r snapshot.Request) (snapshot.Chunk, error) {
	c.w.nap(ctx, c.life.dice, c.w.o.readDelay)
	if c.w.o.blind || c.w.o.mutant.blind {
		r.Need = nil // the sink must find out by itself
	}
	noted, err := c.w.noteLSN(ctx, c.Source)
	if err != nil {
		return snapshot.Chunk{}, err
	}
	got, err := c.Source.ReadChunk(ctx, postgres.ChunkRequest{
		Table: r.Table, Ranges: r.Ranges, Need: r.Need, Position: r.Position, Waiting: r.Waiting})
	if err != nil {
		return snapshot.Chunk{}, err
	}
	c.w.notedLSN(got.Snapshot, noted)
	out := snapshot.Chunk{Snapshot: got.Snapshot, Rows: got.Rows, Nulls: got.Nulls}
	for _, d := range got.Dead {
		out.Dead = append(out.Dead, vecferry.Rejected{Row: vecferry.Row{Key: d.Key, Position: r.Position}, Err: d.Err})
	}
	for _, row := range got.Rows {
		c.w.oracle.note(r.Table.OID, row.Key, "read for LOW %s, snapshot %s: %s", r.Position, got.Snapshot, entityValue(r.Table, row))
	}
	c.w.nap(ctx, c.life.dice, c.w.o.writeDelay)
	return out, c.life.stumble()
}

// counters gives out attempt numbers.
type counters struct {
	mortal
	log *changelog.Log
}

func (c counters) Counter(ctx context.Context, key string) (n uint64, err error) {
	err = around(c.life.stumble, func() (err error) { n, err = c.log.Counter(ctx, key); return err })
	return n, err
}

// checkpoints follows the sink's record.
type checkpoints struct {
	mortal
	log *changelog.Log
}

func (c checkpoints) Watch(ctx context.Context, f func(*vecferry.Checkpoint)) error {
	entries, err := c.log.Watch(ctx, checkpointKey)
	if err != nil {
		return err
	}
	told := c.w.listen(f)
	defer told()
	for e := range entries {
		cp, err := vecferry.DecodeCheckpoint(e.Value)
		if err != nil {
			return err
		}
		c.w.nap(ctx, c.life.dice, 3*time.Millisecond)
		c.w.tell(cp)
		if c.life.over.Load() {
			return fmt.Errorf("watch: %w", errCrash)
		}
	}
	return ctx.Err()
}
