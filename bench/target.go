package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	grpcretry "github.com/grpc-ecosystem/go-grpc-middleware/retry"
	"github.com/milvus-io/milvus-proto/go-api/v2/commonpb"
	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"github.com/milvus-io/milvus-sdk-go/v2/entity"
	"google.golang.org/grpc"

	"github.com/vecferry/vecferry"
)

// dialMilvus returns n clients as the floors use them: the public SDK, with its
// hidden retries off so that a failure shows.
func dialMilvus(ctx context.Context, address string, n int) ([]client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var out []client.Client
	for range n {
		c, err := client.NewClient(ctx, client.Config{
			Address: address, RetryRateLimit: &client.RetryRateLimitOption{MaxRetry: 0},
			DialOptions: []grpc.DialOption{
				grpc.WithBlock(), grpc.WithDefaultCallOptions(grpcretry.Disable(), grpc.MaxCallRecvMsgSize(math.MaxInt32)),
				grpc.WithChainUnaryInterceptor(refusals),
			},
		})
		if err != nil {
			return nil, fmt.Errorf("connect to Milvus: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// refusals makes an error of every reply that says no; the SDK passes over some.
//
//nolint:revive // the parameters are gRPC's
func refusals(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
		return err
	}
	status, ok := reply.(*commonpb.Status)
	if r, has := reply.(interface{ GetStatus() *commonpb.Status }); has {
		status, ok = r.GetStatus(), true
	}
	if ok && (status.GetCode() != 0 || status.GetErrorCode() != commonpb.ErrorCode_Success) { //nolint:staticcheck // 2.3 still fills it
		return fmt.Errorf("%s: milvus code %d: %s", method, status.GetCode(), status.GetReason())
	}
	return nil
}

// create makes a collection of the shape that vecferry gives to our table, indexes
// and loads it as vecferry does.
func (b *bench) create(ctx context.Context, name string, dim int) error {
	shape, err := b.shape(ctx, dim)
	if err != nil {
		return err
	}
	s := entity.NewSchema().WithName(name).WithDynamicFieldEnabled(true)
	for _, f := range shape.Fields {
		if !f.IsDynamic {
			s.WithField(f)
		}
	}
	c := b.conns[0]
	if err := c.CreateCollection(ctx, s, 1, client.WithConsistencyLevel(entity.ClStrong)); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	index, err := entity.NewIndexHNSW(entity.COSINE, 16, 256)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if err := c.CreateIndex(ctx, name, "v", index, true); err != nil {
		return fmt.Errorf("index %s: %w", name, err)
	}
	if err := c.LoadCollection(ctx, name, false); err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return nil
}

// shape lets vecferry make a collection of an empty table, once, and looks at it.
func (b *bench) shape(ctx context.Context, dim int) (*entity.Schema, error) {
	if s := b.shapes[dim]; s != nil {
		return s, nil
	}
	name := "shape_" + strconv.Itoa(dim)
	if err := b.createTable(ctx, name, dim); err != nil {
		return nil, err
	}
	f, err := b.newFerry(ctx, name, name, b.milvus.Address())
	if err != nil {
		return nil, err
	}
	if err := f.startLive(ctx); err != nil {
		return nil, err
	}
	found, err := b.conns[0].DescribeCollection(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", name, err)
	}
	b.shapes[dim] = found.Schema
	return found.Schema, errors.Join(f.remove(ctx), b.exec(ctx, "drop table "+name))
}

func (b *bench) drop(ctx context.Context, collection string) error {
	there, err := b.conns[0].HasCollection(ctx, collection)
	if err == nil && there {
		err = b.conns[0].DropCollection(ctx, collection)
	}
	if err != nil {
		return fmt.Errorf("drop %s: %w", collection, err)
	}
	return nil
}

// columns are rows as the SDK takes them.
func columns(v *vectors, rows []row) []entity.Column {
	ids, titles := make([]int64, len(rows)), make([]string, len(rows))
	metas, embeddings := make([][]byte, len(rows)), make([][]float32, len(rows))
	for i, r := range rows {
		ids[i], titles[i] = r.key, titleOf(r.key, r.title)
		metas[i], embeddings[i] = []byte(`{"meta":`+metaOf(r.key)+`}`), v.at(r.key, r.version)
	}
	return assemble(ids, titles, metas, v.dim, embeddings)
}

func assemble(ids []int64, titles []string, metas [][]byte, dim int, embeddings [][]float32) []entity.Column {
	return []entity.Column{
		entity.NewColumnInt64("id", ids), entity.NewColumnVarChar("title", titles),
		entity.NewColumnJSONBytes("", metas).WithIsDynamic(true),
		entity.NewColumnInt64(vecferry.PositionField, make([]int64, len(ids))),
		entity.NewColumnFloatVector("v", dim, embeddings),
	}
}

// among is the expression for a set of keys.
func among(keys []int64) string {
	buf := []byte("id in [")
	for i, k := range keys {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendInt(buf, k, 10)
	}
	return string(append(buf, ']'))
}

func keysOf(rows []row) []int64 {
	out := make([]int64, len(rows))
	for i, r := range rows {
		out[i] = r.key
	}
	return out
}

// check counts exactly, and compares a sample of rows bit for bit.
func (b *bench) check(ctx context.Context, collection string, v *vectors, rows []row) error {
	const sample = 200
	n, err := b.count(ctx, collection)
	if err != nil {
		return err
	}
	if n != int64(len(rows)) {
		return fmt.Errorf("%s has %d entities, the table has %d rows", collection, n, len(rows))
	}
	want := make(map[int64]row)
	for i := 0; i < len(rows); i += max(1, len(rows)/sample) {
		want[rows[i].key] = rows[i]
	}
	keys := make([]int64, 0, len(want))
	for k := range want {
		keys = append(keys, k)
	}
	found, err := b.conns[0].Query(ctx, collection, nil, among(keys), []string{"id", "title", "v"},
		client.WithSearchQueryConsistencyLevel(entity.ClStrong))
	if err != nil {
		return fmt.Errorf("read back from %s: %w", collection, err)
	}
	return compare(collection, found, v, want)
}

func compare(collection string, found client.ResultSet, v *vectors, want map[int64]row) error {
	ids, ok1 := found.GetColumn("id").(*entity.ColumnInt64)
	titles, ok2 := found.GetColumn("title").(*entity.ColumnVarChar)
	embeddings, ok3 := found.GetColumn("v").(*entity.ColumnFloatVector)
	if !ok1 || !ok2 || !ok3 {
		return fmt.Errorf("%s: %w", collection, errShape)
	}
	if ids.Len() != len(want) {
		return fmt.Errorf("%s: %d of %d sampled rows found", collection, ids.Len(), len(want))
	}
	for i, id := range ids.Data() {
		r := want[id]
		if titles.Data()[i] != titleOf(r.key, r.title) || !slices.Equal(embeddings.Data()[i], v.at(r.key, r.version)) {
			return fmt.Errorf("%s: row %d differs from the source", collection, id)
		}
	}
	return nil
}

func (b *bench) count(ctx context.Context, collection string) (int64, error) {
	found, err := b.conns[0].Query(ctx, collection, nil, "", []string{"count(*)"}, client.WithSearchQueryConsistencyLevel(entity.ClStrong))
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", collection, err)
	}
	column, ok := found.GetColumn("count(*)").(*entity.ColumnInt64)
	if !ok || column.Len() != 1 {
		return 0, fmt.Errorf("count %s: no number", collection)
	}
	return column.Data()[0], nil
}
