package capture

import (
	"sync/atomic"
	"time"

	"github.com/vecferry/vecferry"
)

// counters are the totals since the Capture was made. One goroutine adds, any
// may read.
type counters struct {
	inserts, updates, deletes, truncates, marks atomic.Uint64
	unmapped                                    atomic.Uint64
	transactions, batches, bytes                atomic.Uint64
	commitTime                                  atomic.Int64 // microseconds since 1970, 0 if none
}

// op counts a stored change.
func (c *counters) op(op vecferry.Op) {
	switch op {
	case vecferry.OpInsert:
		c.inserts.Add(1)
	case vecferry.OpUpdate:
		c.updates.Add(1)
	case vecferry.OpDelete:
		c.deletes.Add(1)
	case vecferry.OpTruncate:
		c.truncates.Add(1)
	case vecferry.OpMark:
		c.marks.Add(1)
	}
}

// transaction counts one that was read to its end.
func (c *counters) transaction(commit time.Time) {
	c.transactions.Add(1)
	c.commitTime.Store(commit.UnixMicro())
}

// rows returns the row changes stored, marks left out.
func (c *counters) rows() uint64 {
	return c.inserts.Load() + c.updates.Load() + c.deletes.Load() + c.truncates.Load()
}
