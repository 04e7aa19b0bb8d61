// Package postgres is everything that vecferry asks of the source except
// reading the write-ahead log: connections, the mapping of a table to a
// collection, the decoding of rows, COPY of key ranges, marks, and the set-up
// of publication and slot.
//
// # Promises
//
//   - A value has one form, whichever way it came: a row that COPY delivers and
//     the same row in the log decode to equal values.
//   - Text is what the server prints for column::text in a session with
//     DateStyle ISO, IntervalStyle postgres and TimeZone UTC.
//   - A value that was not sent is absent, never NULL.
//   - What the mapping cannot carry exactly is refused by name before anything
//     is copied. A column that is left out is said to be left out.
//   - No transaction outlives the call that began it, and no password is in an
//     error.
//
// # Sessions
//
// Every session sets synchronous_commit=local, so that marks do not wait for an
// absent synchronous standby; row_security=off, so that a row that a policy
// hides is an error instead of a gap; an empty search_path; and no timeouts of
// its own, since the caller's context bounds each call.
//
// # Goroutines
//
// The pool of connections owns one health check, which Source.Close ends. No
// other goroutine outlives a call. A Source may be used by several goroutines;
// a Decoder belongs to one.
//
// # Failures
//
//   - The server cannot be reached, or refuses us: *ConnectError, whose
//     Unreachable tells the two apart.
//   - The table cannot be mapped as it is: *MappingError with what to do.
//   - The table changed under the mapping, or a right is missing:
//     *vecferry.HaltError. The table was rewritten: ErrRewritten.
//   - One value cannot be carried: *vecferry.RowError; the rows around it go on.
//   - Bytes that are not in the format of their type: vecferry.ErrCorrupt.
package postgres
