package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

// Every type, as a field and as a dynamic key, by the copy and by the stream.
func TestEveryType(t *testing.T) {
	t.Parallel()
	const columns = `
		b bool%[1]s, i2 int2%[1]s, i4 int4%[1]s, i8 int8%[1]s, f4 float4%[1]s, f8 float8%[1]s, t text%[1]s, vc varchar(20)%[1]s,
		c char(5)%[1]s, e mood%[1]s, u uuid%[1]s, num numeric%[1]s, ip inet%[1]s, d date%[1]s, tm time%[1]s, iv interval%[1]s,
		ts timestamp%[1]s, tz timestamptz%[1]s, j json%[1]s, jb jsonb%[1]s, by bytea%[1]s, dom positive%[1]s, ia int[], ta text[]`
	const values = `i % 2 = 0, i, -i, i::bigint * 1000000007, i / 3.0, 1.0 / i, 'text "' || i || E'" \\ é 🙂\n', 'vc' || i, 'c', 'happy', md5(i::text)::uuid,
		i * 1.500, '10.0.0.1/24', '2024-02-29', '24:00', '1 mon -2 days 03:00:01.5', '2001-01-01 00:00:00.000001', 'infinity',
		'{"a" : [1, 2.50, null]}', '{"b": {"c": "é"}}', '\x00ff', i, array[1, null, i], array['a', 'b"', null, '']`
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			m := testenv.Milvus(t)
			ddl := "create type mood as enum ('sad', 'happy'); create domain positive as int check (value > 0);" +
				fmt.Sprintf("create table typed (id int primary key, "+columns+", v vector(3));", " not null") +
				fmt.Sprintf("create table loose (id text primary key, "+columns+", v vector(3));", "") +
				"insert into typed select i, " + values + ", array[i, 0.5, -i]::vector from generate_series(1, 40) i;" +
				"insert into loose select i::text, " + values + ", array[i, 0.5, -i]::vector from generate_series(1, 40) i;" +
				"insert into loose (id, v) select 'n' || i, '[1,2,3]' from generate_series(1, 40) i"
			w := newWorld(t, version, m.Address, ddl, "{source: typed, collection: "+m.Prefix+"typed}", "{source: loose, collection: "+m.Prefix+"loose}")
			w.start()
			w.caughtUp()
			w.equal()
			w.exec("insert into typed select i, " + values + ", array[i, 0.5, -i]::vector from generate_series(41, 80) i")
			w.exec("insert into loose select i::text, " + values + ", array[i, 0.5, -i]::vector from generate_series(41, 80) i")
			w.exec("update loose set t = null, jb = null, num = 'NaN', f8 = 'NaN', d = '-infinity' where id in ('1', '2', 'n1') and false or id = '3'")
			w.exec("update typed set num = num + 0.100, iv = iv * 2, e = 'sad' where id < 10")
			w.caughtUp()
			for _, table := range w.p.sink.Status().Tables {
				t.Logf("%s: %d dead letters", table.Source, table.Dead)
			}
			w.exec("delete from loose where id = '3'") // NaN has no JSON form: it is in the dead letters
			w.caughtUp()
			w.equal()
		})
	}
}

// A row that Milvus cannot hold goes to the dead letters, and comes when it fits.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	m := testenv.Milvus(t)
	w := newWorld(t, 16, m.Address, "create table docs (id int primary key, body text not null, v vector(3)); "+
		"insert into docs select i, case i when 5 then repeat('é', 40000) else 'ok' end, '[1,2,3]' from generate_series(1, 20) i",
		"{source: docs, collection: "+m.Prefix+"docs}")
	w.start()
	w.caughtUp()
	table := func() ReportTable { return w.p.probe.report().Tables[0] }
	require.EqualValues(t, 1, table().DeadLetters)
	letters, _, err := w.p.changes.ReadDeadLetters(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, "5", letters[0].Key)
	require.Equal(t, "body", letters[0].Column)
	require.Contains(t, letters[0].Reason, "80000")

	w.exec("update docs set body = repeat('x', 70000) where id = 6") // too long, by the stream
	w.exec("update docs set v = '[3,2,1]' where id = 5")             // still too long
	w.caughtUp()
	target := w.p.target.Collection(w.p.tables[0])
	n, err := target.Count(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 18, n)

	w.exec("update docs set body = 'short again' where id in (5, 6)")
	w.caughtUp()
	w.equal()
}

