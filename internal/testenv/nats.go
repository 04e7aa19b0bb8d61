package testenv

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

const natsReady = 15 * time.Second

// NATSOptions say how to start NATS.
type NATSOptions struct {
	Options
	Port      int                       // 0 chooses one
	Configure func(*natsserver.Options) // may change anything before the start; may be nil
}

// NATSServer is a server with JetStream on files, in this process: it needs no guard to
// die with it. One goroutine at a time may use its methods.
type NATSServer struct {
	instance *instance
	opts     NATSOptions
	server   *natsserver.Server
}

// StartNATS returns a server that accepts connections, on 127.0.0.1 only.
func StartNATS(ctx context.Context, opts NATSOptions) (*NATSServer, error) {
	opts.Options = opts.withDefaults()
	dir, err := newInstance(ctx, opts.Options, "nats", 1)
	if err != nil {
		return nil, err
	}
	if opts.Port != 0 {
		dir.spec.Ports[0] = opts.Port
	}
	n := &NATSServer{instance: dir, opts: opts}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, dir.release())
	}
	return n, nil
}

func (n *NATSServer) start() error {
	opts := &natsserver.Options{
		Host: "127.0.0.1", Port: n.instance.spec.Ports[0], StoreDir: filepath.Join(n.instance.dir, "data"),
		JetStream: true, NoSigs: true, NoLog: true,
	}
	if n.opts.Configure != nil {
		n.opts.Configure(opts)
	}
	server, err := natsserver.NewServer(opts)
	if err != nil {
		return fmt.Errorf("testenv: NATS: %w", err)
	}
	server.Start()
	if !server.ReadyForConnections(natsReady) {
		server.Shutdown()
		return errors.New("testenv: NATS is not ready in time")
	}
	n.server = server
	return nil
}

// URL is where clients connect.
func (n *NATSServer) URL() string { return n.server.ClientURL() }

// Halt shuts the server down; the streams stay on disk.
func (n *NATSServer) Halt() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// Restart starts it again on the same port and files, after a Halt if it runs.
func (n *NATSServer) Restart() error {
	n.Halt()
	return n.start()
}

// Stop shuts the server down and deletes its data.
func (n *NATSServer) Stop() error {
	n.Halt()
	return n.instance.release()
}

// OwnNATS starts a server for this test alone.
func OwnNATS(tb TB, configure func(*natsserver.Options)) *NATSServer {
	tb.Helper()
	n, err := StartNATS(tb.Context(), NATSOptions{Options: Options{Logf: tb.Logf}, Configure: configure})
	if err != nil {
		tb.Fatalf("%v", err)
		return nil
	}
	tb.Cleanup(func() { report(tb, n.Stop()) })
	return n
}
