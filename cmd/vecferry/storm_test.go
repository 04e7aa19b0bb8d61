package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/testenv"
)

// stormDDL makes three tables whose keys are an integer, a uuid and a text, with
// vectors that PostgreSQL keeps out of line, so that a scalar update does not
// send them.
const stormDDL = `
create function rv(n int) returns vector language sql volatile as $$ select array_agg(random()::real)::vector from generate_series(1, n) $$;
create table ints  (id bigint primary key, n int not null default 0, body text, meta jsonb not null default '{}', v vector(1536));
create table uuids (id uuid   primary key, n int not null default 0, body text, meta jsonb, v vector(768));
create table texts (id text   primary key, n int not null default 0, body text, meta jsonb, v vector(768));
insert into ints  select i, 0, case when i % 4 = 0 then repeat('long ', 700) end, '{"a": 1}', case when i % 50 > 0 then rv(1536) end from generate_series(1, 900) i;
insert into uuids select md5(i::text)::uuid, 0, 'u', null, rv(768) from generate_series(1, 700) i;
insert into texts select k(i), 0, 't', '[1, "é"]', rv(768) from generate_series(1, 700) i;
`

// stormKeys is the function k of stormDDL: texts that sort otherwise by bytes
// than by most collations.
const stormKeys = `create function k(i bigint) returns text language sql immutable as $$
select (array['k', 'K', 'é', 'Ω', '日本', 'z', '_', '🙂', 'a"b', 'c\d', 'it''s'])[1 + i % 11] || i $$;`

// stormTable is a table that the writers work on.
type stormTable struct {
	name string
	dim  int
	keys int
	key  func(i int) string // an SQL expression
}

func stormTables() []stormTable {
	return []stormTable{
		{"ints", 1536, 1200, func(i int) string { return fmt.Sprint(i) }},
		{"uuids", 768, 900, func(i int) string { return fmt.Sprintf("md5('%d')::uuid", i) }},
		{"texts", 768, 900, func(i int) string { return fmt.Sprintf("k(%d)", i) }},
	}
}

// writer is one session of the application.
type writer struct {
	r    *rand.Rand
	conn *pgx.Conn
	done atomic.Int64
}

// storm lets some writers work until the returned function is called, which
// returns how many transactions they committed.
func storm(t *testing.T, dsn string, writers int) (calm func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var all []*writer
	for i := range writers {
		w := &writer{r: rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano()))), conn: connect(t, dsn)}
		all = append(all, w)
		wg.Go(func() { w.run(ctx) })
	}
	return func() (n int64) {
		cancel()
		wg.Wait()
		for _, w := range all {
			n += w.done.Load()
		}
		return n
	}
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.transaction()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(w.r.IntN(12)) * time.Millisecond): // think time
		}
	}
}

// transaction is a few statements over several tables, with savepoints, and is
// at times rolled back. Errors (a key that exists, a deadlock) roll it back too.
func (w *writer) transaction() {
	ctx := context.Background()
	run := func(sql string) bool {
		_, err := w.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		return err == nil
	}
	run("begin; set local lock_timeout = '2s'")
	ok := true
	for range 1 + w.r.IntN(4) {
		sql := w.statement()
		switch w.r.IntN(8) {
		case 0:
			sql = "savepoint a; " + sql + "; rollback to a; " + w.statement()
		case 1:
			sql = "savepoint a; " + sql + "; release a"
		}
		if ok = run(sql); !ok {
			break
		}
	}
	if !ok || w.r.IntN(12) == 0 {
		run("rollback")
		return
	}
	if run("commit") {
		w.done.Add(1)
	}
}

// statement is one random change.
func (w *writer) statement() string {
	tables := stormTables()
	t := tables[w.r.IntN(len(tables))]
	k := func() string {
		if w.r.IntN(3) == 0 {
			return t.key(w.r.IntN(20) * t.keys / 20) // hot
		}
		return t.key(w.r.IntN(t.keys))
	}
	a, b, c := k(), k(), k()
	replace := func(s string) string {
		return strings.NewReplacer("TABLE", t.name, "A!", a, "B!", b, "C!", c, "DIM", fmt.Sprint(t.dim)).Replace(s)
	}
	const free = " and not exists (select from TABLE where id = B!)"
	all := []string{
		"update TABLE set n = n + 1 where id = A!",
		"update TABLE set n = n + 1 where id = A!",
		"update TABLE set n = n + 1, meta = '{\"x\": 1}' where id in (A!, B!, C!)",
		"update TABLE set v = rv(DIM) where id = A!",
		"update TABLE set v = null where id = A!",
		"update TABLE set body = repeat('y', 4000) where id = A!",
		"insert into TABLE (id, v, body) values (A!, rv(DIM), 'new') on conflict do nothing",
		"insert into TABLE (id, v) select x, rv(DIM) from (values (A!), (B!), (C!)) as s(x) group by x on conflict do nothing",
		"delete from TABLE where id = A!",
		"update TABLE set id = B!, n = n + 1 where id = A!" + free,
		"update TABLE set id = B! where id = A!" + free + "; insert into TABLE (id, v) values (A!, rv(DIM)) on conflict do nothing",
		"update TABLE set id = B! where id = A!" + free + "; update TABLE set id = C! where id = B! and not exists (select from TABLE where id = C!)",
		"update TABLE set v = rv(DIM) where id = A!; update TABLE set id = B! where id = A!" + free,
	}
	return replace(all[w.r.IntN(len(all))])
}

// stormWorld is a pipeline over the three tables.
func stormWorld(t *testing.T, version int, address, prefix string) *world {
	return newWorld(t, version, address, stormKeys+stormDDL,
		"{source: ints, collection: "+prefix+"ints}",
		"{source: uuids, collection: "+prefix+"uuids, batch_rows: 100}",
		"{source: texts, collection: "+prefix+"texts}")
}

func TestWritersDuringTheCopyAndAfter(t *testing.T) {
	t.Parallel()
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			m := testenv.Milvus(t)
			w := stormWorld(t, version, m.Address, m.Prefix)
			w.cfg.Snapshot.ChunkBytes = 1 << 20
			calm := storm(t, w.dsn, 4)
			w.start()
			require.Eventually(t, func() bool { return allLive(w.p.probe.report()) }, 4*time.Minute, 20*time.Millisecond)
			w.caughtUp()
			n := calm()
			w.caughtUp()
			require.NotZero(t, n)
			w.equal()
			t.Logf("%d transactions, %+v", n, w.p.probe.report().Tables)
			for _, table := range w.p.sink.Status().Tables {
				require.Zero(t, table.Counts.Breaches)
			}
		})
	}
}
