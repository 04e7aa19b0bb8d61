// Package vecferry holds the nouns that every stage shares: positions in the
// write-ahead log and in the change log, keys, values, rows, mapped tables,
// changes, batches of changes and the marks that bracket a chunk.
//
// It promises to be passive: standard library only, no goroutine, no input or
// output, no clock. A value of any type here may be copied and compared, and a
// decoder never panics on foreign bytes; it returns an error that wraps
// ErrCorrupt.
//
// The stages (capture, snapshot, sink, verify) import this package and never
// each other. What they exchange is defined here once:
//
//	Postgres --pgoutput--> capture --Batch--> change log --Change--> sink --Row--> target
//	Postgres --COPY------> snapshot ------------------------------Row--> target
//	snapshot --Mark (LOW, HIGH)--> Postgres' own log --> capture --> sink
package vecferry
