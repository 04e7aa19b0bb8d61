package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

// textCase is a type, values worth a look, and an SQL expression over the number
// i and random() that makes more of them.
type textCase struct {
	typ    string
	values []string
	random string
}

func textCases() []textCase {
	return []textCase{
		{"bool", []string{"t", "f"}, "random() < 0.5"},
		{"int2", []string{"0", "-32768", "32767"}, "(random() * 65535 - 32768)::int2"},
		{"int4", []string{"0", "-2147483648", "2147483647"}, "(random() * 4294967295 - 2147483648)::int4"},
		{"int8", []string{"0", "-9223372036854775808", "9223372036854775807"}, "(random() * 1e18 - 5e17)::int8"},
		{"float4", []string{
			"0", "-0", "NaN", "Infinity", "-Infinity", "1", "0.1", "1e5", "999999", "1e6", "1234567", "1e-4", "0.0001234", "1e-5",
			"3.4028235e38", "1e-45", "16777216", "33554432", "8388608.5",
		}, "(random() - 0.5)::float4 * (10 ^ (random() * 60 - 30))::float4"},
		{"float8", []string{
			"0", "-0", "NaN", "Infinity", "-Infinity", "1", "0.1", "1e14", "999999999999999", "1e15", "1234567890123456", "1e-4", "1e-5",
			"0.0001234", "1.7976931348623157e308", "5e-324", "9007199254740993", "9007199254740992", "1e22", "1e23", "2.2250738585072014e-308",
		}, "(random() - 0.5) * 10 ^ (random() * 600 - 300)"},
		{"numeric", []string{
			"0", "0.000", "1.500", "-1.500", "NaN", "Infinity", "-Infinity", "10000", "9999", "0.0001", "0.00001", "100000000",
			"12345678901234567890.123456789012345678900", "-0.00000000000000000001", "1e100", "1e-100", "100.00", "99990000.00010000", "1e1000",
		}, "((random() - 0.5)::numeric * 10::numeric ^ (random() * 60 - 30)::int)::numeric(200, 40)::text::numeric / (1 + i % 7)"},
		{"text", []string{"", " ", "a'b\\c\"d", "日本 🙂 é", "NULL", "\n\t"}, "md5(random()::text)"},
		{"varchar", []string{"", "x "}, "left(md5(random()::text), i % 33)"},
		{"name", []string{"", "docs"}, "left(md5(random()::text), i % 33)::name"},
		{"bpchar", []string{"", "x", "  a b "}, "rpad(left(md5(random()::text), i % 5), 9)::char(12)"},
		{"mood", []string{"happy", "so so"}, "(ARRAY['happy', 'so so']::mood[])[1 + i % 2]"},
		{"uuid", []string{"00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-ffff-ffff-ffffffffffff"}, "md5(random()::text)::uuid"},
		{"inet", []string{
			"1.2.3.4", "1.2.3.4/8", "0.0.0.0/0", "255.255.255.255/31", "::", "::1", "::/0", "::ffff:1.2.3.4", "::1.2.3.4", "::ffff:1.2.3.4/96",
			"1::", "1::2", "1:0:0:2::", "1:0:2:0:3:0:4:0", "fe80::1/64", "0:0:0:0:0:ffff:0:0", "::5", "::1:0", "1:2:3:4:5:6:7:8", "0:1:0:0:0:0:0:0", "1:0:0:1:0:0:0:1",
		}, randomInet},
		{"cidr", []string{"1.2.3.4", "10.0.0.0/8", "::1", "fe80::/64", "::ffff:1.2.3.0/120"}, "network(" + randomInet + ")"},
		{"macaddr", []string{"08:00:2b:01:02:03"}, "left(md5(random()::text), 12)::macaddr"},
		{"macaddr8", []string{"08:00:2b:01:02:03:04:05"}, "left(md5(random()::text), 16)::macaddr8"},
		{"date", []string{
			"2000-01-01", "1970-01-01", "2024-02-29", "infinity", "-infinity", "0001-01-01", "0001-12-31 BC", "4713-01-01 BC", "5874897-12-31", "9999-12-31", "10000-01-01", "1900-02-28", "0005-02-28 BC",
		}, "'2000-01-01'::date + (random() * 4000000 - 730000)::int"},
		{"time", []string{"00:00:00", "24:00:00", "23:59:59.999999", "12:00:00.1", "00:00:00.000001"}, "'00:00'::time + random() * interval '24 hours'"},
		{"timetz", []string{
			"00:00:00+00", "24:00:00-15:59:59", "12:00:00.5+05:30", "01:02:03+00:00:07", "01:02:03-00:00:07", "01:02:03+15", "10:00-03:30",
		}, "('00:00'::time + random() * interval '24 hours')::text::timetz AT TIME ZONE make_interval(secs => (random() * 80000 - 40000)::int)"},
		{"interval", []string{
			"0", "1 year", "-1 year", "1 mon", "1 day", "-1 day", "1 year -1 mon", "-1 year 1 day", "1 mon -1 day 00:00:01", "-1 mon 1 day -00:00:01.5",
			"-1 day 00:00:01", "1 day -00:00:01", "00:00:00.000001", "-00:00:00.1", "100:00:00", "2000000000 hours", "13 mons", "-13 mons", "2147483647 days",
			"9223372036854775807 microseconds", "-9223372036854775808 microseconds", "-178000000 years",
		}, "make_interval(months => (random() * 60 - 30)::int * (i % 3), days => (random() * 60 - 30)::int * (i % 2), secs => (random() - 0.5) * 10 ^ (i % 10))"},
		{"timestamp", []string{
			"2000-01-01", "1970-01-01", "infinity", "-infinity", "4713-01-01 00:00:00 BC", "0001-12-31 23:59:59.999999 BC", "1999-12-31 23:59:59.999999", "294276-12-31 23:59:59.999999",
		}, "'2000-01-01'::timestamp + (random() - 0.4) * interval '10000 years'"},
		{"timestamptz", []string{
			"2000-01-01 00:00:00+00", "infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "2024-02-29 23:59:59.5+05:30",
		}, "'2000-01-01'::timestamptz + (random() - 0.4) * interval '10000 years'"},
		{"bytea", []string{"", `\x00`, `\xdeadbeef`}, "sha512(random()::text::bytea)"},
		{"json", []string{`{"a" : [1, 2.50 ,null]}`, `"x"`, "1e3"}, `json_build_object('i', i, 'x', random())`},
		{"jsonb", []string{`{"b": 1, "a": [1, 2.50, null]}`, `"x"`, "null"}, `jsonb_build_object('i', i, 'x', random())`},
	}
}

