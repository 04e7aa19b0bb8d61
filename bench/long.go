package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// txnCase commits very many rows at once, and looks when the first and when all of
// them are in Milvus.
func txnCase(ctx context.Context, b *bench) error {
	const table = "txn_docs"
	v := b.vectors()
	if err := b.createTable(ctx, table, v.dim); err != nil {
		return err
	}
	f, err := b.newFerry(ctx, table, table, b.milvus.Address())
	if err != nil {
		return err
	}
	if err := f.startLive(ctx); err != nil {
		return err
	}
	var rows []row
	for range b.rounds {
		fresh := rowsFrom(int64(len(rows)+1), b.txnRows, 0)
		if err := b.oneTransaction(ctx, f, table, int64(len(rows)), fresh); err != nil {
			return err
		}
		rows = append(rows, fresh...)
		if err := b.check(ctx, f.collection, v, rows); err != nil {
			return err
		}
	}
	return errors.Join(f.remove(ctx), b.exec(ctx, "drop table "+table))
}

func (b *bench) oneTransaction(ctx context.Context, f *ferry, table string, before int64, rows []row) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	b.say("  writing %d rows in one transaction", len(rows))
	if err := resetPeak(f.pid()); err != nil {
		return err
	}
	if err := b.load(ctx, table, b.vectors(), rows); err != nil {
		return err
	}
	m, err := b.meter(ctx, f, "txn")
	if err != nil {
		return err
	}
	for {
		n, err := b.count(ctx, f.collection)
		if err != nil {
			return err
		}
		if n > before {
			break
		}
		if time.Since(m.begun) > patience {
			return fmt.Errorf("no row in Milvus after %v\n%s", patience, f.log.String())
		}
	}
	first := time.Since(m.begun)
	if err := f.caughtUp(ctx); err != nil {
		return err
	}
	s, err := m.stop(ctx, len(rows))
	if err != nil {
		return err
	}
	b.record("txn", ferryArm, "", b.dim, s)
	s.took = first
	b.record("txn", "first row", "", b.dim, s)
	return nil
}

// growthCase copies tables of several sizes: the time of a row and the memory should
// not depend on it.
func growthCase(ctx context.Context, b *bench) error {
	const dim = 128
	v := newVectors(b.sizes[len(b.sizes)-1], dim)
	for _, size := range b.sizes {
		table := fmt.Sprintf("growth_docs_%d", size)
		c := copying{b: b, kase: fmt.Sprintf("growth %d", size), table: table, v: v, rows: rowsFrom(1, size, 0)}
		if err := c.load(ctx); err != nil {
			return err
		}
		best, err := c.bestInsert(ctx)
		if err != nil {
			return err
		}
		err = b.turns(
			func(int) error { return c.floor(ctx, best) },
			func(round int) error { return c.ferry(ctx, round) })
		if err != nil {
			return err
		}
		if err := b.exec(ctx, "drop table "+table); err != nil {
			return err
		}
	}
	return nil
}
