package testenv

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo is a server that answers with what it was sent.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	return listener.Addr().String()
}

func dialProxy(t *testing.T, p *TCPProxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := conn.Write([]byte(text))
	require.NoError(t, err)
}

func hear(conn net.Conn, n int, within time.Duration) (string, error) {
	_ = conn.SetReadDeadline(time.Now().Add(within)) // a failure shows in the read
	buffer := make([]byte, n)
	_, err := io.ReadFull(conn, buffer)
	return string(buffer), err
}

func TestProxyBlocksAndUnblocks(t *testing.T) {
	t.Parallel()
	p := Proxy(t, echo(t))
	conn := dialProxy(t, p)
	say(t, conn, "one")
	text, err := hear(conn, 3, patience)
	require.NoError(t, err)
	assert.Equal(t, "one", text)

	p.Block()
	p.Block()
	say(t, conn, "two")
	_, err = hear(conn, 3, 5*step)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "silent, not closed")

	p.Unblock()
	p.Unblock()
	text, err = hear(conn, 3, patience)
	require.NoError(t, err)
	assert.Equal(t, "two", text, "delayed, not lost")
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	p := Proxy(t, echo(t))
	for _, blocked := range []bool{false, true} {
		conn := dialProxy(t, p)
		say(t, conn, "one")
		_, err := hear(conn, 3, patience)
		require.NoError(t, err)
		if blocked {
			p.Block()
			say(t, conn, "two")
		}
		p.Cut()
		_, err = hear(conn, 1, patience)
		require.Error(t, err)
		assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "closed, not silent")
		p.Unblock()
	}
}

func TestProxyWithoutTarget(t *testing.T) {
	t.Parallel()
	p, err := NewProxy(t.Context(), "127.0.0.1:1")
	require.NoError(t, err)
	_, err = hear(dialProxy(t, p), 1, patience)
	require.Error(t, err)
	p.Close()
	p.Close()
	_, err = net.Dial("tcp", p.Addr())
	require.Error(t, err)
}
