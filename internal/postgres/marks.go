package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/vecferry/vecferry"
)

// Emit writes a mark into the source's log as a transactional logical message
// and returns once its transaction has committed.
//
// The LSN is the end of the log right after that commit. A log of changes whose
// last complete transaction ends at or after it holds the mark, and everything
// that was committed before Emit returned. The converse needs one more
// transaction: records that commit nothing may stand between the mark and the
// LSN. (The position that pg_logical_emit_message returns would not do: it lies
// before the commit, and other transactions can commit in between.)
//
// So whoever waits until everything so far has passed takes CurrentLSN, then
// emits a Beat, then waits for the former: the Beat's transaction ends after
// it, and nothing that was committed before it comes later.
func (s *Source) Emit(ctx context.Context, pipeline string, m vecferry.Mark) (vecferry.LSN, error) {
	op := fmt.Sprintf("emit %s mark", m.Kind)
	content, err := m.Encode()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, s.fail(ctx, op, err)
	}
	defer conn.Release()
	const sql = "SELECT pg_logical_emit_message(true, $1::text, $2::bytea)"
	if _, err := conn.Exec(ctx, sql, vecferry.MarkPrefix(pipeline), content); err != nil {
		return 0, s.fail(ctx, op, err)
	}
	// A statement of its own: the first has committed.
	lsn, err := currentLSN(ctx, conn)
	return lsn, s.fail(ctx, op, err)
}

// Snapshot returns the text of pg_current_snapshot(), taken by a statement of
// its own.
func (s *Source) Snapshot(ctx context.Context) (string, error) {
	var snapshot string
	err := s.pool.QueryRow(ctx, "SELECT pg_current_snapshot()::text").Scan(&snapshot)
	return snapshot, s.fail(ctx, "take snapshot", err)
}

// CurrentLSN returns the end of the log: every transaction that has committed
// ends at or before it, flushed or not.
func (s *Source) CurrentLSN(ctx context.Context) (vecferry.LSN, error) {
	lsn, err := currentLSN(ctx, s.pool)
	return lsn, s.fail(ctx, "read end of log", err)
}

// querier is a pool or one of its connections.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func currentLSN(ctx context.Context, q querier) (vecferry.LSN, error) {
	var text string
	if err := q.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, err
	}
	return vecferry.ParseLSN(text)
}

// Identity tells one history of the source from another.
type Identity struct {
	SystemID uint64       // of the cluster, minted by initdb
	Timeline uint32       // grows with each promotion
	WALEnd   vecferry.LSN // flushed
}

// Identity asks a session of its own that speaks the replication protocol,
// which every role that may replicate can do (IDENTIFY_SYSTEM).
func (s *Source) Identity(ctx context.Context) (_ Identity, err error) {
	const op = "identify source"
	conn, err := pgconn.ConnectConfig(ctx, s.ReplicationConfig())
	if err != nil {
		return Identity{}, s.fail(ctx, op, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx))
	}()
	sys, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return Identity{}, s.fail(ctx, op, err)
	}
	id := Identity{Timeline: uint32(sys.Timeline), WALEnd: vecferry.LSN(sys.XLogPos)}
	if _, err := fmt.Sscan(sys.SystemID, &id.SystemID); err != nil {
		return Identity{}, fmt.Errorf("%s: system identifier %q: %w", op, sys.SystemID, err)
	}
	return id, nil
}
