package milvus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/conformance"
	"github.com/vecferry/vecferry/sink/milvus/memory"
)

// model returns a collection over the model with nothing in it.
func model(t require.TestingT, cfg milvus.Config) (*vecferry.Table, *memory.Server, *milvus.Collection) {
	table := conformance.Table("model", vecferry.KeyInt)
	table.BatchRows = 8
	server := memory.New()
	_, err := server.Prepare(context.Background(), table)
	require.NoError(t, err)
	return table, server, server.Collection(table, cfg)
}

func rowsOf(table *vecferry.Table, from, n, version int) []vecferry.Row {
	rows := make([]vecferry.Row, n)
	for i := range rows {
		rows[i] = conformance.Row(table, vecferry.IntKey(int64(from+i)), version)
	}
	return rows
}

func keysOf(rows []vecferry.Row) []vecferry.Key {
	var keys []vecferry.Key
	for _, r := range rows {
		keys = append(keys, r.Key)
	}
	return keys
}

// stands expects exactly one entity for each of these rows, as they are.
func stands(t require.TestingT, s *memory.Server, want []vecferry.Row) {
	got := s.Entities("model")
	var have, wanted []string
	for _, e := range got {
		have = append(have, fmt.Sprint(e.Row.Key.Int(), "@", e.Row.Position))
	}
	for _, r := range want {
		wanted = append(wanted, fmt.Sprint(r.Key.Int(), "@", r.Position))
	}
	slices.Sort(wanted)
	slices.Sort(have)
	require.Equal(t, wanted, have)
}

func failure(c milvus.Class) *milvus.Error {
	return &milvus.Error{Code: 65535, Reason: "made up for a test", Class: c}
}

// A request fails before it is done, after it was done, half done, or is done later
// than its redo began: the outcome is the same.
func TestReplaceSurvivesEveryFailure(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table, server, c := model(t, milvus.Config{Lanes: rapid.IntRange(1, 3).Draw(t, "lanes"), Pace: memory.Fast()})
		old := rowsOf(table, 0, 30, 1)
		_, err := c.Replace(context.Background(), vecferry.Write{New: old})
		require.NoError(t, err)
		faults := rapid.SliceOfN(anyFault(), 0, 30).Draw(t, "faults")
		server.OnCall(func(call memory.Call) memory.Outcome {
			if len(faults) == 0 {
				return memory.Outcome{}
			}
			f := faults[0]
			faults = faults[1:]
			if e, ok := errors.AsType[*milvus.Error](f.Err); ok { // the pace depends on the method
				named := *e
				named.Method = string(call.Method)
				f.Err = &named
			}
			return f
		})
		fresh := rapid.Bool().Draw(t, "fresh")
		next := rowsOf(table, 30, 25, 2) // absent so far
		if !fresh {
			next = rowsOf(table, 20, 25, 2)
		}
		gone := keysOf(old[:10])
		rejected, err := c.Replace(context.Background(), writeOf(next, gone, fresh))
		require.NoError(t, err)
		require.Empty(t, rejected)
		left := old[10:20]
		if fresh {
			left = old[10:]
		}
		stands(t, server, slices.Concat(left, next))
	})
}

func anyFault() *rapid.Generator[memory.Outcome] {
	return rapid.Custom(func(t *rapid.T) memory.Outcome {
		if rapid.IntRange(0, 2).Draw(t, "fine") == 0 {
			return memory.Outcome{}
		}
		return memory.Outcome{
			Err:    failure(rapid.SampledFrom([]milvus.Class{milvus.Retry, milvus.Ambiguous}).Draw(t, "class")),
			Lands:  rapid.Bool().Draw(t, "lands"),
			Rows:   rapid.IntRange(0, 4).Draw(t, "rows"),
			Behind: rapid.IntRange(0, 3).Draw(t, "behind"),
		}
	})
}

