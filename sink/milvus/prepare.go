package milvus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"github.com/milvus-io/milvus-sdk-go/v2/entity"

	"github.com/vecferry/vecferry"
)

// Prepared says what Prepare found.
type Prepared struct {
	Created  bool  // there was no such collection
	Entities int64 // counted exactly
}

// loadPoll is how often the progress of loading is looked at.
const loadPoll = 200 * time.Millisecond

// Prepare makes the collection of a table ready for use: creates it with its index if
// it is missing, or else compares it with the mapping, creates a missing index, and
// loads it. It is loaded before the copy: building the index and loading afterwards
// take two to three times as long in all. A collection that does not fit is refused
// with a vecferry.HaltError and not touched. The deadline of ctx bounds it all.
func (c *Client) Prepare(ctx context.Context, t *vecferry.Table) (Prepared, error) {
	if err := newLayout(t).validate(); err != nil {
		return Prepared{}, err
	}
	var p Prepared
	step := func(verb string, f func(context.Context) error) error {
		return c.retry.do(ctx, task{name: verb + " " + t.Collection}, f)
	}
	err := step("create", func(ctx context.Context) error {
		created, err := c.ensureCollection(ctx, t)
		p.Created = p.Created || created
		return err
	})
	if err != nil {
		return p, err
	}
	if err := step("index", func(ctx context.Context) error { return c.ensureIndex(ctx, t) }); err != nil {
		return p, err
	}
	if err := step("load", func(ctx context.Context) error { return c.ensureLoaded(ctx, t.Collection) }); err != nil {
		return p, err
	}
	p.Entities, err = c.Collection(t).Count(ctx)
	return p, err
}

// ensureCollection reports created even if the creation failed: it may have landed,
// and then the next try finds the collection.
func (c *Client) ensureCollection(ctx context.Context, t *vecferry.Table) (created bool, err error) {
	conn := c.conn()
	there, err := conn.HasCollection(ctx, t.Collection)
	if err != nil {
		return false, err
	}
	if there {
		found, err := conn.DescribeCollection(ctx, t.Collection)
		if err != nil {
			return false, err
		}
		return false, compareSchema(t, found.Schema)
	}
	opts := []client.CreateCollectionOption{client.WithConsistencyLevel(entity.ClStrong)}
	if t.PartitionKey >= 0 && t.Partitions > 0 {
		opts = append(opts, client.WithPartitionNum(int64(t.Partitions)))
	}
	return true, conn.CreateCollection(ctx, schemaOf(t), int32(max(1, t.Shards)), opts...)
}

// ensureIndex does not wait for the index: it is built while the copy goes on, and
// waiting under live writes may never end.
func (c *Client) ensureIndex(ctx context.Context, t *vecferry.Table) error {
	conn := c.conn()
	field := t.VectorField().Name
	found, err := conn.DescribeIndex(ctx, t.Collection, field)
	var e *Error
	if errors.As(err, &e) && e.Code == codeIndexNotFound {
		err = nil
	}
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return compareIndex(t, found[0])
	}
	return conn.CreateIndex(ctx, t.Collection, field, indexOf(t.Index), true)
}

func (c *Client) ensureLoaded(ctx context.Context, collection string) error {
	conn := c.conn()
	state, err := conn.GetLoadState(ctx, collection, nil)
	if err != nil || state == entity.LoadStateLoaded {
		return err
	}
	if err := conn.LoadCollection(ctx, collection, true); err != nil {
		return err
	}
	ticker := time.NewTicker(loadPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s is loaded: %w", collection, context.Cause(ctx))
		case <-ticker.C:
		}
		state, err := conn.GetLoadState(ctx, collection, nil)
		if err != nil || state == entity.LoadStateLoaded {
			return err
		}
	}
}
