package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/vecferry/vecferry"
)

const minVersion = 140000

// Server is what Preflight found.
type Server struct {
	Version  int    // server_version_num, such as 160014
	PGVector string // version of the extension
	Notes    []Note
}

// serverInfo are the facts that Preflight judges.
type serverInfo struct {
	Version     int
	Standby     bool
	WALLevel    string
	MaxSlots    int
	Slots       int
	MaxSenders  int
	Senders     int
	SlotExists  bool
	SlotActive  bool
	Replication bool
	PGVector    string
	Role        string
	MaxKeepMB   int // max_slot_wal_keep_size, -1 without limit
}

const serverSQL = `
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'),
       current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots)::int,
       current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_replication)::int,
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1::text),
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1::text AND active),
       EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolreplication))
         OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(current_user, oid, 'MEMBER')),
       coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'), ''), current_user::text,
       (SELECT setting::int FROM pg_settings WHERE name = 'max_slot_wal_keep_size')`

// Preflight checks that the server can feed a pipeline whose slot has that name
// (it need not exist yet). The error holds one *vecferry.HaltError for each
// thing that stands in the way (errors.Join).
func (s *Source) Preflight(ctx context.Context, slot string) (*Server, error) {
	rows, err := s.pool.Query(ctx, serverSQL, slot)
	if err != nil {
		return nil, s.fail(ctx, "preflight", err)
	}
	info, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[serverInfo])
	if err != nil {
		return nil, s.fail(ctx, "preflight", err)
	}
	if err := errors.Join(info.checkServer(), info.checkRoom(), info.checkRights()); err != nil {
		return nil, fmt.Errorf("preflight: %w", err)
	}
	return &Server{Version: info.Version, PGVector: info.PGVector, Notes: info.notes()}, nil
}

func (i serverInfo) checkServer() error {
	var problems []error
	if i.Version < minVersion {
		problems = append(problems, &vecferry.HaltError{
			What: fmt.Sprintf("the server is PostgreSQL %d", i.Version/10000), Fix: "upgrade it to 14 or later"})
	}
	if i.Standby {
		problems = append(problems, &vecferry.HaltError{
			What: "the server is a standby", Fix: "connect to the primary (target_session_attrs=read-write)"})
	}
	if i.WALLevel != "logical" {
		problems = append(problems, &vecferry.HaltError{
			What: "wal_level is " + i.WALLevel,
			Fix:  "run: ALTER SYSTEM SET wal_level = 'logical'; and restart the server (managed services: set it in the parameter group)"})
	}
	return errors.Join(problems...)
}

func (i serverInfo) checkRoom() error {
	var problems []error
	if !i.SlotExists && i.Slots >= i.MaxSlots {
		problems = append(problems, &vecferry.HaltError{
			What: fmt.Sprintf("all %d replication slots are taken", i.MaxSlots),
			Fix:  fmt.Sprintf("drop one that nobody uses, or run: ALTER SYSTEM SET max_replication_slots = %d; and restart the server", i.MaxSlots+4)})
	}
	if !i.SlotActive && i.Senders >= i.MaxSenders {
		problems = append(problems, &vecferry.HaltError{
			What: fmt.Sprintf("all %d WAL senders are in use", i.MaxSenders),
			Fix:  fmt.Sprintf("run: ALTER SYSTEM SET max_wal_senders = %d; and restart the server", i.MaxSenders+4)})
	}
	return errors.Join(problems...)
}

func (i serverInfo) checkRights() error {
	var problems []error
	if !i.Replication {
		problems = append(problems, &vecferry.HaltError{
			What: "role " + i.Role + " may not replicate",
			Fix:  fmt.Sprintf("run: ALTER ROLE %s REPLICATION (on RDS: GRANT rds_replication TO %s)", ident(i.Role), ident(i.Role))})
	}
	if i.PGVector == "" {
		problems = append(problems, &vecferry.HaltError{
			What: "the database has no extension vector", Fix: "connect to the database that has it, or run: CREATE EXTENSION vector"})
	}
	return errors.Join(problems...)
}

func (i serverInfo) notes() []Note {
	var notes []Note
	if olderThan(i.PGVector, 0, 8, 4) {
		notes = append(notes, Note{Text: "pgvector " + i.PGVector + " has a fault in the vacuum of HNSW indexes, which 0.8.4 ends: searches in PostgreSQL may miss rows"})
	}
	if i.MaxKeepMB >= 0 {
		notes = append(notes, Note{Text: fmt.Sprintf(
			"max_slot_wal_keep_size is %d MB: a pipeline that is down for more WAL than that loses its slot and must copy again", i.MaxKeepMB)})
	}
	return notes
}

// olderThan compares a version in numbers, such as 0.8.5.
func olderThan(version string, than ...int) bool {
	parts := strings.Split(version, ".")
	for i, want := range than {
		have := 0
		if i < len(parts) {
			have, _ = strconv.Atoi(parts[i]) // what is no number is taken for 0
		}
		if have != want {
			return have < want
		}
	}
	return false
}
