package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

// field is one mapped field in short: name type [length] [dynamic].
func fields(t *vecferry.Table) []string {
	var out []string
	for i := range t.Fields {
		f := &t.Fields[i]
		s := f.Name + " " + f.Type.String()
		switch {
		case f.MaxLength > 0:
			s += fmt.Sprintf(" %d", f.MaxLength)
		case f.Dim > 0:
			s += fmt.Sprintf(" %d", f.Dim)
		}
		if f.Dynamic {
			s += " dynamic"
		}
		out = append(out, s)
	}
	return out
}

func TestInspectMapsTypes(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec(`CREATE TYPE mood AS ENUM ('happy'); CREATE DOMAIN label AS varchar(10); CREATE DOMAIN emb AS vector(3);
			CREATE TABLE docs (
			id int4 PRIMARY KEY, gone int, v emb NOT NULL, tenant int2 NOT NULL, title varchar(100) NOT NULL, body text, m mood NOT NULL,
			m2 mood, u uuid NOT NULL, label label NOT NULL, long varchar(60000) NOT NULL, c char(7) NOT NULL, ok bool NOT NULL, n numeric(10,2) NOT NULL,
			at timestamptz NOT NULL, day date NOT NULL, j jsonb NOT NULL, j2 json, tags text[] NOT NULL, moods mood[], f4 float4 NOT NULL, f8 float8,
			raw bytea NOT NULL, ip inet NOT NULL, total int GENERATED ALWAYS AS (tenant + 1) STORED, w vector(5), h halfvec(2), b bit(8), sp sparsevec(4),
			small int2 NOT NULL, "Weird Name" int NOT NULL, x float4 NOT NULL, secret xml);
			ALTER TABLE docs DROP COLUMN gone`)
		no := false
		spec := docs()
		spec.Vector, spec.PartitionKey, spec.Partitions, spec.BatchRows = "v", "tenant", 16, 500
		spec.Index = vecferry.Index{Type: "HNSW", Metric: "COSINE", M: 16, EfConstruction: 256}
		spec.Columns = map[string]ColumnSpec{
			"Weird Name": {Rename: "weird"}, "small": {Type: "int32"}, "x": {Type: "double"}, "body": {MaxLength: 300},
			"secret": {Include: &no}, "u": {MaxLength: 40}, "j2": {Type: "varchar"}, "f8": {Rename: "double"},
		}
		table, notes, err := s.Inspect(t.Context(), spec)
		require.NoError(t, err)
		require.Equal(t, []string{
			"id int64", "v vector 3", "tenant int64", "title varchar 400", "body varchar 300 dynamic", "m varchar 255",
			"m2 varchar dynamic", "u varchar 40", "label varchar 40", "long varchar 65535", "c varchar 28", "ok bool", "n varchar 65535",
			"at int64", "day varchar 65535", "j json", "j2 varchar dynamic", "tags json dynamic", "moods json dynamic", "f4 float",
			"double double dynamic", "raw varchar 65535", "ip varchar 65535", "small int32", "weird int32", "x double",
		}, fields(table))
		require.Equal(t, "id v tenant", table.KeyField().Name+" "+table.VectorField().Name+" "+table.Fields[table.PartitionKey].Name)
		require.Equal(t, vecferry.KeyInt, table.KeyType)
		require.True(t, table.ByteOrder)
		require.Equal(t, []int{16, 500}, []int{table.Partitions, table.BatchRows})
		require.Equal(t, spec.Index, table.Index)
		require.Equal(t, int16(3), table.VectorField().Attnum, "numbers of dropped columns stay taken")
		require.NotZero(t, table.VectorField().DomainOID)
		var left []string
		for _, n := range notes {
			left = append(left, n.Column)
		}
		require.Equal(t, []string{"total", "w", "h", "b", "sp"}, left)
	})
}

