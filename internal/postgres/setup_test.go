package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

// What Emit promises: the first transaction that ends at or after its LSN comes
// after the mark, or is the mark's.
func TestEmit(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec("CREATE TABLE docs (id int PRIMARY KEY, v vector(1)); CREATE PUBLICATION p FOR TABLE docs")
		slot := createSlot(t, db)
		before, err := s.CurrentLSN(t.Context())
		require.NoError(t, err)
		snapshot, err := s.Snapshot(t.Context())
		require.NoError(t, err)
		mark := vecferry.Mark{Kind: vecferry.Low, Table: 7, Attempt: 3, Ranges: []vecferry.Range{vecferry.Only("a'\x01")}, Snapshot: snapshot}
		lsn, err := s.Emit(t.Context(), "docs", mark)
		require.NoError(t, err)
		require.Greater(t, lsn, before)
		log := peekLog(t, s, slot, true)
		require.Len(t, log.changes, 1)
		require.Equal(t, "vecferry/docs", string(log.changes[0].Prefix))
		got, err := vecferry.DecodeMark(log.changes[0].Content)
		require.NoError(t, err)
		require.Equal(t, mark, got)
		ends := commitEnds(t, s, slot)
		require.Len(t, ends, 1)
		require.Greater(t, ends[0], before)
		require.LessOrEqual(t, ends[0], lsn)
		_, err = s.Emit(t.Context(), "docs", mark)
		require.NoError(t, err)
		require.Greater(t, commitEnds(t, s, slot)[1], lsn)
	})
}

// commitEnds reads the end LSN of each commit in the log: 'C', flags, commit LSN,
// end LSN.
func commitEnds(t *testing.T, s *Source, slot string) []vecferry.LSN {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `SELECT ('x' || encode(substr(data, 11, 8), 'hex'))::bit(64)::int8 FROM pg_logical_slot_peek_binary_changes(
		$1::text, NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'messages', 'true') WHERE get_byte(data, 0) = ascii('C')`, slot)
	require.NoError(t, err)
	var ends []vecferry.LSN
	for rows.Next() {
		var end int64
		require.NoError(t, rows.Scan(&end))
		ends = append(ends, vecferry.LSN(end))
	}
	require.NoError(t, rows.Err())
	return ends
}

// Marks commit though the synchronous standby that everybody waits for is gone.
func TestMarksDoNotWaitForStandbys(t *testing.T) {
	t.Parallel()
	server := testenv.OwnPostgres(t, 16, map[string]string{"synchronous_standby_names": "ghost", "synchronous_commit": "local"})
	db := testenv.Database(t, server)
	db.Exec("ALTER DATABASE " + db.Name + " SET synchronous_commit = 'on'")
	s := open(t, db.DSN)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.Emit(ctx, "docs", vecferry.Mark{Kind: vecferry.Beat, Snapshot: "1:1:"})
	require.NoError(t, err)
}

func TestEnsurePublication(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec(`CREATE TABLE docs (id int PRIMARY KEY, v vector(1), x int, g int GENERATED ALWAYS AS (id) STORED); CREATE TABLE "My Docs" (id int PRIMARY KEY, v vector(1), x int)`)
		one := inspect(t, s, docs())
		two := inspect(t, s, Spec{Schema: "public", Name: "My Docs", Collection: "two"})
		ensure := func(create bool, tables ...*vecferry.Table) error {
			return s.EnsurePublication(t.Context(), "pub 1", tables, create)
		}
		halts := func(err error, fix string) {
			t.Helper()
			require.True(t, vecferry.Halts(err), "%v", err)
			require.ErrorContains(t, err, fix)
		}
		halts(ensure(false, one), `CREATE PUBLICATION "pub 1" FOR TABLE ONLY "public"."docs" WITH (publish = 'insert, update, delete, truncate')`)
		require.NoError(t, ensure(true, one))
		require.NoError(t, ensure(false, one))
		halts(ensure(false, one, two), `ALTER PUBLICATION "pub 1" ADD TABLE ONLY "public"."My Docs"`)
		require.NoError(t, ensure(true, one, two))
		require.NoError(t, ensure(false, one, two))

		db.Exec(`ALTER PUBLICATION "pub 1" SET (publish = 'insert, update, delete')`)
		halts(ensure(true, one), "SET (publish = 'insert, update, delete, truncate')")
		db.Exec(`ALTER PUBLICATION "pub 1" SET (publish = 'insert, update, delete, truncate')`)
		db.Exec(`ALTER PUBLICATION "pub 1" SET TABLE docs WHERE (id > 1), "My Docs" (id, v)`)
		err := ensure(true, one, two)
		halts(err, "filters the rows of public.docs")
		halts(err, "leaves out columns of public.My Docs: x")
		db.Exec(`ALTER PUBLICATION "pub 1" SET TABLE docs (id, v, x)`)
		require.NoError(t, ensure(false, one), "a list that has the mapped columns")
		db.Exec(`ALTER PUBLICATION "pub 1" SET TABLES IN SCHEMA public`)
		require.NoError(t, ensure(false, one, two))

		require.NoError(t, s.DropPublication(t.Context(), "pub 1"))
		require.NoError(t, s.DropPublication(t.Context(), "pub 1"))
		db.Exec(`CREATE PUBLICATION "pub 1" FOR ALL TABLES`)
		require.NoError(t, ensure(false, one, two))

		weak := open(t, as(t, db.DSN, createRole(t, db)))
		halts(weak.EnsurePublication(t.Context(), "other", []*vecferry.Table{one}, true), "have the owner")
	})
}

