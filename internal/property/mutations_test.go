package property

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink"
	"github.com/vecferry/vecferry/snapshot"
)

// The protocol with one of its rules missing.
type (
	gatesByLSN struct {
		sink.Protocol
		w *world
	}
	dropsInstead   struct{ sink.Protocol }
	needsNothing   struct{ sink.Protocol }
	forgetsRecent  struct{ sink.Protocol }
	forgetsApplied struct{ sink.Protocol }
	mergesOntoAny  struct{ sink.Protocol }
	carriesAnyway  struct{ sink.Protocol }
	acceptsAll     struct{ sink.Protocol }
	skipsNothing   struct{ sink.Protocol }
)

func (g gatesByLSN) Skips(v vecferry.Visibility, tx vecferry.Tx) bool {
	return tx.CommitLSN < g.w.lsnOf(v)
}
func (dropsInstead) Holds() bool                                   { return false }
func (needsNothing) Need(vecferry.XIDs) vecferry.XIDs              { return nil }
func (forgetsRecent) Restores(vecferry.XIDs) vecferry.XIDs         { return nil }
func (forgetsApplied) Remembers(s vecferry.RangeState) bool        { return s != vecferry.Live }
func (mergesOntoAny) MergesOnto(_, _ vecferry.Position) bool       { return true }
func (carriesAnyway) Carries(vecferry.RangeState) bool             { return true }
func (acceptsAll) Accepts(vecferry.XIDs, vecferry.Visibility) bool { return true }
func (skipsNothing) Skips(vecferry.Visibility, vecferry.Tx) bool   { return false }

// clearsNothing is a collection whose old entities stay.
type clearsNothing struct{ snapshot.Target }

func (clearsNothing) Clear(context.Context, vecferry.Range) error { return nil }

func (c clearsNothing) Replace(ctx context.Context, w vecferry.Write) ([]vecferry.Rejected, error) {
	return c.Target.Replace(ctx, vecferry.Write{New: append(w.New, w.Put...)})
}

// tried is a mutant and the circumstances in which its fault shows.
type tried struct {
	rule    string
	mutant  mutant
	tune    func(*options)
	covered bool // another rule covers this one here, see docs/explanation/proof.md
}

// ruled is a mutant that differs in its rules.
func ruled(name string, r sink.Rules) mutant {
	return mutant{name: name, with: func(*world) sink.Rules { return r }}
}

func mutants() []tried {
	return []tried{
		{rule: "gate by visibility", mutant: mutant{name: "gate by LSN", lsn: true, with: func(w *world) sink.Rules { return gatesByLSN{w: w} }},
			tune: tunes(haunted, dawdling)},
		{rule: "clear before insert", mutant: mutant{name: "no clearing", target: func(t snapshot.Target) snapshot.Target { return clearsNothing{t} }}, tune: busy},
		{rule: "hold back between LOW and HIGH", mutant: ruled("dropping instead of holding back", dropsInstead{}), tune: busy},
		{rule: "skip what is in the chunk", mutant: ruled("skipping nothing that was held back", skipsNothing{}), tune: tunes(busy, dawdling)},
		{rule: "need(c)", mutant: ruled("no need(c)", needsNothing{}), tune: haunted},
		{rule: "HIGH may be void", mutant: mutant{name: "every HIGH accepted, from workers that do not check either", blind: true,
			with: func(*world) sink.Rules { return acceptsAll{} }}, tune: haunted},
		{rule: "R is persisted", mutant: ruled("R not persisted", forgetsRecent{}), tune: tunes(haunted, dying)},
		{rule: "R has applied changes", mutant: ruled("R without applied changes", forgetsApplied{}), tune: tunes(haunted, single)},
		{rule: "wait for the persisted record", mutant: mutant{name: "waiting in memory only", leaks: true, careless: true}, tune: truncated, covered: true},
		{rule: "wait in every attempt", mutant: mutant{name: "waiting in re-copies only", hasty: true, careless: true}, tune: lagging},
		{rule: "taint in a replay", mutant: ruled("vector taken in a replayed key change", mergesOntoAny{}), tune: slow},
		{rule: "carry from live ranges only", mutant: ruled("vector taken from any range", carriesAnyway{}), tune: tunes(busy, moving)},
	}
}

