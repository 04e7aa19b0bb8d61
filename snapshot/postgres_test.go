package snapshot_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/postgres"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/snapshot"
)

// source gives a postgres.Source the methods that the copy wants.
type source struct{ *postgres.Source }

func (s source) Estimate(ctx context.Context, t *vecferry.Table) (snapshot.Estimate, error) {
	e, err := s.Source.Estimate(ctx, t)
	return snapshot.Estimate{Rows: e.Rows, Bytes: e.Bytes}, err
}

func (s source) ReadChunk(ctx context.Context, r snapshot.Request) (snapshot.Chunk, error) {
	c, err := s.Source.ReadChunk(ctx, postgres.ChunkRequest{
		Table: r.Table, Ranges: r.Ranges, Need: r.Need, Position: r.Position, Waiting: r.Waiting,
	})
	if err != nil {
		return snapshot.Chunk{}, err
	}
	out := snapshot.Chunk{Snapshot: c.Snapshot, Rows: c.Rows, Nulls: c.Nulls}
	for _, d := range c.Dead {
		out.Dead = append(out.Dead, vecferry.Rejected{Row: vecferry.Row{Key: d.Key, Position: r.Position}, Err: d.Err})
	}
	return out, nil
}

// both writes marks into the real log and, for the sink, into the world's.
type both struct {
	*postgres.Source
	w *world
}

func (b both) Emit(ctx context.Context, pipeline string, m vecferry.Mark) (vecferry.LSN, error) {
	if _, err := b.Source.Emit(ctx, pipeline, m); err != nil {
		return 0, err
	}
	return b.w.Emit(ctx, pipeline, m)
}

// collection keeps rows.
type collection struct {
	mu   sync.Mutex
	rows map[vecferry.Key]vecferry.Row
}

func (c *collection) Check(vecferry.Row) error { return nil }

func (c *collection) Clear(_ context.Context, r vecferry.Range) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.rows, func(k vecferry.Key, _ vecferry.Row) bool { return r.Has(k) })
	return nil
}

func (c *collection) Replace(_ context.Context, w vecferry.Write) ([]vecferry.Rejected, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range w.Delete {
		delete(c.rows, k)
	}
	for _, r := range slices.Concat(w.Put, w.New) {
		c.rows[r.Key] = r
	}
	return nil, nil
}

// copier is a copy of public.documents from a real server.
type copier struct {
	*world
	*snapshot.Snapshot
	docs *collection
}

func copyDocuments(t *testing.T, db *testenv.TestDB) *copier {
	t.Helper()
	pg, err := postgres.Open(t.Context(), postgres.Options{DSN: db.DSN})
	require.NoError(t, err)
	t.Cleanup(pg.Close)
	table, _, err := pg.Inspect(t.Context(), postgres.Spec{Schema: "public", Name: "documents", Collection: "documents"})
	require.NoError(t, err)
	w := newWorld(1, 0, faults{})
	w.cp.Tables[table.OID] = w.state()
	w.table = table
	w.save()
	c := &copier{world: w, docs: &collection{rows: map[vecferry.Key]vecferry.Row{}}}
	c.Snapshot, err = snapshot.New(
		snapshot.Options{Pipeline: db.Name, Tables: []*vecferry.Table{table}, ChunkBytes: 1},
		snapshot.Deps{
			Marks: both{pg, w}, Source: source{pg}, Checkpoints: w, Counters: w, DeadLetters: w,
			Targets: map[uint32]snapshot.Target{table.OID: c.docs},
		})
	require.NoError(t, err)
	return c
}

// start runs the copy and the sink until the test ends.
func (c *copier) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c.late.Go(func() { c.sinkLoop(ctx) })
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		c.late.Wait()
		require.Empty(t, c.broken)
	})
}

func (c *copier) untilLive(t *testing.T) {
	t.Helper()
	require.Eventually(t, c.done, time.Minute, 10*time.Millisecond)
}

