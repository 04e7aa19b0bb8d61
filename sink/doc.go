// Package sink applies the change log to the target, in order and idempotently.
//
// # Promise
//
// Once a checkpoint says that batch N is applied, every live range of every
// mapped table stands in the target as it stood in the source at the end of
// batch N: the same keys, one entity each, every value equal. A key in the
// dead letters is the only exception, and it is counted.
//
// # The run
//
// A run is some consecutive batches and the unit of work and of redo:
//
//	gather ──> persist {state, applied N, applying M} ──> decide ──> read bases ──> write ──> N := M
//	                          ^                                                        |
//	                          └── crash: the same batches again, as one run, replay ───┘
//
// Deciding walks the changes in order through the chunk protocol (Rules) and
// collapses what is to be applied into one final state per key: a whole row, a
// row that takes its absent values from an entity as it stood before the run
// (its base), or a deletion. Nothing is written until the whole run is decided;
// then the bases are read, and the writes, disjoint by key, go out in parallel.
// A redo therefore finds either the base untouched, or its own result, which it
// knows by the position that every entity carries; a base that is gone makes
// the key tainted.
//
// # The chunk protocol
//
// Each table has a map of key ranges:
//
//	todo ──LOW──> copying ──HIGH──> live ──taint──> todo (that one key)
//	                 └──void, restart──> todo
//
// A change in a todo range is dropped, in a copying range held back, in a live
// range applied. At HIGH the held changes are walked: one that the chunk's
// snapshot saw is skipped, the others are applied on top. Every transaction is
// remembered until a snapshot in the stream has seen it; a chunk whose snapshot
// lacks one that came before its LOW is void. docs/explanation/chunks.md has
// the rules and why they are right; Rules holds each of them once.
//
// # Goroutines and failures
//
// Run owns its one goroutine; the log's reader prefetches in its own. The
// target's adapter retries whatever is transient, so an outage shows as a Run
// that waits. A row that cannot be applied goes to the dead letters. Anything
// else ends Run: a vecferry.HaltError for good, any other error to be started
// again, which redoes the open run.
package sink
