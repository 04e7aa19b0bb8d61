package testenv

import (
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNATSKeepsStreamsOverRestart(t *testing.T) {
	t.Parallel()
	server := OwnNATS(t, func(o *natsserver.Options) { o.MaxPayload = 2 << 20 })
	url := server.URL()
	js := connectNATS(t, url)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s", []byte("x"))
	require.NoError(t, err)

	require.NoError(t, server.Restart())
	assert.Equal(t, url, server.URL())
	stream, err := connectNATS(t, url).Stream(t.Context(), "S")
	require.NoError(t, err)
	assert.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
}

func connectNATS(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

func TestNATSRefusesBadOptions(t *testing.T) {
	t.Parallel()
	_, err := StartNATS(t.Context(), NATSOptions{Configure: func(o *natsserver.Options) { o.ServerName = "with space" }})
	require.Error(t, err)
}
