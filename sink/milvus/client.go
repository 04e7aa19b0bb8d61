package milvus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	grpcretry "github.com/grpc-ecosystem/go-grpc-middleware/retry"
	"github.com/milvus-io/milvus-proto/go-api/v2/commonpb"
	"github.com/milvus-io/milvus-proto/go-api/v2/milvuspb"
	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/vecferry/vecferry"
)

// Options of a client.
type Options struct {
	Address     string // host:port
	Username    string
	Password    string
	Token       string // instead of a user and a password
	Database    string // "" is the default one
	TLS         *tls.Config
	Connections int          // to spread data over, 2 if 0
	Lanes       int          // writes of one Replace in flight at once, 2 if 0
	Pace        Pace         // of retries
	Logger      *slog.Logger // may be nil
}

const (
	defaultConnections = 2
	connectTimeout     = 20 * time.Second // if ctx has no deadline
)

// Client is a connection to one database of a server. It is safe for concurrent use,
// and survives restarts of the server.
type Client struct {
	conns   []*client.GrpcClient
	next    atomic.Uint32
	retry   *retrier
	lanes   int
	version string
}

// Connect returns a client once the server answered; it tries until the deadline of
// ctx, or for 20 s. Its errors: one with Unreachable() true if no server answers, a
// vecferry.HaltError with ErrCredentials in its chain if it refuses the user.
func Connect(ctx context.Context, o Options) (*Client, error) {
	if o.Token != "" && (o.Username != "" || o.Password != "") {
		return nil, errors.New("connect to milvus: give a token, or a user and a password, not both")
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, connectTimeout)
		defer cancel()
	}
	c := &Client{retry: newRetrier(o.Pace, o.Logger), lanes: o.Lanes}
	n := o.Connections
	if n <= 0 {
		n = defaultConnections
	}
	for range n {
		conn, err := dial(ctx, o)
		if err != nil {
			if ctx.Err() != nil {
				err = &unreachableError{address: o.Address, err: err}
			}
			return nil, errors.Join(err, c.Close())
		}
		c.conns = append(c.conns, conn)
	}
	if err := c.greet(ctx, o); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// dial opens one connection. The wrapper's own greeting is left out: it leaks the
// connection when it fails.
func dial(ctx context.Context, o Options) (*client.GrpcClient, error) {
	c, err := client.NewClient(ctx, client.Config{
		Address: o.Address, Username: o.Username, Password: o.Password, APIKey: o.Token, DBName: o.Database,
		DisableConn:    true,
		RetryRateLimit: &client.RetryRateLimitOption{MaxRetry: 0},
		DialOptions:    dialOptions(o),
	})
	if err != nil {
		return nil, err
	}
	g, ok := c.(*client.GrpcClient)
	if !ok {
		return nil, fmt.Errorf("the Milvus client is a %T", c)
	}
	return g, nil
}

// dialOptions replace the wrapper's defaults as soon as there are any. Its hidden
// retries are switched off: they repeat inserts, and take 20 s to report what should
// be split.
func dialOptions(o Options) []grpc.DialOption {
	opts := []grpc.DialOption{
		grpc.WithBlock(),
		grpc.WithReturnConnectionError(),
		grpc.WithDefaultCallOptions(grpcretry.Disable(), grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithChainUnaryInterceptor(typedErrors),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
	}
	if o.TLS != nil {
		opts = append(opts, grpc.WithTransportCredentials(credentials.NewTLS(o.TLS)))
	}
	return opts
}

// greet makes the first request, which is the one that checks the credentials.
func (c *Client) greet(ctx context.Context, o Options) error {
	err := c.retry.do(ctx, task{name: "connect to milvus at " + o.Address}, func(ctx context.Context) error {
		reply, err := c.service().Connect(ctx, &milvuspb.ConnectRequest{
			ClientInfo: &commonpb.ClientInfo{SdkType: "Golang", SdkVersion: "vecferry", LocalTime: time.Now().String(), User: o.Username},
		})
		c.version = reply.GetServerInfo().GetBuildTags()
		return err
	})
	var e *Error
	if errors.As(err, &e) && refused(e) {
		return &vecferry.HaltError{
			What: "milvus at " + o.Address + " refuses the connection", Fix: fixOf(e),
			Err: fmt.Errorf("%w: %w", ErrCredentials, e),
		}
	}
	return err
}

// refused reports whether an error is about who asks.
func refused(e *Error) bool {
	return e.RPC == codes.Unauthenticated.String() || e.RPC == codes.PermissionDenied.String() || e.Code == 1400 || e.Code == 1401
}

// Close ends the connections.
func (c *Client) Close() error {
	var errs []error
	for _, conn := range c.conns {
		if err := conn.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close connection to milvus: %w", err))
		}
	}
	return errors.Join(errs...)
}

// conn returns the connections in turn.
func (c *Client) conn() *client.GrpcClient {
	return c.conns[int(c.next.Add(1))%len(c.conns)]
}

func (c *Client) service() milvuspb.MilvusServiceClient { return c.conn().Service }

// Collection returns the collection of a table, which Prepare has made ready.
func (c *Client) Collection(t *vecferry.Table) *Collection {
	return newCollection(t, c.Backend(t), c.retry, c.lanes)
}

// Backend returns the single requests that Collection is made of.
func (c *Client) Backend(t *vecferry.Table) Backend {
	return &remote{client: c, layout: newLayout(t)}
}

// Waiting tells why requests wait for their next attempt, since when, and after how
// many failures; the reason is empty if none waits.
func (c *Client) Waiting() (reason string, since time.Time, attempts int) { return c.retry.waiting() }

// Version returns the version of the server, such as v2.3.5.
func (c *Client) Version(ctx context.Context) (string, error) {
	if c.version != "" {
		return c.version, nil
	}
	v, err := c.conn().GetVersion(ctx)
	if err != nil {
		return "", fmt.Errorf("version of milvus: %w", err)
	}
	return v, nil
}

// Ping asks once whether the server does its work, without a retry. It lists the
// collections: GetVersion is answered by a server that does nothing else.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.service().ShowCollections(ctx, &milvuspb.ShowCollectionsRequest{})
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Drop deletes a collection with all its entities; it is no error if there is none.
func (c *Client) Drop(ctx context.Context, collection string) error {
	return c.retry.do(ctx, task{name: "drop " + collection}, func(ctx context.Context) error {
		there, err := c.conn().HasCollection(ctx, collection)
		if err != nil || !there {
			return err
		}
		return c.conn().DropCollection(ctx, collection)
	})
}
