package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
)

// Marks writes to the source's own log.
type Marks interface {
	// Snapshot returns the text of pg_current_snapshot(), taken by a statement
	// of its own.
	Snapshot(ctx context.Context) (string, error)
	// Emit writes a mark as a transactional logical message and returns a
	// position in the log that is not before the end of its commit.
	Emit(ctx context.Context, pipeline string, m vecferry.Mark) (vecferry.LSN, error)
}

// Source reads tables.
type Source interface {
	// Estimate guesses the size of a table from the catalog.
	Estimate(ctx context.Context, t *vecferry.Table) (Estimate, error)
	// Split returns the keys in r, in order, that begin a new chunk of about
	// rows rows. Fewer than that many rows in r give no key.
	Split(ctx context.Context, t *vecferry.Table, r vecferry.Range, rows int) ([]vecferry.Key, error)
	// ReadChunk reads ranges in one short transaction, under a snapshot that
	// sees all that is needed; it waits for one.
	ReadChunk(ctx context.Context, req Request) (Chunk, error)
}

// Target is one collection.
type Target interface {
	// Check returns a *vecferry.RowError for a row that it cannot hold.
	Check(vecferry.Row) error
	// Clear deletes the entities of a range.
	Clear(ctx context.Context, r vecferry.Range) error
	// Replace does a write and retries until it is done or ctx ends. Its calls
	// have returned when it returns.
	Replace(ctx context.Context, w vecferry.Write) ([]vecferry.Rejected, error)
}

// Checkpoints delivers the sink's persisted record.
type Checkpoints interface {
	// Watch calls f with the record as it is, if there is one, and after each
	// change of it, until ctx ends. Records in between may be left out.
	Watch(ctx context.Context, f func(*vecferry.Checkpoint)) error
}

// Counters gives out numbers.
type Counters interface {
	// Counter returns a number, at least 1, that it never returned before for
	// this key, be it to this process or another.
	Counter(ctx context.Context, key string) (uint64, error)
}

// AttemptKey is the key of the counter of attempts.
const AttemptKey = "attempt"

// DeadLetters keeps what the target cannot.
type DeadLetters interface {
	// Bury keeps rows with their reasons; the same row again replaces the last.
	Bury(ctx context.Context, t *vecferry.Table, rows []vecferry.Rejected) error
}

// Estimate is about how large a table is. Zeros mean not known.
type Estimate struct {
	Rows  int64
	Bytes int64
}

// Request says what ReadChunk reads.
type Request struct {
	Table    *vecferry.Table
	Ranges   []vecferry.Range
	Need     vecferry.XIDs     // the snapshot must see all of these
	Position vecferry.Position // that the rows carry
	MaxBytes int64             // more than this, in more than one row, is a TooLargeError
	// Waiting is called with each snapshot that does not see all of Need.
	Waiting func(snapshot string)
}

// Chunk is what ReadChunk read.
type Chunk struct {
	Snapshot string              // that it was read with
	Rows     []vecferry.Row      // complete, with a vector, each key once
	Nulls    int64               // rows left out because their vector is NULL
	Dead     []vecferry.Rejected // rows that cannot be carried, by key
}

// A TooLargeError says that a chunk would not fit into memory.
type TooLargeError struct {
	Rows int // how many rows were read when the limit was passed
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the chunk has too many bytes in its first %d rows", e.Rows)
}

// Defaults of Options.
const (
	DefaultWorkers    = 2
	DefaultChunkBytes = 24 << 20
)

// Options say what to copy and how.
type Options struct {
	Pipeline   string
	Tables     []*vecferry.Table
	Workers    int   // chunks that hold rows at the same time; DefaultWorkers if 0
	ChunkBytes int64 // to aim at for one chunk; DefaultChunkBytes if 0
	Logger     *slog.Logger
	// Hook, if set, is called between any two steps of a chunk with the name of
	// the one ahead; an error ends the attempt there. It is for tests.
	Hook func(step Step) error
}

// Deps are what a Snapshot works with.
type Deps struct {
	Marks       Marks
	Source      Source
	Targets     map[uint32]Target // by the table's OID
	Checkpoints Checkpoints
	Counters    Counters
	DeadLetters DeadLetters
}

// Snapshot copies tables.
type Snapshot struct {
	Deps
	opts   Options
	log    *slog.Logger
	record *record
	lanes  chan struct{} // holds a token for each chunk that has rows in memory
	freed  chan struct{} // wakes the coordinator when work has ended

	mu     sync.Mutex
	tables []*table
	open   int // chunks
}

// New returns a Snapshot that does nothing until Run.
func New(opts Options, deps Deps) (*Snapshot, error) {
	if opts.Workers <= 0 {
		opts.Workers = DefaultWorkers
	}
	if opts.ChunkBytes <= 0 {
		opts.ChunkBytes = DefaultChunkBytes
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Snapshot{
		Deps: deps, opts: opts, log: opts.Logger, record: newRecord(),
		lanes: make(chan struct{}, opts.Workers),
		freed: make(chan struct{}, 1),
	}
	for _, t := range opts.Tables {
		if deps.Targets[t.OID] == nil {
			return nil, fmt.Errorf("table %s has no target", t)
		}
		s.tables = append(s.tables, &table{Table: t, target: deps.Targets[t.OID]})
	}
	return s, nil
}

// Run copies until ctx ends, which it reports as nil, or something fails that
// needs a decision. When it returns, its last call to the source and the target
// has returned. It may be called again then.
func (s *Snapshot) Run(ctx context.Context) error {
	s.record.set(nil) // what another Run saw may be old
	g, work := errgroup.WithContext(ctx)
	g.Go(func() error { return s.watch(work) })
	g.Go(func() error { return s.coordinate(work, g) })
	err := g.Wait()
	if ctx.Err() != nil && !vecferry.Halts(err) {
		return nil
	}
	return err
}

func (s *Snapshot) watch(ctx context.Context) error {
	if err := s.Checkpoints.Watch(ctx, s.record.set); err != nil {
		return fmt.Errorf("watch the checkpoint: %w", err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errWatchEnded
}

// errWatchEnded is a watch that returned without a reason.
var errWatchEnded = errors.New("the watch of the checkpoint has ended")

// coordinate starts what there is to do whenever something changed.
func (s *Snapshot) coordinate(ctx context.Context, g *errgroup.Group) error {
	for {
		works, changed := s.pick()
		for _, work := range works {
			g.Go(func() error {
				defer s.wake()
				return work(ctx)
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-s.freed:
		}
	}
}

// wake makes the coordinator look again.
func (s *Snapshot) wake() {
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// The pause after failures of a table, without success in between.
const (
	firstPause = 100 * time.Millisecond
	longPause  = 15 * time.Second
)

// pause sleeps longer after each failure.
func pause(ctx context.Context, failures int) {
	d := longPause
	if failures < 8 {
		d = min(longPause, firstPause<<failures)
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
