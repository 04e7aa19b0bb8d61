package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"github.com/milvus-io/milvus-sdk-go/v2/entity"
	"golang.org/x/sync/errgroup"
)

// cell is one way to write with the SDK.
type cell struct {
	verb  string
	batch int
	lanes int
}

func (c cell) String() string {
	return fmt.Sprintf("%s, %d rows × %d lanes", c.verb, c.batch, c.lanes)
}

const (
	verbInsert  = "insert"
	verbUpsert  = "upsert"
	verbReplace = "delete + insert"
)

// cells crosses lanes and verbs with the batch sizes that are worth a try.
func cells(lanes []int, verbs ...string) []cell {
	var out []cell
	for _, verb := range verbs {
		for _, batch := range []int{1000, 2000} {
			for _, lanes := range lanes {
				out = append(out, cell{verb: verb, batch: batch, lanes: lanes})
			}
		}
	}
	return out
}

// parcel is one request's worth of rows, made ready before the clock starts.
type parcel struct {
	keys    []int64
	columns []entity.Column
	title   int // of a scalar update
}

func parcels(v *vectors, rows []row, size int) []parcel {
	var out []parcel
	for part := range slices.Chunk(rows, size) {
		out = append(out, parcel{keys: keysOf(part), columns: columns(v, part), title: part[0].title})
	}
	return out
}

// target is a collection and the connections to write to it.
type target struct {
	conns []client.Client
	name  string
}

// write sends parcels over the lanes of a cell; before is nil, or prepares what a
// parcel writes.
func (t target) write(ctx context.Context, c cell, all []parcel, before func(context.Context, client.Client, *parcel) error) error {
	var turn atomic.Uint32
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.lanes)
	for i := range all {
		g.Go(func() error {
			conn, p := t.conns[int(turn.Add(1))%len(t.conns)], all[i]
			if before != nil {
				if err := before(ctx, conn, &p); err != nil {
					return err
				}
			}
			return writeParcel(ctx, conn, t.name, c.verb, p)
		})
	}
	return g.Wait()
}

func writeParcel(ctx context.Context, conn client.Client, collection, verb string, p parcel) (err error) {
	switch verb {
	case verbUpsert:
		_, err = conn.Upsert(ctx, collection, "", p.columns...)
	case verbReplace:
		if err := conn.Delete(ctx, collection, "", among(p.keys)); err != nil {
			return fmt.Errorf("delete from %s: %w", collection, err)
		}
		_, err = conn.Insert(ctx, collection, "", p.columns...)
	default:
		_, err = conn.Insert(ctx, collection, "", p.columns...)
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", collection, err)
	}
	return nil
}

// errShape means that the SDK gave something else than was asked for.
var errShape = errors.New("a read gives other columns than it was asked for")

// readBack returns what makes a whole row of a scalar update: it reads the entities
// under the keys of a parcel, with vectors, and lays the new title over them.
func readBack(collection string, dim int) func(context.Context, client.Client, *parcel) error {
	return func(ctx context.Context, conn client.Client, p *parcel) error {
		found, err := conn.Query(ctx, collection, nil, among(p.keys), []string{"id", "title", "v", "$meta"},
			client.WithSearchQueryConsistencyLevel(entity.ClStrong))
		if err != nil {
			return fmt.Errorf("read from %s: %w", collection, err)
		}
		ids, ok1 := found.GetColumn("id").(*entity.ColumnInt64)
		metas, ok2 := found.GetColumn("$meta").(*entity.ColumnJSONBytes)
		embeddings, ok3 := found.GetColumn("v").(*entity.ColumnFloatVector)
		if !ok1 || !ok2 || !ok3 || ids.Len() != len(p.keys) {
			return errShape
		}
		titles := make([]string, ids.Len())
		for i, id := range ids.Data() {
			titles[i] = titleOf(id, p.title)
		}
		p.columns = assemble(ids.Data(), titles, metas.Data(), dim, embeddings.Data())
		return nil
	}
}
