package changelog

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

func TestTrimAppliedKeepsTheWindow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		applied uint64
		window  time.Duration
		first   uint64
	}{
		"no window":             {applied: 8, window: 0, first: 8},
		"half of it":            {applied: 8, window: 330 * time.Minute, first: 5},
		"all of it":             {applied: 8, window: 100 * time.Hour, first: 1},
		"nothing applied":       {applied: 0, window: 0, first: 1},
		"window beyond applied": {applied: 3, window: 330 * time.Minute, first: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := openEmbedded(t, t.TempDir())
			w := newWriter(t, l)
			for n := uint64(1); n <= 10; n++ { // one an hour, the last an instant ago
				h := vecferry.BatchHeader{CommitTime: time.Now().Add(-time.Duration(10-n) * time.Hour).UnixMicro()}
				_, err := w.Append(t.Context(), batchOf(n, 10, w.Buffer()), h)
				require.NoError(t, err)
			}
			require.NoError(t, w.Flush(t.Context()))
			require.NoError(t, l.TrimApplied(t.Context(), c.applied, c.window))
			i, err := l.Info(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.first, i.FirstBatch)
			require.Equal(t, uint64(10), i.LastBatch)
		})
	}
}
