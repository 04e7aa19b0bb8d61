package changelog

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// cluster runs three servers that hold a copy each and returns their URLs.
func cluster(t *testing.T) string {
	t.Helper()
	var routes []string
	for range 3 {
		routes = append(routes, "nats://"+freeAddress(t))
	}
	var urls []string
	var servers []*server.Server
	for i, route := range routes {
		_, port, err := net.SplitHostPort(strings.TrimPrefix(route, "nats://"))
		require.NoError(t, err)
		s := natsServer(t, func(o *server.Options) {
			o.ServerName = fmt.Sprint("n", i)
			o.SyncAlways = false // three servers on one disk
			o.Cluster = server.ClusterOpts{Name: "c", Host: "127.0.0.1"}
			_, err := fmt.Sscan(port, &o.Cluster.Port)
			require.NoError(t, err)
			o.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		})
		urls, servers = append(urls, s.ClientURL()), append(servers, s)
	}
	require.Eventually(t, func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	}, 30*time.Second, 20*time.Millisecond)
	return strings.Join(urls, ",")
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// The leader of the stream steps down several times. Nothing is lost, nothing
// is stored twice, and the reader sees all in order.
func TestThreeReplicasWithLeaderChanges(t *testing.T) {
	t.Parallel()
	const batches = 1000
	o := external(cluster(t))
	o.Replicas = 3
	w, r := open(t, o), open(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	changes := 0
	go func() {
		defer close(ended)
		for tick := time.Tick(300 * time.Millisecond); changes < 6; {
			select {
			case <-tick:
				if _, err := r.nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+o.streamName(), nil); err == nil {
					changes++
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	written := make(chan error, 1)
	deaths := 0
	go func() { written <- writeThroughErrors(t.Context(), w, batches, &deaths) }()
	reader := newReader(t, r, 0)
	readRange(t, reader, 1, batches)
	require.NoError(t, <-written)
	cancel()
	<-ended
	require.Positive(t, changes)
	t.Logf("%d changes of leader, %d writers died, %d resets", changes, deaths, reader.Resets())

	var rev uint64
	for n := range 50 {
		var err error
		rev, err = w.Put(t.Context(), "checkpoint", fmt.Appendf(nil, "%d", n), rev)
		require.NoError(t, err)
	}
	_, err := r.Put(t.Context(), "checkpoint", []byte("late"), rev-1)
	require.ErrorIs(t, err, ErrConflict)
}

func TestThreeReplicasFence(t *testing.T) {
	t.Parallel()
	o := external(cluster(t))
	o.Replicas = 3
	l := open(t, o)
	zombie, w := newWriter(t, l), newWriter(t, l)
	appendRange(t, w, 1, 1, 10)
	for n := uint64(1); n <= maxInFlight; n++ {
		if _, err := zombie.Append(t.Context(), batchOf(100+n, 10, nil), headerOf(100+n)); err != nil {
			break
		}
	}
	<-zombie.Done()
	require.ErrorIs(t, zombie.Err(), ErrFenced)
	appendRange(t, w, 2, 30, 10)
	readRange(t, newReader(t, l, 0), 1, 30)
}
