package sink

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
)

// Each variant lacks one rule of the protocol.
type (
	forgetsApplied struct{ Protocol }
	needsNothing   struct{ Protocol }
	acceptsAll     struct{ Protocol }
	dropsInstead   struct{ Protocol }
	skipsAll       struct{ Protocol }
	skipsNone      struct{ Protocol }
	mergesOntoAny  struct{ Protocol }
	carriesAnyway  struct{ Protocol }
	forgetsRecent  struct{ Protocol }
)

func (forgetsApplied) Remembers(s vecferry.RangeState) bool        { return s != vecferry.Live }
func (needsNothing) Need(vecferry.XIDs) vecferry.XIDs              { return nil }
func (acceptsAll) Accepts(vecferry.XIDs, vecferry.Visibility) bool { return true }
func (dropsInstead) Holds() bool                                   { return false }
func (skipsAll) Skips(vecferry.Visibility, vecferry.Tx) bool       { return true }
func (skipsNone) Skips(vecferry.Visibility, vecferry.Tx) bool      { return false }
func (mergesOntoAny) MergesOnto(_, _ vecferry.Position) bool       { return true }
func (carriesAnyway) Carries(vecferry.RangeState) bool             { return true }
func (forgetsRecent) Restores(vecferry.XIDs) vecferry.XIDs         { return nil }

// recorder is a test that is expected to fail.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Fatalf(string, ...any) { r.failed = true; runtime.Goexit() }
func (r *recorder) FailNow()              { r.failed = true; runtime.Goexit() }
func (r *recorder) Fail()                 { r.failed = true }
func (r *recorder) Failed() bool          { return r.failed }
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Helper()               {}

// A protocol without any one of its rules loses rows, and the test sees it, in
// histories that have much of what the rule is for. The rules of a redo and of a
// restart have tests of their own, since chance meets them too seldom.
func TestEachRuleIsNeeded(t *testing.T) {
	t.Parallel()
	usual := profile{unseen: 1, crashes: 1}
	for name, c := range map[string]struct {
		rules Rules
		in    profile
	}{
		"forgets applied changes":  {forgetsApplied{}, profile{unseen: 2, copied: true}},
		"needs nothing":            {needsNothing{}, profile{unseen: 2}},
		"accepts every chunk":      {acceptsAll{}, profile{unseen: 2}},
		"drops instead of holding": {dropsInstead{}, usual},
		"skips all that was held":  {skipsAll{}, usual},
		"skips nothing":            {skipsNone{}, profile{}},
		"carries from any range":   {carriesAnyway{}, usual},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.True(t, fails(t, 100, func(t *rapid.T) { drive(t, c.rules, c.in) }), "the test does not see that a rule is missing")
		})
	}
}

// fails reports whether a property fails within so many rounds of checks.
func fails(t *testing.T, rounds int, property func(*rapid.T)) bool {
	t.Helper()
	rec := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for round := 0; round < rounds && !rec.failed; round++ {
			rapid.Check(rec, property)
		}
	}()
	<-done
	return rec.failed
}

// A transaction that was applied but is not visible yet is remembered over a
// restart: a copy whose snapshot lacks it would take its row back in time.
func TestRecentTransactionsOutliveARestart(t *testing.T) {
	t.Parallel()
	copyAfterRestart := func(rules Rules) func(*rapid.T) {
		return func(t *rapid.T) {
			w := newWorld(t, rules)
			w.finish()
			unseen := w.src.begin()
			unseen.events = []event{{op: vecferry.OpUpdate, key: keyName(1), row: srcRow{meta: 1, body: -1, v: -1}}}
			w.src.commit(unseen, false)
			w.settled()
			w.start()
			w.attempt++
			w.workers[0] = &worker{low: vecferry.Mark{Kind: vecferry.Low, Table: testOID, Attempt: w.attempt,
				Ranges: []vecferry.Range{vecferry.Everything()}, Snapshot: w.src.snapshot()}}
			for range 20 {
				w.work(0, false)
				w.settled()
			}
			w.finish()
		}
	}
	rapid.Check(t, copyAfterRestart(Protocol{}))
	require.True(t, fails(t, 1, copyAfterRestart(forgetsRecent{})))
}