func TestSlotState(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		slot, err := s.SlotState(t.Context(), "none")
		require.NoError(t, err)
		require.False(t, slot.Exists || slot.Usable())
		require.NoError(t, s.DropSlot(t.Context(), "none"))
		name := createSlot(t, db)
		slot, err = s.SlotState(t.Context(), name)
		require.NoError(t, err)
		require.True(t, slot.Exists && slot.Usable() && !slot.Active && !slot.Temporary)
		require.Equal(t, []string{name, "pgoutput", "logical", db.Name, "reserved"}, []string{slot.Name, slot.Plugin, slot.Type, slot.Database, slot.WALStatus})
		require.NotZero(t, slot.RestartLSN)
		require.GreaterOrEqual(t, slot.ConfirmedLSN, slot.RestartLSN)
		require.Positive(t, slot.Retained)
		require.Nil(t, slot.SafeWALSize)
		require.Equal(t, db.Version >= 17, !slot.InactiveSince.Before(time.Now().Add(-time.Hour)))
		require.NoError(t, s.DropSlot(t.Context(), name))
		slot, err = s.SlotState(t.Context(), name)
		require.NoError(t, err)
		require.False(t, slot.Exists)
	})
}

func TestLostSlot(t *testing.T) {
	t.Parallel()
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			server := testenv.OwnPostgres(t, version, map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"})
			db := testenv.Database(t, server)
			s := open(t, db.DSN)
			name := createSlot(t, db)
			slot, err := s.SlotState(t.Context(), name)
			require.NoError(t, err)
			require.NotNil(t, slot.SafeWALSize)
			found, err := s.Preflight(t.Context(), name)
			require.NoError(t, err)
			require.Contains(t, found.Notes[0].Text, "max_slot_wal_keep_size is 1 MB")
			for range 4 {
				db.Exec("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000)), pg_switch_wal()")
			}
			db.Exec("CHECKPOINT")
			slot, err = s.SlotState(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, []string{"lost", "wal_removed"}, []string{slot.WALStatus, slot.Invalidation})
			require.False(t, slot.Usable())
		})
	}
}

func TestPreflight(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		found, err := s.Preflight(t.Context(), "new")
		require.NoError(t, err)
		require.Equal(t, db.Version, found.Version/10000)
		require.Equal(t, "0.8.5", found.PGVector)
		require.Empty(t, found.Notes)

		role := createRole(t, db)
		_, err = open(t, as(t, db.DSN, role)).Preflight(t.Context(), "new")
		require.True(t, vecferry.Halts(err))
		require.ErrorContains(t, err, `ALTER ROLE "`+role+`" REPLICATION`)
		db.Exec("DROP EXTENSION vector; ALTER ROLE " + role + " REPLICATION")
		_, err = open(t, as(t, db.DSN, role)).Preflight(t.Context(), "new")
		require.ErrorContains(t, err, "CREATE EXTENSION vector")
		require.NotContains(t, err.Error(), "REPLICATION")
	})
}

func TestPreflightNeedsLogicalWALAndRoom(t *testing.T) {
	t.Parallel()
	bare := testenv.Database(t, testenv.OwnPostgres(t, 18, map[string]string{"wal_level": "replica"}))
	_, err := open(t, bare.DSN).Preflight(t.Context(), "new")
	require.ErrorContains(t, err, "ALTER SYSTEM SET wal_level = 'logical'")

	full := testenv.Database(t, testenv.OwnPostgres(t, 16, map[string]string{"max_replication_slots": "1", "max_wal_senders": "1"}))
	s := open(t, full.DSN)
	name := createSlot(t, full)
	_, err = s.Preflight(t.Context(), "new")
	require.ErrorContains(t, err, "max_replication_slots = 5")
	_, err = s.Preflight(t.Context(), name)
	require.NoError(t, err, "its own slot is there")
}

func TestIdentity(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		id, err := s.Identity(t.Context())
		require.NoError(t, err)
		var want int64
		require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT system_identifier FROM pg_control_system()").Scan(&want))
		require.Equal(t, uint64(want), id.SystemID)
		require.Equal(t, uint32(1), id.Timeline)
		require.NotZero(t, id.WALEnd)
	})
}

func TestVersionsCompareAsNumbers(t *testing.T) {
	t.Parallel()
	for version, older := range map[string]bool{"0.8.3": true, "0.8.4": false, "0.8.10": false, "0.7": true, "0.8": true, "1.0": false, "": true} {
		require.Equal(t, older, olderThan(version, 0, 8, 4), version)
	}
}
