package changelog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors to ask for with errors.Is.
var (
	// ErrFull says that the change log, or its server, has no room. Nothing was
	// lost: pause, keep the source's WAL, open a new writer later.
	ErrFull = errors.New("the change log is full")
	// ErrFenced says that a newer writer has taken over; this one must end.
	ErrFenced = errors.New("a newer writer has taken over the change log")
	// ErrConflict says that somebody else wrote first: read, then decide again.
	ErrConflict = errors.New("somebody else wrote first")
	// ErrTooLarge says that a value or batch is larger than one message may be.
	ErrTooLarge = errors.New("too large for one message")
	// ErrNotFound says that there is no such key or batch.
	ErrNotFound = errors.New("not found")
	// ErrIdle says that no batch is there right now.
	ErrIdle = errors.New("no batch right now")
	// ErrClosed says that the log, the writer or the reader was closed.
	ErrClosed = errors.New("the change log is closed")
)

// LockedError says that another process uses the embedded server's folder.
type LockedError struct {
	Dir string
	PID int // of the holder, 0 if it could not be read
}

// Error implements error.
func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID > 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("%s is in use by %s; end it first, or give this pipeline a folder of its own", e.Dir, holder)
}

// Reason says why a server cannot keep the change log.
type Reason string

// The reasons of a ServerError.
const (
	Unreachable Reason = "cannot be reached"
	Denied      Reason = "refuses us"
	NoJetStream Reason = "has no JetStream for this account"
	TooOld      Reason = "is too old, 2.14 or newer is needed"
)

// ServerError says that the NATS server cannot serve the change log.
type ServerError struct {
	Server string // its address without credentials, or "embedded"
	Reason Reason
	Err    error
}

// Error implements error.
func (e *ServerError) Error() string {
	s := fmt.Sprintf("NATS server %s %s", e.Server, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *ServerError) Unwrap() error { return e.Err }

// Unreachable reports whether the server gave no answer, so that trying again
// later may help.
func (e *ServerError) Unreachable() bool { return e.Reason == Unreachable }

// Codes of JetStream that package jetstream does not name
// (nats-server: server/errors.json).
const (
	codeAccountFull    jetstream.ErrorCode = 10002 // resource limits of the account
	codeServerFull     jetstream.ErrorCode = 10023 // max_store of the server
	codeStorageFull    jetstream.ErrorCode = 10047 // reservations of the server
	codeMessageTooBig  jetstream.ErrorCode = 10054
	codeWrongLastMsgID jetstream.ErrorCode = 10070
	codeStoreFailed    jetstream.ErrorCode = 10077 // limits of the stream; also the 32 MiB of a record, which MaxBatch rules out
)

// apiCode returns the JetStream code of an error, 0 if it has none.
func apiCode(err error) jetstream.ErrorCode {
	var e jetstream.JetStreamError
	if errors.As(err, &e) && e.APIError() != nil {
		return e.APIError().ErrorCode
	}
	return 0
}

// lostRace reports whether an expectation about the last message did not hold.
func lostRace(err error) bool {
	switch apiCode(err) {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant, codeWrongLastMsgID:
		return true
	}
	return false
}

// noRoom reports whether a publish failed because a limit was reached.
func noRoom(err error) bool {
	switch apiCode(err) {
	case codeAccountFull, codeServerFull, codeStorageFull, codeStoreFailed:
		return true
	}
	return false
}

// silent reports whether an error means that no answer came, so that the
// request may or may not have been carried out.
func silent(err error) bool {
	for _, e := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting,
		nats.ErrReconnectBufExceeded, nats.ErrNoServers, nats.ErrStaleConnection,
		jetstream.ErrNoStreamResponse, jetstream.ErrAsyncPublishTimeout, jetstream.ErrJetStreamPublisherClosed,
		context.DeadlineExceeded,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var api jetstream.JetStreamError
	if errors.As(err, &api) && api.APIError() != nil { // "temporarily unavailable" and the like
		return api.APIError().Code == http.StatusServiceUnavailable && !noRoom(err)
	}
	var n net.Error
	return errors.As(err, &n)
}

// refused reports whether an error is about who we are.
func refused(err error) bool {
	for _, e := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
		nats.ErrPermissionViolation,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// explain wraps the error of a request to the server. ctx is the caller's.
func (l *Log) explain(ctx context.Context, what string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return fmt.Errorf("%s: %w", what, ErrClosed)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders): // nobody serves the API of JetStream
		return fmt.Errorf("%s: %w", what, &ServerError{Server: l.server, Reason: NoJetStream, Err: err})
	case silent(err):
		// A request that is not permitted gets no answer; the reason comes on
		// its own, to the connection's error handler.
		if v := l.violation.Swap(nil); v != nil {
			return fmt.Errorf("%s: %w", what, &ServerError{Server: l.server, Reason: Denied, Err: *v})
		}
		return fmt.Errorf("%s: %w", what, &ServerError{Server: l.server, Reason: Unreachable, Err: err})
	}
	return fmt.Errorf("%s: %w", what, err)
}
