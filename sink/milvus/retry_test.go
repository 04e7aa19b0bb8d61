package milvus_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/memory"
)

// journal is a log handler that keeps when something was said.
type journal struct {
	mu    sync.Mutex
	start time.Time
	lines []line
}

type line struct {
	level slog.Level
	at    time.Duration
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) WithGroup(string) slog.Handler            { return j }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line{r.Level, r.Time.Sub(j.start).Truncate(10 * time.Second)})
	return nil
}

// failUntil fails writes with a class for a time.
func failUntil(end time.Time, class milvus.Class, seen *[]time.Time) memory.Hook {
	return func(call memory.Call) memory.Outcome {
		if time.Now().After(end) {
			return memory.Outcome{}
		}
		*seen = append(*seen, time.Now())
		return memory.Outcome{Err: &milvus.Error{Code: 2, Method: string(call.Method), Reason: "away", Class: class}}
	}
}

func TestLogsTheFirstFailureThenEvery30SecondsThenRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{start: time.Now()}
		table, server, c := model(t, milvus.Config{Lanes: 3, Logger: slog.New(j)})
		var seen []time.Time
		server.OnCall(failUntil(time.Now().Add(100*time.Second), milvus.Retry, &seen))
		_, err := c.Replace(t.Context(), vecferry.Write{Put: rowsOf(table, 0, 24, 1)}) // three lanes fail at once
		require.NoError(t, err)
		require.Equal(t, []line{
			{slog.LevelWarn, 0}, {slog.LevelWarn, 30 * time.Second}, {slog.LevelWarn, 60 * time.Second},
			{slog.LevelWarn, 90 * time.Second}, {slog.LevelInfo, 100 * time.Second},
		}, j.lines)
		reason, _, attempts := c.Waiting()
		require.Empty(t, reason)
		require.Zero(t, attempts)
	})
}

// A write that may have landed waits at least a second before its redo; back-pressure
// waits longer and longer, up to half a minute; a read starts at once.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		class       milvus.Class
		write       bool
		first, last [2]time.Duration
	}{
		{"write", milvus.Retry, true, [2]time.Duration{time.Second, time.Second}, [2]time.Duration{3500 * time.Millisecond, 6500 * time.Millisecond}},
		{"read", milvus.Retry, false, [2]time.Duration{70 * time.Millisecond, 130 * time.Millisecond}, [2]time.Duration{3500 * time.Millisecond, 6500 * time.Millisecond}},
		{"back-pressure", milvus.BackPressure, true, [2]time.Duration{700 * time.Millisecond, 1300 * time.Millisecond}, [2]time.Duration{21 * time.Second, 39 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table, server, coll := model(t, milvus.Config{})
				var seen []time.Time
				server.OnCall(failUntil(time.Now().Add(10*time.Minute), c.class, &seen))
				rows := rowsOf(table, 0, 1, 1)
				var err error
				if c.write {
					_, err = coll.Replace(t.Context(), vecferry.Write{Put: rows})
				} else {
					_, err = coll.Read(t.Context(), keysOf(rows))
				}
				require.NoError(t, err)
				n := len(seen)
				between(t, c.first, seen[1].Sub(seen[0]))
				between(t, c.last, seen[n-1].Sub(seen[n-2]))
			})
		})
	}
}

func between(t *testing.T, want [2]time.Duration, got time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, got, want[0])
	require.LessOrEqual(t, got, want[1])
}