// refuse fails every insert that has one of the keys.
func refuse(class milvus.Class, keys ...int64) memory.Hook {
	return func(c memory.Call) memory.Outcome {
		for _, r := range c.Rows {
			if slices.Contains(keys, r.Key.Int()) {
				return memory.Outcome{Err: failure(class)}
			}
		}
		return memory.Outcome{}
	}
}

func TestRefusedRowsAreFound(t *testing.T) {
	t.Parallel()
	for _, class := range []milvus.Class{milvus.BadRow, milvus.Ambiguous, milvus.Split} {
		t.Run(class.String(), func(t *testing.T) {
			t.Parallel()
			table, server, c := model(t, milvus.Config{Pace: memory.Fast()})
			rows := rowsOf(table, 0, 40, 1)
			_, err := c.Replace(t.Context(), vecferry.Write{New: rows})
			require.NoError(t, err)
			server.OnCall(refuse(class, 3, 4, 31))
			again := rowsOf(table, 0, 40, 2)
			rejected, err := c.Replace(t.Context(), vecferry.Write{Put: again})
			require.NoError(t, err)
			var refused []int64
			for _, r := range rejected {
				refused = append(refused, r.Row.Key.Int())
				require.Contains(t, r.Err.Reason, "made up for a test")
			}
			slices.Sort(refused)
			require.Equal(t, []int64{3, 4, 31}, refused)
			stands(t, server, slices.Concat(again[:3], again[5:31], again[32:]))
		})
	}
}

// A lone row that is refused without a reason waits until the server takes another one:
// before that nobody knows which of the two is at fault.
func TestLoneRowIsNotGivenUpTooSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, server, c := model(t, milvus.Config{})
		server.OnCall(refuse(milvus.Ambiguous, 1))
		done := make(chan []vecferry.Rejected)
		go func() {
			rejected, err := c.Replace(t.Context(), vecferry.Write{Put: rowsOf(table, 1, 1, 1)})
			require.NoError(t, err)
			done <- rejected
		}()
		<-time.After(time.Hour) // of the bubble's clock
		reason, since, attempts := c.Waiting()
		require.Contains(t, reason, "made up for a test")
		require.InDelta(t, time.Hour, time.Since(since), float64(20*time.Second))
		require.Greater(t, attempts, 500)
		_, err := c.Replace(t.Context(), vecferry.Write{Put: rowsOf(table, 2, 1, 1)})
		require.NoError(t, err)
		require.Len(t, <-done, 1)
		reason, _, _ = c.Waiting()
		require.Empty(t, reason)
		stands(t, server, rowsOf(table, 2, 1, 1))
	})
}

func TestFreshRowsAreDeletedOnlyByARedo(t *testing.T) {
	t.Parallel()
	table, server, c := model(t, milvus.Config{Pace: memory.Fast()})
	var calls []memory.Method
	server.OnCall(func(call memory.Call) memory.Outcome {
		calls = append(calls, call.Method)
		if len(calls) == 2 {
			return memory.Outcome{Err: failure(milvus.Retry), Lands: true}
		}
		return memory.Outcome{}
	})
	for i := range 2 {
		_, err := c.Replace(t.Context(), vecferry.Write{New: rowsOf(table, 10*i, 5, 1)})
		require.NoError(t, err)
	}
	require.Equal(t, []memory.Method{memory.Insert, memory.Insert, memory.Delete, memory.Insert, memory.Count}, calls)
	stands(t, server, slices.Concat(rowsOf(table, 0, 5, 1), rowsOf(table, 10, 5, 1)))
}

