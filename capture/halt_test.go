package capture

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

func TestCaptureHaltsOnALostSlot(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		require.NoError(t, p.run(t).end())
		p.db.Exec("select pg_drop_replication_slot('" + p.opts.Slot + "')")
		p.launch(t).halted("missing", "new pipeline")
		var n int
		p.query("select count(*) from pg_replication_slots where slot_name = $1", &n, p.opts.Slot)
		require.Zero(t, n, "never made again")
	})
}

func TestCaptureHaltsOnAForeignSlot(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		p.db.Exec("select pg_create_logical_replication_slot('" + p.opts.Slot + "', 'pgoutput')")
		p.launch(t).halted("no record", "another slot name")
	})
}

func TestCaptureHaltsOnASlotOfAnotherPlugin(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.Postgres(t, 16))
	require.NoError(t, p.run(t).end())
	p.db.Exec("select pg_drop_replication_slot('" + p.opts.Slot + "')")
	p.db.Exec("select pg_create_physical_replication_slot('" + p.opts.Slot + "')")
	p.launch(t).halted("plugin pgoutput")
	p.db.Exec("select pg_drop_replication_slot('" + p.opts.Slot + "')")
}

// Somebody who reads our slot takes changes away that nobody gets again.
func TestCaptureHaltsWhenSomebodyElseAcknowledged(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		require.NoError(t, p.run(t).end())
		p.each("insert into docs values (1)")
		p.db.Exec("select pg_replication_slot_advance('" + p.opts.Slot + "', pg_current_wal_lsn())")
		p.launch(t).halted("by somebody else")
		require.Empty(t, p.seen())
	})
}

func TestCaptureHaltsOnALostPublication(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		p.each("alter database " + p.db.Name + " set client_min_messages = 'error'") // must not hide a warning
		l := p.run(t)
		p.each("insert into docs values (1)")
		p.await(l)
		p.each("drop publication vecferry\ninsert into docs values (2)")
		l.halted(`publication "vecferry"`)
		p.launch(t).halted("does not exist")
		p.each("create publication vecferry for table docs, other")
		p.launch(t).halted("changes are missing")
		require.Equal(t, []string{"I 1 - -"}, p.seen())
	})
}

func TestCaptureHaltsOnAnotherLog(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		l := p.run(t)
		p.each("insert into docs values (1)")
		p.await(l)
		require.NoError(t, l.end())

		p.log.id = "log-2"
		p.launch(t).halted("log-2")
		p.log.id = "log-1"
		batches, headers := p.log.batches, p.log.headers
		p.log.batches, p.log.headers = nil, nil
		p.launch(t).halted("log")
		p.log.batches, p.log.headers = batches, headers
		delete(p.log.values, keySlot)
		delete(p.log.saved, keySlot)
		p.launch(t).halted("record of the slot")
	})
}

func TestCaptureHaltsOnARowThatNoBatchHolds(t *testing.T) {
	versions(t, func(t *testing.T, p *pipeline) {
		p.log.max = 100_000
		l := p.run(t)
		p.each("insert into docs values (1, 'small')")
		p.await(l)
		p.each("insert into docs select 2, repeat('x', 200000)")
		l.halted("public.docs", "100000")
		require.Equal(t, []string{"I 1 small -"}, p.seen())
	})
}

func TestNewRefusesBadOptions(t *testing.T) {
	t.Parallel()
	good := Options{
		Pipeline: "p", Slot: "s", Publication: "q", Tables: []*vecferry.Table{{}}, Source: struct{ Source }{},
		Log: newMemory(), Store: newMemory(), Logger: discard(),
	}
	_, err := New(good)
	require.NoError(t, err)
	for name, spoil := range map[string]func(*Options){
		"no source":        func(o *Options) { o.Source = nil },
		"no pipeline":      func(o *Options) { o.Pipeline = "" },
		"no tables":        func(o *Options) { o.Tables = nil },
		"slot":             func(o *Options) { o.Slot = "Bad-Slot" },
		"publication":      func(o *Options) { o.Publication = "it's" },
		"too many changes": func(o *Options) { o.BatchChanges = vecferry.MaxRecords + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := good
			bad.Tables = slices.Clone(good.Tables)
			spoil(&bad)
			_, err := New(bad)
			require.Error(t, err)
		})
	}
}

func TestRunRefusesASecondRun(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, testenv.Postgres(t, 16))
	l := p.run(t)
	require.ErrorIs(t, l.Run(t.Context()), ErrRunning)
	require.NoError(t, l.end())
	require.NotErrorIs(t, l.Status().Err, ErrRunning)
}
