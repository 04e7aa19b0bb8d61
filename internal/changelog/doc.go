// Package changelog keeps the change log and all state of a pipeline in NATS
// JetStream: in a server inside this process, or in an external one.
//
// # Promises
//
//   - Every message of the stream is one batch, and the number of the batch is
//     the sequence number of the message.
//   - Batches follow each other as one writer meant it: each publish names its
//     predecessor, so a lost, repeated, late or foreign message cannot get
//     between two that belong together.
//   - An Ack of the embedded server means that the batch is on the disk (fsync).
//     With an external server it means what that server's sync_interval says.
//   - The reader delivers each batch once and in order, or it halts.
//   - A log that went back, lost batches or was recreated is a
//     *vecferry.HaltError (Check, Tail, Reader), never a silent gap.
//   - State is compare-and-set by key; counters never repeat.
//
// # Layout
//
//	stream VECFERRY_<pipeline>       subject vecferry.<pipeline>.changes        batches
//	stream VECFERRY_DLQ_<pipeline>   subjects vecferry.<pipeline>.dead.<table>  dead letters
//	stream KV_vecferry_<pipeline>    a NATS key-value bucket                    state
//
// All three refuse new messages when full and never drop old ones. Nothing is
// read by direct get: any replica would answer, also one that is behind.
//
// # A writer's life
//
//	NewWriter --> alive --first error--> dead        ErrFenced    end for good
//	    ^                                  |         ErrFull      wait for room
//	    '---- owner makes a new one <------'         ErrConflict, no answer: at once
//
// A new writer mints an epoch above all before, reads the tail and goes on
// after it. So nobody needs to know whether a publish without an answer was
// stored: the tail says it. With several batches in flight an expected sequence
// is not enough: if batch 7 is refused because another writer has stored its
// own 7, batch 8 would find the sequence 7 that it expects. Each batch whose
// predecessor is not known to be stored therefore also names the predecessor's
// message id, epoch/batch. With replicas one batch is in flight at a time.
//
// # A reader's life
//
//	prove the log --> reset the consumer --> pull --> guards --> window --> Next
//	      ^                                   |         |
//	      '------- anything irregular --------+---------'
//
// The guards: the consumer's sequence and the batch number are each one more
// than before, the payload's checksum is right, the epoch never falls. The
// consumer's acks are progress for people; the owner's checkpoint is the truth.
// The window holds up to 32 MiB, and a pull is sent only if all it may bring fits.
//
// # Goroutines
//
//   - Writer: one, which takes the acknowledgements in order; ends with Close,
//     its context or the first error.
//   - Reader: one, which fetches; ends with Close, its context or a halt.
//   - Watch: one each; ends with its context.
//   - The client's and the embedded server's own; end with Log.Close.
//
// # Failures
//
//   - Server gone: requests wait up to 5 s for it, then fail with a
//     *ServerError; a writer dies, a reader logs and tries on; Put finds out by
//     itself what became of its write.
//   - An acknowledgement that is 1 s late is looked up in the log: it gets lost
//     when the leader of a replicated stream changes.
//   - Folder in use: *LockedError. Foreign or misconfigured stream: *vecferry.HaltError.
//
// # Memory
//
// The server keeps each block of its files that was read for 10 s, and neither
// the size limit of a stream nor any option changes that. Measured with
// 800 KB batches read as they are written: 320 MB resident at 10 MB/s, 1 GB at
// 40 MB/s, 3.3 GB at 147 MB/s; 60 MB without a reader and 160 MB at 40 MB/s
// when what was read is trimmed at once. The blocks may be collected earlier,
// so a soft limit helps (GOMEMLIMIT, debug.SetMemoryLimit): 512 MiB kept
// 40 MB/s at 520 MB with no more CPU, 300 MiB at four times the CPU.
package changelog
