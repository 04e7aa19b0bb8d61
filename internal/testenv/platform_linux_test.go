package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDescendants(t *testing.T) {
	t.Parallel()
	_, _, ok := parseStat("/proc/self/stat")
	assert.False(t, ok, "the directory must be a number")
	assert.Contains(t, descendants(os.Getppid()), os.Getpid())
}

func TestCrashLeavesNoSharedMemory(t *testing.T) {
	t.Parallel()
	p := OwnPostgres(t, 16, nil)
	pidFile, err := os.ReadFile(filepath.Join(p.DataDir(), "postmaster.pid"))
	require.NoError(t, err)
	segment := strings.Fields(strings.Split(string(pidFile), "\n")[6])
	require.NoError(t, p.Kill())
	require.Contains(t, segments(t), segment[1])
	require.NoError(t, p.Stop())
	require.NotContains(t, segments(t), segment[1])
}

// segments lists the ids of all System V shared memory.
func segments(t *testing.T) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/sysvipc/shm")
	require.NoError(t, err)
	var ids []string
	for line := range strings.Lines(string(table)) {
		ids = append(ids, strings.Fields(line)[1])
	}
	return ids
}
