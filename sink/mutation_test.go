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
// histories that have much of what the rule is for.
func TestEachRuleIsNeeded(t *testing.T) {
	t.Parallel()
	usual := profile{unseen: 1, crashes: 1}
	for name, c := range map[string]struct {
		rules Rules
		in    profile
	}{
		"forgets applied changes":           {forgetsApplied{}, profile{unseen: 2, copied: true}},
		"needs nothing":                     {needsNothing{}, profile{unseen: 2}},
		"accepts every chunk":               {acceptsAll{}, profile{unseen: 2}},
		"drops instead of holding":          {dropsInstead{}, usual},
		"skips all that was held":           {skipsAll{}, usual},
		"skips nothing":                     {skipsNone{}, profile{}},
		"carries from any range":            {carriesAnyway{}, usual},
		"merges onto any entity":            {mergesOntoAny{}, profile{crashes: 3, copied: true}},
		"forgets transactions in a restart": {forgetsRecent{}, profile{unseen: 3, crashes: 3, copied: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for round := 0; round < 100 && !rec.failed; round++ {
					rapid.Check(rec, func(t *rapid.T) { drive(t, c.rules, c.in) })
				}
			}()
			<-done
			require.True(t, rec.failed, "the test does not see that a rule is missing")
		})
	}
}
