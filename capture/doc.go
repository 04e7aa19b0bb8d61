// Package capture reads the source's write-ahead log through a replication slot
// and writes it, packed into batches, into the change log.
//
// # Promises
//
//   - The change log holds every committed change of the mapped tables, once,
//     in commit order, and the pipeline's own marks among them.
//   - The server is told to forget only what the change log holds for good.
//   - What would lose a change stops the pipeline with a *vecferry.HaltError: a
//     slot or publication that is gone, a slot that is not ours or that somebody
//     else moved, another server or change log, or one that went back. A slot is
//     made once in the life of a pipeline.
//   - The server may shut down and the change log may be full or slow at any
//     time; neither costs a change.
//
// The caller creates the publication before the first Run: a slot reads the
// catalog as it was when the slot was made.
//
// # States
//
//	stopped --Run--> connecting -> [waiting for the slot held by pid N]
//	                     |      -> [creating the slot, waiting for pid N]
//	                     '------> streaming -> draining -> stopped
//	                any --error-> stopped | log full | halted
//
// Run is the life of one connection. It ends with any error; whoever supervises
// it starts it again after a pause.
//
// # Where a stream goes on
//
// The end of the change log is the position: its last batch says up to where
// transactions are complete (EndLSN), and how many messages of the transaction
// in which it ends are dealt with (OpenLSN, OpenChanges). The server sends that
// transaction again from its start; as many messages are passed over. They are
// counted before anything is left out, so that the number does not depend on
// what is mapped.
//
// Two records in the store belong to it. "slot" names the slot, the server, the
// database, the publication and the log that belong together; it is written
// before the slot is made and again after, so that a crash in between is
// finished by the next Run. "capture" is a position that was acknowledged
// without a batch, because there was nothing to store up to it. It is stored
// before it is acknowledged: at a start the server must not be ahead of the log
// or of that record, or else somebody else has moved the slot. Positions are
// never compared with snapshots.
//
// # Goroutines
//
// A session, the streaming part of Run, owns five; all end before Run returns:
//
//	read     takes messages, packs batches; only it touches the packer
//	publish  appends batches to the log, in order
//	settle   counts what is durable
//	confirm  the only one to send: answers at once when asked, otherwise every
//	         StatusInterval; stores quiet positions, at most that often or per
//	         16 MB
//	beat     one mark a second while rows change
//
// Before that, making the slot has one that asks whom it waits for.
//
// # Failures
//
//   - The log is full: Run ends, and with it the connection. The slot keeps the
//     server's WAL, and a server that shuts down meanwhile has nobody to wait
//     for. Each new Run tries the log again with the first batch.
//   - The log is slow: the reader waits for it, hence the server too; confirm
//     goes on, so that wal_sender_timeout does not end the connection.
//   - The server shuts down: it waits for its last byte to be acknowledged,
//     which confirm does as soon as the log has it.
//   - A row is larger than a batch can be: halt, naming the table.
//   - The beat fails: logged, tried again after the next interval.
//   - A stop is asked for: reading ends at once, what was read is stored and
//     acknowledged within DrainTimeout.
package capture
