package capture

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/vecferry/vecferry"
)

// The keys of capture's records in the store.
const (
	keySlot  = "slot"    // identity
	keyQuiet = "capture" // quietRecord
)

// phase of an identity.
type phase string

const (
	// creating: written before the slot. Nothing depends on the slot yet.
	creating phase = "creating"
	// created: the slot was there. From now on it is never made again.
	created phase = "created"
)

// identity says which slot the pipeline reads and which log it writes.
type identity struct {
	Phase       phase        `json:"phase"`
	SystemID    string       `json:"system_id"` // of the cluster, from initdb
	Timeline    int32        `json:"timeline"`
	Database    string       `json:"database"`
	Slot        string       `json:"slot"`
	Publication string       `json:"publication"`
	Start       vecferry.LSN `json:"start"`       // where the slot began, once created
	Incarnation string       `json:"incarnation"` // minted with the slot; positions of two never mix
	Log         string       `json:"log"`
	Created     time.Time    `json:"created"`
}

// quietRecord is a position that was acknowledged without a batch: up to it
// the server had nothing that the log of Batch batches lacks.
type quietRecord struct {
	Incarnation string       `json:"incarnation"`
	LSN         vecferry.LSN `json:"lsn"`
	Batch       uint64       `json:"batch"`
}

// server is what the other side says of itself (PostgreSQL manual,
// "IDENTIFY_SYSTEM").
type server struct {
	systemID string
	timeline int32
	database string
	walEnd   vecferry.LSN
	fork     vecferry.LSN // where the stored timeline ended, if it is another one and a parent
	forked   bool
}

// tail is the end of the change log.
type tail struct {
	vecferry.BatchHeader
	log string // its identity
}

// slot is a row of pg_replication_slots.
type slot struct {
	plugin, database, walStatus, reason string
	temporary                           bool
	pid                                 string       // of who reads it, empty if nobody
	confirmed                           vecferry.LSN // 0 while it is being created
}

// newIdentity mints the identity of a slot that is to be created.
func newIdentity(o *Options, srv server, log string) identity {
	return identity{
		Phase: creating, SystemID: srv.systemID, Timeline: srv.timeline, Database: srv.database,
		Slot: o.Slot, Publication: o.Publication, Incarnation: rand.Text(), Log: log, Created: time.Now().UTC(),
	}
}

func halt(fix, format string, args ...any) error {
	return &vecferry.HaltError{What: fmt.Sprintf(format, args...), Fix: fix}
}

// What to do about it. A new pipeline is the only way if changes are missing.
const (
	fixRestart = "changes may be missing: start a new pipeline, which copies the tables again"
	fixForeign = "drop that slot if it is not in use, or give this pipeline another slot name"
	fixServer  = "connect to the server that the pipeline was made for, or start a new pipeline"
)

// mayBegin checks that a pipeline without an identity really is a new one.
func mayBegin(o *Options, tail tail, s *slot) error {
	if tail.Batch != 0 {
		return halt("restore the state, or start a new pipeline",
			"the change log holds %d batches but the record of the slot that filled it is missing", tail.Batch)
	}
	if s != nil {
		return halt(fixForeign,
			"there is a slot %s already, and no record says that this pipeline made it", o.Slot)
	}
	return nil
}

// mayFinish checks that the creation of the slot can go on. A slot that is
// there can only be ours, left by an interrupted creation, since there was none
// when the record was written; and nothing was built on it, since the log is
// empty.
func (id *identity) mayFinish(tail tail, s *slot) error {
	switch {
	case tail.Batch != 0:
		return halt(fixRestart, "the change log holds %d batches but the slot %s was never finished", tail.Batch, id.Slot)
	case s == nil:
		return nil
	case s.confirmed == 0:
		return fmt.Errorf("slot %s is still being created", id.Slot)
	}
	return id.usable(s)
}

// usable checks what a slot must be for us to read it.
func (id *identity) usable(s *slot) error {
	switch {
	case s.plugin != "pgoutput" || s.temporary:
		return halt(fixForeign, "slot %s is not a permanent one of plugin pgoutput but of %q", id.Slot, s.plugin)
	case s.database != id.Database:
		return halt(fixForeign, "slot %s belongs to database %q, not to %q", id.Slot, s.database, id.Database)
	case s.walStatus == "lost" || s.reason != "":
		return halt(fixRestart, "slot %s was invalidated by the server (%s), so that the log it needs is gone",
			id.Slot, oneOf(s.reason, "wal_status lost"))
	}
	return nil
}

