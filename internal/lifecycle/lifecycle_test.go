package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vecferry/vecferry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// A failing service is started again, with growing pauses, until it halts.
func TestSuperviseRestartsUntilAHalt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Time
		halt := &vecferry.HaltError{What: "the slot is gone"}
		err := Supervise(t.Context(), quiet, Service{Name: "capture", Run: func(context.Context) error {
			if starts = append(starts, time.Now()); len(starts) == 6 {
				return halt
			}
			return errors.New("away")
		}})
		require.ErrorIs(t, err, halt)
		require.ErrorContains(t, err, "capture")
		require.Len(t, starts, 6)
		first, last := starts[1].Sub(starts[0]), starts[5].Sub(starts[4])
		require.Positive(t, first)
		require.Greater(t, last, first)
		require.Less(t, last, 30*time.Second)
	})
}

// A stop is no failure, also while a service waits to be started again.
func TestSuperviseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		runs := 0
		require.NoError(t, Supervise(ctx, quiet, Service{Name: "sink", Run: func(context.Context) error {
			runs++
			return errors.New("away")
		}}))
		require.Greater(t, runs, 100)
	})
}

// One service that halts ends the others.
func TestGroupEndsTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := false
		err := Group(t.Context(), quiet,
			Service{Name: "a", Run: func(ctx context.Context) error {
				<-ctx.Done()
				ended = true
				return nil
			}},
			Service{Name: "b", Run: func(context.Context) error { return &vecferry.HaltError{What: "stop"} }})
		require.True(t, vecferry.Halts(err))
		require.True(t, ended)
	})
}

// Work may go on for the grace after a stop, and no longer.
func TestGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		work, done := Grace(ctx, 10*time.Second)
		defer done()
		cancel()
		start := time.Now()
		require.NoError(t, work.Err())
		<-work.Done()
		require.Equal(t, 10*time.Second, time.Since(start))
		require.ErrorContains(t, context.Cause(work), "not finished 10s after the stop")

		unstopped, over := Grace(t.Context(), time.Second)
		over()
		require.Error(t, unstopped.Err())
	})
}
