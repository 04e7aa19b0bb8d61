package milvus

import (
	"context"
	"fmt"
	"testing"

	"github.com/milvus-io/milvus-proto/go-api/v2/commonpb"
	"github.com/milvus-io/milvus-proto/go-api/v2/milvuspb"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vecferry/vecferry"
)

func TestClassOfAReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status *commonpb.Status
		want   Class
		doubt  bool
	}{
		{&commonpb.Status{Code: 1}, Retry, true}, // the wrapper takes a Code alone for success
		{&commonpb.Status{Code: 4}, Retry, false},
		{&commonpb.Status{Code: 8, ErrorCode: commonpb.ErrorCode_RateLimit}, Retry, false},
		{&commonpb.Status{Code: 9, ErrorCode: commonpb.ErrorCode_ForceDeny}, BackPressure, false},
		{&commonpb.Status{Code: 100}, Halt, false},
		{&commonpb.Status{Code: 101}, NotLoaded, false},
		{&commonpb.Status{Code: 106}, Retry, true},
		{&commonpb.Status{Code: 109}, Schema, false},
		{&commonpb.Status{Code: 503}, Retry, true},
		{&commonpb.Status{Code: 505}, Ambiguous, true},
		{&commonpb.Status{Code: 1001}, Ambiguous, true},
		{&commonpb.Status{Code: 1100}, BadRow, false},
		{&commonpb.Status{Code: 1102}, Split, false},
		{&commonpb.Status{Code: 1401}, Halt, false},
		{&commonpb.Status{Code: 65535}, Ambiguous, true},
		{&commonpb.Status{Code: 65535, ExtraInfo: map[string]string{"is_input_error": "true"}}, BadRow, false},
		{&commonpb.Status{Code: 100, ExtraInfo: map[string]string{"is_input_error": "true"}}, Halt, false},
		{&commonpb.Status{ErrorCode: commonpb.ErrorCode_MemoryQuotaExhausted}, BackPressure, false},
		{&commonpb.Status{ErrorCode: commonpb.ErrorCode_CollectionNotExists}, Halt, false},
		{&commonpb.Status{ErrorCode: commonpb.ErrorCode_UnexpectedError}, Ambiguous, true},
	} {
		err := call(&milvuspb.MutationResult{Status: c.status}, nil)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, c.want, e.Class, "%v", c.status)
		require.Equal(t, c.doubt, e.InDoubt(), "%v", c.status)
		require.Equal(t, "Insert", e.Method)
		require.False(t, e.Unreachable())
		require.Equal(t, err, call(c.status, nil), "a bare status")
	}
	require.NoError(t, call(&milvuspb.MutationResult{Status: &commonpb.Status{}}, nil))
	require.NoError(t, call(&milvuspb.MutationResult{}, nil))
}

// call sends a request through the interceptor to a server that answers so.
func call(reply any, failure error) error {
	return typedErrors(context.Background(), "/milvus.proto.milvus.MilvusService/Insert", nil, reply, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return failure })
}

func TestClassOfAMissingReply(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]Class{
		codes.Unavailable: Retry, codes.DeadlineExceeded: Retry, codes.Aborted: Retry, codes.ResourceExhausted: Split,
		codes.Unauthenticated: Halt, codes.PermissionDenied: Halt, codes.Unimplemented: Halt, codes.Internal: Ambiguous,
		codes.Unknown: Ambiguous,
	} {
		var e *Error
		require.ErrorAs(t, call(nil, status.Error(code, "why")), &e)
		require.Equal(t, want, e.Class, code.String())
		require.Equal(t, code == codes.Unavailable || code == codes.DeadlineExceeded, e.Unreachable())
		require.Contains(t, e.Error(), code.String())
	}
}

func TestEveryHaltSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, code := range []int32{0, 10, 100, 101, 105, 200, 700, 800, 1100, 1400, 1401, 1700, 65535} {
		for _, class := range []Class{classOf(code), Schema, NotLoaded} {
			err := haltError("write to docs", &Error{Code: code, Method: "Insert", Class: class, Reason: "why"})
			var halt *vecferry.HaltError
			require.ErrorAs(t, fmt.Errorf("x: %w", err), &halt)
			require.NotEmpty(t, halt.Fix)
			require.Contains(t, halt.Error(), "why")
		}
	}
}
