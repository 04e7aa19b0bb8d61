package property

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

// keysPerTable is how many keys there are, present or not.
const keysPerTable = 240

// ddl makes the two tables: a column was dropped before the key, one is
// generated, one may be out of line beside the vector, one may hold more than
// the target takes. All letters of the keys sort otherwise by bytes than by most
// collations.
const ddl = `
create function rv() returns vector language sql volatile as $$ select array_fill(random()::real, array[600])::vector $$;
create function long() returns text language sql volatile as $$ select md5(random()::text) || repeat('long ', 500) $$;
create table ints  (gone int, id int  primary key, meta int not null, body text, note text not null default '', emb vector(600), twice int generated always as (meta * 2) stored) with (fillfactor = 70);
create table texts (gone int, id text primary key, meta int not null, body text, note text not null default '', emb vector(600), twice int generated always as (meta * 2) stored) with (fillfactor = 70);
alter table ints  drop column gone, alter column body set storage external;
alter table texts drop column gone, alter column body set storage external;
`

func tableNames() []string { return []string{"ints", "texts"} }

// keyText is key number i as a person writes it.
func keyText(table string, i int) string {
	if table == "ints" {
		return fmt.Sprint(i)
	}
	return []string{"k", "K", "é", "Ω", "日本", "z", "_", "🙂"}[i*7%8] + fmt.Sprint(i)
}

// literal is key number i in SQL.
func literal(table string, i int) string {
	if table == "ints" {
		return keyText(table, i)
	}
	return "'" + keyText(table, i) + "'"
}

// keyOf is key number i in the form of the log.
func keyOf(table string, i int) vecferry.Key {
	if table == "ints" {
		return vecferry.IntKey(int64(i))
	}
	return vecferry.Key(keyText(table, i))
}

// rowsOf selects key numbers and keys of every n-th row.
func rowsOf(table string, n int) string {
	key := "i"
	if table == "texts" {
		key = `(array['k','K','é','Ω','日本','z','_','🙂'])[1 + i*7%8] || i`
	}
	return fmt.Sprintf("select %s, 3, case when i %% 9 = 0 then long() end, '', rv() from generate_series(0, %d, %d) i", key, keysPerTable-1, n)
}

// writer is one session of the application.
type writer struct {
	w     *world
	n     int
	dice  *dice
	conn  *pgx.Conn
	setup string
	ghost bool // its commits wait for standbys
}

// run writes until the world stops its writers, over new connections whenever
// the server was killed.
func (a *writer) run(ctx context.Context) {
	defer a.close()
	for !a.w.still.Load() && ctx.Err() == nil {
		if a.conn == nil && !a.connect(ctx) {
			continue
		}
		a.transaction(ctx)
		lifecycle.Sleep(ctx, a.w.o.pace/2+a.dice.upTo(a.w.o.pace))
	}
}

func (a *writer) connect(ctx context.Context) bool {
	conn, err := pgx.Connect(ctx, a.w.dsn)
	if err == nil {
		_, err = conn.Exec(ctx, a.setup, pgx.QueryExecModeSimpleProtocol)
		a.conn = conn
	}
	if err != nil {
		a.close()
		lifecycle.Sleep(ctx, 20*time.Millisecond)
	}
	return err == nil
}

func (a *writer) close() {
	if a.conn != nil {
		_ = a.conn.Close(context.Background())
		a.conn = nil
	}
}

// transaction is some statements over both tables. An error, such as a deadlock,
// rolls it back.
func (a *writer) transaction(ctx context.Context) {
	ok := a.exec(ctx, "begin")
	for _, sql := range a.statements() {
		if ok = ok && a.exec(ctx, sql); !ok {
			break
		}
	}
	if a.n == 0 && a.dice.n(3) == 0 {
		lifecycle.Sleep(ctx, a.dice.upTo(900*time.Millisecond)) // a long one
	}
	if !ok || a.dice.n(12) == 0 {
		a.exec(ctx, "rollback")
	} else if a.exec(ctx, "commit") {
		a.w.count.commits.Add(1)
		if a.ghost {
			a.w.count.ghosts.Add(1)
		}
	}
	if a.conn != nil && a.conn.IsClosed() {
		a.conn = nil
	}
}

