package snapshot_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/snapshot"
)

// documents is the one table of the world.
func documents() *vecferry.Table {
	return &vecferry.Table{
		OID: 4711, Schema: "public", Name: "documents", Collection: "documents", KeyType: vecferry.KeyInt,
		Fields: []vecferry.Field{{Name: "id", Type: vecferry.FieldInt64}, {Name: "embedding", Type: vecferry.FieldVector, Dim: 4}},
		Key:    0, Vector: 1,
	}
}

// entry is a transaction in the log: changes of single keys, or a mark.
type entry struct {
	xid     vecferry.XID
	changes []change
	mark    *vecferry.Mark
}

// change gives a key a version; 0 deletes it.
type change struct {
	key     vecferry.Key
	version int
}

// faults are probabilities; the zero value is a world without any.
type faults struct {
	kill      float64 // a chunk, between two steps
	emit      float64 // a mark fails: half of those were written all the same, some of them late
	target    float64 // a call on the target fails half done
	sinkCrash float64 // at each run
	restart   float64 // of the process under test, at each of its lives' ends
	taint     float64 // of a key, at each run
	unsaved   float64 // a run after which the sink persists nothing
	// leak shows the copy what the sink has in memory, persisted or not. It
	// breaks the protocol, and the oracle must see that.
	leak bool
}

// world is a source, a log, a sink that keeps to the rules of the protocol, and
// a target, all in memory. Time may be virtual.
type world struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	table *vecferry.Table
	faults

	// The source.
	log     []entry
	history map[vecferry.Key][]version
	nextXID vecferry.XID
	hidden  map[vecferry.XID]bool // running, or in the log but not visible yet
	locked  map[vecferry.Key]bool

	// The sink.
	cp          *vecferry.Checkpoint // in memory
	saved       []byte               // persisted
	savedAt     int
	shown       []byte // what the watch sees: the same, without a leak
	held        map[uint64][]entry
	replayUntil int
	watchers    map[chan struct{}]bool

	// The target and what it refused.
	target map[vecferry.Key]int
	buried map[vecferry.Key]bool

	// The oracle.
	truth    map[vecferry.Key]int // the source at truthAt, rebuilt from the log
	truthAt  int
	busy     []vecferry.Range // under a call of the copy
	attempts map[uint64]bool
	counter  uint64
	broken   []string
	stats    map[string]int
	late     sync.WaitGroup
	options  func() (snapshot.Options, snapshot.Deps)
}

type version struct {
	xid     vecferry.XID
	version int
}

func newWorld(seed int64, keys int, f faults) *world {
	w := &world{
		rnd: rand.New(rand.NewPCG(uint64(seed), 1)), table: documents(), faults: f,
		history: map[vecferry.Key][]version{}, nextXID: 100, hidden: map[vecferry.XID]bool{}, locked: map[vecferry.Key]bool{},
		held: map[uint64][]entry{}, watchers: map[chan struct{}]bool{},
		target: map[vecferry.Key]int{}, buried: map[vecferry.Key]bool{},
		truth: map[vecferry.Key]int{}, attempts: map[uint64]bool{}, stats: map[string]int{},
	}
	for i := range keys {
		w.history[vecferry.IntKey(int64(i))] = []version{{xid: 1, version: 1 + i}}
		w.truth[vecferry.IntKey(int64(i))] = 1 + i
	}
	w.cp = &vecferry.Checkpoint{
		Version: vecferry.CheckpointVersion,
		Tables: map[uint32]*vecferry.TableState{w.table.OID: {
			Ranges: []vecferry.MappedRange{{Range: vecferry.Everything(), State: vecferry.Todo, Virgin: true}},
			Copies: map[uint64]*vecferry.Copy{},
		}},
	}
	w.options = w.defaults
	w.save()
	return w
}

func (w *world) breach(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

func (w *world) chance(p float64) bool { return p > 0 && w.rnd.Float64() < p }

// refuses says which versions the target cannot hold.
func refuses(version int) bool { return version%23 == 0 }

// judge compares every live key with the source at the sink's position, which
// holds at each end of a run outside a replay.
func (w *world) judge() {
	if w.at() < w.replayUntil || w.at() < w.truthAt {
		return
	}
	for ; w.truthAt < w.at(); w.truthAt++ {
		for _, c := range w.log[w.truthAt].changes {
			w.truth[c.key] = c.version
		}
	}
	for k, want := range w.truth {
		got, there := w.target[k]
		switch s := w.stateOf(k).State; {
		case s == vecferry.Live && (there != (want != 0) || got != want):
			w.breach("key %d is live with %d, the source has %d at %d", k.Int(), got, want, w.at())
		case s == vecferry.Dead && (there || !w.buried[k]):
			w.breach("key %d is dead, but it is in the target (%v) or not in the dead letters", k.Int(), there)
		}
	}
}

// quiet ends all faults.
func (w *world) quiet() {
	w.mu.Lock()
	defer w.mu.Unlock()
	leak := w.leak
	w.faults = faults{leak: leak}
}

// done reports whether all is applied, live and persisted.
func (w *world) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	cp, err := vecferry.DecodeCheckpoint(w.saved)
	return err == nil && w.at() == len(w.log) && int(cp.AppliedLSN) == len(w.log) && cp.Tables[w.table.OID].AllLive()
}

// sleep lets time pass, which is virtual but in the tests on a real server.
func sleep(d time.Duration) { <-time.After(d) }
