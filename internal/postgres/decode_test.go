package postgres

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

// logOf reads what pgoutput sends for the slot "s_<database>" and publication
// "p", without consuming it.
type logOf struct {
	relations map[uint32]*vecferry.Relation
	changes   []vecferry.Change
}

func peekLog(t *testing.T, s *Source, slot string, binary bool) logOf {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `SELECT data FROM pg_logical_slot_peek_binary_changes($1::text, NULL, NULL,
		'proto_version', '1', 'publication_names', 'p', 'messages', 'true', 'binary', $2::text)`, slot, fmt.Sprint(binary))
	require.NoError(t, err)
	defer rows.Close()
	log := logOf{relations: map[uint32]*vecferry.Relation{}}
	for rows.Next() {
		var b []byte
		require.NoError(t, rows.Scan(&b))
		switch b[0] {
		case 'R':
			r, err := vecferry.ParseRelation(b)
			require.NoError(t, err)
			log.relations[r.OID] = r
		case 'I', 'U', 'D', 'M', 'T':
			var c vecferry.Change
			oid, err := vecferry.ParseMessage(b, &c)
			require.NoError(t, err)
			c.Relation = log.relations[oid]
			log.changes = append(log.changes, c)
		}
	}
	require.NoError(t, rows.Err())
	return log
}

func createSlot(t *testing.T, db *testenv.TestDB) string {
	t.Helper()
	name := "s_" + db.Name
	db.Exec("SELECT pg_create_logical_replication_slot($1::text, 'pgoutput')", name)
	return name
}

// everyType creates table docs with a nullable and a NOT NULL column and two
// arrays of every type, a domain of each, and rows with all their values.
func everyType(db *testenv.TestDB) {
	db.Exec("CREATE TYPE public.mood AS ENUM ('happy', 'so so'); CREATE DOMAIN public.label AS varchar(40); CREATE DOMAIN public.emb AS vector(3)")
	create := []string{"id int8 PRIMARY KEY", "v public.emb", "d public.label", "j json NOT NULL DEFAULT '{\"a\" : 1}'"}
	names, values := []string{"id", "v", "d"}, []string{"i", "ARRAY[i, 0.1, -i]::float4[]::vector(3)", "'label ' || i"}
	for _, c := range textCases() {
		typ := strings.ReplaceAll(c.typ, "mood", "public.mood")
		random := strings.ReplaceAll(c.random, "mood", "public.mood")
		create = append(create, fmt.Sprintf("a_%s %s", c.typ, typ), fmt.Sprintf("b_%s %s NOT NULL", c.typ, typ), fmt.Sprintf("c_%s %s[]", c.typ, typ))
		names = append(names, "a_"+c.typ, "b_"+c.typ, "c_"+c.typ)
		value := fmt.Sprintf("(%s)::%s", random, typ)
		values = append(values, "CASE WHEN i % 5 <> 3 THEN "+value+" END", value, fmt.Sprintf("CASE WHEN i %% 4 <> 3 THEN ARRAY[%s, NULL, %s] END", value, value))
	}
	db.Exec("CREATE TABLE public.docs (" + strings.Join(create, ", ") + ")")
	db.Exec("CREATE PUBLICATION p FOR TABLE public.docs")
	db.Exec("CREATE FUNCTION public.fill() RETURNS void LANGUAGE sql AS $f$ INSERT INTO docs (" + strings.Join(names, ", ") + ") SELECT " +
		strings.Join(values, ", ") + " FROM generate_series(1, 200) i $f$")
}

// The same row has the same values whether it comes by COPY, or in the log in
// binary, or in the log in text.
func TestAllWaysGiveTheSameRow(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		everyType(db)
		slot := createSlot(t, db)
		db.Exec("SELECT public.fill()")
		table := inspect(t, s, docs())
		chunk, err := s.ReadChunk(t.Context(), ChunkRequest{Table: table, Ranges: []vecferry.Range{vecferry.Everything()}, Position: 7})
		require.NoError(t, err)
		require.Len(t, chunk.Rows, 200)
		require.Empty(t, chunk.Dead)
		want := map[vecferry.Key]vecferry.Row{}
		for _, row := range chunk.Rows {
			want[row.Key] = row
		}
		for _, binary := range []bool{true, false} {
			log := peekLog(t, s, slot, binary)
			require.Len(t, log.changes, 201, "the rows, and the message with which the chunk ends")
			d, err := NewDecoder(table, log.changes[0].Relation.Columns)
			require.NoError(t, err)
			for _, c := range log.changes[:200] {
				row, err := d.Row(c.New, 7)
				require.NoError(t, err)
				key, err := d.Key(c.New)
				require.NoError(t, err)
				require.Equal(t, row.Key, key)
				require.Equal(t, want[key], row)
			}
		}
		require.Equal(t, []float32{5, 0.1, -5}, want[vecferry.IntKey(5)].Values[table.Vector].Vector())
	})
}

