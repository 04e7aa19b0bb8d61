package snapshot_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/snapshot"
)

// scene runs a world and a Snapshot in virtual time until script returns, and
// returns what Run returned.
func scene(t *testing.T, w *world, script func(s *snapshot.Snapshot), change ...func(*snapshot.Deps)) error {
	t.Helper()
	var ended error
	synctest.Test(t, func(t *testing.T) {
		opts, deps := w.options()
		for _, c := range change {
			c(&deps)
		}
		s, err := snapshot.New(opts, deps)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); w.late.Wait() }()
		w.late.Go(func() { w.sinkLoop(ctx) })
		w.late.Go(func() { ended = s.Run(ctx) })
		script(s)
	})
	require.Empty(t, w.broken)
	return ended
}

// until waits for a condition in virtual time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); sleep(10 * time.Millisecond) {
		require.Less(t, time.Since(start), 10*time.Minute, "no end of waiting until %s", what)
	}
}

// marks returns the marks of a kind in the order of the log.
func (w *world) marks(kind vecferry.MarkKind) []*vecferry.Mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*vecferry.Mark
	for _, e := range w.log {
		if e.mark != nil && e.mark.Kind == kind {
			out = append(out, e.mark)
		}
	}
	return out
}

func (w *world) count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats[what]
}

func TestATableIsCopiedInChunksOfKeyOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 250, faults{}) // of 1,000 bytes a row, in chunks of 100 rows, the fewest
	w.options = sized(w.options, 100*rowBytes)
	require.NoError(t, scene(t, w, func(s *snapshot.Snapshot) {
		until(t, "all is live", w.done)
		st := s.Status().Tables[0]
		require.Equal(t, snapshot.Live, st.State)
		require.Zero(t, st.Open)
		require.Empty(t, st.Reason)
	}))
	key := vecferry.IntKey
	var got []vecferry.Range
	for _, m := range w.marks(vecferry.Low) {
		got = append(got, m.Ranges...)
	}
	slices.SortFunc(got, func(a, b vecferry.Range) int { return strings.Compare(string(a.Lo), string(b.Lo)) })
	require.Equal(t, []vecferry.Range{{Hi: key(100)}, {Lo: key(100), Hi: key(200)}, {Lo: key(200), ToEnd: true}}, got)
	require.Zero(t, w.count("clear"), "nothing was there to be cleared")
	require.Zero(t, w.count("void"))
}

func TestDeadRowsAreBuriedBeforeHighNamesThem(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 60, faults{}) // versions 1 to 60: 23 and 46 fail the check, 29 and 58 are refused
	require.NoError(t, scene(t, w, func(*snapshot.Snapshot) { until(t, "all is live", w.done) }))
	var dead []vecferry.Key
	var rows int64
	for _, m := range w.marks(vecferry.High) {
		dead, rows = append(dead, m.Dead...), rows+m.Rows
	}
	require.ElementsMatch(t, []vecferry.Key{vecferry.IntKey(22), vecferry.IntKey(28), vecferry.IntKey(45), vecferry.IntKey(57)}, dead)
	require.EqualValues(t, 56, rows)
	require.Len(t, w.buried, 4)
	require.Len(t, w.target, 56)
}

// picky refuses everything.
type picky struct{ *world }

func (p picky) Check(r vecferry.Row) error { return p.table.RowError(r.Key, "body", "too long") }

func TestAMappingThatFitsNoRowHalts(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 10_001, faults{})
	w.options = sized(w.options, 20_000*rowBytes)
	err := scene(t, w, func(*snapshot.Snapshot) { sleep(time.Minute) }, func(d *snapshot.Deps) {
		d.Targets = map[uint32]snapshot.Target{w.table.OID: picky{w}}
	})
	var halt *vecferry.HaltError
	require.ErrorAs(t, err, &halt)
	require.Contains(t, err.Error(), "10001 rows of one chunk of public.documents cannot be stored")
	require.Empty(t, w.buried, "the dead letters are not flooded")
	require.Empty(t, w.marks(vecferry.High))
}

// broken fails for good.
type broken struct{ *world }

func (broken) Replace(context.Context, vecferry.Write) ([]vecferry.Rejected, error) {
	return nil, &vecferry.HaltError{What: "the collection is gone", Fix: "bring it back"}
}

func TestAHaltOfTheTargetEndsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 10, faults{})
	err := scene(t, w, func(*snapshot.Snapshot) { sleep(time.Minute) }, func(d *snapshot.Deps) {
		d.Targets = map[uint32]snapshot.Target{w.table.OID: broken{w}}
	})
	require.True(t, vecferry.Halts(err))
}

func TestAFailedWatchEndsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 10, faults{})
	err := scene(t, w, func(*snapshot.Snapshot) { sleep(time.Minute) }, func(d *snapshot.Deps) {
		d.Checkpoints = noCheckpoints{}
	})
	require.ErrorIs(t, err, errNoServer)
	require.False(t, vecferry.Halts(err), "it may be started again")
}

type noCheckpoints struct{}

var errNoServer = errors.New("no server")

func (noCheckpoints) Watch(context.Context, func(*vecferry.Checkpoint)) error { return errNoServer }

