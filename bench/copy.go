package main

import (
	"context"
	"fmt"
)

const floorArm, ferryArm, plainArm = "floor", "vecferry", "plain script"

// copyCase copies a table that stands still.
func copyCase(ctx context.Context, b *bench) error {
	c := copying{b: b, kase: "copy", table: "copy_docs", v: b.vectors(), rows: rowsFrom(1, b.rows, 0)}
	if err := c.load(ctx); err != nil {
		return err
	}
	best, err := c.bestInsert(ctx)
	if err != nil {
		return err
	}
	err = b.turns(
		func(int) error { return c.floor(ctx, best) },
		func(round int) error {
			if err := c.ferry(ctx, round); err != nil || !b.peers {
				return err
			}
			return b.plain(ctx, &c)
		})
	if err != nil {
		return err
	}
	return b.exec(ctx, "drop table "+c.table)
}

// copying is a table that is copied several times.
type copying struct {
	b     *bench
	kase  string
	table string
	v     *vectors
	rows  []row
}

func (c *copying) load(ctx context.Context) error {
	c.b.say("  loading %d rows into PostgreSQL", len(c.rows))
	if err := c.b.createTable(ctx, c.table, c.v.dim); err != nil {
		return err
	}
	if err := c.b.load(ctx, c.table, c.v, c.rows); err != nil {
		return err
	}
	return c.b.exec(ctx, "vacuum analyze "+c.table) // as a table that has been there for a while
}

// bestInsert finds the fastest way to insert.
func (c *copying) bestInsert(ctx context.Context) (cell, error) {
	try := calibration{b: c.b, v: c.v, conns: c.b.conns, cells: cells([]int{1, 2, 4}, verbInsert)}
	return try.fastest(ctx)
}

func (c *copying) floor(ctx context.Context, by cell) error {
	collection := "floor_" + c.table
	if err := c.b.create(ctx, collection, c.v.dim); err != nil {
		return err
	}
	if err := c.b.settle(ctx); err != nil {
		return err
	}
	all := parcels(c.v, c.rows, by.batch)
	m, err := c.b.meter(ctx, nil, "")
	if err != nil {
		return err
	}
	if err := (target{c.b.conns, collection}).write(ctx, by, all, nil); err != nil {
		return err
	}
	s, err := m.stop(ctx, len(c.rows))
	if err != nil {
		return err
	}
	c.b.record(c.kase, floorArm, by.String(), c.v.dim, s)
	if err := c.b.check(ctx, collection, c.v, c.rows); err != nil {
		return err
	}
	return c.b.drop(ctx, collection)
}

// ferry measures from the moment that the servers are connected and the collection
// is ready, as the floor's is, until the table is live: the slot, the plan of chunks
// and their marks are part of it.
func (c *copying) ferry(ctx context.Context, round int) error {
	f, err := c.b.newFerry(ctx, fmt.Sprintf("%s_%d", c.table, round), c.table, c.b.milvus.Address())
	if err != nil {
		return err
	}
	if err := c.b.settle(ctx); err != nil {
		return err
	}
	if err := f.start(ctx); err != nil {
		return err
	}
	if err := f.up(ctx); err != nil {
		return err
	}
	m, err := c.b.meter(ctx, f, "copy")
	if err != nil {
		return err
	}
	if _, err := f.until(ctx, pollEvery, report.live); err != nil {
		return err
	}
	s, err := m.stop(ctx, len(c.rows))
	if err != nil {
		return err
	}
	c.b.record(c.kase, ferryArm, "", c.v.dim, s)
	if err := c.b.check(ctx, f.collection, c.v, c.rows); err != nil {
		return err
	}
	return f.remove(ctx)
}
