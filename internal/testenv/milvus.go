package testenv

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/milvus-io/milvus-proto/go-api/v2/commonpb"
	"github.com/milvus-io/milvus-proto/go-api/v2/milvuspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const milvusReady = 2 * time.Minute // bounds waiting for a start or a recovery

// MilvusOptions say how to start Milvus.
type MilvusOptions struct {
	Options
	Port   int               // of gRPC; 0 chooses one
	Config map[string]string // dotted names of milvus.yaml, over the defaults

	grace time.Duration
}

// MilvusServer is a running standalone 2.3.5 with embedded etcd and local storage. One
// goroutine at a time may use its methods.
type MilvusServer struct {
	server  *instance
	address string
	metrics string
}

// StartMilvus returns a server that answers requests. It lives until Stop, or until
// this process dies.
func StartMilvus(ctx context.Context, opts MilvusOptions) (*MilvusServer, error) {
	opts.Options = opts.withDefaults()
	root, err := fetch(ctx, opts.Options, milvusBundle())
	if err != nil {
		return nil, err
	}
	server, err := newInstance(ctx, opts.Options, "milvus", len(milvusPorts()))
	if err != nil {
		return nil, err
	}
	if opts.Port != 0 {
		server.spec.Ports[0] = opts.Port
	}
	m := attachMilvus(server)
	if err := m.start(ctx, root, opts); err != nil {
		return nil, fmt.Errorf("testenv: start Milvus: %w", joinEnd(err, server))
	}
	return m, nil
}

// attachMilvus relies on the order of milvusPorts.
func attachMilvus(server *instance) *MilvusServer {
	local := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
	return &MilvusServer{server: server, address: local(server.spec.Ports[0]), metrics: local(server.spec.Ports[1])}
}

func (m *MilvusServer) start(ctx context.Context, root string, opts MilvusOptions) error {
	dir := m.server.dir
	values := milvusValues(dir, m.server.spec.Ports)
	if err := writeMilvusConfig(root, dir, values, opts.Config); err != nil {
		return err
	}
	bin, pidFile := filepath.Join(root, "bin"), "standalone-"+filepath.Base(dir)+".pid"
	err := m.server.launch(ctx, spec{
		Path: filepath.Join(bin, "milvus"), Args: []string{"run", "standalone", "-alias", filepath.Base(dir)}, Dir: dir,
		Env: []string{"PATH=/usr/bin:/bin", "DEPLOY_MODE=STANDALONE", "METRICS_PORT=" + values["metrics_port"], "LD_LIBRARY_PATH=" + bin, "HOME=" + dir, "TMPDIR=" + filepath.Join(dir, "tmp")},
		// It does not follow SIGTERM in any useful time.
		HaltSignal: signalKill, EndSignal: signalKill, Grace: opts.grace,
		Litter: []string{"/run/milvus/" + pidFile, "/tmp/milvus/" + pidFile},
	})
	if err != nil {
		return err
	}
	return m.await(ctx)
}

// await returns once the server is healthy and has answered a request.
func (m *MilvusServer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, milvusReady)
	defer cancel()
	if err := m.server.await(ctx, func(ctx context.Context) error { return healthy(ctx, m.metrics) }); err != nil {
		return err
	}
	return m.server.await(ctx, func(ctx context.Context) error {
		_, err := listCollections(ctx, m.address)
		return err
	})
}

func healthy(ctx context.Context, metrics string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("healthz: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("healthz: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("healthz: %s", response.Status)
	}
	return nil
}

// Address is where it serves gRPC.
func (m *MilvusServer) Address() string { return m.address }

// MetricsAddress serves /metrics and /healthz.
func (m *MilvusServer) MetricsAddress() string { return m.metrics }

// LogPath is the server's log.
func (m *MilvusServer) LogPath() string { return m.server.logPath() }

// Kill ends it with SIGKILL. The data stays.
func (m *MilvusServer) Kill() error { return m.server.command(cmdKill) }

// Restart starts it again, after a Kill if it runs. It returns when requests are
// answered; collections are loaded again, and readable, up to a minute later.
func (m *MilvusServer) Restart(ctx context.Context) error {
	if err := m.server.restart(); err != nil {
		return err
	}
	return m.await(ctx)
}

// Pause freezes it. After some 20 s its leases expire and only Restart helps.
func (m *MilvusServer) Pause() error { return m.server.command(cmdPause) }

// Resume ends a Pause.
func (m *MilvusServer) Resume() error { return m.server.command(cmdResume) }

// Stop ends it and deletes its data.
func (m *MilvusServer) Stop() error { return m.server.end() }

// withMilvus calls one function with a raw client; the client package of the
// product is what the tests test.
func withMilvus(ctx context.Context, address string, use func(context.Context, milvuspb.MilvusServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := grpc.DialContext(ctx, address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithBlock())
	if err != nil {
		return fmt.Errorf("dial milvus: %w", err)
	}
	defer conn.Close()
	// Without authentication the server ignores this.
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", base64.StdEncoding.EncodeToString([]byte("root:Milvus")))
	return use(ctx, milvuspb.NewMilvusServiceClient(conn))
}

func listCollections(ctx context.Context, address string) ([]string, error) {
	var names []string
	err := withMilvus(ctx, address, func(ctx context.Context, client milvuspb.MilvusServiceClient) error {
		answer, err := client.ShowCollections(ctx, &milvuspb.ShowCollectionsRequest{})
		if err != nil {
			return fmt.Errorf("show collections: %w", err)
		}
		names = answer.GetCollectionNames()
		return statusError("show collections", answer.GetStatus())
	})
	return names, err
}

func dropCollection(ctx context.Context, address, name string) error {
	return withMilvus(ctx, address, func(ctx context.Context, client milvuspb.MilvusServiceClient) error {
		status, err := client.DropCollection(ctx, &milvuspb.DropCollectionRequest{CollectionName: name})
		if err != nil {
			return fmt.Errorf("drop collection %s: %w", name, err)
		}
		return statusError("drop collection "+name, status)
	})
}

// statusError looks at both codes: servers fill one or the other.
func statusError(what string, status *commonpb.Status) error {
	if status.GetCode() == 0 && status.GetErrorCode() == commonpb.ErrorCode_Success { //nolint:staticcheck // 2.3 still fills it
		return nil
	}
	return fmt.Errorf("%s: milvus code %d: %s", what, status.GetCode(), status.GetReason())
}