func TestItSleepsWhileAllIsLiveAndWakesForATaint(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 30, faults{})
	require.NoError(t, scene(t, w, func(*snapshot.Snapshot) {
		until(t, "all is live", w.done)
		before, splits, clears := len(w.marks(vecferry.Low)), w.count("split"), w.count("clear")
		sleep(10 * time.Minute)
		require.Len(t, w.marks(vecferry.Low), before)
		require.Equal(t, splits, w.count("split"))

		tainted := []vecferry.Key{vecferry.IntKey(3), vecferry.IntKey(7), vecferry.IntKey(20)}
		w.locking(func() {
			for _, k := range tainted {
				w.taintKey(k)
			}
		})
		until(t, "the taints are live", func() bool { return w.done() && len(w.marks(vecferry.Low)) > before })
		lows := w.marks(vecferry.Low)[before:]
		var got []vecferry.Range
		for _, m := range lows {
			got = append(got, m.Ranges...)
		}
		require.Equal(t, []vecferry.Range{vecferry.Only(tainted[0]), vecferry.Only(tainted[1]), vecferry.Only(tainted[2])}, got)
		require.LessOrEqual(t, len(lows), 2, "keys are read together")
		require.Equal(t, clears, w.count("clear"), "single keys are replaced in one call")
		require.Len(t, w.target, 30-2)
	}))
}

func TestStatusSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 10, faults{})
	w.hidden[77] = true // it is in the log, but cannot be seen
	w.state().Recent.Add(77)
	reason := func(s *snapshot.Snapshot) string { return s.Status().Tables[0].Reason }
	synctest.Test(t, func(t *testing.T) {
		opts, deps := w.options()
		s, err := snapshot.New(opts, deps)
		require.NoError(t, err)
		require.Equal(t, "waiting for the sink", reason(s))

		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); w.late.Wait() }()
		w.late.Go(func() { require.NoError(t, s.Run(ctx)) })
		sleep(time.Second)
		require.Contains(t, reason(s), "waiting for the sink to reach 0/")

		w.late.Go(func() { w.sinkLoop(ctx) })
		until(t, "the sink has LOW", func() bool { return reason(s) == "waiting for transaction 77" })
		w.locking(func() { delete(w.hidden, 77) })
		until(t, "all is live", w.done)
	})
	require.Empty(t, w.broken)
}

func TestRowsAddedBehindTheLastBoundAreDivided(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 100, faults{})
	w.options = sized(w.options, 100*rowBytes)
	synctest.Test(t, func(t *testing.T) {
		opts, deps := w.options()
		s, err := snapshot.New(opts, deps)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); w.late.Wait() }()
		w.late.Go(func() { require.NoError(t, s.Run(ctx)) })
		sleep(2 * time.Minute) // the sink is away; one LOW of everything is out
		w.locking(func() {
			for i := range int64(900) {
				w.history[vecferry.IntKey(100+i)] = []version{{1, 1}}
				w.truth[vecferry.IntKey(100+i)] = 1
			}
			w.cp.AppliedLSN = vecferry.LSN(len(w.log)) // a restarted sink has lost it
			w.save()
		})
		w.late.Go(func() { w.sinkLoop(ctx) })
		until(t, "all is live", w.done)
	})
	require.Empty(t, w.broken)
	require.Zero(t, w.count("large"), "no chunk was read that is much too large")
	for _, m := range w.marks(vecferry.High) {
		require.LessOrEqual(t, m.Rows, int64(200))
	}
}

func TestANewTableNeedsATarget(t *testing.T) {
	t.Parallel()
	_, err := snapshot.New(snapshot.Options{Tables: []*vecferry.Table{documents()}}, snapshot.Deps{})
	require.EqualError(t, err, "table public.documents has no target")
}

func TestAHookSeesEveryStepInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 3, faults{})
	var steps []snapshot.Step
	base := w.options
	w.options = func() (snapshot.Options, snapshot.Deps) {
		o, d := base()
		o.Hook = func(s snapshot.Step) error { w.locking(func() { steps = append(steps, s) }); return nil }
		return o, d
	}
	require.NoError(t, scene(t, w, func(*snapshot.Snapshot) { until(t, "all is live", w.done); sleep(time.Second) }))
	require.Equal(t, []snapshot.Step{
		snapshot.StepNumber, snapshot.StepLow, snapshot.StepHeld, snapshot.StepRead, snapshot.StepClear,
		snapshot.StepWrite, snapshot.StepBury, snapshot.StepHigh, snapshot.StepLive, snapshot.StepDone,
	}, steps)
}

// sized gives options other chunks.
func sized(base func() (snapshot.Options, snapshot.Deps), bytes int64) func() (snapshot.Options, snapshot.Deps) {
	return func() (snapshot.Options, snapshot.Deps) {
		o, d := base()
		o.ChunkBytes = bytes
		return o, d
	}
}

// gauge counts the chunks that hold rows.
type gauge struct {
	*world
	now, most int
}

func (g *gauge) add(n int) {
	g.locking(func() { g.now += n; g.most = max(g.most, g.now) })
}

func (g *gauge) ReadChunk(ctx context.Context, req snapshot.Request) (snapshot.Chunk, error) {
	g.add(1)
	c, err := g.world.ReadChunk(ctx, req)
	if err != nil {
		g.add(-1)
	}
	return c, err
}

func (g *gauge) Replace(ctx context.Context, w vecferry.Write) ([]vecferry.Rejected, error) {
	defer g.add(-1)
	return g.world.Replace(ctx, w)
}

func TestTheNextLowIsOnItsWayWhileFewChunksHoldRows(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 1000, faults{})
	w.options = sized(w.options, 100*rowBytes)
	g := &gauge{world: w}
	require.NoError(t, scene(t, w, func(*snapshot.Snapshot) { until(t, "all is live", w.done) }, func(d *snapshot.Deps) {
		d.Source, d.Targets = g, map[uint32]snapshot.Target{w.table.OID: g}
	}))
	require.Equal(t, snapshot.DefaultWorkers, g.most)
	open, most := 0, 0
	for _, e := range w.log {
		switch e.mark.Kind {
		case vecferry.Low:
			open++
			most = max(most, open)
		case vecferry.High:
			open--
		}
	}
	require.Equal(t, 2*snapshot.DefaultWorkers, most, "chunks between LOW and HIGH")
}
