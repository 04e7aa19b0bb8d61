package capture

import (
	"sync"

	"github.com/vecferry/vecferry"
)

// nudgeBytes is how far the acknowledgement may fall behind before it is sent
// ahead of its time: the size of a WAL segment.
const nudgeBytes = 16 << 20

// progress knows up to where Postgres may forget its log. Two things allow it:
// the end of a batch that is durable, and a quiet position, up to which there
// was nothing that the durable batches lack. A quiet position counts only once
// it is stored in the state, because after a restart the log alone would not
// explain why the server is ahead of it.
type progress struct {
	nudge chan struct{} // capacity 1: worth sending a status now

	mu      sync.Mutex
	base    uint64 // number of the log's last batch when the stream started
	sent    uint64 // batches handed over since
	acked   uint64 // of them durable
	flushed vecferry.LSN
	after   uint64       // quiet counts once this many are acked
	quiet   vecferry.LSN // nothing is missing up to here
	stored  vecferry.LSN // last quiet position in the state
	told    vecferry.LSN // last position acknowledged to Postgres
	owed    vecferry.LSN // position that the server waits for
}

func newProgress(base uint64, flushed, stored vecferry.LSN) *progress {
	return &progress{nudge: make(chan struct{}, 1), base: base, flushed: flushed, stored: stored}
}

// handOver counts a batch on its way into the log.
func (p *progress) handOver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
}

// durable says that the log has everything up to a batch for good.
func (p *progress) durable(h vecferry.BatchHeader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked = h.Batch - p.base
	p.flushed = max(p.flushed, h.EndLSN)
	p.wake()
}

// outstanding reports whether batches are on their way.
func (p *progress) outstanding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked < p.sent
}

// rest says that everything up to end was handed over. An older quiet position
// that did not come true yet is given up: it lies before the end of a batch
// that was handed over since.
func (p *progress) rest(end vecferry.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after, p.quiet = p.sent, max(p.quiet, end)
	p.wake()
}

// wake nudges the sender if there is reason to; the lock is held.
func (p *progress) wake() {
	best := p.flushed
	if p.acked >= p.after {
		best = max(best, p.quiet)
	}
	if best > p.told && (p.owed > p.told || best.Sub(p.told) >= nudgeBytes) {
		select {
		case p.nudge <- struct{}{}:
		default:
		}
	}
}

// request says that the server waits for an answer about end.
func (p *progress) request(end vecferry.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owed = max(p.owed, end)
}

// confirmable returns what may be acknowledged now.
func (p *progress) confirmable() vecferry.LSN {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.flushed, p.stored)
}

// storable returns a quiet position that would allow more if it were stored,
// and the log's last batch at that time.
func (p *progress) storable() (at vecferry.LSN, batch uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ok = p.acked >= p.after && p.quiet > max(p.flushed, p.stored)
	return p.quiet, p.base + p.acked, ok
}

// keep says that a quiet position is in the state.
func (p *progress) keep(at vecferry.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored = max(p.stored, at)
}

// tell says what was acknowledged.
func (p *progress) tell(at vecferry.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = max(p.told, at)
}
