package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vecferry/vecferry"
)

// Slot is what pg_replication_slots says of a slot. What a version does not
// know is zero.
type Slot struct {
	Exists       bool
	Name         string
	Plugin       string
	Type         string // logical, physical
	Database     string
	Temporary    bool
	Active       bool
	ActivePID    int
	RestartLSN   vecferry.LSN // 0 if it holds no WAL
	ConfirmedLSN vecferry.LSN // confirmed_flush_lsn
	WALStatus    string       // reserved, extended, unreserved, lost
	SafeWALSize  *int64       // bytes until the slot may be lost, nil if there is no limit
	Retained     int64        // bytes of WAL that the server keeps for it
	// Invalidation is why the slot can no longer be used, empty if it can:
	// invalidation_reason from version 17 on, before it "wal_removed" or
	// "conflict".
	Invalidation  string
	InactiveSince time.Time // from version 17 on
	Failover      bool      // from version 17 on
	Synced        bool      // from version 17 on
}

// Usable reports whether the slot still has all WAL that it promised.
func (s *Slot) Usable() bool { return s.Exists && s.Invalidation == "" }

// SlotState returns the state of a slot, never nil without an error.
func (s *Source) SlotState(ctx context.Context, name string) (*Slot, error) {
	// to_jsonb reads columns that not every version has.
	const sql = `
SELECT slot_name::text, coalesce(plugin::text, ''), slot_type, coalesce(database::text, ''), temporary, active,
       coalesce(active_pid, 0), coalesce(restart_lsn::text, '0/0'), coalesce(confirmed_flush_lsn::text, '0/0'),
       coalesce(wal_status, ''), safe_wal_size,
       CASE WHEN restart_lsn IS NULL OR pg_is_in_recovery() THEN 0
            ELSE pg_current_wal_insert_lsn() - restart_lsn END::int8,
       coalesce(to_jsonb(s)->>'invalidation_reason',
         CASE WHEN wal_status = 'lost' THEN 'wal_removed' WHEN (to_jsonb(s)->>'conflicting')::bool THEN 'conflict' ELSE '' END),
       coalesce((to_jsonb(s)->>'inactive_since')::timestamptz, '0001-01-01 00:00:00+00'),
       coalesce((to_jsonb(s)->>'failover')::bool, false), coalesce((to_jsonb(s)->>'synced')::bool, false)
FROM pg_replication_slots s WHERE slot_name = $1::text`
	slot := &Slot{Exists: true}
	var restart, confirmed string
	err := s.pool.QueryRow(ctx, sql, name).Scan(&slot.Name, &slot.Plugin, &slot.Type, &slot.Database, &slot.Temporary,
		&slot.Active, &slot.ActivePID, &restart, &confirmed, &slot.WALStatus, &slot.SafeWALSize, &slot.Retained,
		&slot.Invalidation, &slot.InactiveSince, &slot.Failover, &slot.Synced)
	if errors.Is(err, pgx.ErrNoRows) {
		return &Slot{Name: name}, nil
	}
	if err == nil {
		slot.RestartLSN, err = vecferry.ParseLSN(restart)
	}
	if err == nil {
		slot.ConfirmedLSN, err = vecferry.ParseLSN(confirmed)
	}
	if err != nil {
		return nil, s.fail(ctx, "state of slot "+name, err)
	}
	return slot, nil
}

// DropSlot removes a slot; one that is missing is no error, one that is in use
// is (SQLSTATE 55006).
func (s *Source) DropSlot(ctx context.Context, name string) error {
	_, err := s.pool.Exec(ctx, "SELECT pg_drop_replication_slot($1::text)", name)
	if sqlState(err) == stateUndefinedObject {
		return nil
	}
	return s.fail(ctx, "drop slot "+name, err)
}
