package milvus_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"github.com/milvus-io/milvus-sdk-go/v2/entity"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/conformance"
)

func TestConnectFindsNoServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // listens, answers nothing
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	for _, address := range []string{l.Addr().String(), "127.0.0.1:1"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		start := time.Now()
		_, err := milvus.Connect(ctx, milvus.Options{Address: address})
		cancel()
		var unreachable interface{ Unreachable() bool }
		require.True(t, errors.As(err, &unreachable) && unreachable.Unreachable(), "%v", err)
		require.Less(t, time.Since(start), 10*time.Second)
		require.False(t, vecferry.Halts(err))
	}
	_, err = milvus.Connect(t.Context(), milvus.Options{Address: "x", Token: "a", Username: "b"})
	require.ErrorContains(t, err, "not both")
}

func TestClient(t *testing.T) {
	t.Parallel()
	c, prefix := shared(t)
	require.NoError(t, c.Ping(t.Context()))
	v, err := c.Version(t.Context())
	require.NoError(t, err)
	require.Regexp(t, `^v?\d+\.\d+`, v)
	table := conformance.Table(prefix+"dropped", vecferry.KeyInt)
	require.NoError(t, c.Drop(t.Context(), table.Collection), "nothing to drop")
	require.True(t, prepare(t, c, table).Created)
	require.NoError(t, c.Drop(t.Context(), table.Collection))
	_, err = c.Collection(table).Count(t.Context())
	require.True(t, vecferry.Halts(err), "%v", err)
	_, err = c.Collection(table).Replace(t.Context(), vecferry.Write{Put: rowsOf(table, 0, 1, 1)})
	require.True(t, vecferry.Halts(err), "%v", err)
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	c, prefix := shared(t)
	for i, index := range []vecferry.Index{
		{Type: "HNSW", Metric: "COSINE", M: 16, EfConstruction: 256},
		{Type: "HNSW", Metric: "L2", M: 100, EfConstruction: 1000}, // beyond what the wrapper allows
		{Type: "FLAT", Metric: "IP"},
		{Type: "IVF_FLAT", Metric: "L2"},
		{Type: "AUTOINDEX", Metric: "COSINE"},
	} {
		t.Run(fmt.Sprint(index.Type, " ", index.Metric), func(t *testing.T) {
			table := conformance.Partitioned(fmt.Sprint(prefix, "prepare_", i), vecferry.KeyText)
			table.Index = index
			require.Equal(t, milvus.Prepared{Created: true}, prepare(t, c, table))
			rows := make([]vecferry.Row, 30)
			for i := range rows {
				rows[i] = conformance.Row(table, vecferry.Key(fmt.Sprintf("k%02d", i)), i+1)
			}
			coll := c.Collection(table)
			rejected, err := coll.Replace(t.Context(), vecferry.Write{Put: rows})
			require.NoError(t, err)
			require.Empty(t, rejected)
			require.Equal(t, milvus.Prepared{Entities: 30}, prepare(t, c, table), "again")
			hits, err := coll.Search(t.Context(), rows[7].Values[table.Vector].Vector(), 3, 128, `workspace == "v8"`)
			require.NoError(t, err)
			require.Len(t, hits, 1)
			require.Equal(t, rows[7].Key, hits[0].Key)
			hits, err = coll.Search(t.Context(), rows[7].Values[table.Vector].Vector(), 3, 128, "")
			require.NoError(t, err)
			require.Len(t, hits, 3)
			if index.Metric == "L2" {
				require.Equal(t, rows[7].Key, hits[0].Key)
				require.Zero(t, hits[0].Score)
			}
		})
	}
}

