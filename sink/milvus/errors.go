package milvus

import (
	"context"
	"errors"
	"fmt"

	"github.com/milvus-io/milvus-proto/go-api/v2/commonpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vecferry/vecferry"
)

// ErrCredentials says that the server refused the user, the password or the token.
var ErrCredentials = errors.New("the server refused the credentials")

// Class says what to do about a failed request.
type Class uint8

// The classes.
const (
	Retry        Class = iota + 1 // the same request will pass later
	BackPressure                  // the server wants less; later, and slower
	Split                         // the request is too large
	BadRow                        // the request holds something that the server refuses
	Schema                        // the server has another schema than the request
	Halt                          // somebody must do something
	NotLoaded                     // the collection is not loaded, or not yet again
	Ambiguous                     // the server says nothing useful
)

// String names the class.
func (c Class) String() string {
	names := [...]string{"", "retry", "back-pressure", "split", "bad row", "schema", "halt", "not loaded", "ambiguous"}
	if int(c) < len(names) {
		return names[c]
	}
	return ""
}

// Error is a request that failed, as the server or gRPC told it.
type Error struct {
	Code   int32  // Status.Code (pkg/util/merr/errors.go of the server), 0 without a reply
	Legacy string // Status.ErrorCode by name, which old servers set instead
	RPC    string // gRPC status by name if there was no reply, such as Unavailable
	Method string // such as Insert
	Reason string // for people
	Class  Class

	cause error
}

// Error implements error.
func (e *Error) Error() string {
	code := e.RPC
	if code == "" {
		code = fmt.Sprintf("code %d", e.Code)
		if e.Code == 0 {
			code = e.Legacy
		}
	}
	return fmt.Sprintf("milvus %s: %s: %s", e.Method, code, e.Reason)
}

// Unwrap returns gRPC's error, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Unreachable reports whether no server answered.
func (e *Error) Unreachable() bool {
	return e.RPC == codes.Unavailable.String() || e.RPC == codes.DeadlineExceeded.String()
}

// InDoubt reports whether the request may have been carried out, or may be still.
func (e *Error) InDoubt() bool {
	switch e.Class {
	case Ambiguous:
		return true
	case Retry:
		return e.Code != codeTooManyRequests && e.Code != codeRateLimit // refused at the door
	}
	return false
}

// unreachableError says that no server answered at an address.
type unreachableError struct {
	address string
	err     error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("milvus at %s does not answer: %v", e.address, e.err)
}
func (e *unreachableError) Unwrap() error     { return e.err }
func (e *unreachableError) Unreachable() bool { return true }

// Codes of the server that are named here because more than the table needs them.
const (
	codeTooManyRequests = 4
	codeRateLimit       = 8
	codeIndexNotFound   = 700
)

// classOf is the table of pkg/util/merr/errors.go. The reply's Retriable is not
// used: it is false for every wrapped error. 1001 is "IO failed", but 2.3 also answers
// it to a JSON field that is no object, so it stays ambiguous.
func classOf(code int32) Class {
	switch code {
	case 1, 2, codeTooManyRequests, codeRateLimit, 12, 103, 106, 202, 305, 1002, 1302, 2200, 10000, 10001:
		return Retry
	case 3, 7, 9, 11:
		return BackPressure
	case 1102:
		return Split
	case 1100, 1101, 1804:
		return BadRow
	case 105, 109, 1700:
		return Schema
	case 10, 100, 200, codeIndexNotFound, 800, 1400, 1401:
		return Halt
	case 101:
		return NotLoaded
	}
	if 500 <= code && code <= 504 || 901 <= code && code <= 906 {
		return Retry
	}
	return Ambiguous
}