func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 18)
	s := open(t, db.DSN)
	no := false
	columns := func(name string, c ColumnSpec) func(*Spec) {
		return func(s *Spec) { s.Columns = map[string]ColumnSpec{name: c} }
	}
	const good = "CREATE TABLE docs (id int PRIMARY KEY, v vector(3), x int, t text NOT NULL, big int8 NOT NULL)"
	for _, c := range []struct {
		name, create string
		change       func(*Spec)
		column, want string
	}{
		{"no table", "SELECT", nil, "", "no such table"},
		{"partitioned", "CREATE TABLE docs (id int PRIMARY KEY, v vector(3)) PARTITION BY RANGE (id)", nil, "", "partitioned"},
		{"view", "CREATE TABLE base (id int PRIMARY KEY, v vector(3)); CREATE VIEW docs AS SELECT * FROM base", nil, "", "a view"},
		{"unlogged", "CREATE UNLOGGED TABLE docs (id int PRIMARY KEY, v vector(3))", nil, "", "SET LOGGED"},
		{"no key", "CREATE TABLE docs (id int, v vector(3))", nil, "", "set `key:`"},
		{"composite key", "CREATE TABLE docs (a int, b int, v vector(3), PRIMARY KEY (b, a))", nil, "", "(b, a)"},
		{"deferrable key", "CREATE TABLE docs (id int PRIMARY KEY DEFERRABLE, v vector(3))", nil, "", "deferrable"},
		{"unknown key", good, func(s *Spec) { s.Key = "nope" }, "nope", "no such column"},
		{"key not unique", good, func(s *Spec) { s.Key = "t" }, "t", "CREATE UNIQUE INDEX CONCURRENTLY"},
		{"key nullable", "CREATE TABLE docs (id int PRIMARY KEY, v vector(3), x int UNIQUE)", func(s *Spec) { s.Key = "x" }, "x", "SET NOT NULL"},
		{"key outside identity", "CREATE TABLE docs (id int PRIMARY KEY, v vector(3), x int UNIQUE NOT NULL)", func(s *Spec) { s.Key = "x" }, "x", "REPLICA IDENTITY USING INDEX"},
		{"identity nothing", good + "; ALTER TABLE docs REPLICA IDENTITY NOTHING", nil, "id", "REPLICA IDENTITY"},
		{"key of bpchar", "CREATE TABLE docs (id char(3) PRIMARY KEY, v vector(3))", nil, "id", "cannot be of type bpchar"},
		{"key of numeric", "CREATE TABLE docs (id numeric PRIMARY KEY, v vector(3))", nil, "id", "cannot be of type numeric"},
		{"key left out", good, columns("id", ColumnSpec{Include: &no}), "id", "include: false"},
		{"key retyped", good, columns("id", ColumnSpec{Type: "varchar"}), "id", "int64"},
		{"no vector", "CREATE TABLE docs (id int PRIMARY KEY, h halfvec(3))", nil, "", "no column of type vector"},
		{"two vectors", "CREATE TABLE docs (id int PRIMARY KEY, a vector(3), b vector(3))", nil, "", "a, b"},
		{"no dimension", "CREATE TABLE docs (id int PRIMARY KEY, v vector)", nil, "v", "TYPE vector(n)"},
		{"vector is none", good, func(s *Spec) { s.Vector = "x" }, "x", "instead of vector(n)"},
		{"unknown vector", good, func(s *Spec) { s.Vector = "nope" }, "nope", "no such column"},
		{"type not carried", "CREATE TABLE docs (id int PRIMARY KEY, v vector(3), p point)", nil, "p", "columns: {p: {include: false}}"},
		{"array not carried", "CREATE TABLE docs (id int PRIMARY KEY, v vector(3), p point[])", nil, "p", "point[]"},
		{"own type of a known name", "CREATE TYPE text AS (a int); CREATE TABLE docs (id int PRIMARY KEY, v vector(3), p public.text)", nil, "p", "not carried"},
		{"narrower", good, columns("big", ColumnSpec{Type: "int32"}), "big", "exactly"},
		{"text to number", good, columns("t", ColumnSpec{Type: "int64"}), "t", "exactly"},
		{"length of a number", good, columns("big", ColumnSpec{MaxLength: 10}), "big", "max_length"},
		{"too long", good, columns("t", ColumnSpec{MaxLength: 70000}), "t", "max_length"},
		{"unknown column", good, columns("nope", ColumnSpec{}), "nope", "no such column"},
		{"bad name", `CREATE TABLE docs (id int PRIMARY KEY, v vector(3), "a-b" int)`, nil, "a-b", "rename"},
		{"same name", good, columns("t", ColumnSpec{Rename: "id"}), "t", "already"},
		{"our name", good, columns("t", ColumnSpec{Rename: vecferry.PositionField}), "t", "taken"},
		{"partition key nullable", good, func(s *Spec) { s.PartitionKey = "x" }, "x", "SET NOT NULL"},
		{"partition key is key", good, func(s *Spec) { s.PartitionKey = "id" }, "id", "partition key"},
		{"unknown partition key", good, func(s *Spec) { s.PartitionKey = "nope" }, "nope", "no such column"},
		{"partition key of float", "CREATE TABLE docs (id int PRIMARY KEY, v vector(3), f float8 NOT NULL)", func(s *Spec) { s.PartitionKey = "f" }, "f", "partition key cannot be"},
		{"collation", "CREATE COLLATION ci (provider = builtin, locale = 'C.UTF-8'); CREATE TABLE docs (id text PRIMARY KEY, v vector(3)); " +
			"UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'ci'; ALTER TABLE docs ALTER id TYPE text COLLATE public.ci", nil, "id", "not deterministic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db.Exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE EXTENSION vector")
			db.Exec(c.create)
			spec := docs()
			if c.change != nil {
				c.change(&spec)
			}
			_, _, err := s.Inspect(t.Context(), spec)
			var refused *MappingError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, "public.docs", refused.Table)
			require.Equal(t, c.column, refused.Column, err)
		})
	}
}

