package sink

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/lifecycle"
)

// drainTime is how long a run may go on after it was told to stop.
const drainTime = 20 * time.Second

// Target is one table's collection.
type Target interface {
	// Check returns a *vecferry.RowError for a row that it cannot hold.
	Check(vecferry.Row) error
	// Read returns the entities under the keys as they stand now.
	Read(ctx context.Context, keys []vecferry.Key) (map[vecferry.Key]vecferry.Row, error)
	// Replace does a write and retries until it is done or ctx ends.
	Replace(ctx context.Context, w vecferry.Write) ([]vecferry.Rejected, error)
	// Clear deletes the entities of a range.
	Clear(ctx context.Context, r vecferry.Range) error
}

// Message is one batch of the change log.
type Message struct {
	Batch   uint64
	Changes int // in it
	Data    []byte
}

// Reader reads the change log in order, without gaps.
type Reader interface {
	// Next returns the next batch. If none is there it waits until one is,
	// or, with block false, returns false.
	Next(ctx context.Context, block bool) (Message, bool, error)
	// Applied tells the log how far the sink is; it is progress, not truth.
	Applied(batch uint64)
	Close()
}

// Log opens readers and proves that the log did not go back in time.
type Log interface {
	ID() string
	Reader(ctx context.Context, after uint64) (Reader, error)
	// Check returns a *vecferry.HaltError unless batch is in the log with this
	// epoch and end.
	Check(ctx context.Context, batch, epoch uint64, end vecferry.LSN) error
}

// Store keeps the checkpoint; only one writer succeeds at each revision.
type Store interface {
	// Load returns nil if there is none.
	Load(ctx context.Context) (value []byte, revision uint64, err error)
	// Save returns the new revision.
	Save(ctx context.Context, value []byte, revision uint64) (uint64, error)
}

// DeadLetter is a row that was not applied and why.
type DeadLetter struct {
	Table *vecferry.Table
	Row   vecferry.Row
	LSN   vecferry.LSN
	Err   *vecferry.RowError
}

// DeadLetters keeps what cannot be applied; it returns when they are durable.
type DeadLetters interface {
	Bury(ctx context.Context, d DeadLetter) error
}

// Mapped is a table and its collection.
type Mapped struct {
	Table  *vecferry.Table
	Target Target
	// Empty says that the collection was created empty for this pipeline, so
	// that the first copy need not clear it.
	Empty bool
}

// Options configures a Sink. Every field but Rules, MaxRunBytes and Metrics is
// required.
type Options struct {
	Pipeline    string
	Tables      []Mapped
	Log         Log
	Store       Store
	DeadLetters DeadLetters
	NewDecoder  func(*vecferry.Table, []vecferry.RelationColumn) (Decoder, error)
	Logger      *slog.Logger
	Metrics     *Metrics
	Rules       Rules // Protocol if nil
	MaxRunBytes int   // of the rows of one run, if it has more than one batch; 32 MiB if 0
}

// Sink applies the change log of one pipeline.
type Sink struct {
	o      Options
	cp     *vecferry.Checkpoint
	rev    uint64
	tables map[uint32]*tableSink
	cache  vecferry.RelationCache
	status atomic.Pointer[Status]
}

// tableSink is one table's machine, target and decoder.
type tableSink struct {
	*machine
	target   Target
	relation *vecferry.Relation
	decoder  Decoder
	ops      ops
}

// Status is how far the sink is. It is a copy.
type Status struct {
	Doing      string // reading, persisting, applying 12 batches, ...
	Applied    uint64 // batch
	AppliedLSN vecferry.LSN
	CommitTime time.Time // of the newest transaction applied
	Runs       int64
	Batches    int64
	Tables     []TableStatus
}

// TableStatus is a table's part of the status.
type TableStatus struct {
	Source, Collection  string
	Copied              bool  // every range is live
	Rows, Nulls, Chunks int64 // by the copy
	Dead, Taints        int64
	Open                int // chunks between LOW and HIGH
	Ranges              int
	Counts              Counts
}

