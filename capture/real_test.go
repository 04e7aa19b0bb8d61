package capture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

// versions runs a test on both servers.
func versions(t *testing.T, test func(t *testing.T, p *pipeline)) {
	t.Helper()
	t.Parallel()
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			test(t, newPipeline(t, testenv.Postgres(t, version)))
		})
	}
}

// each runs statements one by one; several of a line are one message.
func (p *pipeline) each(script string) {
	p.t.Helper()
	for line := range strings.Lines(strings.ReplaceAll(script, "VECTOR", vector)) {
		if line = strings.TrimSpace(line); line != "" {
			p.db.Exec(line)
		}
	}
}

func TestCaptureStoresEveryKindOfChange(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		l := p.run(t)
		p.each(`
			insert into docs values (1, 'one', VECTOR), (2, 'two', null)
			update docs set note = 'uno' where id = 1
			update docs set embedding = VECTOR where id = 2
			update docs set id = 3 where id = 1
			delete from docs where id = 2
			begin; insert into docs values (4, 'rolled back', null); rollback
			begin; insert into docs values (5, 'kept', null); savepoint s; insert into docs values (6, 'undone', null); rollback to s; insert into other values (1, 'unmapped'); insert into docs values (7, 'kept', null); commit
		`)
		p.copyIn(10, 12)
		p.each(`
			truncate other
			truncate docs, other
			insert into docs values (8, 'last', null)`)
		p.await(l)
		require.Equal(t, []string{
			"I 1 one [2404]", "I 2 two -",
			"U 1 uno ?",
			"U 2 two [2404]",
			"U 1 - - 3 uno ?",
			"D 2 - -",
			"I 5 kept -", "I 7 kept -",
			"I 10 copied -", "I 11 copied -", "I 12 copied -",
			"T",
			"I 8 last -",
		}, p.seen())
		s := l.Status()
		require.Equal(t, []uint64{8, 3, 1, 1, 2}, []uint64{s.Inserts, s.Updates, s.Deletes, s.Truncates, s.Unmapped})
		require.WithinDuration(t, time.Now(), s.CommitTime, time.Minute)
		require.NoError(t, l.end())
		require.Equal(t, stateStopped, l.Status().State)
	})
}

func (p *pipeline) copyIn(from, to int) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.DSN)
	require.NoError(p.t, err)
	defer conn.Close(p.t.Context())
	var rows [][]any
	for i := from; i <= to; i++ {
		rows = append(rows, []any{int64(i), "copied"})
	}
	_, err = conn.CopyFrom(p.t.Context(), pgx.Identifier{"docs"}, []string{"id", "note"}, pgx.CopyFromRows(rows))
	require.NoError(p.t, err)
}

// Whatever kills the capture, and wherever, the log has each change once and in
// order: writers go on meanwhile, transactions are larger than several batches.
func TestCaptureSurvivesKills(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		p.db.Exec("alter table docs replica identity default; create table truth (n bigserial primary key, what text)")
		p.opts.BatchBytes, p.opts.BatchChanges, p.opts.DrainTimeout = 3000, 20, time.Nanosecond
		require.NoError(t, p.run(t).end()) // the slot is there before the first write
		random := rand.New(rand.NewPCG(1, uint64(p.db.Version)))
		var kill sync.Mutex // guards random
		p.log.hook = func(uint64) error {
			kill.Lock()
			defer kill.Unlock()
			return []error{errCrash, errLost, nil}[min(random.IntN(40), 2)]
		}
		written := make(chan struct{})
		go func() { defer close(written); p.write(40) }()
		kills := p.killUntil(t, random, &kill, written)
		p.log.mu.Lock()
		p.log.hook = nil
		p.log.mu.Unlock()
		l := p.run(t)
		p.await(l)
		require.NoError(t, l.end())
		var want []string
		p.query("select array_agg(what order by n) from truth", &want)
		require.Equal(t, want, p.seen())
		open := 0
		for _, h := range p.log.headers {
			if h.OpenLSN != 0 {
				open++
			}
		}
		t.Logf("%d changes in %d batches, %d of them end inside a transaction; %d lives", len(want), len(p.log.headers), open, kills)
		require.Greater(t, kills, 10)
		require.Greater(t, open, 100)
	})
}