// classOfLegacy is for replies that have no Code.
func classOfLegacy(code commonpb.ErrorCode) Class {
	switch code {
	case commonpb.ErrorCode_ForceDeny, commonpb.ErrorCode_RateLimit, commonpb.ErrorCode_MemoryQuotaExhausted,
		commonpb.ErrorCode_DiskQuotaExhausted, commonpb.ErrorCode_TimeTickLongDelay:
		return BackPressure
	case commonpb.ErrorCode_NotReadyServe, commonpb.ErrorCode_NotReadyCoordActivating, commonpb.ErrorCode_DataCoordNA,
		commonpb.ErrorCode_NotShardLeader, commonpb.ErrorCode_NoReplicaAvailable, commonpb.ErrorCode_NodeIDNotMatch:
		return Retry
	case commonpb.ErrorCode_CollectionNotExists, commonpb.ErrorCode_CollectionNameNotFound, commonpb.ErrorCode_PermissionDenied:
		return Halt
	case commonpb.ErrorCode_IllegalArgument, commonpb.ErrorCode_IllegalDimension, commonpb.ErrorCode_IllegalRowRecord:
		return BadRow
	}
	return Ambiguous
}

// classOfRPC judges a request that got no reply of Milvus.
func classOfRPC(code codes.Code) Class {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.Canceled:
		return Retry
	case codes.ResourceExhausted:
		return Split // gRPC's own "received message larger than max"; Milvus' limits have codes
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return Halt
	}
	return Ambiguous
}

// statusError returns the error of a reply's status, nil if it has none.
func statusError(method string, s *commonpb.Status) error {
	//nolint:staticcheck // old servers, and milvus-lite in part, set only the deprecated code
	legacy := s.GetErrorCode()
	if s.GetCode() == 0 && legacy == commonpb.ErrorCode_Success {
		return nil
	}
	e := &Error{Code: s.GetCode(), Legacy: legacy.String(), Method: method, Reason: s.GetReason()}
	switch {
	case e.Code == 0:
		e.Class = classOfLegacy(legacy)
	default:
		e.Class = classOf(e.Code)
	}
	if e.Class == Ambiguous && s.GetExtraInfo()["is_input_error"] == "true" {
		e.Class = BadRow
	}
	return e
}

// rpcError returns the error of a request without a reply.
func rpcError(method string, err error) error {
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err)
	}
	return &Error{RPC: s.Code().String(), Method: method, Reason: s.Message(), Class: classOfRPC(s.Code()), cause: err}
}

// typedErrors turns what the wrapper would hide or swallow into an *Error: it
// looks at the deprecated code alone and so takes some failures for success.
//
//nolint:revive // the parameters are those of grpc.UnaryClientInterceptor
func typedErrors(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	name := method[lastSlash(method)+1:]
	if err := invoke(ctx, method, req, reply, conn, opts...); err != nil {
		return rpcError(name, err)
	}
	switch r := reply.(type) {
	case *commonpb.Status:
		return statusError(name, r)
	case interface{ GetStatus() *commonpb.Status }:
		return statusError(name, r.GetStatus())
	}
	return nil
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

// haltError says what to do about an error that no retry heals.
func haltError(what string, e *Error) error {
	return &vecferry.HaltError{What: what, Fix: fixOf(e), Err: e}
}

func fixOf(e *Error) string {
	switch {
	case e.Class == NotLoaded:
		return "load the collection in Milvus and start again"
	case e.Class == Schema:
		return "the collection was changed by somebody else: compare its fields with the mapping"
	case e.RPC == codes.Unauthenticated.String(), e.RPC == codes.PermissionDenied.String(), e.Code == 1400, e.Code == 1401:
		return "check the user, its password and its role in Milvus"
	case e.RPC == codes.Unimplemented.String(), e.Code == 10:
		return "the server is older than Milvus 2.3 or not Milvus: check its address and version"
	case e.Code == 800:
		return "create the database in Milvus or name another one"
	case e.Code == codeIndexNotFound:
		return "the vector index was dropped: start again, which creates it"
	case e.Code == 100, e.Code == 200, e.Code == 0:
		return "the collection was dropped or renamed: restore it, or copy the table again"
	}
	return "Milvus refuses the request: see its reason"
}
