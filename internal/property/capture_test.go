package property

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/capture"
	"github.com/vecferry/vecferry/internal/changelog"
	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/internal/postgres"
)

// capture is one life of capture.
func (w *world) capture(ctx context.Context, m mortal) error {
	c, err := capture.New(capture.Options{
		Pipeline: pipelineName, Slot: w.slot, Publication: publication, Tables: w.tables,
		Source: w.source, Log: captureLog{m, w.log}, Store: stateStore{m, w.log}, Logger: w.logger.With("stage", "capture"),
		LogFull: changelog.ErrFull, BatchBytes: w.o.batchBytes, Heartbeat: w.o.heartbeat, StatusInterval: 300 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// awaitSlot waits until capture has made its slot: what is committed from then
// on is in the log.
func (w *world) awaitSlot() {
	w.t.Helper()
	for deadline := time.Now().Add(settleTime); ; {
		e, err := w.log.Get(w.t.Context(), "slot")
		var made struct{ Phase string }
		if err == nil && json.Unmarshal(e.Value, &made) == nil && made.Phase == "created" {
			return
		}
		if len(w.failures()) > 0 || time.Now().After(deadline) || !lifecycle.Sleep(w.t.Context(), 5*time.Millisecond) {
			w.t.Fatalf("no slot: %v\n%s", w.failures(), w.picture())
		}
	}
}

func (w *world) connect() (*pgx.Conn, error) { return pgx.Connect(w.t.Context(), w.dsn) }

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	c, err := w.connect()
	require.NoError(w.t, err)
	defer c.Close(context.Background())
	_, err = c.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// rows reads a table.
func (w *world) rows(t *vecferry.Table) map[vecferry.Key]value {
	w.t.Helper()
	c, err := w.connect()
	require.NoError(w.t, err)
	defer c.Close(context.Background())
	sql := "select id, meta, body, note, emb from " + t.Name
	res := c.PgConn().ExecParams(w.t.Context(), sql, nil, nil, nil, []int16{pgx.BinaryFormatCode}).Read()
	require.NoError(w.t, res.Err)
	out := map[vecferry.Key]value{}
	for _, row := range res.Rows {
		var v value
		for i := range columnNames() {
			v.set(i, row[i+1], row[i+1] == nil)
		}
		out[rawKey(t, row[0])] = v
	}
	return out
}

// record returns the sink's persisted record, nil if there is none.
func (w *world) record(ctx context.Context) *vecferry.Checkpoint {
	e, err := w.log.Get(ctx, checkpointKey)
	if err != nil {
		return nil
	}
	cp, err := vecferry.DecodeCheckpoint(e.Value)
	if err != nil {
		return nil
	}
	return cp
}

// noteLSN takes the position at which a naive gate would say that a chunk was
// read.
func (w *world) noteLSN(ctx context.Context, s *postgres.Source) (vecferry.LSN, error) {
	if !w.o.mutant.lsn {
		return 0, nil
	}
	return s.CurrentLSN(ctx)
}
