package testenv

import (
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPostgresSurvivesACrash(t *testing.T) {
	t.Parallel()
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			p := OwnPostgres(t, version, map[string]string{"work_mem": "5MB"})
			exec := func(sql string) { require.NoError(t, execSQL(t.Context(), p.DSN("postgres"), sql)) }
			exec("create extension vector")
			exec("create table items (id int primary key, v vector(3))")
			exec("insert into items values (1, '[1,2,3]')")

			require.NoError(t, p.Kill())
			assert.False(t, answers(t, p.DSN("postgres")))
			require.NoError(t, p.Restart(t.Context()))
			assert.InDelta(t, 0, query[float64](t, p.DSN("postgres"), "select v <-> '[1,2,3]' from items"), 0)
			assert.Equal(t, version, query[int](t, p.DSN("postgres"), "select current_setting('server_version_num')::int / 10000"))
			assert.Equal(t, "logical 5MB", query[string](t, p.DSN("postgres"), "select current_setting('wal_level') || ' ' || current_setting('work_mem')"))
		})
	}
}

func TestPostgresPauseAndSettings(t *testing.T) {
	t.Parallel()
	p := OwnPostgres(t, 16, nil)
	other := OwnPostgres(t, 16, nil)
	const identity = "select system_identifier::text from pg_control_system()"
	assert.NotEqual(t, query[string](t, p.DSN("postgres"), identity), query[string](t, other.DSN("postgres"), identity))

	require.NoError(t, p.Pause())
	ctx, cancel := contextWithin(t, 20*step)
	defer cancel()
	_, err := pgx.Connect(ctx, p.DSN("postgres"))
	require.Error(t, err)
	require.NoError(t, p.Resume())
	assert.True(t, answers(t, p.DSN("postgres")))

	require.NoError(t, execSQL(t.Context(), p.DSN("postgres"), "alter system set work_mem = '7MB'"))
	require.NoError(t, p.Restart(t.Context()))
	assert.Equal(t, "7MB", query[string](t, p.DSN("postgres"), "show work_mem"))
	assert.FileExists(t, p.BinDir()+"/pgbench")
	assert.FileExists(t, p.LogPath())
	assert.Equal(t, 16, p.Version())
	assert.Contains(t, p.DSN("x"), fmt.Sprint(p.Port()))
}

func TestStopDeletesTheData(t *testing.T) {
	t.Parallel()
	p, err := StartPostgres(t.Context(), PostgresOptions{Options: Options{Logf: t.Logf}})
	require.NoError(t, err)
	require.DirExists(t, p.DataDir())
	require.NoError(t, p.Stop())
	assert.NoDirExists(t, p.DataDir())
	assert.False(t, answers(t, p.DSN("postgres")))
}

func TestDatabasesAreIsolatedAndDropped(t *testing.T) {
	t.Parallel()
	for _, version := range []int{16, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			observer := Postgres(t, version)
			observer.Exec("create table items (v vector(2))")
			name := ""
			t.Run("user", func(t *testing.T) {
				db := Postgres(t, version)
				name = db.Name
				db.Exec("create table items (v vector(3))")
				holdSlot(t, db)
			})
			assert.Zero(t, query[int](t, observer.DSN, "select count(*) from pg_database where datname = '"+name+"'"))
			assert.Zero(t, query[int](t, observer.DSN, "select count(*) from pg_replication_slots where database = '"+name+"'"))
		})
	}
}

// holdSlot leaves a slot behind that a connection is using.
func holdSlot(t *testing.T, db *TestDB) {
	t.Helper()
	db.Exec("create publication p for all tables") // before the slot, which reads the catalog as it was then
	conn, err := pgx.Connect(t.Context(), db.DSN+"&replication=database")
	require.NoError(t, err)
	mode := pgx.QueryExecModeSimpleProtocol
	_, err = conn.Exec(t.Context(), "CREATE_REPLICATION_SLOT s_"+db.Name+" LOGICAL pgoutput", mode)
	require.NoError(t, err)
	conn.PgConn().Frontend().SendQuery(startReplication(db))
	require.NoError(t, conn.PgConn().Frontend().Flush())
	require.Eventually(t, func() bool {
		return query[bool](t, db.DSN, "select active from pg_replication_slots where slot_name = 's_"+db.Name+"'")
	}, patience, step)
}

func TestServerGivenByTheEnvironment(t *testing.T) {
	p := OwnPostgres(t, 18, nil)
	for form, dsn := range map[string]string{
		"URL":      p.DSN("postgres"),
		"keywords": fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres", p.Port()),
	} {
		t.Run(form, func(t *testing.T) {
			t.Setenv("VECFERRY_TEST_POSTGRES_18", dsn)
			db := Postgres(t, 18)
			assert.Equal(t, db.Name, query[string](t, db.DSN, "select current_database()"))
			assert.Equal(t, p.Port(), query[int](t, db.DSN, "select current_setting('port')::int"))
		})
	}
	db := Database(t, p)
	assert.Equal(t, db.Name, query[string](t, db.DSN, "select current_database()"))
	require.NoError(t, p.Kill(), "cleaning up after a dead server is no failure")
}

func TestTemplateCopyKeepsModes(t *testing.T) {
	t.Parallel()
	src, dst := t.TempDir(), t.TempDir()+"/copy"
	require.NoError(t, os.Mkdir(src+"/sub", 0o700))
	require.NoError(t, os.WriteFile(src+"/sub/file", []byte("content"), 0o600))
	require.NoError(t, copyTree(src, dst, 0))
	info, err := os.Stat(dst + "/sub/file")
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Error(t, copyTree(src, dst, 0), "never over something that exists")
}