// TRUNCATE, also of several tables and followed by new rows in one transaction.
func TestTruncate(t *testing.T) {
	t.Parallel()
	m := testenv.Milvus(t)
	w := newWorld(t, 18, m.Address, "create table a (id int primary key, v vector(3)); create table b (id text primary key, v vector(3));"+
		"insert into a select i, '[1,2,3]' from generate_series(1, 500) i; insert into b select 'k' || i, '[1,2,3]' from generate_series(1, 500) i",
		"{source: a, collection: "+m.Prefix+"a}", "{source: b, collection: "+m.Prefix+"b}")
	w.start()
	w.caughtUp()
	w.exec("begin; update a set v = '[0,0,1]' where id = 7; truncate a, b; insert into a values (7, '[9,9,9]'), (1000, '[1,1,1]'); insert into b values ('new', '[1,0,0]'); commit")
	w.caughtUp()
	w.equal()
}

// One transaction far larger than a batch arrives whole.
func TestLargeTransaction(t *testing.T) {
	t.Parallel()
	m := testenv.Milvus(t)
	w := newWorld(t, 16, m.Address, "create table docs (id int primary key, n int not null, v vector(1024));"+
		"insert into docs select 0, 0, array_agg(0.5::real)::vector from generate_series(1, 1024)", "{source: docs, collection: "+m.Prefix+"docs}")
	w.start()
	w.caughtUp()
	w.exec("begin; insert into docs select i, i, (select v from docs where id = 0) from generate_series(1, 4000) i; update docs set n = -n; delete from docs where id % 7 = 0; commit")
	w.caughtUp()
	w.equal()
	info, err := w.p.changes.Info(t.Context())
	require.NoError(t, err)
	require.Greater(t, info.LastBatch, uint64(10))
}

// What would lose data stops the pipeline and says what to do.
func TestHalts(t *testing.T) {
	t.Parallel()
	ddl := "create table docs (id int primary key, v vector(3)); insert into docs values (1, '[1,2,3]')"
	for name, c := range map[string]struct {
		harm func(w *world)
		want string
	}{
		"slot dropped": {func(w *world) {
			w.exec("select pg_drop_replication_slot($1)", w.cfg.Postgres.Slot)
		}, "slot"},
		"collection dropped": {func(w *world) {
			require.NoError(w.t, w.target().Drop(w.t.Context(), w.cfg.Tables[0].Collection))
		}, "is gone"},
		"vector of another dimension": {func(w *world) {
			w.exec("truncate docs; alter table docs alter column v type vector(4)")
		}, "dim"},
		"publication dropped": {func(w *world) {
			w.exec("drop publication " + w.cfg.Postgres.Publication)
			w.exec("insert into docs values (2, '[1,2,3]')")
			w.cfg.Postgres.CreatePublication = false
		}, "publication"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := testenv.Milvus(t)
			w := newWorld(t, 16, m.Address, ddl, "{source: docs, collection: "+m.Prefix+"docs}")
			w.start()
			w.caughtUp()
			w.stop()
			c.harm(w)
			p, err := open(t.Context(), w.cfg, testLogger(), startTime)
			if err == nil {
				t.Cleanup(p.close)
				err = p.run(t.Context())
			}
			require.ErrorContains(t, err, c.want)
			require.True(t, vecferry.Halts(err), "%v", err)
		})
	}
}

// A collection that somebody else filled is not touched.
func TestForeignCollection(t *testing.T) {
	t.Parallel()
	m := testenv.Milvus(t)
	ddl := "create table docs (id int primary key, v vector(3)); insert into docs values (1, '[1,2,3]')"
	first := newWorld(t, 16, m.Address, ddl, "{source: docs, collection: "+m.Prefix+"docs}")
	first.start()
	first.caughtUp()
	first.stop()
	second := newWorld(t, 18, m.Address, ddl, "{source: docs, collection: "+m.Prefix+"docs}")
	_, err := open(t.Context(), second.cfg, testLogger(), startTime)
	var halt *vecferry.HaltError
	require.ErrorAs(t, err, &halt)
	require.Contains(t, halt.Error(), "did not write")
}

// The pipeline lives through a restart of Postgres.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	server := testenv.OwnPostgres(t, 18, nil)
	m := testenv.Milvus(t)
	db := testenv.Database(t, server)
	w := worldOn(t, db.DSN, m.Address, "create table docs (id int primary key, v vector(3)); insert into docs select i, '[1,2,3]' from generate_series(1, 100) i",
		"{source: docs, collection: "+m.Prefix+"docs}")
	w.start()
	w.caughtUp()
	for i := range 2 {
		if i == 0 {
			require.NoError(t, server.Kill())
		}
		require.NoError(t, server.Restart(t.Context()))
		w.db = connect(t, db.DSN)
		require.Eventually(t, func() bool { return w.p.probe.once(t.Context()) == nil }, time.Minute, 20*time.Millisecond)
		w.exec("insert into docs values ($1, '[1,1,1]')", 1000+i)
		w.caughtUp()
		w.equal()
	}
	require.Less(t, time.Since(w.p.probe.started), 2*time.Minute)
}
