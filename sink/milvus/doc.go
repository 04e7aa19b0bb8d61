// Package milvus writes rows to Milvus, reads them back and prepares their
// collections. It is the only package that imports a Milvus client.
//
// # Promises
//
//   - After Replace, exactly the rows given stand under their keys, one entity
//     each, and the deleted keys are gone, whatever failed on the way.
//   - What is read back equals what was written bit for bit: vectors, integers,
//     floats, the text of JSON.
//   - A refused row never takes its batch along: it is found and handed back.
//   - An error is judged by its code, never by its text. What will pass is
//     retried for as long as it takes; what will not is a [vecferry.HaltError].
//   - Nothing that was read is older than the last write that was acknowledged:
//     every read is Strong.
//
// # Layers
//
//	Collection   pieces, lanes, bisection, the redo of what is in doubt
//	retrier      back-off by class of error, what Waiting tells
//	Backend      one request, one reply: the gRPC one here, a model in package memory
//	Client       connections, Prepare, Version, Ping, Drop
//
// # Why a put is a delete and an insert
//
// Insert never looks at the key: a key that is inserted twice makes two entities.
// A server-side upsert on a collection with a partition key puts rows into the
// wrong partitions on 2.3. Deleting the key without naming a partition and then
// inserting is exact. The two are the unit of redo: an insert whose reply was lost
// may have landed, so its delete is done again first. A request may also land after
// the client gave it up. Such a redo therefore waits a moment first, and counts the
// entities of its keys afterwards; duplicates are counted, so a wrong count means
// one more redo.
//
// # Failures
//
//	retry         waits 0.1 to 5 s; at least 1 s if the request may have landed
//	back-pressure waits 1 to 30 s (memory or disk of the server, its quotas)
//	split         halves the batch
//	bad row       halves the batch until the row is alone, hands it back
//	ambiguous     a few retries, then as a bad row; a lone row is only given up if
//	              the server accepted other rows meanwhile
//	not loaded    as retry for up to two minutes (a server that restarts answers
//	              writes long before reads), then halts
//	schema        once more, then halts
//	halt          ends at once with what to do
//
// # Goroutines
//
// Replace and Read start their lanes and end them before they return. gRPC owns the
// goroutines of the connections until Close. Nothing else runs in the background.
package milvus
