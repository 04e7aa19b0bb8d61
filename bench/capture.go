package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vecferry/vecferry"
)

// captureCase reads a backlog of the write-ahead log: pg_recvlogical to nothing,
// vecferry into its change log while Milvus cannot be reached.
func captureCase(ctx context.Context, b *bench) error {
	c := capturing{b: b, v: b.vectors(), table: "capture_docs"}
	if err := c.open(ctx); err != nil {
		return err
	}
	for round := range b.rounds {
		if err := c.fill(ctx); err != nil {
			return err
		}
		arms := []func(context.Context) error{c.floor, c.captured}
		if round%2 == 1 {
			arms[0], arms[1] = arms[1], arms[0]
		}
		for _, arm := range arms {
			if err := arm(ctx); err != nil {
				return err
			}
		}
	}
	return errors.Join(b.dropSlot(ctx, floorSlot), c.ferry.remove(ctx), b.exec(ctx, "drop table "+c.table))
}

const floorSlot = "floor"

type capturing struct {
	b     *bench
	v     *vectors
	table string
	ferry *ferry
	rows  []row        // in the table
	end   vecferry.LSN // behind the backlog
}

// open makes both slots on an empty table.
func (c *capturing) open(ctx context.Context) (err error) {
	if err := c.b.createTable(ctx, c.table, c.v.dim); err != nil {
		return err
	}
	if c.ferry, err = c.b.newFerry(ctx, c.table, c.table, c.b.proxy.Addr()); err != nil {
		return err
	}
	if err := c.ferry.startLive(ctx); err != nil {
		return err
	}
	if err := c.ferry.stop(); err != nil {
		return err
	}
	return c.b.exec(ctx, "select pg_create_logical_replication_slot($1, 'pgoutput')", floorSlot)
}

// fill writes the backlog in transactions of 1,000 rows, while nobody reads. A
// message behind it gives pg_recvlogical something to stop at.
func (c *capturing) fill(ctx context.Context) error {
	const each = 1000
	c.b.say("  writing %d rows in transactions of %d", c.b.rows, each)
	first := int64(len(c.rows)) + 1
	for n := 0; n < c.b.rows; n += each {
		part := rowsFrom(first+int64(n), min(each, c.b.rows-n), 0)
		if err := c.b.load(ctx, c.table, c.v, part); err != nil {
			return err
		}
		c.rows = append(c.rows, part...)
	}
	if err := c.b.exec(ctx, "select pg_logical_emit_message(true, 'bench', '')"); err != nil {
		return err
	}
	var err error
	c.end, err = c.b.position(ctx)
	return err
}

// position is the end of the source's log.
func (b *bench) position(ctx context.Context) (vecferry.LSN, error) {
	var text string
	if err := b.db.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, fmt.Errorf("end of the log: %w", err)
	}
	return vecferry.ParseLSN(text)
}

// floor drains its slot to nowhere.
func (c *capturing) floor(ctx context.Context) error {
	if err := c.b.settle(ctx); err != nil {
		return err
	}
	// Something must come behind the end for the program to see that it is there.
	if err := c.b.exec(ctx, "select pg_logical_emit_message(true, 'bench', '')"); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.b.pg.BinDir(), "pg_recvlogical"), "--start", "--no-loop",
		"-h", "127.0.0.1", "-p", strconv.Itoa(c.b.pg.Port()), "-U", "postgres", "-d", "postgres", "-S", floorSlot, "-E", c.end.String(),
		"-o", "proto_version=1", "-o", "publication_names=vecferry_"+c.ferry.name, "-o", "binary=true", "-o", "messages=true",
		"--fsync-interval=0", "-f", "/dev/null")
	m, err := c.b.meter(ctx, nil, "")
	if err != nil {
		return err
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_recvlogical: %w\n%s", err, text)
	}
	s, err := m.stop(ctx, c.b.rows)
	if err != nil {
		return err
	}
	c.b.record("capture", floorArm, "pg_recvlogical, binary, to /dev/null", c.v.dim, s)
	return nil
}

// captured starts vecferry, stops Milvus as soon as the start no longer needs it,
// and measures from there until the log has everything.
func (c *capturing) captured(ctx context.Context) error {
	if err := c.b.settle(ctx); err != nil {
		return err
	}
	f := c.ferry
	if err := f.start(ctx); err != nil {
		return err
	}
	if err := f.up(ctx); err != nil {
		return err
	}
	c.b.proxy.Block()
	defer c.b.proxy.Unblock()
	m, err := c.b.meter(ctx, f, "capture")
	if err != nil {
		return err
	}
	to, err := f.fence(ctx)
	if err != nil {
		return err
	}
	if _, err := f.until(ctx, 20*time.Millisecond, func(r report) bool { return r.captured() >= to }); err != nil {
		return err
	}
	s, err := m.stop(ctx, c.b.rows)
	if err != nil {
		return err
	}
	c.b.record("capture", ferryArm, "", c.v.dim, s)
	c.b.proxy.Unblock()
	if _, err := f.until(ctx, pollEvery, func(r report) bool { return r.applied() >= to }); err != nil {
		return err
	}
	if err := c.b.check(ctx, f.collection, c.v, c.rows); err != nil {
		return err
	}
	return f.stop()
}
