package sink

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// played runs the story with deaths at some steps.
func played(t *testing.T, rules Rules, at ...int) *script {
	t.Helper()
	return playedWith(t, func(*script) {}, rules, at...)
}

func playedWith(t *testing.T, prepare func(*script), rules Rules, at ...int) (s *script) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		s = newScript(t, rules, at...)
		prepare(s)
		s.play()
		s.end()
	})
	return s
}

// The program dies at every step of every run, the run is done again, and the
// target is what it must be.
func TestEveryStepOfARunCanBeItsLast(t *testing.T) {
	t.Parallel()
	calm := played(t, Protocol{})
	require.Empty(t, calm.wrong)
	require.Zero(t, calm.deaths)
	require.Greater(t, calm.points.passed, 100)
	for step := 1; step <= calm.points.passed; step++ {
		s := played(t, Protocol{}, step)
		require.Empty(t, s.wrong, "died at step %d of %d", step, calm.points.passed)
		require.Equal(t, 1, s.deaths, "step %d", step)
	}
	t.Logf("%d steps", calm.points.passed)
}

// It dies again while it redoes what it was doing when it died.
func TestARedoCanDieToo(t *testing.T) {
	t.Parallel()
	steps := played(t, Protocol{}).points.passed
	for step := 1; step <= steps; step++ {
		for next := step + 1 + step%3; next <= step+12; next += 3 {
			s := played(t, Protocol{}, step, next)
			require.Empty(t, s.wrong, "died at steps %d and %d", step, next)
		}
	}
}

// Without the rules that a redo depends on, some step is the last one.
func TestARedoNeedsItsRules(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]Rules{"merges onto any entity": mergesOntoAny{}, "carries from any range": carriesAnyway{},
		"drops instead of holding": dropsInstead{}, "skips nothing": skipsNone{}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps, caught := played(t, Protocol{}).points.passed, 0
			for step := 1; step <= steps; step++ {
				if len(played(t, rules, step).wrong) > 0 {
					caught++
				}
			}
			require.NotZero(t, caught)
			t.Logf("wrong after a death at %d of %d steps", caught, steps)
		})
	}
}

// A worker that waits for the sink's memory, and not for its persisted record,
// copies a live range that a redo empties behind its back.
func TestAWorkerMustWaitForThePersistedRecord(t *testing.T) {
	t.Parallel()
	calm := playedWith(t, (*script).hasten, Protocol{})
	require.Empty(t, calm.wrong)
	caught := 0
	for step := 1; step <= calm.points.passed; step++ {
		if len(playedWith(t, (*script).hasten, Protocol{}, step).wrong) > 0 {
			caught++
		}
	}
	require.NotZero(t, caught)
	t.Logf("wrong after a death at %d of %d steps", caught, calm.points.passed)
}