// New returns a Sink; Run does the work.
func New(o Options) *Sink {
	if o.Rules == nil {
		o.Rules = Protocol{}
	}
	if o.MaxRunBytes == 0 {
		o.MaxRunBytes = 32 << 20
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	s := &Sink{o: o}
	s.status.Store(&Status{Doing: "starting"})
	return s
}

// Status returns how far the sink is.
func (s *Sink) Status() Status { return *s.status.Load() }

// Run applies the log until ctx ends, which it reports as nil, or something
// fails. It may be called again after it returned.
func (s *Sink) Run(ctx context.Context) error {
	err := s.run(ctx)
	s.publish("stopped")
	if ctx.Err() != nil && !vecferry.Halts(err) {
		return nil
	}
	return err
}

func (s *Sink) run(ctx context.Context) error {
	if err := s.restore(ctx); err != nil {
		return err
	}
	// Persisted at once, so that the copy learns which chunks were lost.
	if err := s.save(ctx, s.cp.Applying); err != nil {
		return err
	}
	r, err := s.o.Log.Reader(ctx, s.cp.Applied)
	if err != nil {
		return fmt.Errorf("read the change log after batch %d: %w", s.cp.Applied, err)
	}
	defer r.Close()
	work, stop := lifecycle.Grace(ctx, drainTime)
	defer stop()
	if last := s.cp.Applying; last != 0 {
		if err := s.redo(work, r, last); err != nil {
			return err
		}
	}
	for {
		if err := s.next(ctx, work, r); err != nil {
			return err
		}
	}
}

// redo does the run again that a crash interrupted: exactly the same batches.
func (s *Sink) redo(ctx context.Context, r Reader, last uint64) error {
	s.o.Logger.Info("redoing the run that was interrupted", "from", s.cp.Applied+1, "to", last)
	var batches []Message
	for next := s.cp.Applied + 1; next <= last; next++ {
		m, _, err := r.Next(ctx, true)
		if err != nil {
			return err
		}
		batches = append(batches, m)
	}
	return s.apply(ctx, r, batches, true)
}

// next gathers a run until ctx ends, and applies it while work lasts.
func (s *Sink) next(ctx, work context.Context, r Reader) error {
	m, ok, err := r.Next(ctx, false)
	if err == nil && !ok {
		// Nothing more for now: what stands in the target is persisted before
		// waiting, since the copy waits for it.
		if s.cp.Applying != 0 {
			err = s.save(work, 0)
		}
		if err == nil {
			s.publish("waiting for changes")
			m, _, err = r.Next(ctx, true)
		}
	}
	if err != nil {
		return err
	}
	batches, err := s.gather(ctx, r, m)
	if err != nil {
		return err
	}
	return s.apply(work, r, batches, false)
}

// gather takes what is there already, up to the size of a run.
func (s *Sink) gather(ctx context.Context, r Reader, first Message) ([]Message, error) {
	batches, size := []Message{first}, s.weight(first)
	for size < s.o.MaxRunBytes {
		m, ok, err := r.Next(ctx, false)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		batches, size = append(batches, m), size+s.weight(m)
	}
	return batches, nil
}

// weight is what a batch costs in memory: each of its changes may turn out to
// be a whole row, most of which is its vector.
func (s *Sink) weight(m Message) int {
	row := 0
	for _, t := range s.o.Tables {
		row = max(row, 512+4*t.Table.VectorField().Dim)
	}
	return max(len(m.Data), m.Changes*row)
}

// apply is one run. When it returns an error the run is open, and is redone.
func (s *Sink) apply(ctx context.Context, r Reader, batches []Message, replay bool) error {
	start := time.Now()
	last := batches[len(batches)-1].Batch
	if err := s.save(ctx, last); err != nil {
		return err
	}
	s.publish(fmt.Sprintf("applying %d batches up to %d", len(batches), last))
	for _, t := range s.tables {
		t.start, t.replay = vecferry.PositionAt(batches[0].Batch, 0), replay
	}
	var end vecferry.BatchHeader
	for _, m := range batches {
		var err error
		if end, err = s.decide(m); err != nil {
			return fmt.Errorf("batch %d: %w", m.Batch, err)
		}
	}
	for _, t := range s.tables {
		if err := s.settle(ctx, t); err != nil {
			return fmt.Errorf("apply to %s: %w", t.table.Collection, err)
		}
	}
	s.advance(end, len(batches))
	r.Applied(last)
	s.o.Metrics.run(time.Since(start), s.cp)
	return nil
}

// advance moves the checkpoint in memory past a run that is done; it is
// persisted with the next run, or at once when there is none.
func (s *Sink) advance(end vecferry.BatchHeader, batches int) {
	s.cp.Applied, s.cp.Epoch, s.cp.AppliedLSN = end.Batch, end.Epoch, end.EndLSN
	if end.CommitTime != 0 {
		s.cp.CommitTime = end.CommitTime
	}
	st := *s.status.Load()
	st.Runs, st.Batches = st.Runs+1, st.Batches+int64(batches)
	s.status.Store(&st)
	s.publish("applied")
}

// settle writes what the run comes to for one table.
func (s *Sink) settle(ctx context.Context, t *tableSink) error {
	var bases map[vecferry.Key]vecferry.Row
	if keys := t.bases(); len(keys) > 0 {
		var err error
		if bases, err = t.target.Read(ctx, keys); err != nil {
			return err
		}
	}
	out := t.settle(bases, t.target.Check)
	for _, r := range out.clear {
		if err := t.target.Clear(ctx, r); err != nil {
			return err
		}
	}
	if len(out.write.Delete)+out.write.Rows() > 0 {
		rejected, err := t.target.Replace(ctx, out.write)
		if err != nil {
			return err
		}
		for _, rej := range rejected {
			out.dead = append(out.dead, deadRow{key: rej.Row.Key, row: rej.Row, err: rej.Err})
			t.markDead(rej.Row.Key)
		}
	}
	s.o.Metrics.read(t.table.Collection, t.ops)
	s.o.Metrics.wrote(t.table.Collection, out)
	t.ops = ops{}
	return s.bury(ctx, t, out.dead)
}

func (s *Sink) bury(ctx context.Context, t *tableSink, dead []deadRow) error {
	for _, d := range dead {
		if err := s.o.DeadLetters.Bury(ctx, DeadLetter{Table: t.table, Row: d.row, LSN: d.lsn, Err: d.err}); err != nil {
			return fmt.Errorf("dead letter of %w: %w", d.err, err)
		}
		s.o.Logger.Warn("row not applied, it is in the dead letters", "table", d.err.Table, "key", d.err.Key,
			"column", d.err.Column, "reason", d.err.Reason)
	}
	return nil
}