// mayResume checks that the slot, the server and the log are the ones that the
// pipeline knows and that nobody moved them. It returns where the stream goes on.
func (id *identity) mayResume(o *Options, srv server, s *slot, tail tail, quiet quietRecord) (resume, error) {
	h := tail.BatchHeader
	r := resume{
		start: max(id.Start, h.EndLSN), open: h.OpenLSN, changes: h.OpenChanges, total: h.Total, newest: h.CommitTime,
	}
	if err := id.known(o, srv, tail); err != nil {
		return r, err
	}
	if quiet.Incarnation == id.Incarnation {
		if h.Batch < quiet.Batch {
			return r, halt(fixRestart, "the change log went back: it ends at batch %d and had %d", h.Batch, quiet.Batch)
		}
		r.start = max(r.start, quiet.LSN)
	}
	if s == nil {
		return r, halt(fixRestart, "slot %s is missing on the server", id.Slot)
	}
	if err := id.usable(s); err != nil {
		return r, err
	}
	switch {
	case s.confirmed > r.start:
		return r, halt(fixRestart, "slot %s was acknowledged up to %s, by somebody else, and the change log ends at %s",
			id.Slot, s.confirmed, r.start)
	case srv.timeline != id.Timeline && (!srv.forked || srv.fork < r.start):
		return r, halt(fixRestart, "the server is on timeline %d, which does not contain what was read on timeline %d up to %s",
			srv.timeline, id.Timeline, r.start)
	case srv.walEnd < r.start:
		return r, halt(fixRestart, "the server's log ends at %s and was already read up to %s: it went back", srv.walEnd, r.start)
	case r.open != 0 && r.open < r.start:
		return r, halt(fixRestart, "the change log ends inside the transaction at %s, which lies before its end at %s", r.open, r.start)
	}
	return r, nil
}

// known checks who is on the other side.
func (id *identity) known(o *Options, srv server, tail tail) error {
	switch {
	case srv.systemID != id.SystemID:
		return halt(fixServer, "the server has system identifier %s, the pipeline was made for %s", srv.systemID, id.SystemID)
	case srv.database != id.Database:
		return halt(fixServer, "the connection is to database %q, the pipeline was made for %q", srv.database, id.Database)
	case o.Slot != id.Slot:
		return halt("set the slot back, or start a new pipeline", "the pipeline reads slot %s, the configuration says %s", id.Slot, o.Slot)
	case o.Publication != id.Publication:
		return halt("set the publication back, or start a new pipeline",
			"the pipeline reads publication %q, the configuration says %q", id.Publication, o.Publication)
	case tail.log != id.Log:
		return halt("restore the change log, or start a new pipeline", "the change log is %s, the pipeline was made for %s", tail.log, id.Log)
	}
	return nil
}

func oneOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// forkOf finds in a timeline's history where the given ancestor ended
// (PostgreSQL manual, "TIMELINE_HISTORY": lines of parent, switch point, reason).
func forkOf(history []byte, timeline int32) (vecferry.LSN, bool) {
	for line := range bytes.Lines(history) {
		var parent int32
		var at string
		if n, _ := fmt.Sscan(string(line), &parent, &at); n != 2 || parent != timeline {
			continue
		}
		if lsn, err := vecferry.ParseLSN(at); err == nil {
			return lsn, true
		}
	}
	return 0, false
}

// record is one of capture's records with its revision.
type record[T any] struct {
	key      string
	value    T
	revision uint64 // 0 if it is not there
}

func load[T any](ctx context.Context, store Store, key string) (record[T], error) {
	r := record[T]{key: key}
	b, revision, err := store.Load(ctx, key)
	if err != nil {
		return r, fmt.Errorf("load record %s: %w", key, err)
	}
	if b == nil {
		return r, nil
	}
	r.revision = revision
	if err := json.Unmarshal(b, &r.value); err != nil {
		return r, &vecferry.HaltError{What: "the record " + key + " of the pipeline cannot be read", Fix: "restore the state", Err: err}
	}
	return r, nil
}

// save replaces the record if nobody else did.
func (r *record[T]) save(ctx context.Context, store Store, value T) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("save record %s: %w", r.key, err)
	}
	revision, err := store.Save(ctx, r.key, b, r.revision)
	if err != nil {
		return fmt.Errorf("save record %s: %w", r.key, err)
	}
	r.value, r.revision = value, revision
	return nil
}
