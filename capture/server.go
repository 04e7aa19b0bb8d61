package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/vecferry/vecferry"
)

// readBuffer holds what one read of the socket brings. pgx alone reads 8 KB,
// one or two rows with a vector, and could not tell a burst from its end.
const readBuffer = 256 << 10

// SQLSTATE codes (PostgreSQL manual, "PostgreSQL Error Codes").
const (
	stateUndefinedObject = "42704" // in the stream: the publication is gone (PostgreSQL 14 to 17)
	stateNotReady        = "55000" // as a notice in the stream: the same (18)
)

// stream is one session with the server that speaks the replication protocol.
// It also takes SQL until START_REPLICATION.
type stream struct {
	conn *pgconn.PgConn
	in   *bufio.Reader
}

// connect opens a replication session.
func connect(ctx context.Context, source Source) (*stream, error) {
	s := &stream{}
	cfg := source.ReplicationConfig()
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		s.in = bufio.NewReaderSize(r, readBuffer)
		return pgproto3.NewFrontend(s.in, w)
	}
	// The warning about a dropped publication must not be filtered by a setting
	// of the role.
	cfg.RuntimeParams["client_min_messages"] = "warning"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	s.conn = conn
	return s, nil
}

// closeTimeout bounds the good-bye to a server that may be gone.
const closeTimeout = 2 * time.Second

// close ends the session and waits until the server has ended it too, so that
// the slot is free, and for pgx' own goroutine, if it has one.
func (s *stream) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if conn := s.conn.Conn(); !s.conn.IsClosed() {
		_ = conn.SetDeadline(time.Now().Add(closeTimeout))
		s.conn.Frontend().Send(&pgproto3.Terminate{})
		if s.conn.Frontend().Flush() == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	_ = s.conn.Close(ctx) // the server ends the session either way
	select {
	case <-s.conn.CleanupDone():
	case <-ctx.Done():
		_ = s.conn.Conn().Close() // ends the wait of pgx' own good-bye
		<-s.conn.CleanupDone()
	}
}

// drained reports whether everything that was read from the socket is used up.
func (s *stream) drained() bool {
	return s.in.Buffered() == 0 && s.conn.Frontend().ReadBufferLen() == 0
}

// confirm sends a standby status. All three positions are set, because pglogrepl
// would replace a zero by the first of them.
func (s *stream) confirm(ctx context.Context, at vecferry.LSN) error {
	lsn := pglogrepl.LSN(at)
	err := pglogrepl.SendStandbyStatusUpdate(ctx, s.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: lsn, WALFlushPosition: lsn, WALApplyPosition: lsn,
	})
	if err != nil {
		return fmt.Errorf("send standby status: %w", err)
	}
	return nil
}

// query returns the first row of a statement as texts, NULL as "", or nil.
func (s *stream) query(ctx context.Context, sql string) ([]string, error) {
	results, err := s.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) == 0 {
		return nil, nil
	}
	row := make([]string, len(results[0].Rows[0]))
	for i, v := range results[0].Rows[0] {
		row[i] = string(v)
	}
	return row, nil
}

// identify asks who the server is. If the stored timeline is another one, its
// end is looked up.
func (s *stream) identify(ctx context.Context, timeline int32) (server, error) {
	sys, err := pglogrepl.IdentifySystem(ctx, s.conn)
	if err != nil {
		return server{}, fmt.Errorf("identify the server: %w", err)
	}
	srv := server{systemID: sys.SystemID, timeline: sys.Timeline, database: sys.DBName, walEnd: vecferry.LSN(sys.XLogPos)}
	if timeline == 0 || timeline == sys.Timeline {
		return srv, nil
	}
	history, err := pglogrepl.TimelineHistory(ctx, s.conn, sys.Timeline)
	if err != nil {
		return srv, fmt.Errorf("read the history of timeline %d: %w", sys.Timeline, err)
	}
	srv.fork, srv.forked = forkOf(history.Content, timeline)
	return srv, nil
}