func TestClearIsRedoneUntilNothingIsLeft(t *testing.T) {
	t.Parallel()
	table, server, c := model(t, milvus.Config{Pace: memory.Fast()})
	rows := rowsOf(table, 0, 20, 1)
	_, err := c.Replace(t.Context(), vecferry.Write{New: rows[:10]})
	require.NoError(t, err)
	deletes := 0
	server.OnCall(func(call memory.Call) memory.Outcome {
		switch call.Method {
		case memory.Insert: // by a worker that died; it lands after the first delete
			return memory.Outcome{Err: failure(milvus.Retry), Lands: true, Behind: 2}
		case memory.Delete:
			deletes++
		}
		return memory.Outcome{}
	})
	require.Error(t, server.Backend(table).Insert(t.Context(), rows[10:]))
	require.NoError(t, c.Clear(t.Context(), vecferry.Range{Lo: rows[5].Key, ToEnd: true}))
	require.Equal(t, 2, deletes)
	stands(t, server, rows[:5])
	require.NoError(t, c.Clear(t.Context(), vecferry.Range{Lo: rows[5].Key, Hi: rows[5].Key}), "empty")
	require.Equal(t, 2, deletes)
}

// A reply that is too large is asked for in halves.
func TestReadHalves(t *testing.T) {
	t.Parallel()
	table, server, c := model(t, milvus.Config{Pace: memory.Fast()})
	rows := rowsOf(table, 0, 100, 1)
	_, err := c.Replace(t.Context(), vecferry.Write{New: rows})
	require.NoError(t, err)
	server.OnCall(func(call memory.Call) memory.Outcome {
		if call.Method == memory.Query && len(call.Selection.Keys) > 30 {
			return memory.Outcome{Err: failure(milvus.Split)}
		}
		return memory.Outcome{}
	})
	got, err := c.Read(t.Context(), keysOf(rows))
	require.NoError(t, err)
	require.Len(t, got, 100)
}

func TestHalts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		class milvus.Class
		calls int
		after time.Duration
	}{
		{milvus.Halt, 1, 0},
		{milvus.Schema, 2, 100 * time.Millisecond},
		{milvus.NotLoaded, 20, 2 * time.Minute},
	} {
		t.Run(c.class.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table, server, coll := model(t, milvus.Config{})
				calls, start := 0, time.Now()
				server.OnCall(func(memory.Call) memory.Outcome {
					calls++
					return memory.Outcome{Err: failure(c.class)}
				})
				_, err := coll.Read(t.Context(), keysOf(rowsOf(table, 0, 3, 1)))
				var halt *vecferry.HaltError
				require.ErrorAs(t, err, &halt)
				require.NotEmpty(t, halt.Fix)
				require.GreaterOrEqual(t, calls, c.calls)
				require.InDelta(t, c.after.Seconds(), time.Since(start).Seconds(), c.after.Seconds()*0.3)
			})
		})
	}
}

func TestDroppedCollectionHalts(t *testing.T) {
	t.Parallel()
	table, server, c := model(t, milvus.Config{Pace: memory.Fast()})
	require.NoError(t, server.Drop(t.Context(), table.Collection))
	_, err := c.Replace(t.Context(), vecferry.Write{Put: rowsOf(table, 0, 3, 1)})
	require.True(t, vecferry.Halts(err))
	_, err = c.Count(t.Context())
	require.True(t, vecferry.Halts(err))
}

// The end of the context ends a retry, and the error still tells why it was one.
func TestContextEndsRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, server, c := model(t, milvus.Config{})
		server.OnCall(func(call memory.Call) memory.Outcome {
			return memory.Outcome{Err: &milvus.Error{RPC: "Unavailable", Method: string(call.Method), Class: milvus.Retry}}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := c.Replace(ctx, vecferry.Write{Put: rowsOf(table, 0, 30, 1)})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(start))
		var unreachable interface{ Unreachable() bool }
		require.True(t, errors.As(err, &unreachable) && unreachable.Unreachable())
	})
}

// writeOf is a write of rows whose keys are free or not.
func writeOf(rows []vecferry.Row, gone []vecferry.Key, fresh bool) vecferry.Write {
	if fresh {
		return vecferry.Write{New: rows, Delete: gone}
	}
	return vecferry.Write{Put: rows, Delete: gone}
}
