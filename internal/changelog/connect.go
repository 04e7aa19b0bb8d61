package changelog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Time limits of the connection.
const (
	requestTimeout = 5 * time.Second  // one request to JetStream
	ackTimeout     = 10 * time.Second // a published batch, or it was lost with a leader; a slow disk is no harm
	ackLate        = time.Second      // a published batch, until the log is asked for it
	drainTimeout   = 5 * time.Second
)

// connect opens the one connection of a log.
func (l *Log) connect() error {
	l.ended = make(chan struct{})
	opts := []nats.Option{
		nats.Name("vecferry " + l.opts.Pipeline),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials may be rotated under us
		nats.CustomReconnectDelay(reconnectDelay),
		// What is published while disconnected must fail at once: kept and sent
		// later, it would meet a log that has gone on.
		nats.ReconnectBufSize(-1),
		nats.Timeout(requestTimeout),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DrainTimeout(drainTimeout),
		nats.ErrorHandler(l.asyncError),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			l.cuts.happened()
			if err != nil {
				l.log.Warn("connection to the change log lost", "server", l.server, "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { l.log.Info("connection to the change log is back", "server", l.server) }),
		nats.ClosedHandler(func(*nats.Conn) { close(l.ended) }),
	}
	url := ""
	if l.embedded != nil {
		opts = append(opts, nats.InProcessServer(l.embedded.srv))
	} else {
		more, err := l.opts.External.options()
		if err != nil {
			return err
		}
		url, opts = l.opts.External.URL, append(opts, more...)
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return l.connectError(err)
	}
	l.nc = nc
	if l.js, err = jetstream.New(nc, jetstream.WithPublishAsyncTimeout(ackTimeout), jetstream.WithDefaultTimeout(requestTimeout)); err != nil {
		return fmt.Errorf("change log: %w", err)
	}
	if v := nc.ConnectedServerVersion(); !recent(v) {
		return &ServerError{Server: l.server, Reason: TooOld, Err: fmt.Errorf("it is %s", v)}
	}
	return nil
}

// reconnectDelay tries at once, because most cuts are short, and then less and
// less often. The random part keeps several processes apart.
func reconnectDelay(attempt int) time.Duration {
	d := min(10*time.Millisecond<<min(attempt, 10), 2*time.Second)
	return d/2 + rand.N(d)
}

// connected waits for the connection to be there.
func (l *Log) connected(ctx context.Context) error {
	if l.nc.IsConnected() {
		return nil
	}
	changed := l.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer l.nc.RemoveStatusListener(changed)
	for !l.nc.IsConnected() {
		if l.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nats.ErrDisconnected
		}
	}
	return nil
}

// options turns the settings of an external server into the client's.
func (e *External) options() ([]nats.Option, error) {
	var opts []nats.Option
	if e.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(e.CredsFile))
	}
	if e.NKeyFile != "" {
		o, err := nats.NkeyOptionFromSeed(e.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("NKey file %s: %w", e.NKeyFile, err)
		}
		opts = append(opts, o)
	}
	if e.Username != "" {
		opts = append(opts, nats.UserInfo(e.Username, e.Password))
	}
	if e.TLS != nil {
		opts = append(opts, nats.Secure(e.TLS))
	}
	if e.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(e.InboxPrefix))
	}
	return opts, nil
}

// connectError tells a server that refuses us from one that does not answer.
func (l *Log) connectError(err error) error {
	reason := Unreachable
	if refused(err) {
		reason = Denied
	}
	return &ServerError{Server: l.server, Reason: reason, Err: err}
}

// asyncError takes what the server reports outside of any request.
func (l *Log) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		l.violation.Store(&err)
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	l.log.Warn("the change log's server reports an error", "server", l.server, "subject", subject, "error", err)
}

// recent reports whether a server can reset a consumer, which came with 2.14.
func recent(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 2 || major == 2 && minor >= 14)
}

// withoutCredentials takes user and password out of a list of URLs, for logs.
func withoutCredentials(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		u = strings.TrimSpace(u)
		scheme, rest, found := strings.Cut(u, "://")
		if !found {
			scheme, rest = "nats", u
		}
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			rest = rest[at+1:]
		}
		list[i] = scheme + "://" + rest
	}
	return strings.Join(list, ",")
}
