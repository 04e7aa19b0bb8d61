package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/vecferry/vecferry"
)

var (
	// ErrDSN says that the connection string cannot be read. The string itself
	// is not quoted, since it holds the password.
	ErrDSN = errors.New("connection string of PostgreSQL cannot be read: want postgres://user:password@host:port/database or key=value pairs")

	// ErrRewritten says that the table has another file than before: it was
	// truncated or rewritten (ALTER TABLE, VACUUM FULL, CLUSTER), which older
	// snapshots do not see correctly (PostgreSQL manual, "Caveats" of MVCC).
	ErrRewritten = errors.New("table was rewritten or truncated since the copy began")

	// ErrNoKey says that a tuple does not hold the key of its row.
	ErrNoKey = errors.New("tuple holds no key")
)

// A ConnectError says that there is no session with the server.
type ConnectError struct {
	Server      string // host:port/database, without user and password
	Err         error
	unreachable bool
}

// Error implements error.
func (e *ConnectError) Error() string {
	if e.unreachable {
		return fmt.Sprintf("PostgreSQL at %s cannot be reached: %v", e.Server, e.Err)
	}
	return fmt.Sprintf("PostgreSQL at %s refuses the connection: %v", e.Server, e.Err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Unreachable reports whether no server that takes connections was found, or
// it went away, so that trying again may help. Otherwise a server answered and
// said no: wrong password, no such database, an untrusted certificate.
func (e *ConnectError) Unreachable() bool { return e.unreachable }

// A MappingError says why a table cannot be carried as it is configured.
type MappingError struct {
	Table  string
	Column string // empty if it is the table
	What   string // what is wrong
	Fix    string // what the operator does about it
}

// Error implements error.
func (e *MappingError) Error() string {
	s := "table " + e.Table
	if e.Column != "" {
		s += ", column " + e.Column
	}
	s += ": " + e.What
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// A Note is something that an operator should know and that stops nothing.
type Note struct {
	Table  string
	Column string // empty if it is the table or the server
	Text   string
}

// String returns the note as one line.
func (n Note) String() string {
	subject := strings.Trim(n.Table+"."+n.Column, ".")
	if subject == "" {
		return n.Text
	}
	return subject + ": " + n.Text
}

// SQLSTATE codes (PostgreSQL manual, "PostgreSQL Error Codes").
const (
	stateDuplicateObject       = "42710"
	stateInsufficientPrivilege = "42501"
	stateQueryCanceled         = "57014"
	stateTooManyConnections    = "53300"
	stateUndefinedColumn       = "42703"
	stateUndefinedObject       = "42704"
	stateUndefinedTable        = "42P01"
)

// sqlState returns the SQLSTATE of a server's error, or "".
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// fail names what was tried and gives connection errors their type.
func (s *Source) fail(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		err = s.connectError(err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// connectError returns a *ConnectError if err is about the connection, else err.
func (s *Source) connectError(err error) error {
	if _, ok := errors.AsType[*ConnectError](err); ok {
		return err
	}
	var dial *pgconn.ConnectError
	connecting := errors.As(err, &dial)
	if state := sqlState(err); state != "" {
		if away := serverAway(state); away || connecting {
			return &ConnectError{Server: s.server, Err: err, unreachable: away}
		}
		return err
	}
	if connecting || linkBroken(err) {
		var cert *tls.CertificateVerificationError
		return &ConnectError{Server: s.server, Err: err, unreachable: !errors.As(err, &cert)}
	}
	return err
}

// serverAway reports whether a server said that it takes no sessions now: it
// starts, stops, crashed, or is full.
func serverAway(state string) bool {
	return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P") || state == stateTooManyConnections
}

// linkBroken reports whether an error is that of a broken connection.
func linkBroken(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed)
}

// corruptf returns an error that wraps vecferry.ErrCorrupt.
func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", vecferry.ErrCorrupt, fmt.Sprintf(format, args...))
}

// A valueError is why one value cannot be carried; the row becomes a dead
// letter.
type valueError string

// Error implements error.
func (e valueError) Error() string { return string(e) }
