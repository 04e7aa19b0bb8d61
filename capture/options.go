package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/vecferry/vecferry"
)

// Source is the database as capture asks it beside the stream.
type Source interface {
	// ReplicationConfig returns a copy of what a session with
	// replication=database needs.
	ReplicationConfig() *pgconn.Config
	// Snapshot returns the text of pg_current_snapshot(), taken by a statement
	// of its own.
	Snapshot(ctx context.Context) (string, error)
	// CurrentLSN returns the end of the log: whatever has committed ends at or
	// before it.
	CurrentLSN(ctx context.Context) (vecferry.LSN, error)
	// Emit writes a mark into the source's log as a transactional logical
	// message and returns a place in the log after its commit.
	Emit(ctx context.Context, pipeline string, m vecferry.Mark) (vecferry.LSN, error)
}

// Log is the change log as its only writer sees it.
type Log interface {
	// ID names this incarnation of the log; one that was made again has another.
	ID() string
	// Tail returns the header of the last batch, zero if there never was one.
	Tail(ctx context.Context) (vecferry.BatchHeader, error)
	// Writer takes the log over and returns the tail after which it goes on.
	// ctx bounds the writer's life.
	Writer(ctx context.Context) (Writer, vecferry.BatchHeader, error)
	// MaxBatch returns the bytes that a batch may have.
	MaxBatch() int
}

// Writer appends batches in order. Append, Buffer and Close are called by one
// goroutine, Durable by another.
type Writer interface {
	// Append seals the builder with the header, after setting its Epoch, Batch
	// and Changes, and sends it, the builder's memory included. It waits while too
	// many are on their way.
	Append(ctx context.Context, b *vecferry.BatchBuilder, h vecferry.BatchHeader) (batch uint64, err error)
	// Buffer returns memory for the builder's next Reset, or nil.
	Buffer() []byte
	// Durable waits until more is durable than it last returned and returns
	// the header of the newest such batch; or why nothing will be any more.
	Durable(ctx context.Context) (vecferry.BatchHeader, error)
	// Close gives up what is still on its way.
	Close()
}

// Store keeps the pipeline's small records; only one writer succeeds at each
// revision.
type Store interface {
	// Load returns nil and revision 0 if there is no such record.
	Load(ctx context.Context, key string) (value []byte, revision uint64, err error)
	// Save replaces the record of this revision, 0 to create it, and returns
	// the new revision. Another revision in the store is an error.
	Save(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
}

// Options say what to capture. Fields without a default are required.
type Options struct {
	Pipeline    string
	Slot        string // lower-case letters, digits and underscores, at most 63
	Publication string // exists already, see the package comment
	Tables      []*vecferry.Table

	Source Source
	Log    Log
	Store  Store
	Logger *slog.Logger
	// LogFull is what errors.Is finds in a Writer's error if the log takes
	// nothing more for now; nil if that cannot be told.
	LogFull error

	BatchBytes     int           // a batch is cut before it grows over this; default 900 KB
	BatchChanges   int           // or has this many changes; default 60,000, at most vecferry.MaxRecords
	StatusInterval time.Duration // between standby status updates; default 10 s, at most a third of wal_sender_timeout
	Heartbeat      time.Duration // between beats while rows change; default 1 s
	DrainTimeout   time.Duration // for what is on its way when Run is asked to end; default 10 s
}

// Defaults of Options.
const (
	DefaultBatchBytes     = 900_000
	DefaultBatchChanges   = 60_000
	DefaultStatusInterval = 10 * time.Second
	DefaultHeartbeat      = time.Second
	DefaultDrainTimeout   = 10 * time.Second
)

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// withDefaults fills what was left out and refuses what cannot work.
func (o Options) withDefaults() (Options, error) {
	orDefault(&o.BatchBytes, DefaultBatchBytes)
	orDefault(&o.BatchChanges, DefaultBatchChanges)
	orDefault(&o.StatusInterval, DefaultStatusInterval)
	orDefault(&o.Heartbeat, DefaultHeartbeat)
	orDefault(&o.DrainTimeout, DefaultDrainTimeout)
	switch {
	case o.Source == nil || o.Log == nil || o.Store == nil || o.Logger == nil:
		return o, errors.New("capture needs a source, a log, a store and a logger")
	case o.Pipeline == "":
		return o, errors.New("capture needs the name of its pipeline")
	case len(o.Tables) == 0:
		return o, errors.New("capture needs at least one table")
	case !slotName.MatchString(o.Slot):
		return o, fmt.Errorf("slot %q: want 1 to 63 of a-z, 0-9 and _", o.Slot)
	case o.Publication == "" || strings.ContainsAny(o.Publication, "'\"\\\x00"):
		return o, fmt.Errorf("publication %q: want a name without quotes and backslashes", o.Publication)
	case o.BatchChanges < 1 || o.BatchChanges > vecferry.MaxRecords:
		return o, fmt.Errorf("batches of %d changes: want 1 to %d", o.BatchChanges, vecferry.MaxRecords)
	}
	return o, nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