func TestARealTableIsCopiedWhole(t *testing.T) {
	t.Parallel()
	const rows, nulls = 3000, 100 // every 30th
	keys := map[string]struct{ key, expr string }{
		"int":  {"bigint", "i*1000-700000"},
		"text": {"text", "chr(97+i%26)||(array['é','Ω','日本','🙂','_','Z'])[1+i%6]||i"},
		"uuid": {"uuid", "md5(i::text)::uuid"},
	}
	for _, version := range []int{16, 18} {
		for name, k := range keys {
			t.Run(fmt.Sprintf("%s/pg%d", name, version), func(t *testing.T) {
				t.Parallel()
				db := testenv.Postgres(t, version)
				db.Exec(fmt.Sprintf(`create table documents (id %s primary key, body text, embedding vector(8));
					insert into documents select %s, 'body '||i, case when i %% 30 > 0 then array_fill(i::real, array[8])::vector end
					from generate_series(1, %d) i; analyze documents`, k.key, k.expr, rows))
				c := copyDocuments(t, db)
				c.start(t)
				c.untilLive(t)
				require.Len(t, c.docs.rows, rows-nulls)
				require.Equal(t, texts(t, db), c.docs.texts(c.table))
				c.locking(func() {
					require.EqualValues(t, rows-nulls, c.state().Rows)
				})
				require.Len(t, c.marks(vecferry.High), rows/100, "chunks of the fewest rows")
				st := c.Status().Tables[0]
				require.EqualValues(t, rows, st.Estimated)
				require.Equal(t, snapshot.Live, st.State)
			})
		}
	}
}

// texts returns what the collection should hold, sorted.
func texts(t *testing.T, db *testenv.TestDB) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.DSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "select id::text||' '||body||' '||embedding::text from documents where embedding is not null")
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	slices.Sort(out)
	return out
}

// texts returns what the collection holds, sorted.
func (c *collection) texts(t *vecferry.Table) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for k, r := range c.rows {
		s := k.Format(t.KeyType)
		for i, f := range t.Fields {
			switch {
			case f.Name == "body":
				s += " " + r.Values[i].Text()
			case i == t.Vector:
				s += " " + strings.ReplaceAll(fmt.Sprint(r.Values[i].Vector()), " ", ",")
			}
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func TestAChunkWaitsForATransactionThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 16)
	db.Exec(`create table documents (id bigint primary key, body text, embedding vector(2));
		insert into documents values (1, 'old', '[1,1]'), (2, 'old', '[2,2]')`)
	c := copyDocuments(t, db)
	conn, err := pgx.Connect(t.Context(), db.DSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	var xid uint64
	require.NoError(t, tx.QueryRow(t.Context(), "update documents set body = 'new' where id = 2 returning pg_current_xact_id()::text::bigint").Scan(&xid))
	c.state().Recent.Add(vecferry.XID(xid)) // the sink has it from the log, no snapshot sees it yet

	c.start(t)
	require.Eventually(t, func() bool {
		return c.Status().Tables[0].Reason == fmt.Sprintf("waiting for transaction %d", xid)
	}, time.Minute, 10*time.Millisecond)
	require.Empty(t, c.docs.texts(c.table))
	require.NoError(t, tx.Commit(t.Context()))
	c.untilLive(t)
	require.Equal(t, []string{"1 old [1,1]", "2 new [2,2]"}, c.docs.texts(c.table))
	require.Zero(t, c.count("void"))
}

func TestTaintedKeysOfARealTableAreReadTogether(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 18)
	db.Exec(`create table documents (id text primary key, body text, embedding vector(2));
		insert into documents select 'k'||i, 'body', '[1,2]' from generate_series(1, 600) i`)
	c := copyDocuments(t, db)
	c.start(t)
	c.untilLive(t)
	before := len(c.marks(vecferry.Low))
	db.Exec("update documents set body = 'changed' where id in ('k7', 'k8'); delete from documents where id = 'k9'")
	c.locking(func() {
		for _, k := range []vecferry.Key{"k7", "k8", "k9"} {
			c.assign(vecferry.MappedRange{Range: vecferry.Only(k), State: vecferry.Todo})
		}
		c.save()
	})
	c.untilLive(t)
	require.Len(t, c.marks(vecferry.Low), before+1)
	require.Equal(t, texts(t, db), c.docs.texts(c.table))
}

func TestADroppedTableHalts(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 16)
	db.Exec("create table documents (id bigint primary key, embedding vector(2))")
	c := copyDocuments(t, db)
	db.Exec("drop table documents")
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); c.late.Wait() }()
	c.late.Go(func() { c.sinkLoop(ctx) })
	require.True(t, vecferry.Halts(c.Run(ctx)))
}