func TestUpdatesSayWhatTheyDoNotSend(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec("CREATE TABLE docs (id text PRIMARY KEY, meta int, v vector(1536))")
		db.Exec("CREATE PUBLICATION p FOR TABLE docs")
		slot := createSlot(t, db)
		db.Exec("INSERT INTO docs SELECT 'a', 1, array_agg(random())::vector FROM generate_series(1, 1536)")
		db.Exec("UPDATE docs SET meta = NULL")
		db.Exec("UPDATE docs SET id = 'b'")
		db.Exec("UPDATE docs SET v = NULL")
		db.Exec("DELETE FROM docs")
		table := inspect(t, s, docs())
		log := peekLog(t, s, slot, true)
		require.Len(t, log.changes, 5)
		d, err := NewDecoder(table, log.changes[0].Relation.Columns)
		require.NoError(t, err)
		rows := make([]vecferry.Row, 4)
		for i := range rows {
			rows[i], err = d.Row(log.changes[i].New, vecferry.Position(i))
			require.NoError(t, err)
		}
		require.True(t, rows[0].Complete())
		require.Len(t, rows[0].Values[table.Vector].Vector(), 1536)
		meta := 1
		require.True(t, rows[1].Values[meta].IsNull())
		require.True(t, rows[1].Values[table.Vector].IsAbsent(), "out of line and unchanged")
		require.True(t, rows[2].Values[table.Vector].IsAbsent())
		require.True(t, rows[3].Values[table.Vector].IsNull())
		old, err := d.Key(log.changes[2].Old)
		require.NoError(t, err)
		require.Equal(t, []vecferry.Key{"a", "b"}, []vecferry.Key{old, rows[2].Key})
		gone, err := d.Key(log.changes[4].Old)
		require.NoError(t, err)
		require.Equal(t, vecferry.Key("b"), gone)
	})
}

// tuple builds a tuple of pgoutput.
func tuple(cols ...vecferry.Column) vecferry.Tuple {
	b := []byte{byte(len(cols) >> 8), byte(len(cols))}
	for _, c := range cols {
		b = append(b, c.Kind)
		if c.Kind == vecferry.ColumnText || c.Kind == vecferry.ColumnBinary {
			n := len(c.Data)
			b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
			b = append(b, c.Data...)
		}
	}
	return b
}

func text(s string) vecferry.Column {
	return vecferry.Column{Kind: vecferry.ColumnText, Data: []byte(s)}
}

func smallTable() (*vecferry.Table, []vecferry.RelationColumn) {
	t := &vecferry.Table{
		Schema: "public", Name: "docs", KeyType: vecferry.KeyText, Key: 0, Vector: 1, PartitionKey: -1,
		Fields: []vecferry.Field{
			{Column: "id", Name: "id", TypeOID: 25, TypeName: "text", Type: vecferry.FieldVarChar, MaxLength: 5},
			{Column: "v", Name: "v", TypeOID: 9999, TypeName: "vector", Type: vecferry.FieldVector, Dim: 2, Typmod: 2},
			{Column: "x", Name: "x", TypeOID: 701, TypeName: "float8", Type: vecferry.FieldDouble, Dynamic: true},
			{Column: "n", Name: "n", TypeOID: 23, TypeName: "int4", Type: vecferry.FieldInt32},
		},
	}
	return t, []vecferry.RelationColumn{
		{Name: "extra", Type: 25}, {Name: "n", Type: 23}, {Name: "v", Type: 9999, Typmod: 2}, {Name: "x", Type: 701}, {Name: "id", Type: 25},
	}
}

