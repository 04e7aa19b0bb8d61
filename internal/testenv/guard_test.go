package testenv

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTwoProcessesShareOneServer(t *testing.T) {
	t.Parallel()
	cache := privateCache(t)
	first := startSecond(t, "shared", cache)
	second := startSecond(t, "shared", cache)
	assert.Equal(t, first.dsn, second.dsn)

	first.kill() // the one that started it: the other keeps it
	assert.True(t, answers(t, second.dsn))
	second.kill()
	requireNothingLeft(t, cache)
	assert.False(t, answers(t, second.dsn))
}

func TestOwnServerDiesWithItsUser(t *testing.T) {
	t.Parallel()
	cache := privateCache(t)
	user := startSecond(t, "own", cache)
	assert.True(t, answers(t, user.dsn))
	user.kill()
	requireNothingLeft(t, cache)
	assert.False(t, answers(t, user.dsn))
}

func TestServerDiesWithItsGuard(t *testing.T) {
	t.Parallel()
	opts := PostgresOptions{Options: Options{Cache: privateCache(t), Logf: t.Logf}}
	orphan, err := StartPostgres(t.Context(), opts)
	require.NoError(t, err)
	require.NoError(t, orphan.server.guard.Kill())
	_, err = orphan.server.guard.Wait()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !answers(t, orphan.DSN("postgres")) }, patience, step)
	require.ErrorIs(t, orphan.Kill(), ErrNoGuard)

	next, err := StartPostgres(t.Context(), opts)
	require.NoError(t, err)
	assert.NoDirExists(t, orphan.server.dir, "the next start sweeps")
	require.NoError(t, next.Stop())
	requireNothingLeft(t, opts.Cache)
}

func TestProgramWithoutGuard(t *testing.T) {
	t.Parallel()
	cache := privateCache(t)
	cmd := secondCommand(t, "unguarded", cache)
	cmd.Env = append(cmd.Env, noGuardEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	requireNothingLeft(t, cache)
}

func TestUserHasNoGoroutines(t *testing.T) {
	t.Parallel()
	cache := privateCache(t)
	out, err := secondCommand(t, "alone", cache).CombinedOutput()
	require.NoError(t, err, string(out))
	requireNothingLeft(t, cache)
}

func TestGuardNeverStartsServers(t *testing.T) {
	t.Setenv(guardEnv, "/nowhere")
	_, err := newInstance(t.Context(), Options{Cache: t.TempDir()}, "pg16", 1)
	require.ErrorIs(t, err, ErrNoGuard)
}

// With no grace every release races with the next lease: a lease that was given
// must always come with a server that answers.
func TestLeasesRaceWithTheEnd(t *testing.T) {
	const users, rounds = 3, 4
	t.Setenv(graceEnv, "0s")
	opts := PostgresOptions{Options: Options{Cache: privateCache(t), Logf: t.Logf}}
	var wait sync.WaitGroup
	for range users {
		wait.Go(func() {
			for range rounds {
				p, err := sharedPostgres(t.Context(), opts)
				if !assert.NoError(t, err) {
					return
				}
				assert.True(t, answers(t, p.DSN("postgres")))
				assert.NoError(t, p.server.release())
			}
		})
	}
	wait.Wait()
	requireNothingLeft(t, opts.Cache)
}

func TestCrashedSharedServerIsReplaced(t *testing.T) {
	t.Setenv(graceEnv, "0s")
	opts := PostgresOptions{Options: Options{Cache: privateCache(t), Logf: t.Logf}}
	crashed, err := sharedPostgres(t.Context(), opts)
	require.NoError(t, err)
	require.NoError(t, crashed.Kill())
	fresh, err := sharedPostgres(t.Context(), opts)
	require.NoError(t, err)
	assert.NotEqual(t, crashed.server.dir, fresh.server.dir)
	require.NoError(t, crashed.server.release())
	require.NoError(t, fresh.server.release())
	requireNothingLeft(t, opts.Cache)
}

func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	opts := PostgresOptions{Options: Options{Cache: privateCache(t)}, Settings: map[string]string{"no_such_setting": "1"}}
	_, err := StartPostgres(t.Context(), opts)
	require.ErrorIs(t, err, ErrExited)
	require.ErrorContains(t, err, "no_such_setting", "the server's log says why")
	requireNothingLeft(t, opts.Cache)

	_, err = StartPostgres(t.Context(), PostgresOptions{Version: 17})
	require.ErrorIs(t, err, ErrVersion)
}

func TestGraceMustBeADuration(t *testing.T) {
	t.Setenv(graceEnv, "soon")
	_, err := sharedPostgres(t.Context(), PostgresOptions{})
	require.ErrorContains(t, err, graceEnv)
	_, err = sharedMilvus(t.Context(), MilvusOptions{})
	require.ErrorContains(t, err, graceEnv)
}
