// Package property drives the whole way of a row with random histories and
// random crashes, and proves after every run of the sink that the target is
// what it must be. It has tests only.
//
// # What is real
//
// PostgreSQL 16 and 18, the replication slot, the change log in an embedded
// JetStream server, and the code of capture, changelog, snapshot and sink are
// the real ones. Milvus is the model in sink/milvus/memory in the many short
// runs, and the real server in a few.
//
// # A run
//
// One seed is one run: two tables whose keys are an integer and a text, writers
// whose transactions go over both, and chaos beside them:
//
//   - keys are changed, swapped, moved along and used again; a fifth of all
//     statements. Scalar updates do not send the vector, which is out of line.
//   - 40 % of the statements hit 25 keys. There are savepoints, rollbacks, long
//     transactions and TRUNCATE.
//   - On some servers a synchronous standby is missing now and then: commits are
//     in the write-ahead log, and nobody sees them.
//   - Sink, chunk workers and capture die between any two steps, before or after
//     the step has had its effect. The whole dies, and the log is closed and
//     opened again. PostgreSQL itself is killed.
//   - Ranges that are live are copied again.
//   - Calls on the target fail, have their reply lost, or land late.
//
// # The oracle
//
// The state of the source at the end of a batch is rebuilt from the batches that
// the sink was given, by a decoder of its own. At every end of a run, except
// between a crash and its redo, each key of a live range must have exactly the
// entity that follows from it, and a key in the dead letters none. At the end
// all rows are compared with the source itself. Comparing at the end alone would
// miss most mistakes: later changes heal rows.
//
// # Goroutines
//
// A world owns one goroutine for each stage, which runs it again whenever it
// dies, one for each writer, and one that starts copies of live ranges. All end
// before a run returns.
//
// docs/explanation/proof.md tells how to replay a seed, and shows that each rule
// of the protocol is needed: without any one of them this test fails.
package property