// slot returns the slot of a name, nil if there is none. The columns that only
// newer servers have go through JSON.
func (s *stream) slot(ctx context.Context, name string) (*slot, error) {
	row, err := s.query(ctx, `SELECT plugin, database, wal_status, temporary, active_pid, confirmed_flush_lsn,
		coalesce(to_jsonb(s)->>'invalidation_reason', CASE to_jsonb(s)->>'conflicting' WHEN 'true' THEN 'conflicting' END)
		FROM pg_catalog.pg_replication_slots s WHERE slot_name = '`+name+`'`)
	if err != nil || row == nil {
		return nil, err
	}
	out := &slot{plugin: row[0], database: row[1], walStatus: row[2], temporary: row[3] == "t", pid: row[4], reason: row[6]}
	if row[5] != "" {
		out.confirmed, err = vecferry.ParseLSN(row[5])
	}
	return out, err
}

// hasPublication reports whether the publication exists now.
func (s *stream) hasPublication(ctx context.Context, name string) (bool, error) {
	row, err := s.query(ctx, "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = '"+name+"'")
	return row != nil, err
}

// senderTimeout returns wal_sender_timeout of this session, 0 if it is off.
func (s *stream) senderTimeout(ctx context.Context) (time.Duration, error) {
	row, err := s.query(ctx, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'")
	if err != nil || row == nil {
		return 0, err
	}
	ms, err := strconv.ParseInt(row[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("wal_sender_timeout: %w", err)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// nextXID returns the next transaction id with its epoch.
func (s *stream) nextXID(ctx context.Context) (vecferry.XID, error) {
	row, err := s.query(ctx, "SELECT pg_catalog.pg_current_snapshot()")
	if err != nil {
		return 0, err
	}
	if row == nil {
		return 0, errors.New("the server has no snapshot")
	}
	v, err := vecferry.ParseVisibility(row[0])
	return v.Next(), err
}

// create makes the slot. It waits for every transaction that is writing.
func (s *stream) create(ctx context.Context, name string) (vecferry.LSN, error) {
	r, err := pglogrepl.CreateReplicationSlot(ctx, s.conn, name, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	if err != nil {
		return 0, fmt.Errorf("create slot %s: %w", name, err)
	}
	return vecferry.ParseLSN(r.ConsistentPoint)
}

// begin starts the stream. From here on the session takes no SQL.
func (s *stream) begin(ctx context.Context, slot, publication string, at vecferry.LSN) error {
	err := pglogrepl.StartReplication(ctx, s.conn, slot, pglogrepl.LSN(at), pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'", `publication_names '"` + publication + `"'`, "binary 'true'", "messages 'true'",
		},
	})
	if err != nil {
		return fmt.Errorf("start replication of slot %s: %w", slot, err)
	}
	return nil
}

// blockers names the transactions that a slot's creation may wait for, by a
// session of its own.
func blockers(ctx context.Context, source Source) (string, error) {
	cfg := source.ReplicationConfig()
	delete(cfg.RuntimeParams, "replication")
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", fmt.Errorf("look for running transactions: %w", err)
	}
	s := &stream{conn: conn}
	defer s.close(ctx)
	row, err := s.query(ctx, `SELECT string_agg(who, ', ') FROM (
		SELECT format('pid %s (%s, %s s)', pid, coalesce(nullif(application_name, ''), usename),
			extract(epoch FROM now() - xact_start)::bigint) AS who
		FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
		UNION ALL SELECT format('prepared transaction %s', gid) FROM pg_catalog.pg_prepared_xacts) b`)
	if err != nil || row == nil {
		return "", err
	}
	return strings.TrimSpace(row[0]), nil
}

// serverError turns a message that ends or spoils the stream into an error.
func serverError(e *pgproto3.ErrorResponse, publication string) error {
	err := pgconn.ErrorResponseToPgError(e)
	if err.Code == stateUndefinedObject {
		return lostPublication(publication, err)
	}
	return fmt.Errorf("the server ended the stream: %w", err)
}

// serverNotice does the same for a notice. PostgreSQL 18 only warns that it
// leaves out all changes since the publication is gone.
func serverNotice(n *pgproto3.NoticeResponse, publication string) error {
	if n.Code != stateNotReady {
		return nil
	}
	e := pgproto3.ErrorResponse(*n)
	return lostPublication(publication, pgconn.ErrorResponseToPgError(&e))
}

func lostPublication(publication string, err error) error {
	return &vecferry.HaltError{
		What: fmt.Sprintf("publication %q does not exist where the slot reads, so that changes are missing", publication),
		Fix:  "create the publication again, then start a new pipeline, which copies the tables again",
		Err:  err,
	}
}
