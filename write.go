package vecferry

// Write is one set of final states for a collection: afterwards exactly the Put
// and New rows stand under their keys, and the Delete keys are gone. No key is
// in it twice; every row is complete and has a vector.
type Write struct {
	Delete []Key
	Put    []Row
	New    []Row // no entity stands under their keys: the first try need not delete any
}

// Rows returns how many rows the write has.
func (w Write) Rows() int { return len(w.Put) + len(w.New) }

// Rejected is a row that the target refuses whatever is tried.
type Rejected struct {
	Row Row
	Err *RowError
}
