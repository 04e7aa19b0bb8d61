package capture

import (
	"errors"
	"sync"
	"time"

	"github.com/vecferry/vecferry"
)

// Status is what capture does and how far it is. Totals count since New.
type Status struct {
	State string    // one line: what it does or what it waits for
	Since time.Time // of State
	Err   error     // why the last Run ended; nil while one goes on

	Received     vecferry.LSN // read from the server
	Written      vecferry.LSN // durable in the change log
	Acknowledged vecferry.LSN // the server may forget its log up to here
	ServerEnd    vecferry.LSN // the server had decoded up to here when it last said so

	Inserts, Updates, Deletes, Truncates uint64 // of mapped tables
	Marks                                uint64
	Unmapped                             uint64    // changes of other tables in the publication
	Transactions                         uint64    // read to their end
	Batches, Bytes                       uint64    // handed to the log
	CommitTime                           time.Time // of the last transaction read, zero if none
}

// The states that do not name what is waited for.
const (
	stateStopped    = "stopped"
	stateConnecting = "connecting"
	stateCreating   = "creating the slot"
	stateStreaming  = "streaming"
	stateDraining   = "draining"
	stateLogFull    = "log full"
	stateHalted     = "halted"
)

// board holds the parts of Status that are not counters.
type board struct {
	mu                                         sync.Mutex
	state                                      string
	since                                      time.Time
	err                                        error
	received, written, acknowledged, serverEnd vecferry.LSN
}

func (b *board) set(state string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != state {
		b.state, b.since = state, time.Now()
	}
}

// begin forgets why the last run ended.
func (b *board) begin() {
	b.set(stateConnecting)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = nil
}

// ended says why there is no run.
func (b *board) ended(err, full error) {
	switch {
	case vecferry.Halts(err):
		b.set(stateHalted)
	case full != nil && errors.Is(err, full):
		b.set(stateLogFull)
	default:
		b.set(stateStopped)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// raise notes positions; those that are behind what is known change nothing.
func (b *board) raise(received, written, acknowledged, serverEnd vecferry.LSN) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received, b.written = max(b.received, received), max(b.written, written)
	b.acknowledged, b.serverEnd = max(b.acknowledged, acknowledged), max(b.serverEnd, serverEnd)
}

// Status may be called at any time by any goroutine.
func (c *Capture) Status() Status {
	n := &c.count
	s := Status{
		Inserts: n.inserts.Load(), Updates: n.updates.Load(), Deletes: n.deletes.Load(),
		Truncates: n.truncates.Load(), Marks: n.marks.Load(), Unmapped: n.unmapped.Load(),
		Transactions: n.transactions.Load(), Batches: n.batches.Load(), Bytes: n.bytes.Load(),
	}
	if us := n.commitTime.Load(); us != 0 {
		s.CommitTime = time.UnixMicro(us)
	}
	b := &c.board
	b.mu.Lock()
	defer b.mu.Unlock()
	s.State, s.Since, s.Err = b.state, b.since, b.err
	s.Received, s.Written, s.Acknowledged, s.ServerEnd = b.received, b.written, b.acknowledged, b.serverEnd
	return s
}
