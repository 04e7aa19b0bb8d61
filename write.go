package vecferry

// Write is one set of final states for a collection: afterwards exactly the Put
// rows stand under their keys, and the Delete keys are gone. No key is in it
// twice.
type Write struct {
	Delete []Key
	Put    []Row // complete, with a vector
	// Fresh says that no entity has one of Put's keys, so that the first try
	// need not delete them.
	Fresh bool
}

// Rejected is a row that the target refuses whatever is tried.
type Rejected struct {
	Row Row
	Err *RowError
}
