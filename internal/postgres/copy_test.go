package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

const patience = time.Minute

func everything(t *vecferry.Table) ChunkRequest {
	return ChunkRequest{Table: t, Ranges: []vecferry.Range{vecferry.Everything()}}
}

func TestReadChunk(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec(`CREATE TABLE docs (id int PRIMARY KEY, v vector(2), x float8[]);
			INSERT INTO docs SELECT i, CASE WHEN i <> 7 THEN ARRAY[i, -i]::vector END, ARRAY[i]::float8[] FROM generate_series(1, 100) i;
			UPDATE docs SET x = '{NaN}' WHERE id = 9; CREATE TABLE child () INHERITS (docs); INSERT INTO child VALUES (8, '[1,2]', NULL)`)
		table := inspect(t, s, docs())
		node, err := s.Filenode(t.Context(), table)
		require.NoError(t, err)
		before, err := s.Snapshot(t.Context())
		require.NoError(t, err)
		chunk, err := s.ReadChunk(t.Context(), ChunkRequest{
			Table: table, Position: 42, Filenode: node,
			Ranges: []vecferry.Range{{Lo: vecferry.IntKey(5), Hi: vecferry.IntKey(10)}, vecferry.Only(vecferry.IntKey(50))},
		})
		require.NoError(t, err)
		var keys []int64
		for _, row := range chunk.Rows {
			keys = append(keys, row.Key.Int())
			require.Equal(t, vecferry.Position(42), row.Position)
			require.Equal(t, []float32{float32(row.Key.Int()), float32(-row.Key.Int())}, row.Values[table.Vector].Vector())
		}
		require.ElementsMatch(t, []int64{5, 6, 8, 50}, keys)
		require.Equal(t, int64(1), chunk.Nulls)
		require.Len(t, chunk.Dead, 1)
		require.Equal(t, vecferry.IntKey(9), chunk.Dead[0].Key)
		require.Equal(t, "x", chunk.Dead[0].Err.Column)
		require.Equal(t, node, chunk.Filenode)
		require.Positive(t, chunk.Bytes)
		old, err := vecferry.ParseVisibility(before)
		require.NoError(t, err)
		now, err := vecferry.ParseVisibility(chunk.Snapshot)
		require.NoError(t, err)
		require.GreaterOrEqual(t, now.Next(), old.Next())

		vectors, nulls, err := s.Count(t.Context(), table)
		require.NoError(t, err)
		require.Equal(t, []int64{99, 1}, []int64{vectors, nulls})
		empty, err := s.ReadChunk(t.Context(), ChunkRequest{Table: table})
		require.NoError(t, err)
		require.Empty(t, empty.Rows)
	})
}

// The snapshot is younger than the lock: rows that were committed by whoever
// held the table are in it.
func TestSnapshotIsTakenBehindTheLock(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec("CREATE TABLE docs (id int PRIMARY KEY, v vector(1))")
		table := inspect(t, s, docs())
		other := session(t, db.DSN)
		exec(t, other, "BEGIN; LOCK TABLE docs IN ACCESS EXCLUSIVE MODE; INSERT INTO docs VALUES (1, '[1]')")
		done := make(chan *Chunk, 1)
		go func() {
			chunk, err := s.ReadChunk(t.Context(), everything(table))
			if err == nil {
				done <- chunk
			}
			close(done)
		}()
		waitForBlocked(t, s)
		exec(t, other, "COMMIT")
		chunk := <-done
		require.NotNil(t, chunk)
		require.Len(t, chunk.Rows, 1)
	})
}

func waitForBlocked(t *testing.T, s *Source) {
	t.Helper()
	require.Eventually(t, func() bool {
		var blocked bool
		err := s.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&blocked)
		return err == nil && blocked
	}, patience, 10*time.Millisecond)
}

// A transaction that is not visible yet is waited for, and its rows are there
// then.
func TestReadChunkWaitsForNeed(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec("CREATE TABLE docs (id int PRIMARY KEY, v vector(1))")
		table := inspect(t, s, docs())
		other := session(t, db.DSN)
		exec(t, other, "BEGIN; INSERT INTO docs VALUES (1, '[1]')")
		var xid uint64
		require.NoError(t, other.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::int8").Scan(&xid))
		req := everything(table)
		req.Need = []vecferry.XID{3, vecferry.XID(xid)}
		looks := 0
		req.Waiting = func(snapshot string) {
			require.NotEmpty(t, snapshot)
			if looks++; looks == 3 {
				exec(t, other, "COMMIT")
			}
		}
		chunk, err := s.ReadChunk(t.Context(), req)
		require.NoError(t, err)
		require.Len(t, chunk.Rows, 1)
		require.GreaterOrEqual(t, looks, 3)
		visible, err := vecferry.ParseVisibility(chunk.Snapshot)
		require.NoError(t, err)
		require.True(t, visible.SeesAll(req.Need))

		req.Need, req.Waiting = []vecferry.XID{1 << 40}, nil
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = s.ReadChunk(ctx, req)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireNoTransaction(t, s)
	})
}

// requireNoTransaction checks that nothing of ours holds a snapshot.
func requireNoTransaction(t *testing.T, s *Source) {
	t.Helper()
	require.Eventually(t, func() bool {
		var open int
		err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'`).Scan(&open)
		return err == nil && open == 0
	}, patience, 10*time.Millisecond)
}