// busy copies live ranges all the time, and nothing else goes wrong than has to.
func busy(o *options) {
	o.copied, o.recopy, o.chaos, o.workers, o.truncate = true, 30*time.Millisecond, 5*time.Second, 3, 0
	o.lag, o.runBytes, o.chunkRows, o.flaky = 10*time.Millisecond, 1<<20, 40, 0
	o.readDelay, o.writeDelay = 20*time.Millisecond, 100*time.Millisecond
	o.deaths = map[string]float64{}
	o.ghost, o.writers = false, 5
}

// dying lets the sink die often, and moving changes keys more than anything else.
func dying(o *options)  { o.deaths = map[string]float64{"sink": 0.03} }
func moving(o *options) { o.rekeys = 40 }

func tunes(all ...func(*options)) func(*options) {
	return func(o *options) {
		for _, tune := range all {
			tune(o)
		}
	}
}

// haunted has commits that are in the log and not visible.
func haunted(o *options) {
	busy(o)
	o.ghost, o.writers = true, 10
}

// dawdling reads its chunks late, so that much is held back that the snapshot sees.
func dawdling(o *options) { o.readDelay = 400 * time.Millisecond }

// slow has long runs, which are redone as a whole, and moves keys about.
func slow(o *options) {
	busy(o)
	o.lag, o.rekeys, o.recopy = 500*time.Millisecond, 40, time.Hour
	o.deaths = map[string]float64{"sink": 0.05}
}

// single has transactions of one statement.
func single(o *options) { o.statements = 1 }

// lagging is a first copy by workers that die, while the sink falls behind in
// many short runs.
func lagging(o *options) {
	slow(o)
	o.copied, o.chunkRows, o.rekeys, o.writeDelay = false, 10, 20, 20*time.Millisecond
	o.lag, o.runBytes = 60*time.Millisecond, 1
	o.deaths = map[string]float64{"copy": 0.05}
}

// truncated empties its tables now and then, and copies live ranges.
func truncated(o *options) {
	busy(o)
	o.truncate, o.writeDelay, o.recopy = 0.05, 10*time.Millisecond, 100*time.Millisecond
}

const envMutants = "VECFERRY_PROPERTY_MUTANTS" // runs of each

// Without any one of its rules the protocol loses rows, and the test sees it.
// It takes minutes, so it runs in make property only.
func TestMutants(t *testing.T) {
	t.Parallel()
	runs := number(envMutants, 0)
	if runs == 0 {
		t.Skipf("set %s to a number of runs of each", envMutants)
	}
	only := os.Getenv("VECFERRY_PROPERTY_MUTANT")
	ghosts := newGhosts(t)
	list := mutants()
	caught := make([]atomic.Int64, len(list))
	example := make([]atomic.Pointer[string], len(list))
	var g errgroup.Group
	g.SetLimit(number(envLanes, 4))
	for i, m := range list {
		if !strings.Contains(m.mutant.name, only) {
			continue
		}
		for run := range runs {
			g.Go(func() error {
				t.Run(fmt.Sprintf("%s/%d", m.mutant.name, run), func(t *testing.T) {
					o := draw(uint64(run))
					o.killed = false
					o.mutant = m.mutant
					m.tune(&o)
					w := play(t, o, ghosts, nil)
					t.Log(w.summary())
					if found := w.failures(); len(found) > 0 {
						caught[i].Add(1)
						example[i].Store(&found[0])
						t.Log(found[0])
					}
				})
				return nil
			})
		}
	}
	_ = g.Wait()
	var table strings.Builder
	fmt.Fprintf(&table, "| Rule | Left out | Runs | Caught |\n|---|---|---|---|\n")
	for i, m := range list {
		if strings.Contains(m.mutant.name, only) {
			fmt.Fprintf(&table, "| %s | %s | %d | %d |\n", m.rule, m.mutant.name, runs, caught[i].Load())
		}
	}
	t.Log("\n" + table.String())
	for i, m := range list {
		if strings.Contains(m.mutant.name, only) {
			require.True(t, caught[i].Load() > 0 || m.covered, "%s is not seen", m.mutant.name)
		}
	}
}
