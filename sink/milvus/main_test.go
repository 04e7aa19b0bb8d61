package milvus_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/conformance"
)

func TestMain(m *testing.M) {
	testenv.Main(leakCheck{m})
}

// leakCheck looks for goroutines once all tests are through.
type leakCheck struct{ m *testing.M }

func (l leakCheck) Run() int {
	code := l.m.Run()
	if code == 0 && goleak.Find() != nil {
		println("goroutines leaked:", goleak.Find().Error())
		return 1
	}
	return code
}

// connect returns a client that the test closes.
func connect(t testing.TB, o milvus.Options) *milvus.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := milvus.Connect(ctx, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// shared returns a client of the shared server and a prefix for collections.
func shared(t testing.TB) (*milvus.Client, string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a server")
	}
	m := testenv.Milvus(t)
	return connect(t, milvus.Options{Address: m.Address}), m.Prefix
}

// prepare makes a table's collection ready.
func prepare(t testing.TB, c *milvus.Client, table *vecferry.Table) milvus.Prepared {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	p, err := c.Prepare(ctx, table)
	require.NoError(t, err)
	return p
}

func TestConformance(t *testing.T) {
	t.Parallel()
	c, prefix := shared(t)
	// A suite that a test of Run would outlive its parent's cleanup without.
	t.Run("server", func(t *testing.T) {
		conformance.Run(t, func(t *testing.T, table *vecferry.Table) milvus.Backend {
			table.Collection = prefix + table.Collection
			require.True(t, prepare(t, c, table).Created)
			return c.Backend(table)
		})
	})
}