func TestInspectSaysEverythingAtOnce(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 16)
	db.Exec("CREATE TABLE docs (id int, v vector, p point, q xml)")
	_, _, err := open(t, db.DSN).Inspect(t.Context(), docs())
	for _, want := range []string{"primary key", "no dimension", "type point", "type xml"} {
		require.ErrorContains(t, err, want)
	}
}

func TestInspectTakesOtherIdentities(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"full":  "CREATE TABLE docs (a int, b int, v vector(3), id int NOT NULL UNIQUE, PRIMARY KEY (a, b)); ALTER TABLE docs REPLICA IDENTITY FULL",
		"index": "CREATE TABLE docs (id int NOT NULL CONSTRAINT u UNIQUE, v vector(3)); ALTER TABLE docs REPLICA IDENTITY USING INDEX u",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Postgres(t, 16)
			db.Exec(sql)
			spec := docs()
			spec.Key = "id"
			require.Equal(t, "id", inspect(t, open(t, db.DSN), spec).KeyField().Name)
		})
	}
}

func TestKeyOrder(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		for typ, want := range map[string]bool{
			"int8": true, "uuid": true, "text": true, "text COLLATE \"C\"": true, "varchar(9) COLLATE \"POSIX\"": true, "text COLLATE other": false,
		} {
			db.Exec("DROP TABLE IF EXISTS docs")
			if strings.HasSuffix(typ, "other") {
				other(db)
			}
			db.Exec("CREATE TABLE docs (id " + typ + " PRIMARY KEY, v vector(3))")
			require.Equal(t, want, inspect(t, s, docs()).ByteOrder, typ)
		}
	})
}

// other makes a collation that is not known to compare bytes. The servers of the
// tests have no ICU, so it is one of libc.
func other(db *testenv.TestDB) {
	db.Exec("CREATE COLLATION other (provider = libc, locale = 'C.UTF-8')")
}

func TestNoteOnUnservedKeyOrder(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 16)
	s := open(t, db.DSN)
	other(db)
	db.Exec("CREATE TABLE docs (id text COLLATE other PRIMARY KEY, v vector(3))")
	_, notes, err := s.Inspect(t.Context(), docs())
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0].String(), "text_pattern_ops")
	db.Exec("CREATE INDEX ON docs (id text_pattern_ops)")
	_, notes, err = s.Inspect(t.Context(), docs())
	require.NoError(t, err)
	require.Empty(t, notes)
}

// Policies hide rows from COPY but not from the log.
func TestRowSecurity(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		role := createRole(t, db)
		db.Exec("CREATE TABLE docs (id int PRIMARY KEY, v vector(3), x int); ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON docs USING (false)")
		db.Exec("INSERT INTO docs VALUES (1, '[1,2,3]')")
		weak := open(t, as(t, db.DSN, role))
		table := inspect(t, s, docs())

		_, _, err := weak.Inspect(t.Context(), docs())
		require.ErrorContains(t, err, "row-level security")
		require.ErrorContains(t, err, "GRANT SELECT")
		_, err = weak.ReadChunk(t.Context(), ChunkRequest{Table: table, Ranges: []vecferry.Range{vecferry.Everything()}})
		require.True(t, vecferry.Halts(err), "no right to read: %v", err)
		db.Exec("GRANT SELECT ON docs TO " + role)
		_, err = weak.ReadChunk(t.Context(), ChunkRequest{Table: table, Ranges: []vecferry.Range{vecferry.Everything()}})
		require.True(t, vecferry.Halts(err), "rows hidden: %v", err)
		db.Exec("ALTER ROLE " + role + " BYPASSRLS")
		_, _, err = weak.Inspect(t.Context(), docs())
		require.NoError(t, err)
		chunk, err := weak.ReadChunk(t.Context(), ChunkRequest{Table: table, Ranges: []vecferry.Range{vecferry.Everything()}})
		require.NoError(t, err)
		require.Len(t, chunk.Rows, 1)
	})
}

// createRole makes a role that may log in and nothing else; roles belong to the
// whole server.
func createRole(t *testing.T, db *testenv.TestDB) string {
	t.Helper()
	role := "r_" + db.Name
	db.Exec("CREATE ROLE " + role + " LOGIN")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, db.DSN)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role)
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	})
	return role
}
