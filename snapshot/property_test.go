package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/snapshot"
)

// TestEveryRangeEndsLive lets workers be killed between any two steps, marks be
// lost or late, HIGH be void, both processes restart and keys be tainted, while
// transactions go on that are in the log before they are visible. At each end
// of a run every live key must be as the source had it.
func TestEveryRangeEndsLive(t *testing.T) {
	t.Parallel()
	total := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		p := func(most float64, name string) float64 { return rapid.Float64Range(0, most).Draw(rt, name) }
		f := faults{
			kill: p(0.1, "kill"), emit: p(0.2, "emit"), target: p(0.2, "target"), sinkCrash: p(0.05, "sinkCrash"),
			restart: p(0.5, "restart"), taint: p(0.5, "taint"), unsaved: p(0.8, "unsaved"),
		}
		w := simulate(t, rapid.Int64().Draw(rt, "seed"), rapid.IntRange(1, 60).Draw(rt, "keys"), f)
		if len(w.broken) > 0 {
			rt.Fatalf("%d breaches:\n%s", len(w.broken), strings.Join(w.broken[:min(5, len(w.broken))], "\n"))
		}
		for k, n := range w.stats {
			total[k] += n
		}
	})
	t.Log(total)
	for _, what := range []string{"low", "high", "void", "kill", "taint", "sink crash", "restart", "large", "clear"} {
		require.Positive(t, total[what], "the test never had a %s", what)
	}
}

// TestTheOracleSeesAWorkerThatDoesNotWait shows the workers what the sink has
// only in memory. That breaks the rule to wait for the persisted record, so the
// oracle has to find wrong rows.
func TestTheOracleSeesAWorkerThatDoesNotWait(t *testing.T) {
	t.Parallel()
	for seed := range int64(50) {
		w := simulate(t, seed, 40, faults{unsaved: 0.9, sinkCrash: 0.1, leak: true})
		if len(w.broken) > 0 {
			t.Logf("seed %d: %s", seed, w.broken[0])
			return
		}
	}
	t.Fatal("50 runs without a breach")
}

// simulate runs a world for some virtual seconds and then until it is quiet.
func simulate(t *testing.T, seed int64, keys int, f faults) *world {
	t.Helper()
	w := newWorld(seed, keys, f)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w.late.Go(func() { w.sinkLoop(ctx) })
		w.late.Go(func() { w.processes(ctx) })
		w.writers(8*time.Second, rand.New(rand.NewPCG(uint64(seed), 1)))
		w.quiet()
		for start := time.Now(); !w.done(); sleep(100 * time.Millisecond) {
			if time.Since(start) > 10*time.Minute {
				w.breach("not live after 10 minutes: %+v", w.state().Ranges)
				break
			}
		}
		cancel()
		w.late.Wait()
	})
	return w
}

// writers commits transactions for a while.
func (w *world) writers(d time.Duration, rnd *rand.Rand) {
	ms := func(n int) time.Duration { return time.Duration(rnd.IntN(n)) * time.Millisecond }
	for end := time.Now().Add(d); time.Now().Before(end); sleep(ms(40)) {
		keys := make([]vecferry.Key, 1+rnd.IntN(3))
		for i := range keys {
			keys[i] = vecferry.IntKey(int64(rnd.IntN(70)))
		}
		w.commit(keys, ms(50), ms(1+rnd.IntN(300)))
	}
}

// sinkLoop applies the log, with a stall now and then.
func (w *world) sinkLoop(ctx context.Context) {
	for ctx.Err() == nil {
		w.run()
		w.nap(60)
	}
}

// processes runs the package under test, and kills and restarts it.
func (w *world) processes(ctx context.Context) {
	for ctx.Err() == nil {
		life, end := context.WithCancel(ctx)
		w.late.Go(func() {
			for life.Err() == nil {
				sleep(2 * time.Second)
				w.locking(func() {
					if w.chance(w.restart) {
						w.stats["restart"]++
						end()
					}
				})
			}
		})
		s, err := snapshot.New(w.options())
		if err == nil {
			err = s.Run(life)
		}
		if err != nil {
			w.locking(func() { w.breach("run: %v", err) })
		}
		end()
	}
}

// defaults makes chunks of the fewest rows, which may turn out too large.
func (w *world) defaults() (snapshot.Options, snapshot.Deps) {
	return snapshot.Options{
			Tables:     []*vecferry.Table{w.table},
			ChunkBytes: 3 * rowBytes,
			Hook: func(step snapshot.Step) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.chance(w.kill) {
					w.stats["kill"]++
					return fmt.Errorf("killed before %s: %w", step, errKilled)
				}
				return nil
			},
		}, snapshot.Deps{
			Marks: w, Source: w, Checkpoints: w, Counters: w, DeadLetters: w,
			Targets: map[uint32]snapshot.Target{w.table.OID: w},
		}
}

var errKilled = errors.New("killed")