func TestPrepareHealsIndexAndLoad(t *testing.T) {
	t.Parallel()
	c, prefix := shared(t)
	table := conformance.Table(prefix+"heals", vecferry.KeyInt)
	sdk := raw(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	prepare(t, c, table)
	_, err := c.Collection(table).Replace(ctx, vecferry.Write{Put: rowsOf(table, 0, 5, 1)})
	require.NoError(t, err)
	require.NoError(t, sdk.ReleaseCollection(ctx, table.Collection))
	require.EqualValues(t, 5, prepare(t, c, table).Entities, "not loaded")
	require.NoError(t, sdk.ReleaseCollection(ctx, table.Collection))
	require.NoError(t, sdk.DropIndex(ctx, table.Collection, "embedding"))
	require.EqualValues(t, 5, prepare(t, c, table).Entities, "no index")
}

// raw returns the wrapper itself, to do what vecferry never does.
func raw(t *testing.T) client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.NewClient(ctx, client.Config{Address: testenv.Milvus(t).Address})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestPrepareRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	c, prefix := shared(t)
	for i, test := range []struct {
		name string
		want string // in the error, beside the collection's name
		edit func(*vecferry.Table)
	}{
		{"dimension", "field embedding is FloatVector of 4 dimensions; wanted is FloatVector of 5 dimensions", func(t *vecferry.Table) { t.Fields[1].Dim = 5 }},
		{"key type", "field id is Int64, primary key; wanted is VarChar of 10 bytes, primary key", func(t *vecferry.Table) {
			t.KeyType, t.Fields[0].MaxLength = vecferry.KeyText, 10
		}},
		{"type", "field c_int32 is Int32; wanted is Int64", func(t *vecferry.Table) { edit(t, "c_int32").Type = vecferry.FieldInt64 }},
		{"shorter there", "field c_varchar is VarChar of 200 bytes; wanted is VarChar of 201 bytes", func(t *vecferry.Table) { edit(t, "c_varchar").MaxLength = 201 }},
		{"missing", "it has no field other", func(t *vecferry.Table) { edit(t, "c_bool").Name = "other" }},
		{"unmapped", "its field c_bool, Bool, is not mapped", func(t *vecferry.Table) { edit(t, "c_bool").Dynamic = true }},
		{"partition key", "wanted is VarChar of 40 bytes, partition key", func(t *vecferry.Table) { t.PartitionKey, t.Partitions = 2, 16 }},
		{"metric", "HNSW with metric L2; wanted is HNSW with metric IP", func(t *vecferry.Table) { t.Index.Metric = "IP" }},
		{"index", "HNSW with metric L2; wanted is FLAT with metric L2", func(t *vecferry.Table) { t.Index.Type = "FLAT" }},
		{"reserved name", `field name "vecferry_position" is used twice or reserved`, func(t *vecferry.Table) { edit(t, "c_bool").Name = vecferry.PositionField }},
		{"bad name", `want letters`, func(t *vecferry.Table) { edit(t, "c_bool").Name = "a b" }},
		{"dynamic key", "field id cannot be a dynamic one", func(t *vecferry.Table) { t.Fields[0].Dynamic = true }},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := prefix + "misfit"
			if i == 0 {
				prepare(t, c, conformance.Table(name, vecferry.KeyInt))
			}
			table := conformance.Table(name, vecferry.KeyInt)
			test.edit(table)
			_, err := c.Prepare(t.Context(), table)
			var halt *vecferry.HaltError
			require.ErrorAs(t, err, &halt)
			require.Contains(t, halt.What, test.want)
			require.NotEmpty(t, halt.Fix)
		})
	}
	shorter := conformance.Table(prefix+"misfit", vecferry.KeyInt)
	edit(shorter, "c_varchar").MaxLength = 10
	require.False(t, prepare(t, c, shorter).Created, "a longer field there does no harm")
}

func edit(t *vecferry.Table, column string) *vecferry.Field {
	for i := range t.Fields {
		if t.Fields[i].Column == column {
			return &t.Fields[i]
		}
	}
	return nil
}

// Rows that move between partitions are found through the partition's filter, not only
// by key: on 2.3 an upsert would leave most of them in the wrong one.
func TestRowsStandInTheirPartition(t *testing.T) {
	t.Parallel()
	c, prefix := shared(t)
	table := conformance.Partitioned(prefix+"partition", vecferry.KeyInt)
	prepare(t, c, table)
	const n, workspaces = 200, 20
	var rows []vecferry.Row
	for version := range 3 {
		rows = rowsOf(table, 0, n, version)
		for i := range rows {
			rows[i].Values[table.PartitionKey] = vecferry.TextValue(fmt.Sprint("w", (i+7*version)%workspaces))
		}
		_, err := c.Collection(table).Replace(t.Context(), vecferry.Write{Put: rows})
		require.NoError(t, err)
	}
	sdk := raw(t)
	for w := range workspaces {
		rs, err := sdk.Query(t.Context(), table.Collection, nil, fmt.Sprintf(`workspace == "w%d"`, w), []string{"id", vecferry.PositionField},
			client.WithSearchQueryConsistencyLevel(entity.ClStrong))
		require.NoError(t, err)
		require.Equal(t, n/workspaces, rs.GetColumn("id").Len())
		for i := range rs.GetColumn("id").Len() {
			id, err := rs.GetColumn("id").GetAsInt64(i)
			require.NoError(t, err)
			require.EqualValues(t, w, (id+14)%workspaces)
		}
	}
}