func TestReadChunkSeesThatTheTableChanged(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec("CREATE TABLE docs (id int PRIMARY KEY, v vector(1), x int NOT NULL)")
		table := inspect(t, s, docs())
		node, err := s.Filenode(t.Context(), table)
		require.NoError(t, err)
		read := func() error {
			req := everything(table)
			req.Filenode = node
			_, err := s.ReadChunk(t.Context(), req)
			return err
		}
		require.NoError(t, read())
		db.Exec("TRUNCATE docs")
		require.ErrorIs(t, read(), ErrRewritten)
		node = 0
		for _, change := range [][2]string{
			{"ALTER TABLE docs RENAME x TO y", "ALTER TABLE docs RENAME y TO x"},
			{"ALTER TABLE docs ALTER v TYPE vector(2)", "ALTER TABLE docs ALTER v TYPE vector(1)"},
			{"ALTER TABLE docs ALTER x TYPE int8", "ALTER TABLE docs ALTER x TYPE int"},
			{"ALTER TABLE docs RENAME TO docs2", "ALTER TABLE docs2 RENAME TO docs"},
		} {
			require.NoError(t, read())
			db.Exec(change[0])
			require.True(t, vecferry.Halts(read()), "%s: %v", change[0], read())
			db.Exec(change[1])
		}
		db.Exec("DROP TABLE docs; CREATE TABLE docs (id int PRIMARY KEY, v vector(1), x int NOT NULL)")
		err = read()
		require.True(t, vecferry.Halts(err))
		require.ErrorContains(t, err, "dropped and created again")
	})
}

func TestEstimate(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec("CREATE TABLE docs (id int PRIMARY KEY, v vector(1)) WITH (autovacuum_enabled = off)")
		table := inspect(t, s, docs())
		db.Exec("INSERT INTO docs SELECT i FROM generate_series(1, 1000) i")
		e, err := s.Estimate(t.Context(), table)
		require.NoError(t, err)
		require.Equal(t, Estimate{Rows: 1000, Bytes: e.Bytes, Exact: true}, e)
		require.Greater(t, e.Bytes, int64(30000))
		planned, err := s.plannedRows(t.Context(), table)
		require.NoError(t, err)
		require.Positive(t, planned)
		db.Exec("ANALYZE docs; DELETE FROM docs WHERE id <= 10")
		e, err = s.Estimate(t.Context(), table)
		require.NoError(t, err)
		require.Equal(t, Estimate{Rows: 1000, Bytes: e.Bytes}, e)
		db.Exec("DROP TABLE docs")
		_, err = s.Estimate(t.Context(), table)
		require.True(t, vecferry.Halts(err))
	})
}

// binaryCopy is what the server sends for rows of three columns.
func binaryCopy(rows [][]string) []byte {
	b := append([]byte(copySignature), 0, 0, 0, 0, 0, 0, 0, 2, 'x', 'y') // with an extension of two bytes
	for _, row := range rows {
		b = append(b, 0, byte(len(row)))
		for _, v := range row {
			if v == "NULL" {
				b = append(b, 0xff, 0xff, 0xff, 0xff)
				continue
			}
			b = append(b, 0, 0, byte(len(v)>>8), byte(len(v)))
			b = append(b, v...)
		}
	}
	return append(b, 0xff, 0xff)
}

// The rows do not depend on how the stream is cut.
func TestCopyParserTakesAnyPieces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		value := rapid.OneOf(rapid.StringN(0, 300, 400), rapid.Just("NULL"))
		rows := rapid.SliceOf(rapid.SliceOfN(value, 3, 3)).Draw(r, "rows")
		var got [][]string
		p := &copyParser{row: func(cols []vecferry.Column) error {
			var row []string
			for _, c := range cols {
				row = append(row, map[bool]string{true: "NULL", false: string(c.Data)}[c.Kind == vecferry.ColumnNull])
			}
			got = append(got, row)
			return nil
		}}
		stream := binaryCopy(rows)
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(r, "piece")
			piece := append([]byte{}, stream[:n]...)
			written, err := p.Write(piece)
			require.NoError(r, err)
			require.Equal(r, n, written)
			for i := range piece { // valid during Write only
				piece[i] = 0xAA
			}
			stream = stream[n:]
		}
		require.NoError(r, p.close())
		require.Equal(r, fmt.Sprint(rows), fmt.Sprint(got))
	})
}

func TestCopyParserNoticesDamage(t *testing.T) {
	t.Parallel()
	good := string(binaryCopy([][]string{{"a", "b", "c"}}))
	for name, stream := range map[string]string{
		"no signature": strings.Replace(good, "PGCOPY", "PGCOPX", 1),
		"cut off":      good[:len(good)-2],
		"cut in a row": good[:len(good)-4],
		"goes on":      good + "\x00\x00",
		"nothing":      "",
	} {
		p := &copyParser{row: func([]vecferry.Column) error { return nil }}
		_, err := p.Write([]byte(stream))
		if err == nil {
			err = p.close()
		}
		require.ErrorIs(t, err, vecferry.ErrCorrupt, name)
	}
}

func BenchmarkReadChunk(b *testing.B) {
	db := testenv.Postgres(b, 16)
	db.Exec(`CREATE TABLE docs (id int8 PRIMARY KEY, v vector(1536), title text);
		INSERT INTO docs SELECT i, (SELECT array_agg(random() * j + i) FROM generate_series(1, 1536) j)::vector, 'title ' || i FROM generate_series(1, 2000) i`)
	s := open(b, db.DSN)
	table := inspect(b, s, docs())
	for b.Loop() {
		chunk, err := s.ReadChunk(b.Context(), everything(table))
		if err != nil || len(chunk.Rows) != 2000 {
			b.Fatal(len(chunk.Rows), err)
		}
		b.SetBytes(chunk.Bytes)
	}
	b.ReportMetric(float64(b.N*2000)/b.Elapsed().Seconds(), "rows/s")
}
