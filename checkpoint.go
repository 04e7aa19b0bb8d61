package vecferry

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
)

// RangeState says what the sink does with a change whose key is in a range.
type RangeState string

// The states of a range.
const (
	Todo    RangeState = "todo"    // not copied: changes are dropped
	Copying RangeState = "copying" // between LOW and HIGH: changes are held back
	Live    RangeState = "live"    // equal to the source: changes are applied
	Dead    RangeState = "dead"    // one key that is in the dead letters: only a whole row brings it back
)

// MappedRange is a piece of a table's key space and its state.
type MappedRange struct {
	Range
	State   RangeState `json:"state"`
	Attempt uint64     `json:"attempt,omitempty"` // of a Copying range
	// Virgin says that nothing was ever written to the range, so that a copy
	// need not clear it.
	Virgin bool `json:"virgin,omitempty"`
}

// Copy is an open chunk.
type Copy struct {
	Low    Position `json:"low"`    // of its LOW mark; the rows that it writes carry it
	Need   XIDs     `json:"need"`   // its snapshot must see all of these
	Virgin bool     `json:"virgin"` // its ranges need no clearing
}

// TableState is what the sink knows of one table.
type TableState struct {
	Source     string           `json:"source"`
	Collection string           `json:"collection"`
	Ranges     []MappedRange    `json:"ranges"` // sorted, disjoint, together everything
	Copies     map[uint64]*Copy `json:"copies,omitempty"`
	// Recent are the transactions that touched the table and that no snapshot
	// in the stream has seen yet.
	Recent XIDs  `json:"recent,omitempty"`
	Rows   int64 `json:"copied_rows"`  // rows that chunks wrote
	Nulls  int64 `json:"null_vectors"` // rows that chunks left out because their vector is NULL
	Dead   int64 `json:"dead_letters"` // rows sent to the dead letters
	Chunks int64 `json:"chunks"`       // chunks that became live
	Taints int64 `json:"taints"`       // keys that had to be read again
}

// Checkpoint is the sink's whole memory. It is written before a run is applied
// and read after a restart; then exactly the batches in (Applied, Applying]
// are done again, as one run.
type Checkpoint struct {
	Version    int                    `json:"version"`
	Log        string                 `json:"log"` // identity of the change log
	Epoch      uint64                 `json:"epoch"`
	Applied    uint64                 `json:"applied"` // last batch that the target has
	AppliedLSN LSN                    `json:"applied_lsn"`
	Applying   uint64                 `json:"applying,omitempty"`    // last batch of the run at work, 0 if none
	CommitTime int64                  `json:"commit_time,omitempty"` // microseconds since 1970 of the newest transaction applied
	Tables     map[uint32]*TableState `json:"tables"`
}

// CheckpointVersion is the format that this code writes.
const CheckpointVersion = 1

// Encode returns the checkpoint as JSON.
func (c *Checkpoint) Encode() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return b, nil
}

// DecodeCheckpoint is the inverse of Encode.
func DecodeCheckpoint(b []byte) (*Checkpoint, error) {
	var c Checkpoint
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, corruptf("checkpoint: %v", err)
	}
	if c.Version != CheckpointVersion {
		return nil, &HaltError{
			What: fmt.Sprintf("the checkpoint has format %d, this program knows %d", c.Version, CheckpointVersion),
			Fix:  "run the version of vecferry that wrote it, or a newer one",
		}
	}
	return &c, nil
}

// AllLive reports whether the whole table was copied.
func (t *TableState) AllLive() bool {
	return !slices.ContainsFunc(t.Ranges, func(r MappedRange) bool { return r.State == Todo || r.State == Copying })
}

// XIDs is a sorted set of transaction ids, kept small by storing differences.
type XIDs []XID

// Add inserts an id.
func (s *XIDs) Add(x XID) {
	if n := len(*s); n == 0 || (*s)[n-1] < x {
		*s = append(*s, x)
		return
	}
	if i, found := slices.BinarySearch(*s, x); !found {
		*s = slices.Insert(*s, i, x)
	}
}

// DropSeen removes the ids that a snapshot sees.
func (s *XIDs) DropSeen(v Visibility) { *s = slices.DeleteFunc(*s, v.Sees) }

// MarshalJSON implements json.Marshaler.
func (s XIDs) MarshalJSON() ([]byte, error) {
	var b []byte
	var last XID
	for _, x := range s {
		b = binary.AppendUvarint(b, uint64(x-last))
		last = x
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(b))
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *XIDs) UnmarshalJSON(j []byte) error {
	var text string
	if err := json.Unmarshal(j, &text); err != nil {
		return err
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return corruptf("transaction ids: %v", err)
	}
	*s = nil
	var last XID
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return corruptf("transaction ids are cut off")
		}
		last += XID(d)
		*s, b = append(*s, last), b[n:]
	}
	return nil
}