func TestWhatMakesADeadRow(t *testing.T) {
	t.Parallel()
	table, columns := smallTable()
	d, err := NewDecoder(table, columns)
	require.NoError(t, err)
	null := vecferry.Column{Kind: vecferry.ColumnNull}
	good := []vecferry.Column{null, text("1"), text("[1,2]"), text("0.5"), text("k")}
	row, err := d.Row(tuple(good...), 3)
	require.NoError(t, err)
	require.Equal(t, vecferry.Row{Key: "k", Position: 3, Values: []vecferry.Value{
		vecferry.TextValue("k"), vecferry.VectorValue([]float32{1, 2}), vecferry.FloatValue(0.5), vecferry.IntValue(1),
	}}, row)

	for _, c := range []struct {
		at     int
		col    vecferry.Column
		column string
		reason string
	}{
		{2, text("[1,2,3]"), "v", "3 dimensions"},
		{3, text("NaN"), "x", "NaN"},
		{1, null, "n", "NOT NULL"},
		{4, text("longer"), "id", "max_length 5"},
		{4, text("\xff"), "id", "UTF-8"},
	} {
		bad := append([]vecferry.Column{}, good...)
		bad[c.at] = c.col
		row, err := d.Row(tuple(bad...), 3)
		var dead *vecferry.RowError
		require.ErrorAs(t, err, &dead, c.reason)
		require.Equal(t, c.column, dead.Column)
		require.Contains(t, dead.Reason, c.reason)
		require.NotEmpty(t, row.Key, "the dead letter names the row")
	}
}

func TestWhatIsNoRow(t *testing.T) {
	t.Parallel()
	table, columns := smallTable()
	d, err := NewDecoder(table, columns)
	require.NoError(t, err)
	null := vecferry.Column{Kind: vecferry.ColumnNull}
	for _, kind := range []byte{vecferry.ColumnNull, vecferry.ColumnAbsent} {
		_, err = d.Row(tuple(null, text("1"), text("[1,2]"), null, vecferry.Column{Kind: kind}), 0)
		require.ErrorIs(t, err, ErrNoKey)
	}
	for _, bad := range []vecferry.Tuple{
		nil, tuple(null), tuple(null, text("1"), text("[1,2]"), null, text("k"))[:20],
		tuple(null, text("one"), text("[1,2]"), null, text("k")),
		tuple(null, text("1"), text("[1,2"), null, text("k")),
		tuple(null, vecferry.Column{Kind: 'b', Data: []byte{1}}, text("[1,2]"), null, text("k")),
		tuple(null, vecferry.Column{Kind: '?'}, text("[1,2]"), null, text("k")),
	} {
		_, err := d.Row(bad, 0)
		require.ErrorIs(t, err, vecferry.ErrCorrupt)
		require.NotErrorAs(t, err, new(*vecferry.RowError))
	}
}

func TestChangedTableHalts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]vecferry.RelationColumn){
		"is gone":                   func(c []vecferry.RelationColumn) { c[1].Name = "renamed" },
		"another type than float8":  func(c []vecferry.RelationColumn) { c[3].Type = 700 },
		"dimension 3 instead of 2":  func(c []vecferry.RelationColumn) { c[2].Typmod = 3 },
		"dimension -1 instead of 2": func(c []vecferry.RelationColumn) { c[2].Typmod = -1 },
		"public.docs: the mapped column id has another type": func(c []vecferry.RelationColumn) { c[4].Type = 20 },
	} {
		table, columns := smallTable()
		change(columns)
		_, err := NewDecoder(table, columns)
		require.True(t, vecferry.Halts(err), name)
		require.ErrorContains(t, err, name)
	}
}

func BenchmarkDecodeRow(b *testing.B) {
	table, columns := smallTable()
	const dim = 1536
	table.Fields[1].Dim, table.Fields[1].Typmod, columns[2].Typmod = dim, dim, dim
	wire := make([]byte, 4+4*dim)
	wire[0], wire[1] = dim>>8, dim&255
	for i := range dim {
		bits := math.Float32bits(float32(i) / dim)
		copy(wire[4+4*i:], []byte{byte(bits >> 24), byte(bits >> 16), byte(bits >> 8), byte(bits)})
	}
	d, err := NewDecoder(table, columns)
	require.NoError(b, err)
	row := tuple(vecferry.Column{Kind: 'n'}, vecferry.Column{Kind: 'b', Data: []byte{0, 0, 0, 1}},
		vecferry.Column{Kind: 'b', Data: wire}, vecferry.Column{Kind: 'n'}, vecferry.Column{Kind: 'b', Data: []byte("key-1")})
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Row(row, 1); err != nil {
			b.Fatal(err)
		}
	}
}