func (a *writer) exec(ctx context.Context, sql string) bool {
	_, err := a.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err == nil
}

func (a *writer) statements() (out []string) {
	if a.w.o.truncate > 0 && a.n == 1 && a.dice.happens(a.w.o.truncate) {
		return a.truncation()
	}
	most := a.w.o.statements
	if a.ghost && most > 1 {
		most = 8
	}
	for range 1 + a.dice.n(most) {
		switch a.dice.n(16) {
		case 0, 1:
			out = append(out, "savepoint a", a.statement(), "rollback to a", a.statement())
		case 2, 3:
			out = append(out, "savepoint a", a.statement(), "release a")
		default:
			out = append(out, a.statement())
		}
	}
	return out
}

func (a *writer) truncation() []string {
	const columns = "(id, meta, body, note, emb)"
	table := tableNames()[a.dice.n(2)]
	if a.dice.n(4) == 0 {
		return []string{"truncate ints, texts", "insert into " + table + columns + " " + rowsOf(table, 4) + " on conflict do nothing"}
	}
	return []string{"truncate " + table, "insert into " + table + columns + " " + rowsOf(table, 3) + " on conflict do nothing"}
}

// statement is one random change, or a few on the same rows.
func (a *writer) statement() string {
	table := tableNames()[a.dice.n(2)]
	k := func() string {
		if a.dice.n(100) < a.w.o.hot {
			return literal(table, a.dice.n(25)*keysPerTable/25)
		}
		return literal(table, a.dice.n(keysPerTable))
	}
	x := a.dice.n(100)
	fill := strings.NewReplacer("T!", table, "A!", k(), "B!", k(), "C!", k(),
		"FREE!", "and not exists (select from "+table+" where id = B!)", "NEW!", "(id, meta, emb) values")
	return fill.Replace(fill.Replace(a.template(x)))
}

func (a *writer) template(x int) string {
	switch {
	case x < a.w.o.rekeys:
		return a.keyChange()
	case x < 55:
		return "update T! set meta = meta + 1 where id = A!"
	case x < 58:
		return "update T! set body = long() where id = A!"
	case x < 59:
		return "update T! set body = null, meta = meta + 1 where id = A!"
	case x < 60:
		return "update T! set note = repeat('too long ', 5) where id = A!"
	case x < 62:
		return "update T! set note = 'fits' where note > 'g' or id = A!"
	case x < 70:
		return "update T! set emb = rv(), meta = meta + 1 where id = A!"
	case x < 71:
		return "update T! set emb = null where id = A!"
	case x < 72:
		return "update T! set emb = rv() where emb is null"
	case x < 88:
		return "insert into T! NEW! (A!, 1, rv()) on conflict do nothing"
	}
	return "delete from T! where id = A!"
}

func (a *writer) keyChange() string {
	switch a.dice.n(6) {
	case 0, 1:
		return "update T! set id = B!, meta = meta + 1 where id = A! FREE!"
	case 2: // a swap over a third key
		return `do $$ begin
			if A! <> B! and A! <> C! and B! <> C! and not exists (select from T! where id = C!) and exists (select from T! where id = A!)
				and exists (select from T! where id = B!) then
				update T! set id = C! where id = A!; update T! set id = A! where id = B!; update T! set id = B! where id = C!;
			end if; end $$`
	case 3: // a chain, and the first key again with another vector
		return `update T! set id = B! where id = A! FREE!; update T! set id = C! where id = B! and not exists (select from T! where id = C!);
			insert into T! NEW! (A!, 7, rv()) on conflict do nothing`
	case 4: // moved, then updated without its vector
		return "update T! set id = B! where id = A! FREE!; update T! set meta = meta + 1 where id = B!"
	}
	// The vector is in another event than the move.
	return "update T! set emb = rv() where id = A!; update T! set id = B!, meta = meta + 1 where id = A! FREE!"
}
