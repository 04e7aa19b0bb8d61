package main

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// perCommit is the size of the transactions that make a backlog.
const perCommit = 100

// streamCase applies a backlog of inserts and re-embeds, half and half.
func streamCase(ctx context.Context, b *bench) error {
	w, err := b.world(ctx)
	if err != nil {
		return err
	}
	try := calibration{b: b, v: w.v, conns: w.floor.conns, cells: cells([]int{2, 4}, verbReplace, verbUpsert), over: true}
	best, err := try.fastest(ctx)
	if err != nil {
		return err
	}
	for round := range b.rounds {
		changes := w.churn(round + 1)
		err := b.oneTurn(round,
			func() error { return w.streamFloor(ctx, best, changes) },
			func() error { return w.streamFerry(ctx, changes) })
		if err != nil {
			return err
		}
	}
	return nil
}

// oneTurn runs both arms of a round, turn about.
func (b *bench) oneTurn(round int, floor, ferry func() error) error {
	if round%2 == 1 {
		floor, ferry = ferry, floor
	}
	if err := floor(); err != nil {
		return err
	}
	return ferry()
}

// churn plans a round: new rows, and old ones with a new title and vector, in turn.
// It changes w.rows to what the table will hold.
func (w *liveWorld) churn(round int) []row {
	half := w.b.rows / 2
	old := rand.New(rand.NewPCG(uint64(round), 7)).Perm(w.b.rows)
	changes := make([]row, 0, 2*half)
	for i := range half {
		k := old[i]
		w.rows[k] = row{key: int64(k + 1), version: round, title: round}
		added := row{key: int64(len(w.rows) + 1), version: round, title: round}
		w.rows = append(w.rows, added)
		changes = append(changes, w.rows[k], added)
	}
	return changes
}

func (w *liveWorld) streamFloor(ctx context.Context, by cell, changes []row) error {
	if err := w.b.settle(ctx); err != nil {
		return err
	}
	all := parcels(w.v, changes, by.batch)
	m, err := w.b.meter(ctx, nil, "")
	if err != nil {
		return err
	}
	if err := w.floor.write(ctx, by, all, nil); err != nil {
		return err
	}
	s, err := m.stop(ctx, len(changes))
	if err != nil {
		return err
	}
	w.b.record("stream", floorArm, by.String(), w.v.dim, s)
	return w.b.check(ctx, w.floor.name, w.v, w.rows)
}

func (w *liveWorld) streamFerry(ctx context.Context, changes []row) error {
	if err := w.b.exec(ctx, "truncate staged"); err != nil {
		return err
	}
	if err := w.b.load(ctx, "staged", w.v, changes); err != nil {
		return err
	}
	s, err := w.drain(ctx, "stream", func(ctx context.Context) ([]stamp, error) { return w.commitChanges(ctx, changes) })
	if err != nil {
		return err
	}
	w.b.record("stream", ferryArm, "", w.v.dim, s)
	return w.b.check(ctx, w.ferry.collection, w.v, w.rows)
}

// commitChanges writes the staged changes to the table.
func (w *liveWorld) commitChanges(ctx context.Context, changes []row) ([]stamp, error) {
	const sql = `with
		changed as (update ` + liveTable + ` d set title = s.title, v = s.v from staged s where s.id = any($1) and d.id = s.id returning d.id)
		insert into ` + liveTable + ` select * from staged where id = any($1) and id > $2`
	fresh := int64(len(w.rows) - len(changes)/2) // keys above are new
	var stamps []stamp
	for n := 0; n < len(changes); n += perCommit {
		end := min(n+perCommit, len(changes))
		if err := w.b.exec(ctx, sql, keysOf(changes[n:end]), fresh); err != nil {
			return nil, err
		}
		lsn, err := w.b.position(ctx)
		if err != nil {
			return nil, err
		}
		stamps = append(stamps, stamp{lsn: lsn, changes: end})
	}
	return stamps, nil
}

// scalarCase applies a backlog of updates that leave the vector alone, so that the
// write-ahead log does not hold it.
func scalarCase(ctx context.Context, b *bench) error {
	w, err := b.world(ctx)
	if err != nil {
		return err
	}
	try := calibration{b: b, v: w.v, conns: w.floor.conns, cells: cells([]int{2, 4}, verbReplace, verbUpsert), over: true, scalar: true}
	best, err := try.fastest(ctx)
	if err != nil {
		return err
	}
	for round := range b.rounds {
		edition := 100 + round
		for i := range b.rows {
			w.rows[i].title = edition
		}
		err := b.oneTurn(round,
			func() error { return w.scalarFloor(ctx, best) },
			func() error { return w.scalarFerry(ctx, edition) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *liveWorld) scalarFloor(ctx context.Context, by cell) error {
	if err := w.b.settle(ctx); err != nil {
		return err
	}
	all := parcels(w.v, w.rows[:w.b.rows], by.batch)
	m, err := w.b.meter(ctx, nil, "")
	if err != nil {
		return err
	}
	if err := w.floor.write(ctx, by, all, readBack(w.floor.name, w.v.dim)); err != nil {
		return err
	}
	s, err := m.stop(ctx, w.b.rows)
	if err != nil {
		return err
	}
	w.b.record("scalar", floorArm, "read, then "+by.String(), w.v.dim, s)
	return w.b.check(ctx, w.floor.name, w.v, w.rows)
}

func (w *liveWorld) scalarFerry(ctx context.Context, edition int) error {
	s, err := w.drain(ctx, "scalar", func(ctx context.Context) ([]stamp, error) {
		var stamps []stamp
		for n := 0; n < w.b.rows; n += perCommit {
			end := min(n+perCommit, w.b.rows)
			err := w.b.exec(ctx, fmt.Sprintf("update %s set title = 'document ' || id || ', edition %d' where id between $1 and $2", liveTable, edition), n+1, end)
			if err != nil {
				return nil, err
			}
			lsn, err := w.b.position(ctx)
			if err != nil {
				return nil, err
			}
			stamps = append(stamps, stamp{lsn: lsn, changes: end})
		}
		return stamps, nil
	})
	if err != nil {
		return err
	}
	w.b.record("scalar", ferryArm, "", w.v.dim, s)
	return w.b.check(ctx, w.ferry.collection, w.v, w.rows)
}
