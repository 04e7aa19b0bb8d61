package milvus

import (
	"context"
	"fmt"
	"strconv"

	"github.com/milvus-io/milvus-proto/go-api/v2/commonpb"
	"github.com/milvus-io/milvus-proto/go-api/v2/milvuspb"

	"github.com/vecferry/vecferry"
)

// A Query asks for rows.
type Query struct {
	Selection
	KeysOnly bool // only the keys of the rows
	Limit    int  // at most so many, the least keys; 0 for all, else at most 16384
}

// Backend performs single requests on the entities of one collection, safe for
// concurrent use. It never retries; a failed request is an *Error, anything else ends
// the operation. Reads see every write that was acknowledged before (Strong).
type Backend interface {
	// Insert adds entities without a look at their keys.
	Insert(ctx context.Context, rows []vecferry.Row) error
	// Delete removes the selected entities, all of a key that is there twice.
	Delete(ctx context.Context, s Selection) error
	// Query returns rows in no order; of a duplicated key one, which may be the old one.
	Query(ctx context.Context, q Query) ([]vecferry.Row, error)
	// Count counts entities; a duplicated key counts twice.
	Count(ctx context.Context, s Selection) (int64, error)
}

// Names of the requests in an Error, as the server's service has them.
const (
	methodInsert = "Insert"
	methodDelete = "Delete"
)

const countField = "count(*)"

// remote is the Backend of a server. It uses the raw service of the wrapper: that
// shares connection and credentials but keeps no schema and hides no status.
type remote struct {
	client *Client
	layout *layout
}

// Insert implements Backend.
func (r *remote) Insert(ctx context.Context, rows []vecferry.Row) error {
	ctx, cancel := context.WithTimeout(ctx, r.client.retry.pace.Call)
	defer cancel()
	req := r.layout.insertRequest(rows)
	defer r.layout.release(req)
	reply, err := r.client.service().Insert(ctx, req)
	if err != nil {
		return err
	}
	if n := reply.GetInsertCnt(); n != int64(len(rows)) {
		return &Error{
			Method: methodInsert, Class: Ambiguous, Legacy: "partial reply",
			Reason: fmt.Sprintf("%d of %d rows were inserted", n, len(rows)),
		}
	}
	return nil
}

// Delete implements Backend.
func (r *remote) Delete(ctx context.Context, s Selection) error {
	limit := r.client.retry.pace.Call
	if s.Keys == nil {
		limit *= 10 // the server queries first, which takes as long as the range is wide
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := r.client.service().Delete(ctx, &milvuspb.DeleteRequest{
		CollectionName: r.layout.table.Collection, Expr: r.layout.expression(s),
		ConsistencyLevel: commonpb.ConsistencyLevel_Strong,
	})
	return err
}

// Query implements Backend.
func (r *remote) Query(ctx context.Context, q Query) ([]vecferry.Row, error) {
	fields := r.layout.outputs
	if q.KeysOnly {
		fields = []string{r.layout.table.KeyField().Name}
	}
	req := r.request(r.layout.expression(q.Selection), fields)
	if q.Limit > 0 {
		// Without the flags of an iterator a limited query of 2.5 and later returns any
		// rows of the selection instead of those with the least keys.
		req.QueryParams = []*commonpb.KeyValuePair{
			{Key: "limit", Value: strconv.Itoa(q.Limit)},
			{Key: "iterator", Value: "true"},
			{Key: "reduce_stop_for_best", Value: "true"},
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.client.retry.pace.Call)
	defer cancel()
	reply, err := r.client.service().Query(ctx, req)
	if err != nil {
		return nil, err
	}
	return r.layout.rows(reply.GetFieldsData(), q.KeysOnly)
}

// Count implements Backend.
func (r *remote) Count(ctx context.Context, s Selection) (int64, error) {
	expr := ""
	if s.Keys != nil || s.Range != vecferry.Everything() {
		expr = r.layout.expression(s)
	}
	ctx, cancel := context.WithTimeout(ctx, r.client.retry.pace.Call)
	defer cancel()
	reply, err := r.client.service().Query(ctx, r.request(expr, []string{countField}))
	if err != nil {
		return 0, err
	}
	for _, f := range reply.GetFieldsData() {
		if data := f.GetScalars().GetLongData().GetData(); len(data) == 1 {
			return data[0], nil
		}
	}
	return 0, fmt.Errorf("reply of Milvus to %s has no count", countField)
}

// request is a Strong query: the guarantee timestamp stays 0.
func (r *remote) request(expr string, fields []string) *milvuspb.QueryRequest {
	return &milvuspb.QueryRequest{
		CollectionName: r.layout.table.Collection, Expr: expr, OutputFields: fields,
		ConsistencyLevel: commonpb.ConsistencyLevel_Strong,
	}
}
