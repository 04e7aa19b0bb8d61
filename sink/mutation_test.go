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

// A protocol without any one of its rules loses rows, and the test sees it.
func TestEachRuleIsNeeded(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]Rules{
		"forgets applied changes": forgetsApplied{}, "needs nothing": needsNothing{}, "accepts every chunk": acceptsAll{},
		"drops instead of holding": dropsInstead{}, "skips all that was held": skipsAll{}, "skips nothing": skipsNone{},
		"merges onto any entity": mergesOntoAny{}, "carries from any range": carriesAnyway{}, "forgets transactions in a restart": forgetsRecent{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for round := 0; round < 100 && !rec.failed; round++ {
					rapid.Check(rec, func(t *rapid.T) { drive(t, rules) })
				}
			}()
			<-done
			require.True(t, rec.failed, "the test does not see that a rule is missing")
		})
	}
}
