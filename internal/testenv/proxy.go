package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// TCPProxy forwards connections to a target and can break them. Each connection has
// two goroutines, one per direction; Close waits for all of them.
type TCPProxy struct {
	target   string
	listener net.Listener
	wait     sync.WaitGroup

	mu     sync.Mutex
	links  map[*link]struct{}
	open   chan struct{} // closed while bytes may pass
	closed bool
}

// link is a pair of connections; gone is closed when either has ended.
type link struct {
	client, server net.Conn
	gone           chan struct{}
	once           sync.Once
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.gone)
		_ = errors.Join(l.client.Close(), l.server.Close()) // ended already, as a rule
	})
}

// NewProxy listens on a free port of 127.0.0.1. Once the context has ended, no new
// connection reaches the target.
func NewProxy(ctx context.Context, target string) (*TCPProxy, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("testenv: proxy: %w", err)
	}
	p := &TCPProxy{target: target, listener: listener, links: map[*link]struct{}{}, open: make(chan struct{})}
	close(p.open)
	p.wait.Go(func() { p.accept(ctx) })
	return p, nil
}

// Proxy gives a test a proxy, which its cleanup closes.
func Proxy(tb TB, target string) *TCPProxy {
	tb.Helper()
	p, err := NewProxy(tb.Context(), target)
	if err != nil {
		tb.Fatalf("%v", err)
		return nil
	}
	tb.Cleanup(p.Close)
	return p
}

// Addr is where clients connect.
func (p *TCPProxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections; new ones are accepted.
func (p *TCPProxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// Block stops all bytes in both directions and keeps the connections open, like a
// network that drops packets. New connections are accepted and stay silent.
func (p *TCPProxy) Block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default:
	}
}

// Unblock lets the bytes go on where they stopped.
func (p *TCPProxy) Unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// Close stops listening and closes all connections.
func (p *TCPProxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close() // a second Close is harmless
	p.Cut()
	p.wait.Wait()
}

func (p *TCPProxy) accept(ctx context.Context) {
	var dialer net.Dialer
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := dialer.DialContext(ctx, "tcp", p.target)
		if err != nil {
			_ = client.Close() // the client sees what it would have seen
			continue
		}
		p.forward(&link{client: client, server: server, gone: make(chan struct{})})
	}
}

func (p *TCPProxy) forward(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		l.close()
		return
	}
	p.links[l] = struct{}{}
	p.wait.Go(func() { p.pump(l, l.client, l.server) })
	p.wait.Go(func() { p.pump(l, l.server, l.client) })
}

func (p *TCPProxy) pump(l *link, from, to net.Conn) {
	defer p.forget(l)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !p.pass(l) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while blocked; false means that the link was cut.
func (p *TCPProxy) pass(l *link) bool {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
		return true
	case <-l.gone:
		return false
	}
}

func (p *TCPProxy) forget(l *link) {
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}
