package testenv

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"github.com/milvus-io/milvus-sdk-go/v2/entity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func TestMilvusSurvivesAKill(t *testing.T) {
	t.Parallel()
	m := OwnMilvus(t, map[string]string{"common.security.authorizationEnabled": "true"})
	createCollection(t, m.Address(), "kept")
	require.NoError(t, m.Kill())
	require.Error(t, healthy(t.Context(), m.MetricsAddress()))
	require.NoError(t, m.Restart(t.Context()))
	found, err := withClient(t, m.Address()).HasCollection(t.Context(), "kept")
	require.NoError(t, err)
	assert.True(t, found, "on the same port, with its data")

	require.NoError(t, m.Pause())
	ctx, cancel := contextWithin(t, 20*step)
	defer cancel()
	require.Error(t, healthy(ctx, m.MetricsAddress()))
	require.NoError(t, m.Resume())
	require.NoError(t, healthy(t.Context(), m.MetricsAddress()))
	assert.FileExists(t, m.LogPath())

	require.NoError(t, m.Stop())
	assert.NoDirExists(t, m.server.dir)
	for _, path := range m.server.spec.Litter {
		assert.NoFileExists(t, path)
	}
	require.ErrorIs(t, m.Kill(), ErrStopped)
}

func TestCollectionsAreDropped(t *testing.T) {
	t.Parallel()
	keeper := Milvus(t)
	createCollection(t, keeper.Address, keeper.Prefix+"kept")
	var dropped string
	t.Run("user", func(t *testing.T) {
		user := Milvus(t)
		assert.Equal(t, keeper.Address, user.Address)
		require.NoError(t, healthy(t.Context(), user.Metrics))
		dropped = user.Prefix + "items"
		createCollection(t, user.Address, dropped)
		require.NoError(t, withClient(t, user.Address).CreateAlias(t.Context(), dropped, user.Prefix+"alias"))
	})
	names, err := listCollections(t.Context(), keeper.Address)
	require.NoError(t, err)
	assert.Contains(t, names, keeper.Prefix+"kept")
	assert.NotContains(t, names, dropped)
	assert.Error(t, dropCollection(t.Context(), "127.0.0.1:1", "x"))
}

func TestMilvusGivenByTheEnvironment(t *testing.T) {
	address := Milvus(t).Address
	t.Setenv("VECFERRY_TEST_MILVUS", address)
	given := Milvus(t)
	assert.Equal(t, address, given.Address)
	assert.Empty(t, given.Metrics)
}

func withClient(t *testing.T, address string) client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.NewClient(ctx, client.Config{Address: address, Username: "root", Password: "Milvus"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() }) // the server may be gone
	return c
}

func createCollection(t *testing.T, address, name string) {
	t.Helper()
	schema := entity.NewSchema().WithName(name).
		WithField(entity.NewField().WithName("id").WithDataType(entity.FieldTypeInt64).WithIsPrimaryKey(true)).
		WithField(entity.NewField().WithName("v").WithDataType(entity.FieldTypeFloatVector).WithDim(4))
	require.NoError(t, withClient(t, address).CreateCollection(t.Context(), schema, 1))
}

func TestRenderMilvusConfig(t *testing.T) {
	t.Parallel()
	const template = "a:\n  port: {{ a_port(int): 1 }}\n  level: {{ level: info }}\n  dir: {{ dir }}\nmq:\n  type: rocksmq\n"
	text, err := renderMilvusConfig(template, map[string]string{"a_port": "7", "dir": "/d"},
		map[string]string{"a.level": "warn", "b.c.d": "true", "mq.type": "natsmq"})
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, yaml.Unmarshal(text, &got))
	assert.Equal(t, map[string]any{
		"a":  map[string]any{"port": 7, "level": "warn", "dir": "/d"},
		"b":  map[string]any{"c": map[string]any{"d": true}},
		"mq": map[string]any{"type": "natsmq"},
	}, got)
	_, err = renderMilvusConfig(template, nil, map[string]string{"a.port.x": "1"})
	require.ErrorContains(t, err, "not a section")
}

// Every port of the template must be one that instances choose for themselves.
func TestMilvusPortsCoverTheTemplate(t *testing.T) {
	t.Parallel()
	root, err := fetch(t.Context(), Options{Logf: t.Logf}.withDefaults(), milvusBundle())
	require.NoError(t, err)
	values := milvusValues("/d", make([]int, len(milvusPorts())))
	dir := t.TempDir()
	require.NoError(t, writeMilvusConfig(root, dir, values, nil))
	for _, name := range []string{"milvus.yaml", "glog.conf", "etcd.yaml"} {
		assert.FileExists(t, filepath.Join(dir, "configs", name))
	}
	assert.Subset(t, milvusPorts(), templatePorts(t, filepath.Join(root, "config.yaml.template")))
}
