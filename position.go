package vecferry

import "fmt"

// Position is a place in the change log: the number of the batch and the
// ordinal of the record inside it. Positions of one log are unique and grow in
// commit order, which LSNs are not: COPY gives many rows one LSN. Every entity
// in the target carries the position of the change that wrote it.
type Position int64

// ordinalBits bounds the records of a batch; MaxRecords keeps to it.
const ordinalBits = 16

// MaxRecords is the largest number of records in one batch.
const MaxRecords = 1<<ordinalBits - 1

// PositionAt returns the position of record ordinal in a batch.
func PositionAt(batch uint64, ordinal int) Position {
	return Position(batch<<ordinalBits | uint64(ordinal))
}

// Batch returns the number of the batch.
func (p Position) Batch() uint64 { return uint64(p) >> ordinalBits }

// Ordinal returns the place inside the batch.
func (p Position) Ordinal() int { return int(uint64(p) & MaxRecords) }

// String returns batch.ordinal.
func (p Position) String() string { return fmt.Sprintf("%d.%d", p.Batch(), p.Ordinal()) }
