// Package snapshot copies what was in the tables before: chunk by chunk, in the
// middle of the stream of changes, without stopping it.
//
// # Promise
//
// Every range that the sink's record shows as todo becomes live, and stands
// then in the target as the source had it at the chunk's HIGH mark. The package
// keeps no truth of its own: it reads the ranges from the checkpoint that the
// sink persisted, and whatever it remembers (boundaries of chunks, estimates,
// which chunks are at work in this process) may be lost at any time.
//
// # A chunk
//
// A chunk is a set of ranges of one table that are not live: an interval of
// about Options.ChunkBytes, or up to 500 single keys that were tainted.
//
//	pick ─> number ─> LOW ─> wait for the record ─> read ─> clear, write ─> HIGH ─> wait for the record
//	  ^                            │ lost                  │ error               │ void
//	  └────────────────────────────┴──────── back off ─────┴─────────────────────┘
//
// The target is touched only after a persisted record holds the chunk, in every
// attempt: without that wait a restarted sink would write old changes over the
// copied rows. Whether a LOW is still on its way or was processed and lost in a
// restart is told by the position: the record is past the mark and does not
// hold the attempt. Attempt numbers come from a durable counter and are never
// used twice. docs/explanation/chunks.md has the protocol and its proof.
//
// # Goroutines
//
// Run owns them all and returns after the last one. One watches the record; one
// coordinates: it alone picks ranges and starts work, whenever the record or
// the set of open chunks changes, and it sleeps otherwise. Each open chunk has a
// goroutine, which holds the chunk's ranges until its last call has returned, so
// no two work on one key. Twice Options.Workers chunks may be open, but only
// Options.Workers of them hold rows: while those copy, the LOW marks of the next
// ones are already on their way. Each table has at most one goroutine that looks
// for boundaries.
//
// # Failures
//
//   - Source, target, state or dead letters fail: the attempt ends, its ranges
//     are picked again after a pause that grows from 0.1 s to 15 s.
//   - The sink restarts: the record loses the attempt, which then ends likewise.
//   - A chunk turns out larger than planned: it is divided and read again.
//   - A row that the target cannot hold: dead letters. Over 10,000 in one chunk:
//     Run ends with a vecferry.HaltError.
//   - A vecferry.HaltError from anybody, or the watch fails: Run ends with it.
//   - The process dies: the record shows the open chunks as copying, the next
//     process picks them again.
package snapshot
