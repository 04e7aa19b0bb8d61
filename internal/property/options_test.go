package property

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vecferry/vecferry/sink"
)

// options are one run, all of it drawn from its seed.
type options struct {
	seed    uint64
	version int  // of PostgreSQL
	ghost   bool // a synchronous standby is missing now and then
	killed  bool // PostgreSQL is killed
	copied  bool // everything, before the writers begin
	blind   bool // workers read with any snapshot, and leave the check to the sink
	prefix  string
	mutant  mutant

	duration                                      time.Duration // of the writing, at most
	commits                                       int64         // that end it
	writers, statements, rekeys, hot              int
	pace, heartbeat                               time.Duration
	truncate                                      float64 // of one writer's transactions
	workers, chunkRows, batchBytes, runBytes      int
	lag, callDelay, readDelay, writeDelay, recopy time.Duration
	flaky                                         float64 // of the requests to the target
	deaths                                        map[string]float64
	chaos                                         time.Duration // between two acts
}

// draw returns the run of a seed. The servers follow from the seed as well, so
// that consecutive seeds go over all of them.
func draw(seed uint64) options {
	d := newDice(seed, 0)
	o := options{
		seed: seed, version: []int{16, 18}[seed%2], ghost: seed%4 >= 2, killed: seed%10 == 9,
		duration: 8 * time.Second, writers: 5, statements: 3, rekeys: 20, hot: 40, pace: 8 * time.Millisecond,
		heartbeat: 100*time.Millisecond + d.upTo(400*time.Millisecond),
		commits:   600, workers: 1 + d.n(3), chunkRows: 20 + d.n(50), batchBytes: 4000 << d.n(6), runBytes: 1 << (4 * d.n(7)),
		lag: 2*time.Millisecond + d.upTo(20*time.Millisecond), callDelay: time.Millisecond + d.upTo(5*time.Millisecond),
		readDelay: d.upTo(30 * time.Millisecond), writeDelay: d.upTo(30 * time.Millisecond),
		recopy: 50*time.Millisecond + d.upTo(100*time.Millisecond), flaky: 0.01,
		deaths: map[string]float64{"capture": 0.01, "sink": 0.02, "copy": 0.005},
		chaos:  500 * time.Millisecond,
	}
	if d.n(3) == 0 { // a slow target: long runs, which are redone as a whole
		o.lag, o.runBytes = 500*time.Millisecond, 1<<20
		o.deaths["sink"], o.chaos = 0.05, 2*time.Second
	}
	if d.n(2) == 0 {
		o.truncate = 0.01
	}
	o.copied, o.blind = d.n(2) == 0, d.n(4) == 0
	if d.n(2) == 0 { // slow workers: more changes meanwhile
		o.readDelay, o.writeDelay = 400*time.Millisecond, 200*time.Millisecond
	}
	if o.ghost {
		o.writers = 10 // four of which do not wait for standbys
	}
	return o
}

// String names what distinguishes the run.
func (o options) String() string {
	s := fmt.Sprintf("seed=%d postgres=%d", o.seed, o.version)
	if o.ghost {
		s += " ghost"
	}
	if o.killed {
		s += " killed"
	}
	if o.mutant.name != "" {
		s += " without: " + o.mutant.name
	}
	return s
}

// counts are what happened in a run.
type counts struct {
	commits, ghosts, recopies, reopened, kills, faults, letters atomic.Int64
	captureDeaths, sinkDeaths, copyDeaths                       atomic.Int64
	applied, dropped, heldBack, gated, void, tainted            atomic.Int64
}

func (c *counts) deathsOf(stage string) *atomic.Int64 {
	return map[string]*atomic.Int64{"capture": &c.captureDeaths, "sink": &c.sinkDeaths, "copy": &c.copyDeaths}[stage]
}

// sink adds what one life of the sink did. A breach, which hides a mistake, is
// a violation.
func (c *counts) sink(s sink.Status, o *oracle) {
	for _, t := range s.Tables {
		c.applied.Add(t.Counts.Applied)
		c.dropped.Add(t.Counts.Dropped)
		c.heldBack.Add(t.Counts.HeldBack)
		c.gated.Add(t.Counts.Gated)
		c.void.Add(t.Counts.Void)
		c.tainted.Add(t.Counts.Tainted)
		if t.Counts.Breaches > 0 {
			o.violateAny("%d breaches in %s", t.Counts.Breaches, t.Source)
		}
	}
}

func (w *world) summary() string {
	c := &w.count
	var chunks int64
	if w.oracle != nil {
		if cp := w.last; cp != nil {
			for _, t := range cp.Tables {
				chunks += t.Chunks
			}
		}
	}
	return fmt.Sprintf("%s | %d commits (%d ghosts), %d batches | deaths: capture %d, sink %d (%d redone), workers %d; %d reopened, %d kills, %d faults | "+
		"%d chunks, %d void, %d copied again, %d tainted, %d dead letters | %d dropped, %d held back, %d gated, %d applied | %d keys checked in %d checks",
		w.o, c.commits.Load(), c.ghosts.Load(), w.oracle.at, c.captureDeaths.Load(), c.sinkDeaths.Load(), w.oracle.redos, c.copyDeaths.Load(),
		c.reopened.Load(), c.kills.Load(), c.faults.Load(), chunks, c.void.Load(), c.recopies.Load(), c.tainted.Load(), c.letters.Load(),
		c.dropped.Load(), c.heldBack.Load(), c.gated.Load(), c.applied.Load(), w.oracle.keys, w.oracle.checks)
}
