package capture

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

func TestMayResume(t *testing.T) {
	t.Parallel()
	type world struct {
		opts  Options
		id    identity
		srv   server
		slot  *slot
		tail  tail
		quiet quietRecord
	}
	tests := map[string]struct {
		change func(*world)
		start  vecferry.LSN
		says   string // of the halt, empty if it may
	}{
		"as it was":                 {func(*world) {}, 500, ""},
		"resends after a crash":     {func(w *world) { w.slot.confirmed = 100 }, 500, ""},
		"acknowledged without rows": {func(w *world) { w.quiet.LSN, w.slot.confirmed = 700, 700 }, 700, ""},
		"quiet record of another slot": {func(w *world) {
			w.quiet = quietRecord{Incarnation: "other", LSN: 700, Batch: 99}
		}, 500, ""},
		"empty log": {func(w *world) {
			w.tail.BatchHeader, w.quiet, w.slot.confirmed = vecferry.BatchHeader{}, quietRecord{}, 50
		}, 50, ""},
		"promoted after our end":    {func(w *world) { w.srv.timeline, w.srv.fork, w.srv.forked = 4, 500, true }, 500, ""},
		"promoted before our end":   {func(w *world) { w.srv.timeline, w.srv.fork, w.srv.forked = 4, 499, true }, 0, "timeline"},
		"a timeline of other birth": {func(w *world) { w.srv.timeline = 4 }, 0, "timeline"},
		"slot gone":                 {func(w *world) { w.slot = nil }, 0, "missing"},
		"slot lost":                 {func(w *world) { w.slot.walStatus = "lost" }, 0, "invalidated"},
		"slot invalidated":          {func(w *world) { w.slot.reason = "rows_removed" }, 0, "rows_removed"},
		"slot of another database":  {func(w *world) { w.slot.database = "b" }, 0, "belongs to database"},
		"slot of another plugin":    {func(w *world) { w.slot.plugin = "wal2json" }, 0, "wal2json"},
		"temporary slot":            {func(w *world) { w.slot.temporary = true }, 0, "permanent"},
		"slot ahead":                {func(w *world) { w.slot.confirmed = 501 }, 0, "somebody else"},
		"another cluster":           {func(w *world) { w.srv.systemID = "2" }, 0, "system identifier"},
		"another database":          {func(w *world) { w.srv.database = "b" }, 0, "database"},
		"another slot configured":   {func(w *world) { w.opts.Slot = "t" }, 0, "says t"},
		"another publication":       {func(w *world) { w.opts.Publication = "q" }, 0, "publication"},
		"another log":               {func(w *world) { w.tail.log = "m" }, 0, "change log is m"},
		"log went back":             {func(w *world) { w.quiet.Batch = 10 }, 0, "went back"},
		"server went back":          {func(w *world) { w.srv.walEnd = 499 }, 0, "went back"},
		"impossible open end":       {func(w *world) { w.tail.OpenLSN = 499 }, 0, "lies before"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world{
				opts:  Options{Slot: "s", Publication: "p"},
				id:    identity{Phase: created, SystemID: "1", Timeline: 3, Database: "d", Slot: "s", Publication: "p", Start: 50, Incarnation: "i", Log: "l"},
				srv:   server{systemID: "1", timeline: 3, database: "d", walEnd: 1000},
				slot:  &slot{plugin: "pgoutput", database: "d", walStatus: "reserved", confirmed: 400},
				tail:  tail{BatchHeader: vecferry.BatchHeader{Batch: 9, EndLSN: 500, OpenLSN: 600, OpenChanges: 3, Total: 70, CommitTime: 80}, log: "l"},
				quiet: quietRecord{Incarnation: "i", LSN: 450, Batch: 8},
			}
			if tt.start > 500 {
				w.tail.OpenLSN = 0
			}
			tt.change(&w)
			r, err := w.id.mayResume(&w.opts, w.srv, w.slot, w.tail, w.quiet)
			if tt.says != "" {
				require.True(t, vecferry.Halts(err), "%v", err)
				require.ErrorContains(t, err, tt.says)
				return
			}
			require.NoError(t, err)
			h := w.tail.BatchHeader
			require.Equal(t, resume{start: tt.start, open: h.OpenLSN, changes: h.OpenChanges, total: h.Total, newest: h.CommitTime}, r)
		})
	}
}

func TestForkOf(t *testing.T) {
	t.Parallel()
	history := []byte("1\t0/5000000\tno recovery target specified\n\n2\tA/6000028\tbefore 2000-01-01 00:00:00+00\n")
	fork, ok := forkOf(history, 1)
	require.True(t, ok)
	require.EqualValues(t, 0x5000000, fork)
	fork, ok = forkOf(history, 2)
	require.True(t, ok)
	require.EqualValues(t, 0xA06000028, fork)
	_, ok = forkOf(history, 3)
	require.False(t, ok)
}

func TestAnUnreadableRecordHalts(t *testing.T) {
	t.Parallel()
	m := newMemory()
	_, err := m.Save(t.Context(), keySlot, []byte("{"), 0)
	require.NoError(t, err)
	_, err = load[identity](t.Context(), m, keySlot)
	require.True(t, vecferry.Halts(err))
}

func TestARecordIsSavedOverItsOwnRevisionOnly(t *testing.T) {
	t.Parallel()
	m := newMemory()
	first, err := load[quietRecord](t.Context(), m, keyQuiet)
	require.NoError(t, err)
	second := first
	require.NoError(t, first.save(t.Context(), m, quietRecord{LSN: 1}))
	require.NoError(t, first.save(t.Context(), m, quietRecord{LSN: 2}))
	require.ErrorIs(t, second.save(t.Context(), m, quietRecord{LSN: 3}), errConflict)
}
