package milvus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/conformance"
)

// churn replaces all rows again and again until stop is closed, deletes a tenth of them
// each time, and returns what must stand in the end.
func churn(ctx context.Context, table *vecferry.Table, c *milvus.Collection, stop <-chan struct{}) ([]vecferry.Row, error) {
	const n = 1000
	for version := 1; ; version++ {
		w := vecferry.Write{}
		for _, r := range rowsOf(table, 0, n, version) {
			r.Values[2] = vecferry.TextValue(fmt.Sprint("w", (int(r.Key.Int())+version)%11))
			if (int(r.Key.Int())+version)%10 == 0 {
				w.Delete = append(w.Delete, r.Key)
			} else {
				w.Put = append(w.Put, r)
			}
		}
		rejected, err := c.Replace(ctx, w)
		if err != nil || len(rejected) > 0 {
			return nil, fmt.Errorf("version %d: %d rejected: %w", version, len(rejected), err)
		}
		select {
		case <-stop:
			return w.Put, nil
		default:
		}
	}
}

// survive runs churn while harm is done to the server, and expects every row to stand
// once, as it was written last.
func survive(t *testing.T, pace milvus.Pace, harm func(*testenv.MilvusServer)) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a server")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	m := testenv.OwnMilvus(t, nil)
	client := connect(t, milvus.Options{Address: m.Address(), Pace: pace, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	table := conformance.Partitioned("survivor", vecferry.KeyInt)
	table.BatchRows = 200
	prepare(t, client, table)
	c := client.Collection(table)
	type result struct {
		rows []vecferry.Row
		err  error
	}
	stop, done := make(chan struct{}), make(chan result)
	go func() {
		rows, err := churn(ctx, table, c, stop)
		done <- result{rows, err}
	}()
	require.Eventually(t, func() bool { n, err := c.Count(ctx); return err == nil && n > 0 }, time.Minute, 50*time.Millisecond)
	harm(m)
	close(stop)
	r := <-done
	require.NoError(t, r.err)
	got, err := c.Read(ctx, keysOf(rowsOf(table, 0, 1000, 0)))
	require.NoError(t, err)
	require.Len(t, got, len(r.rows))
	for _, want := range r.rows {
		require.Equal(t, want.Position, got[want.Key].Position)
		for i, v := range want.Values {
			require.True(t, v.Equal(got[want.Key].Values[i]))
		}
	}
	n, err := c.Count(ctx)
	require.NoError(t, err)
	require.EqualValues(t, len(r.rows), n, "duplicates count")
	reason, _, _ := client.Waiting()
	require.Empty(t, reason)
}

func TestReplaceSurvivesKillAndRestart(t *testing.T) {
	t.Parallel()
	survive(t, milvus.Pace{}, func(m *testenv.MilvusServer) {
		require.NoError(t, m.Kill())
		require.NoError(t, m.Restart(t.Context()))
	})
}

// A frozen server takes requests into its sockets and carries them out when it thaws,
// after the client gave them up and sent others.
func TestReplaceSurvivesAFreeze(t *testing.T) {
	t.Parallel()
	survive(t, milvus.Pace{Call: time.Second}, func(m *testenv.MilvusServer) {
		for range 3 {
			require.NoError(t, m.Pause())
			thaw := time.NewTimer(4 * time.Second) // its leases last 20 s
			<-thaw.C
			require.NoError(t, m.Resume())
			thaw.Reset(time.Second)
			<-thaw.C
		}
	})
}

// A server whose memory is full denies writes with the code of a quota.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a server")
	}
	m := testenv.OwnMilvus(t, map[string]string{
		"quotaAndLimits.limitWriting.memProtection.dataNodeMemoryLowWaterLevel":  "0.001",
		"quotaAndLimits.limitWriting.memProtection.dataNodeMemoryHighWaterLevel": "0.002",
		"quotaAndLimits.quotaCenterCollectInterval":                              "1",
	})
	client := connect(t, milvus.Options{Address: m.Address()})
	table := conformance.Table("denied", vecferry.KeyInt)
	prepare(t, client, table)
	var e *milvus.Error
	require.Eventually(t, func() bool {
		err := client.Backend(table).Insert(t.Context(), rowsOf(table, 0, 1, 1))
		return errors.As(err, &e)
	}, time.Minute, 100*time.Millisecond)
	require.Equal(t, milvus.BackPressure, e.Class)
	require.False(t, e.InDoubt())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := client.Collection(table).Replace(ctx, vecferry.Write{Put: rowsOf(table, 0, 3, 1)})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorAs(t, err, &e)
}
