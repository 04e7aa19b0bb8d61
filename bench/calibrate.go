package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/milvus-io/milvus-sdk-go/v2/client"
)

// calibration finds the fastest way to do a floor's work, in a collection of its own.
// That one is made anew before it holds enough for Milvus to index it: an index that
// is built in the background would slow whatever comes next.
type calibration struct {
	b      *bench
	v      *vectors
	conns  []client.Client
	cells  []cell
	over   bool // the rows are written over those of the try before
	scalar bool // and read back first

	used int // rows written to the collection as it is
}

const (
	calibrationRows = 8000  // of a try
	unindexedRows   = 17000 // of 1536 dimensions; Milvus 2.3 seals a segment at 118 MB
	scratch         = "calibration"
)

// fastest tries every cell once and the best two once more.
func (c *calibration) fastest(ctx context.Context) (cell, error) {
	if c.b.quick {
		return cell{verb: c.cells[0].verb, batch: 1000, lanes: 4}, nil
	}
	took := make(map[cell]time.Duration)
	best := slices.Clone(c.cells)
	for range 2 {
		for _, by := range best {
			d, err := c.try(ctx, by)
			if err != nil {
				return cell{}, fmt.Errorf("%s: %w", by, err)
			}
			if old, twice := took[by]; twice {
				d = (old + d) / 2
			}
			took[by] = d
		}
		sort.SliceStable(best, func(i, j int) bool { return took[best[i]] < took[best[j]] })
		best = best[:2]
	}
	for _, by := range c.cells {
		c.b.say("  floor %-36s %6.0f rows/s", by, float64(c.rows())/took[by].Seconds())
	}
	return best[0], c.b.drop(ctx, scratch)
}

func (c *calibration) rows() int { return min(calibrationRows, c.v.len()) }

func (c *calibration) try(ctx context.Context, by cell) (time.Duration, error) {
	n := c.rows()
	if err := c.room(ctx, n); err != nil {
		return 0, err
	}
	first := int64(c.used + 1)
	if c.over {
		first = 1
	}
	all := parcels(c.v, rowsFrom(first, n, 0), by.batch)
	var before func(context.Context, client.Client, *parcel) error
	if c.scalar {
		before = readBack(scratch, c.v.dim)
	}
	c.used += n
	begun := time.Now()
	err := target{c.conns, scratch}.write(ctx, by, all, before)
	return time.Since(begun), err
}

// room makes the collection anew if n more rows are too many, with the rows that are
// to be written over.
func (c *calibration) room(ctx context.Context, n int) error {
	if c.used > 0 && (c.used+n)*c.v.dim <= unindexedRows*1536 {
		return nil
	}
	c.used = 0
	if err := errors.Join(c.b.drop(ctx, scratch), c.b.create(ctx, scratch, c.v.dim)); err != nil {
		return err
	}
	if !c.over {
		return nil
	}
	c.used = n
	by := cell{verb: verbInsert, batch: 1000, lanes: 2}
	return target{c.b.conns, scratch}.write(ctx, by, parcels(c.v, rowsFrom(1, n, 0), by.batch), nil)
}
