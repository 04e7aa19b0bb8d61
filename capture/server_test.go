package capture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

// An interrupted creation leaves one of two pictures, and both go on.
func TestCaptureFinishesAnInterruptedCreation(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		for _, withSlot := range []bool{false, true} {
			require.NoError(t, p.run(t).end())
			id, err := load[identity](t.Context(), p.log, keySlot)
			require.NoError(t, err)
			unfinished := id.value
			unfinished.Phase, unfinished.Start = creating, 0
			require.NoError(t, id.save(t.Context(), p.log, unfinished))
			if !withSlot {
				p.db.Exec("select pg_drop_replication_slot('" + p.opts.Slot + "')")
			}
			require.NoError(t, p.run(t).end())
			id, err = load[identity](t.Context(), p.log, keySlot)
			require.NoError(t, err)
			require.Equal(t, created, id.value.Phase)
			require.Equal(t, unfinished.Incarnation, id.value.Incarnation)
		}
		l := p.run(t)
		p.each("insert into docs values (1)")
		p.await(l)
		require.NoError(t, l.end())
		require.Equal(t, []string{"I 1 - -"}, p.seen())
	})
}

func TestCaptureSaysWhomTheSlotWaitsFor(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		conn, err := pgx.Connect(t.Context(), p.db.DSN)
		require.NoError(t, err)
		defer conn.Close(context.WithoutCancel(t.Context()))
		_, err = conn.Exec(t.Context(), "begin; insert into other values (1)")
		require.NoError(t, err)
		who := fmt.Sprintf("pid %d", conn.PgConn().PID())
		says := func(l *life) func() bool { return func() bool { return strings.Contains(l.Status().State, who) } }

		l := p.launch(t)
		require.Eventually(t, says(l), patient, 10*time.Millisecond)
		require.NoError(t, l.end(), "a stop does not wait for the slot")

		l = p.launch(t)
		require.Eventually(t, says(l), patient, 10*time.Millisecond)
		_, err = conn.Exec(t.Context(), "commit")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return l.Status().State == stateStreaming }, patient, time.Millisecond)
		require.NoError(t, l.end())
	})
}

func TestCaptureWaitsForASlotInUse(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		first := p.run(t)
		second := p.launch(t)
		require.Eventually(t, func() bool { return strings.HasPrefix(second.Status().State, "waiting for the slot held by pid ") }, patient, time.Millisecond)
		p.each("insert into docs values (1)")
		p.await(first)
		require.NoError(t, first.end())
		require.Eventually(t, func() bool { return second.Status().State == stateStreaming }, patient, time.Millisecond)
		p.each("insert into docs values (2)")
		p.await(second)
		require.NoError(t, second.end())
		require.Equal(t, []string{"I 1 - -", "I 2 - -"}, p.seen())
	})
}

// A fast shutdown waits until its last byte is acknowledged.
func TestCaptureLetsTheServerStop(t *testing.T) {
	t.Parallel()
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			server := testenv.OwnPostgres(t, version, nil)
			p := newPipeline(t, testenv.Database(t, server))
			p.opts.StatusInterval = time.Hour
			l := p.run(t)
			p.each("insert into docs values (1)")
			p.await(l)
			start := time.Now()
			require.NoError(t, server.Restart(t.Context()))
			require.Less(t, time.Since(start), 8*time.Second)
			err := l.wait()
			require.Error(t, err)
			require.False(t, vecferry.Halts(err), "%v", err)
			l = p.run(t)
			p.each("insert into docs values (2)")
			p.await(l)
			require.NoError(t, l.end())
			require.Equal(t, []string{"I 1 - -", "I 2 - -"}, p.seen())
		})
	}
}

// A server that crashes forgets what was acknowledged last and sends it again.
func TestCaptureSurvivesACrashOfTheServer(t *testing.T) {
	t.Parallel()
	server := testenv.OwnPostgres(t, 16, nil)
	p := newPipeline(t, testenv.Database(t, server))
	l := p.run(t)
	var want []string
	for i := range 20 {
		p.each(fmt.Sprintf("insert into docs values (%d)", i))
		want = append(want, fmt.Sprintf("I %d - -", i))
		if i%5 == 4 {
			p.await(l)
			require.NoError(t, server.Kill())
			require.Error(t, l.wait())
			require.NoError(t, server.Restart(t.Context()))
			l = p.run(t)
		}
	}
	p.await(l)
	require.NoError(t, l.end())
	require.Equal(t, want, p.seen())
}

// A standby that was promoted is on a new timeline. It holds all that was read
// if it has read it before.
func TestCaptureFollowsAPromotion(t *testing.T) {
	t.Parallel()
	server := testenv.OwnPostgres(t, 16, nil)
	p := newPipeline(t, testenv.Database(t, server))
	l := p.run(t)
	p.each("insert into docs values (1)")
	p.await(l)
	require.NoError(t, l.end())
	require.NoError(t, os.WriteFile(filepath.Join(server.DataDir(), "standby.signal"), nil, 0o644))
	require.NoError(t, server.Restart(t.Context()))
	p.db.Exec("select pg_promote()")
	p.each("insert into docs values (2)")
	l = p.run(t)
	p.await(l)
	require.NoError(t, l.end())
	require.Equal(t, []string{"I 1 - -", "I 2 - -"}, p.seen())
	id, err := load[identity](t.Context(), p.log, keySlot)
	require.NoError(t, err)
	require.EqualValues(t, 2, id.value.Timeline)
}

// After a drain the server knows how far the log is.
func TestCaptureAcknowledgesAtItsEnd(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		p.opts.StatusInterval = time.Hour
		l := p.run(t)
		p.each("insert into docs select generate_series(1, 1000)")
		p.await(l)
		require.NoError(t, l.end())
		s := l.Status()
		require.GreaterOrEqual(t, s.Acknowledged, s.Written)
		require.Equal(t, s.Acknowledged, p.confirmed())
		var held int
		p.query("select count(*) from pg_replication_slots where slot_name = $1 and active", &held, p.opts.Slot)
		require.Zero(t, held, "the slot is free when Run returns")
	})
}