// killUntil lets lives come and go while something is written.
func (p *pipeline) killUntil(t *testing.T, random *rand.Rand, mu *sync.Mutex, written <-chan struct{}) int {
	for lives := 1; ; lives++ {
		l := p.launch(t)
		mu.Lock()
		d := time.Duration(random.IntN(200)) * time.Millisecond
		mu.Unlock()
		select {
		case err := <-l.ended:
			require.False(t, vecferry.Halts(err), "%v", err)
			continue
		case <-written:
			require.NoError(t, l.end())
			return lives
		case <-time.After(d):
		}
		if d%2 == 0 {
			p.db.Exec("select pg_terminate_backend(active_pid) from pg_replication_slots where active and slot_name = '" + p.opts.Slot + "'")
		}
		require.False(t, vecferry.Halts(l.end()))
	}
}

// write runs transactions one after the other and notes what the log shall
// hold of them in table truth, which is not published.
func (p *pipeline) write(transactions int) {
	random := rand.New(rand.NewPCG(2, 3))
	id := 0
	for range transactions {
		var sql strings.Builder
		sql.WriteString("begin;")
		for range 1 + random.IntN(120) {
			id++
			switch random.IntN(5) {
			case 0:
				fmt.Fprintf(&sql, "insert into other values (%d);", id)
			case 1:
				fmt.Fprintf(&sql, "insert into docs values (%d, 'v', %s); update docs set note = 'u' where id = %d; insert into truth (what) values ('I %d v [2404]'), ('U %d u ?');", id, vector, id, id, id)
			case 2:
				fmt.Fprintf(&sql, "savepoint s; insert into docs values (%d, 'undone'); rollback to s;", id)
			default:
				fmt.Fprintf(&sql, "insert into docs values (%d, 'n'); delete from docs where id = %d; insert into truth (what) values ('I %d n -'), ('D %d - -');", id, id, id, id)
			}
		}
		sql.WriteString("commit;")
		p.db.Exec(sql.String())
	}
}

func TestCaptureGoesOnWhereItStopped(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		l := p.run(t)
		p.each("insert into docs values (1)")
		require.NoError(t, l.end())
		p.each("insert into docs values (2)")
		l = p.run(t)
		p.await(l)
		require.NoError(t, l.end())
		require.Equal(t, []string{"I 1 - -", "I 2 - -"}, p.seen())
	})
}

// An idle table must not keep the server's log: what others write is
// acknowledged, and the position is in the store before the server has it.
func TestCaptureAcknowledgesWhatOthersWrite(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		l := p.run(t)
		p.db.Exec("create table elsewhere (t text)")
		p.db.Exec("insert into elsewhere select repeat('x', 100) from generate_series(1, 1000)")
		var end string
		p.query("select pg_current_wal_lsn()::text", &end)
		want, err := vecferry.ParseLSN(end)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return l.Status().Acknowledged >= want }, patient, time.Millisecond)
		require.Empty(t, p.log.content())
		require.Eventually(t, func() bool { return p.confirmed() >= want }, patient, 10*time.Millisecond)
		confirmed := p.confirmed()
		quiet, err := load[quietRecord](t.Context(), p.log, keyQuiet)
		require.NoError(t, err)
		require.GreaterOrEqual(t, quiet.value.LSN, confirmed)
		require.NoError(t, l.end())
		require.NoError(t, p.run(t).end(), "the store explains why the server is ahead of the log")
	})
}

func (p *pipeline) confirmed() vecferry.LSN {
	p.t.Helper()
	var text string
	p.query("select coalesce(confirmed_flush_lsn::text, '0/0') from pg_replication_slots where slot_name = $1", &text, p.opts.Slot)
	lsn, err := vecferry.ParseLSN(text)
	require.NoError(p.t, err)
	return lsn
}

