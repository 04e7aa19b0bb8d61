package memory_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/conformance"
	"github.com/vecferry/vecferry/sink/milvus/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	server := memory.New()
	conformance.Run(t, func(t *testing.T, table *vecferry.Table) milvus.Backend {
		p, err := server.Prepare(t.Context(), table)
		require.NoError(t, err)
		require.True(t, p.Created)
		return server.Backend(table)
	})
}