// The server refuses more than 64 MiB in a request; such a piece is halved.
func TestLargeRowsAreSplit(t *testing.T) {
	t.Parallel()
	c, prefix := shared(t)
	table := conformance.Table(prefix+"large", vecferry.KeyInt)
	prepare(t, c, table)
	b := c.Backend(table)
	rows := rowsOf(table, 0, 1200, 1)
	for i := range rows {
		rows[i].Values[len(rows[i].Values)-2] = vecferry.JSONValue(`{"":"` + string(make64k()) + `"}`)
	}
	var e *milvus.Error
	require.ErrorAs(t, b.Insert(t.Context(), rows), &e)
	require.Equal(t, milvus.Split, e.Class)
	rejected, err := c.Collection(table).Replace(t.Context(), vecferry.Write{Put: rows[:300]})
	require.NoError(t, err)
	require.Empty(t, rejected)
	n, err := c.Collection(table).Count(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 300, n)
}

func make64k() []byte {
	b := make([]byte, 65000)
	for i := range b {
		b[i] = 'a' + byte(rand.IntN(26))
	}
	return b
}

// What the check refuses the server refuses too, with the class that is expected of it.
func TestClassesOfTheServer(t *testing.T) {
	t.Parallel()
	c, prefix := shared(t)
	table := conformance.Table(prefix+"classes", vecferry.KeyInt)
	prepare(t, c, table)
	b := c.Backend(table)
	for _, test := range []struct {
		name   string
		column string
		value  vecferry.Value
		want   milvus.Class
	}{
		{"NaN", "embedding", vecferry.VectorValue([]float32{1, 2, 3, float32(math.NaN())}), milvus.Ambiguous},
		{"long text", "c_varchar", vecferry.TextValue(string(make([]byte, 300))), milvus.BadRow},
		{"large dynamic field", "d_json", vecferry.JSONValue(`"` + string(make64k()) + string(make64k()) + `"`), milvus.BadRow},
		{"JSON field that is no object", "c_json", vecferry.JSONValue(`[1]`), milvus.Ambiguous},
		{"huge number", "d_json", vecferry.JSONValue(`1e400`), milvus.Ambiguous},
	} {
		rows := rowsOf(table, 0, 1, 1)
		for i := range table.Fields {
			if table.Fields[i].Column == test.column {
				rows[0].Values[i] = test.value
			}
		}
		var e *milvus.Error
		require.ErrorAs(t, b.Insert(t.Context(), rows), &e, test.name)
		require.Equal(t, test.want, e.Class, "%s: %v", test.name, e)
		require.Error(t, c.Collection(table).Check(rows[0]), test.name)
	}
	// The largest int64 is why the check refuses a key that the server takes: no query
	// returns it.
	largest := conformance.Row(table, vecferry.IntKey(math.MaxInt64), 1)
	require.Error(t, c.Collection(table).Check(largest))
	require.NoError(t, b.Insert(t.Context(), []vecferry.Row{largest}))
	rows, err := b.Query(t.Context(), milvus.Query{Selection: milvus.Selection{Keys: []vecferry.Key{largest.Key}}})
	require.NoError(t, err)
	require.Empty(t, rows)
}

func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a server")
	}
	m := testenv.OwnMilvus(t, map[string]string{"common.security.authorizationEnabled": "true"})
	for _, o := range []milvus.Options{{}, {Username: "root", Password: "wrong"}, {Token: "root:wrong"}} {
		o.Address = m.Address()
		_, err := milvus.Connect(t.Context(), o)
		require.ErrorIs(t, err, milvus.ErrCredentials)
		require.True(t, vecferry.Halts(err))
		require.NotContains(t, err.Error(), "wrong")
	}
	c := connect(t, milvus.Options{Address: m.Address(), Username: "root", Password: "Milvus"})
	require.NoError(t, c.Ping(t.Context()))
	require.NoError(t, connect(t, milvus.Options{Address: m.Address(), Token: "root:Milvus"}).Ping(t.Context()))
}

// A terminator stands in for a server with TLS.
func TestTLS(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a server")
	}
	m := testenv.Milvus(t)
	address, roots := terminateTLS(t, m.Address)
	c := connect(t, milvus.Options{Address: address, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	require.NoError(t, c.Ping(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := milvus.Connect(ctx, milvus.Options{Address: address, TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}})
	require.ErrorContains(t, err, "certificate")
}

// terminateTLS listens with a certificate of its own and passes on what it decrypts.
func terminateTLS(t *testing.T, backend string) (string, *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
		NextProtos:   []string{"h2"}, MinVersion: tls.VersionTLS12,
	})
	require.NoError(t, err)
	var pumps sync.WaitGroup
	pumps.Go(func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			pumps.Go(func() { pump(front, backend) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		pumps.Wait()
	})
	return l.Addr().String(), roots
}

// pump copies both ways until either side ends.
func pump(front net.Conn, backend string) {
	defer front.Close()
	back, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer back.Close()
	var back2front sync.WaitGroup
	back2front.Go(func() {
		_, _ = io.Copy(front, back)
		_ = front.Close()
	})
	_, _ = io.Copy(back, front)
	_ = back.Close()
	back2front.Wait()
}
