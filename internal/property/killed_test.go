package property

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/sink/milvus/memory"
	"github.com/vecferry/vecferry/snapshot"
)

// quiet is a world in which nothing goes wrong by itself.
func quiet(version int) options {
	o := draw(uint64(version % 2))
	busy(&o)
	o.version, o.copied, o.lag, o.callDelay, o.readDelay, o.writeDelay = version, true, 0, 0, 0, 0
	o.heartbeat, o.workers, o.chunkRows = time.Hour, 1, 10_000
	return o
}

// A transaction that was committed asynchronously is visible before it is
// durable. A chunk has read it, and PostgreSQL is killed while the chunk is being
// written. Either the row is still there when the server comes back, or the chunk
// must not become live with it.
func TestPostgresForgetsWhatAChunkHasRead(t *testing.T) {
	t.Parallel()
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			server := testenv.OwnPostgres(t, version, map[string]string{"wal_writer_delay": "10s", "autovacuum": "off", "bgwriter_lru_maxpages": "0"})
			w := newWorld(t, quiet(version), testenv.Database(t, server))
			w.target.memory = memory.New()
			w.open()
			w.awaitSlot()
			w.awaitCopy()
			conn, err := w.connect()
			require.NoError(t, err)
			defer conn.Close(context.Background())
			var insert, kill sync.Once
			var back atomic.Bool
			w.hook = func(at snapshot.Step) {
				switch at {
				case snapshot.StepRead:
					insert.Do(func() {
						_, err := conn.Exec(t.Context(), "set synchronous_commit = off; insert into ints (id, meta, emb) values (100000, 1, rv())", pgx.QueryExecModeSimpleProtocol)
						require.NoError(t, err)
					})
				case snapshot.StepHigh:
					kill.Do(func() {
						require.NoError(t, server.Kill())
						require.NoError(t, server.Restart(t.Context()))
						lifecycle.Sleep(t.Context(), 1500*time.Millisecond) // the pool finds out that its connections are dead
						back.Store(true)
					})
				}
			}
			w.reopenRange(w.tables[0], vecferry.Everything())
			require.Eventually(t, back.Load, settleTime, time.Millisecond)
			w.awaitCopy()
			w.calm.Store(true)
			w.settle()
			w.close(false)
			require.Empty(t, w.failures())
		})
	}
}

// reopenRange writes a LOW for a range that nobody works on.
func (w *world) reopenRange(t *vecferry.Table, r vecferry.Range) {
	w.t.Helper()
	attempt, err := w.log.Counter(w.t.Context(), "attempt")
	require.NoError(w.t, err)
	before, err := w.source.Snapshot(w.t.Context())
	require.NoError(w.t, err)
	_, err = w.source.Emit(w.t.Context(), pipelineName, vecferry.Mark{Kind: vecferry.Low, Table: t.OID, Attempt: attempt,
		Ranges: []vecferry.Range{r}, Snapshot: before})
	require.NoError(w.t, err)
}
