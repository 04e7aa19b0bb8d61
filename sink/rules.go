package sink

import "github.com/vecferry/vecferry"

// Rules are the decisions of the chunk protocol, one method a rule, pure. The
// product uses Protocol; the property test puts a variant with one rule missing
// in its place and must see it fail. docs/explanation/chunks.md argues for each.
type Rules interface {
	// Remembers reports whether a transaction that touched a range of this
	// state goes into the table's recent transactions.
	Remembers(state vecferry.RangeState) bool
	// Need returns the transactions that a chunk's snapshot must see, given the
	// recent ones at its LOW, from which those seen by the LOW's own snapshot
	// were taken out.
	Need(recent vecferry.XIDs) vecferry.XIDs
	// Accepts reports whether a chunk read with a snapshot becomes live.
	Accepts(need vecferry.XIDs, chunk vecferry.Visibility) bool
	// Holds reports whether a change in a copying range is held back rather
	// than dropped.
	Holds() bool
	// Skips reports whether a held change is already in the chunk's rows.
	Skips(chunk vecferry.Visibility, tx vecferry.Tx) bool
	// Carries reports whether a key change that came without all values may
	// take them from the old key's entity, whose range is in this state.
	Carries(old vecferry.RangeState) bool
	// MergesOnto reports whether a change may be laid over an entity as it stood
	// before the run that starts at this position.
	MergesOnto(entity, start vecferry.Position) bool
	// Restores returns what of a persisted table's memory a restart may use.
	Restores(recent vecferry.XIDs) vecferry.XIDs
}

// Protocol is the chunk protocol as it must be.
type Protocol struct{}

// Remembers is true for every state: a change that was applied to a live range
// is lost as well if the range is copied again by a snapshot that lacks it.
func (Protocol) Remembers(vecferry.RangeState) bool { return true }

// Need copies the set, since later marks take transactions out of it.
func (Protocol) Need(recent vecferry.XIDs) vecferry.XIDs {
	return append(vecferry.XIDs(nil), recent...)
}

// Accepts wants every one of them seen.
func (Protocol) Accepts(need vecferry.XIDs, chunk vecferry.Visibility) bool {
	return chunk.SeesAll(need)
}

// Holds is always true.
func (Protocol) Holds() bool { return true }

// Skips compares by visibility, never by LSN: a commit is in the log before it
// is visible.
func (Protocol) Skips(chunk vecferry.Visibility, tx vecferry.Tx) bool { return chunk.Sees(tx.XID) }

// Carries only from a live range: elsewhere what stands under the old key is
// not what stood there at the change.
func (Protocol) Carries(old vecferry.RangeState) bool { return old == vecferry.Live }

// MergesOnto entities that are older than the whole run. In a redo the entity
// may be what the first try left there: this very change, or another row that
// took the key later in the run.
func (Protocol) MergesOnto(entity, start vecferry.Position) bool { return entity < start }

// Restores all of it.
func (Protocol) Restores(recent vecferry.XIDs) vecferry.XIDs { return recent }
