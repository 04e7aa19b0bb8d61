package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/capture"
	"github.com/vecferry/vecferry/internal/changelog"
	"github.com/vecferry/vecferry/internal/postgres"
	"github.com/vecferry/vecferry/sink"
	"github.com/vecferry/vecferry/snapshot"
)

// The stages declare what they need; these adapters give it to them.

// checkpointKey is where the sink's record is kept.
const checkpointKey = "checkpoint"

// stateStore is the log's state as records by key.
type stateStore struct{ log *changelog.Log }

func (s stateStore) Load(ctx context.Context, key string) ([]byte, uint64, error) {
	e, err := s.log.Get(ctx, key)
	if errors.Is(err, changelog.ErrNotFound) {
		return nil, 0, nil
	}
	return e.Value, e.Revision, err
}

func (s stateStore) Save(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return s.log.Put(ctx, key, value, revision)
}

// checkpointStore is the one record that the sink keeps.
type checkpointStore struct{ store stateStore }

func (s checkpointStore) Load(ctx context.Context) ([]byte, uint64, error) {
	return s.store.Load(ctx, checkpointKey)
}

func (s checkpointStore) Save(ctx context.Context, value []byte, revision uint64) (uint64, error) {
	return s.store.Save(ctx, checkpointKey, value, revision)
}

// captureLog is the change log as capture writes it.
type captureLog struct{ log *changelog.Log }

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
	return captureWriter{w}, w.Durable().Header, nil
}

type captureWriter struct{ *changelog.Writer }

// Durable waits for the next acknowledgement.
func (w captureWriter) Durable(ctx context.Context) (vecferry.BatchHeader, error) {
	select {
	case a := <-w.Acked():
		return a.Header, nil
	case <-w.Done():
		return vecferry.BatchHeader{}, w.Err()
	case <-ctx.Done():
		return vecferry.BatchHeader{}, context.Cause(ctx)
	}
}

// sinkLog is the change log as the sink reads it.
type sinkLog struct{ log *changelog.Log }

func (l sinkLog) ID() string { return l.log.ID() }

func (l sinkLog) Check(ctx context.Context, batch, epoch uint64, end vecferry.LSN) error {
	return l.log.Check(ctx, changelog.Point{Log: l.log.ID(), Batch: batch, Epoch: epoch, EndLSN: end})
}

func (l sinkLog) Reader(ctx context.Context, after uint64) (sink.Reader, error) {
	r, err := l.log.Reader(ctx, after)
	if err != nil {
		return nil, err
	}
	return sinkReader{r}, nil
}

type sinkReader struct{ r *changelog.Reader }

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
	return sink.Message{Batch: m.Batch, Changes: int(m.Header.Changes), Data: m.Data}, true, nil
}

// Applied reports progress; losing it is harmless, the checkpoint is the truth.
func (r sinkReader) Applied(batch uint64) { _ = r.r.Ack(batch) }
func (r sinkReader) Close()               { r.r.Close() }

func newDecoder(t *vecferry.Table, columns []vecferry.RelationColumn) (sink.Decoder, error) {
	return postgres.NewDecoder(t, columns)
}

// letter makes a dead letter of a row.
func letter(t *vecferry.Table, row vecferry.Row, lsn vecferry.LSN, err *vecferry.RowError) changelog.DeadLetter {
	return changelog.DeadLetter{
		Table: t.String(), Key: err.Key, Column: err.Column, Reason: err.Reason,
		Position: row.Position, LSN: lsn, Time: time.Now().UTC(), Row: rowJSON(t, row),
	}
}

// buryOne keeps the sink's dead letters.
type buryOne struct{ log *changelog.Log }

func (b buryOne) Bury(ctx context.Context, d sink.DeadLetter) error {
	return b.log.DeadLetter(ctx, letter(d.Table, d.Row, d.LSN, d.Err))
}

// buryMany keeps the copy's dead letters.
type buryMany struct{ log *changelog.Log }

func (b buryMany) Bury(ctx context.Context, t *vecferry.Table, rows []vecferry.Rejected) error {
	for _, r := range rows {
		if err := b.log.DeadLetter(ctx, letter(t, r.Row, 0, r.Err)); err != nil {
			return err
		}
	}
	return nil
}

// checkpoints follows the sink's record.
type checkpoints struct{ log *changelog.Log }

func (c checkpoints) Watch(ctx context.Context, f func(*vecferry.Checkpoint)) error {
	entries, err := c.log.Watch(ctx, checkpointKey)
	if err != nil {
		return err
	}
	for e := range entries {
		cp, err := vecferry.DecodeCheckpoint(e.Value)
		if err != nil {
			return err
		}
		f(cp)
	}
	return ctx.Err()
}

// chunkSource reads chunks for the copy.
type chunkSource struct{ *postgres.Source }

func (s chunkSource) Estimate(ctx context.Context, t *vecferry.Table) (snapshot.Estimate, error) {
	e, err := s.Source.Estimate(ctx, t)
	return snapshot.Estimate{Rows: e.Rows, Bytes: e.Bytes}, err
}

func (s chunkSource) ReadChunk(ctx context.Context, r snapshot.Request) (snapshot.Chunk, error) {
	c, err := s.Source.ReadChunk(ctx, postgres.ChunkRequest{
		Table: r.Table, Ranges: r.Ranges, Need: r.Need, Position: r.Position, Waiting: r.Waiting})
	if err != nil {
		return snapshot.Chunk{}, err
	}
	out := snapshot.Chunk{Snapshot: c.Snapshot, Rows: c.Rows, Nulls: c.Nulls}
	for _, d := range c.Dead {
		out.Dead = append(out.Dead, vecferry.Rejected{Row: vecferry.Row{Key: d.Key, Position: r.Position}, Err: d.Err})
	}
	return out, nil
}

// rowSource reads rows for a comparison.
type rowSource struct{ *postgres.Source }

func (s rowSource) Rows(ctx context.Context, t *vecferry.Table, r vecferry.Range) ([]vecferry.Row, int64, error) {
	c, err := s.Source.ReadChunk(ctx, postgres.ChunkRequest{Table: t, Ranges: []vecferry.Range{r}})
	if err != nil {
		return nil, 0, err
	}
	for _, d := range c.Dead {
		return nil, 0, fmt.Errorf("compare: %w", d.Err)
	}
	return c.Rows, c.Nulls, nil
}
