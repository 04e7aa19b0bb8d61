package property

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/memory"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// number is a setting from outside.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// Settings: which seeds, how many, and how many at a time.
const (
	envSeed  = "VECFERRY_PROPERTY_SEED"
	envRuns  = "VECFERRY_PROPERTY_RUNS"
	envLanes = "VECFERRY_PROPERTY_LANES"
)

// Every live key equals the source at the sink's position at every end of a
// run, whatever dies where.
func TestProperty(t *testing.T) {
	t.Parallel()
	seeds := seedsOf(40)
	ghosts := newGhosts(t)
	var g errgroup.Group
	g.SetLimit(number(envLanes, 4))
	for _, seed := range seeds {
		g.Go(func() error {
			t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, draw(seed), ghosts, nil) })
			return nil
		})
	}
	_ = g.Wait()
}

// seedsOf returns the seeds to run: one from outside, or the first so many.
func seedsOf(many int) (seeds []uint64) {
	if s := os.Getenv(envSeed); s != "" {
		for one := range strings.SplitSeq(s, ",") {
			n, err := strconv.ParseUint(one, 10, 64)
			if err == nil {
				seeds = append(seeds, n)
			}
		}
		return seeds
	}
	for seed := range uint64(number(envRuns, many)) {
		seeds = append(seeds, seed)
	}
	return seeds
}

// run is one run on the servers that its options want. It fails the test.
func run(t *testing.T, o options, ghosts *ghosts, client *milvus.Client) {
	t.Helper()
	w := play(t, o, ghosts, client)
	found := w.failures()
	t.Log(w.summary())
	require.Empty(t, found, "%s\nreplay it, as far as scheduling lets it be replayed:\n\t%s=%d go test -count=1 -run '^%s$' ./internal/property",
		strings.Join(found, "\n"), envSeed, o.seed, strings.Split(t.Name(), "/")[0])
}

// play is one run; what is wrong is left in the world.
func play(t *testing.T, o options, ghosts *ghosts, client *milvus.Client) *world {
	t.Helper()
	var db *testenv.TestDB
	var server *testenv.PostgresServer
	switch {
	case o.killed:
		server = ghosts.own(t, o)
		db = testenv.Database(t, server)
	case o.ghost:
		db = testenv.Database(t, ghosts.server(t, o.version))
	default:
		db = testenv.Postgres(t, o.version)
	}
	w := newWorld(t, o, db)
	if server != nil {
		w.server = server
	}
	if w.target.client = client; client == nil {
		w.target.memory = memory.New()
		w.target.memory.OnCall(flaky(w, newDice(o.seed, 7)))
	}
	w.drive()
	return w
}

// ghosts are servers whose synchronous standby is missing now and then. All runs
// of a version share one, since that is a setting of the server.
type ghosts struct {
	t       *testing.T
	mu      sync.Mutex
	servers map[int]*testenv.PostgresServer
}

func newGhosts(t *testing.T) *ghosts {
	return &ghosts{t: t, servers: map[int]*testenv.PostgresServer{}}
}

// server returns the one of a version; it lives as long as the whole test.
func (g *ghosts) server(t *testing.T, version int) *testenv.PostgresServer {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.servers[version] == nil {
		g.servers[version] = testenv.OwnPostgres(g.t, version, nil)
		g.haunt(g.t, g.servers[version])
	}
	return g.servers[version]
}

// own returns a server for one run, to be killed.
func (g *ghosts) own(t *testing.T, o options) *testenv.PostgresServer {
	t.Helper()
	// What is committed asynchronously stays in memory for long.
	p := testenv.OwnPostgres(t, o.version, map[string]string{"wal_writer_delay": "2s"})
	if o.ghost {
		g.haunt(t, p)
	}
	return p
}

// haunt lets the standby be missing for a second, and be back for a moment, over
// and over.
func (g *ghosts) haunt(t *testing.T, p *testenv.PostgresServer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	d := newDice(uint64(p.Port()), 8)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = standby(ctx, p, "set synchronous_standby_names = 'ghost'")
			lifecycle.Sleep(ctx, 600*time.Millisecond+d.upTo(time.Second))
			_ = standby(ctx, p, "reset synchronous_standby_names")
			lifecycle.Sleep(ctx, 100*time.Millisecond+d.upTo(300*time.Millisecond))
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func standby(ctx context.Context, p *testenv.PostgresServer, how string) error {
	c, err := pgx.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{"set synchronous_commit = local", "alter system " + how, "select pg_reload_conf()"} {
		if _, err := c.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// sortKeys returns the keys of a table in order.
func sortKeys(table string) []vecferry.Key {
	var out []vecferry.Key
	for i := range keysPerTable {
		out = append(out, keyOf(table, i))
	}
	slices.Sort(out)
	return out
}

// The same on a real Milvus, which is compared at the end of the run only.
func TestPropertyOnMilvus(t *testing.T) {
	t.Parallel()
	share := testenv.Milvus(t)
	client, err := milvus.Connect(t.Context(), milvus.Options{Address: share.Address})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	ghosts := newGhosts(t)
	for _, seed := range []uint64{1, 2, 7} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			o := draw(seed)
			o.prefix = fmt.Sprintf("%s%d_", share.Prefix, seed)
			// A write takes tens of milliseconds and a read some hundreds as it is.
			o.callDelay, o.readDelay, o.writeDelay, o.lag, o.chaos = 0, 0, 0, 0, 2*time.Second
			o.copied, o.duration = seed != 7, 5*time.Second
			run(t, o, ghosts, client)
		})
	}
}