const randomInet = `set_masklen(CASE i % 3
	WHEN 0 THEN '0.0.0.0'::inet + (random() * 4294967295)::int8
	WHEN 1 THEN ('::' || to_hex((random() * 65535)::int) || ':' || to_hex((random() * 65535)::int))::inet
	ELSE regexp_replace(overlay(md5(random()::text) placing repeat('0', (random() * 12)::int) from 1 + (random() * 20)::int for (random() * 12)::int) || repeat('0', 32), '^(.{4})(.{4})(.{4})(.{4})(.{4})(.{4})(.{4})(.{4}).*', '\1:\2:\3:\4:\5:\6:\7:\8')::inet
	END, (random() * 32)::int)`

// query makes the values of a case, each with its casts.
func (c textCase) query(expressions string, n int) string {
	var lines []string
	for _, v := range c.values {
		lines = append(lines, fmt.Sprintf("SELECT '%s'::%s AS x", strings.ReplaceAll(v, "'", "''"), c.typ))
	}
	lines = append(lines, fmt.Sprintf("SELECT (%s)::%s FROM generate_series(1, %d) i", c.random, c.typ, n))
	return fmt.Sprintf("SELECT %s FROM (%s) v", expressions, strings.Join(lines, " UNION ALL "))
}

// What our own code makes of binary values, and of values in text, is what the
// server prints.
func TestTextFormIsTheServers(t *testing.T) {
	onServers(t, func(t *testing.T, db *testenv.TestDB, s *Source) {
		db.Exec("CREATE TYPE public.mood AS ENUM ('happy', 'so so')")
		for _, c := range textCases() {
			t.Run(c.typ, func(t *testing.T) {
				fam, ok := familyOf(c.typ, c.typ == "mood")
				require.True(t, ok)
				cast := "x::text"
				if c.typ == "bytea" {
					cast = `translate(encode(x, 'base64'), E'\n', '')`
				}
				c.typ = strings.ReplaceAll(c.typ, "mood", "public.mood")
				c.random = strings.ReplaceAll(c.random, "mood", "public.mood")
				rows := copyRows(t, s, c.query("x, "+cast+", concat(x)", 3000))
				require.Greater(t, len(rows), 3000)
				for _, row := range rows {
					want := string(row[1].Data)
					binary, err := fam.text(nil, row[0])
					require.NoError(t, err, want)
					require.Equal(t, want, string(binary), "from binary %x", row[0].Data)
					text, err := fam.text([]byte("kept"), vecferry.Column{Kind: vecferry.ColumnText, Data: row[2].Data})
					require.NoError(t, err, want)
					require.Equal(t, "kept"+want, string(text), "from text %s", row[2].Data)
				}
			})
		}
	})
}

