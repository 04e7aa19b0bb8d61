// Bench measures vecferry on real servers, each figure beside its floor from the
// same run: what the servers give to the plainest program that does the same work
// on the same rows. README.md says how to read what it writes.
//
// # Promises
//
//   - Floor and vecferry run turn about, on the same PostgreSQL and Milvus, over
//     the same rows and with collections of one schema, loaded and indexed alike.
//   - A figure counts only if the exact count of entities is right afterwards and a
//     sample of them equals the source.
//   - Nothing is left behind: servers, data, logs and slots go with the run.
//
// # Processes
//
// This program starts both servers through package testenv, and vecferry as a
// child built from the same checkout. It reads the processor time of all of them,
// and of everybody else on the machine, from /proc. Floors run inside this program.
// One case runs at a time; goroutines live no longer than the measurement that
// started them.
//
// # Failures
//
// A server or a vecferry that fails ends the run with its message and the end of
// its log. A run that was interrupted writes no results.
package main