// Nothing is acknowledged before the log has it.
func TestCaptureAcknowledgesNothingEarly(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		blocked, release := make(chan struct{}), make(chan struct{})
		p.log.hook = func(uint64) error { close(blocked); <-release; return nil }
		l := p.run(t)
		before := p.confirmed()
		p.each("insert into docs values (1)")
		<-blocked
		at, err := p.source.CurrentLSN(t.Context())
		require.NoError(t, err)
		acknowledged := l.Status().Acknowledged
		require.Eventually(t, func() bool { return l.Status().Received >= acknowledged }, patient, time.Millisecond)
		require.Less(t, p.confirmed(), at)
		require.GreaterOrEqual(t, p.confirmed(), before)
		p.log.mu.Lock()
		p.log.hook = nil
		p.log.mu.Unlock()
		close(release)
		require.Eventually(t, func() bool { return l.Status().Acknowledged >= at }, patient, time.Millisecond)
		require.NoError(t, l.end())
	})
}

func TestCaptureBeatsWhileRowsChange(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		p.opts.Heartbeat = 20 * time.Millisecond
		l := p.run(t)
		p.each("insert into docs values (1)")
		require.Eventually(t, func() bool { return l.Status().Marks == 1 }, patient, time.Millisecond)
		_, err := l.Fence(t.Context())
		require.NoError(t, err)
		require.Eventually(t, func() bool { return l.Status().Marks == 2 }, patient, time.Millisecond)
		p.each("insert into docs values (2)")
		require.Eventually(t, func() bool { return l.Status().Marks == 3 }, patient, time.Millisecond)
		require.NoError(t, l.end())
		require.EqualValues(t, 3, l.Status().Marks, "none without rows")
		p.wantMarks(3)
	})
}

// wantMarks wants n beats whose snapshots do not go back.
func (p *pipeline) wantMarks(n int) {
	p.t.Helper()
	var last vecferry.XID
	for _, raw := range p.log.content() {
		r, err := vecferry.NewBatchReader(raw, &p.cursor)
		require.NoError(p.t, err)
		var c vecferry.Change
		for {
			more, err := r.Next(&c)
			require.NoError(p.t, err)
			if !more {
				break
			}
			if c.Op != vecferry.OpMark {
				continue
			}
			mark, err := vecferry.DecodeMark(c.Content)
			require.NoError(p.t, err)
			require.Equal(p.t, vecferry.Beat, mark.Kind)
			v, err := vecferry.ParseVisibility(mark.Snapshot)
			require.NoError(p.t, err)
			require.GreaterOrEqual(p.t, v.Next(), last)
			require.False(p.t, v.Sees(c.Tx.XID), "the snapshot is older than the mark")
			last = v.Next()
			n--
		}
	}
	require.Zero(p.t, n)
}

func TestCaptureReturnsWhenTheLogIsFull(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		p.log.hook = func(uint64) error { return errFull }
		l := p.run(t)
		p.each("insert into docs values (1)")
		require.ErrorIs(t, l.wait(), errFull)
		require.Equal(t, stateLogFull, l.Status().State)
		require.ErrorIs(t, l.Status().Err, errFull)
		p.log.hook = nil
		l = p.run(t)
		p.await(l)
		require.NoError(t, l.end())
		require.Equal(t, []string{"I 1 - -"}, p.seen())
	})
}

// A log that is slow for longer than wal_sender_timeout does not cost the
// connection, because the statuses go on.
func TestCaptureOutlastsASlowLog(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 16)
	db.Exec("alter database " + db.Name + " set wal_sender_timeout = '900ms'")
	p := newPipeline(t, db)
	p.opts.StatusInterval = 0
	release := make(chan struct{})
	p.log.hook = func(uint64) error { <-release; return nil }
	l := p.run(t)
	for i := range 4 { // more than there are builders
		p.each(fmt.Sprintf("insert into docs values (%d)", i))
	}
	time.AfterFunc(2500*time.Millisecond, func() { close(release) })
	p.await(l)
	require.NoError(t, l.end())
	require.Len(t, p.seen(), 4)
}