// PostgreSQL 17 gave intervals an infinity.
func TestIntervalInfinity(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.Postgres(t, 18).DSN)
	for _, row := range copyRows(t, s, "SELECT x, x::text FROM unnest(ARRAY['infinity', '-infinity']::interval[]) x") {
		got, err := outputInterval(nil, row[0].Data)
		require.NoError(t, err)
		require.Equal(t, string(row[1].Data), string(got))
	}
}

// Halves, powers of two and their neighbours are where shortest digits differ.
func TestFloatDigitsAtTheEdges(t *testing.T) {
	t.Parallel()
	s := open(t, testenv.Postgres(t, 16).DSN)
	for _, typ := range []string{"float4", "float8"} {
		send := map[string]string{"float4": "float4send", "float8": "float8send"}[typ]
		limit := map[string]int{"float4": 127, "float8": 1023}[typ]
		sql := fmt.Sprintf(`SELECT x, x::text FROM (
			SELECT (2::float8 ^ e * m)::%[1]s AS x FROM generate_series(-%[2]d, %[2]d - 4) e, unnest(ARRAY[1, 1.5, 3, 5, -7, 1 + 2 ^ (-22), 1 + 2 ^ (-23)]) m
			UNION ALL SELECT (m * 10::numeric ^ e)::%[1]s FROM generate_series(0, 30) e, generate_series(1, 99) m
			UNION ALL SELECT (random() * 2 ^ (i %% 100))::%[1]s FROM generate_series(1, 60000) i) v WHERE length(%[3]s(x)) > 0`, typ, limit, send)
		for _, row := range copyRows(t, s, sql) {
			got, err := outputFloat(nil, row[0].Data)
			require.NoError(t, err)
			require.Equal(t, string(row[1].Data), string(got), "%x", row[0].Data)
		}
	}
}

func TestTimestampsAreMicroseconds(t *testing.T) {
	onServers(t, func(t *testing.T, _ *testenv.TestDB, s *Source) {
		for _, c := range textCases() {
			if !strings.HasPrefix(c.typ, "timestamp") {
				continue
			}
			micros := `CASE x WHEN 'infinity' THEN 9223372036854775807 WHEN '-infinity' THEN -9223372036854775808
				ELSE (extract(epoch FROM x) * 1000000)::numeric END::text`
			for _, row := range copyRows(t, s, c.query("x, concat(x), "+micros, 2000)) {
				if strings.HasPrefix(string(row[1].Data), "294276") {
					_, err := toMicros(row[0])
					require.ErrorAs(t, err, new(valueError))
					continue
				}
				binary, err := toMicros(row[0])
				require.NoError(t, err)
				require.Equal(t, strings.TrimSuffix(string(row[2].Data), ".000000"), fmt.Sprint(binary.Int()), "%s", row[1].Data)
				text, err := toMicros(vecferry.Column{Kind: vecferry.ColumnText, Data: row[1].Data})
				require.NoError(t, err)
				require.Equal(t, binary.Int(), text.Int(), "%s", row[1].Data)
			}
		}
	})
}
