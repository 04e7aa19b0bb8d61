package vecferry

import (
	"encoding/json"
	"fmt"
)

// MarkKind says what a Mark announces.
type MarkKind string

// The kinds of marks.
const (
	// Low opens a chunk: from here on the sink holds back what it covers.
	Low MarkKind = "low"
	// High closes a chunk: its rows stand in the target as Snapshot saw them.
	High MarkKind = "high"
	// Beat carries a snapshot, so that the sink can forget transactions, and a
	// position, so that somebody can wait for it.
	Beat MarkKind = "beat"
)

// Mark is what the stages tell the sink through the source's own log, as a
// transactional logical message, so that it has a place among the changes.
type Mark struct {
	Kind    MarkKind `json:"kind"`
	Table   uint32   `json:"table,omitempty"`   // OID
	Attempt uint64   `json:"attempt,omitempty"` // never used twice in a pipeline
	Ranges  []Range  `json:"ranges,omitempty"`  // Low: what the chunk covers
	// Snapshot is the text of pg_current_snapshot(). In Low and Beat it was
	// taken by a statement of its own before the mark was written; in High it
	// is the one that the chunk was read with.
	Snapshot string `json:"snapshot"`
	Rows     int64  `json:"rows,omitempty"`  // High: rows written
	Nulls    int64  `json:"nulls,omitempty"` // High: rows left out because their vector is NULL
	Dead     []Key  `json:"dead,omitempty"`  // High: keys in the dead letters
}

// MarkPrefix is the prefix of a pipeline's logical messages.
func MarkPrefix(pipeline string) string { return "vecferry/" + pipeline }

// Encode returns the content of the logical message.
func (m Mark) Encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode mark: %w", err)
	}
	return b, nil
}

// DecodeMark is the inverse of Encode.
func DecodeMark(b []byte) (Mark, error) {
	var m Mark
	if err := json.Unmarshal(b, &m); err != nil {
		return Mark{}, corruptf("mark: %v", err)
	}
	switch m.Kind {
	case Low, High, Beat:
		return m, nil
	}
	return Mark{}, corruptf("mark of unknown kind %q", m.Kind)
}
