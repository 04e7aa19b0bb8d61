package vecferry

import (
	"errors"
	"fmt"
)

// ErrCorrupt says that bytes which should be in one of this package's formats
// are not: cut off, of an unknown version, or with a wrong checksum.
var ErrCorrupt = errors.New("corrupt data")

// corruptf returns an error that wraps ErrCorrupt.
func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// A RowError says that one row cannot be carried to the target. The row goes to
// the dead letters with this reason and the rows around it go on.
type RowError struct {
	Table  string // schema-qualified source table
	Key    string // the key as a person writes it
	Column string // the column at fault, empty if it is the whole row
	Reason string // what is wrong and what would be right
}

// Error implements error.
func (e *RowError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("%s key %s: %s", e.Table, e.Key, e.Reason)
	}
	return fmt.Sprintf("%s key %s column %s: %s", e.Table, e.Key, e.Column, e.Reason)
}

// A HaltError stops the pipeline: going on would lose data or needs a decision.
// Retrying does not help; Fix says what does.
type HaltError struct {
	What string // what was found
	Fix  string // what the operator does about it
	Err  error  // the cause, may be nil
}

// Error implements error.
func (e *HaltError) Error() string {
	s := e.What
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// Unwrap returns the cause.
func (e *HaltError) Unwrap() error { return e.Err }

// Halts reports whether an error stops the pipeline for good, which makes any
// retry pointless.
func Halts(err error) bool {
	var h *HaltError
	return errors.As(err, &h)
}
