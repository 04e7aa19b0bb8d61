package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/config"
)

const smallest = `version: 1
pipeline: documents
postgres:
  dsn: postgres://app@127.0.0.1:5432/app
milvus:
  address: 127.0.0.1:19530
log:
  embedded: { dir: ./vecferry-data }
tables:
  - source: public.documents
    collection: documents
http:
  listen: 127.0.0.1:9470
`

func parse(t *testing.T, text string, opts config.Options) *config.Config {
	t.Helper()
	if opts.Env == nil {
		opts.Env = environment(nil)
	}
	cfg, err := config.Parse("vecferry.yaml", []byte(text), opts)
	require.NoError(t, err)
	return cfg
}

func TestSmallestFile(t *testing.T) {
	t.Parallel()
	cfg := parse(t, smallest, config.Options{})
	require.Equal(t, "postgres://app@127.0.0.1:5432/app", cfg.Postgres.DSN.Reveal())
	require.Equal(t, "vecferry_documents", cfg.Postgres.Slot)
	require.Equal(t, "vecferry_documents", cfg.Postgres.Publication)
	require.True(t, cfg.Postgres.CreatePublication)
	require.Equal(t, 4, cfg.Postgres.Connections)
	require.Equal(t, "default", cfg.Milvus.Database)
	require.Nil(t, cfg.Log.NATS)
	require.Equal(t, config.Size(20<<30), cfg.Log.Embedded.MaxBytes)
	require.Equal(t, time.Hour, cfg.Log.ReplayWindow)
	require.Equal(t, config.Relation{Schema: "public", Name: "documents"}, cfg.Tables[0].Source)
	require.Equal(t, config.Index{Type: "HNSW", Metric: "COSINE", M: 16, EFConstruction: 256}, cfg.Tables[0].Index)
	require.Equal(t, config.Snapshot{Workers: 2, ChunkBytes: 24 << 20}, cfg.Snapshot)
	require.Equal(t, config.Logging{Level: "info", Format: "auto"}, cfg.Logging)
}

func TestLoadAndRender(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load("testdata/full.yaml", config.Options{
		Set: []string{"tables.0.batch_rows=500", "tables[0].columns.body.rename=text", "log.nats.replicas=3"},
		Env: environment(map[string]string{
			"VECFERRY_POSTGRES_PASSWORD": "hunter2", "PGHOST": "db.example.com", "LANES": "3",
		}),
	})
	require.NoError(t, err)
	require.Equal(t, "hunter2", cfg.Postgres.Password.Reveal())
	require.Equal(t, "hunter2", cfg.Milvus.Password.Reveal(), "the line end of a secret's file is cut")
	require.Equal(t, "postgres://app@db.example.com:5432/app", cfg.Postgres.DSN.Reveal())
	require.False(t, cfg.Tables[0].Columns["draft"].Include)
	require.True(t, cfg.Tables[0].Columns["body"].Include)
	var table, list bytes.Buffer
	require.NoError(t, cfg.Render(&table))
	require.NoError(t, cfg.RenderJSON(&list))
	require.NotContains(t, table.String()+list.String(), "hunter2")
	golden(t, "testdata/full.table.golden", table.String())
	golden(t, "testdata/full.json.golden", list.String())
}

func TestGeneratedPages(t *testing.T) {
	t.Parallel()
	require.True(t, json.Valid(config.JSONSchema()))
	golden(t, "testdata/schema.json.golden", string(config.JSONSchema()))
	golden(t, "testdata/reference.md.golden", string(config.Markdown()))
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	text := strings.Replace(smallest, "milvus:\n", "  password: of-file\nmilvus:\n", 1)
	env := environment(map[string]string{"VECFERRY_POSTGRES_PASSWORD": "of-env"})
	set := []string{"postgres.password=of-set"}
	require.Equal(t, "of-file", parse(t, text, config.Options{}).Postgres.Password.Reveal())
	require.Equal(t, "of-env", parse(t, text, config.Options{Env: env}).Postgres.Password.Reveal())
	require.Equal(t, "of-set", parse(t, text, config.Options{Env: env, Set: set}).Postgres.Password.Reveal())
	set = []string{"postgres.password_file=testdata/secrets/password"}
	require.Equal(t, "hunter2", parse(t, text, config.Options{Env: env, Set: set}).Postgres.Password.Reveal())
	empty := environment(map[string]string{"VECFERRY_POSTGRES_PASSWORD": ""})
	require.Equal(t, "of-file", parse(t, text, config.Options{Env: empty}).Postgres.Password.Reveal())
}

// A variable for a section that is not in use must not bring that section into being.
func TestEnvironmentOfAnAbsentSection(t *testing.T) {
	t.Parallel()
	env := environment(map[string]string{"VECFERRY_NATS_PASSWORD": "hunter2"})
	require.Nil(t, parse(t, smallest, config.Options{Env: env}).Log.NATS)
}

func TestSet(t *testing.T) {
	t.Parallel()
	cfg := parse(t, smallest, config.Options{Set: []string{
		"tables.1.source=app.chunks", "tables.1.collection=chunks", "tables[1].columns.a.b.include=false",
		"log.replay_window=90m", "postgres.create_publication=false", "sink.max_run_bytes=64MB",
		"postgres.dsn=host=db user=app", "tables.0.batch_rows=5", "tables.0.batch_rows=6",
	}})
	require.Equal(t, "app.chunks", cfg.Tables[1].Source.String())
	require.False(t, cfg.Tables[1].Columns["a.b"].Include)
	require.Equal(t, 90*time.Minute, cfg.Log.ReplayWindow)
	require.False(t, cfg.Postgres.CreatePublication)
	require.Equal(t, config.Size(64e6), cfg.Sink.MaxRunBytes)
	require.Equal(t, "host=db user=app", cfg.Postgres.DSN.Reveal())
	require.Equal(t, 6, cfg.Tables[0].BatchRows, "the last one counts")
}

// A secret may hold whatever YAML would trip over: it is put in after the parsing.
func TestExpansion(t *testing.T) {
	t.Parallel()
	secret := "a: b # c\n- {[\"'&*!|>%@`"
	env := environment(map[string]string{"SECRET": secret, "EMPTY": "", "N": "7"})
	for given, want := range map[string]string{
		`${SECRET}`:              secret,
		`"${SECRET}"`:            secret,
		`x${N}y${N}z`:            "x7y7z",
		`${NONE:-fallback}`:      "fallback",
		`${EMPTY:-fallback}`:     "fallback",
		`${N:-fallback}`:         "7",
		`a${EMPTY}b`:             "ab",
		`"${NONE:-}x"`:           "x",
		`"${NONE:-a:-b $ c}"`:    "a:-b $ c",
		`$${N}`:                  "${N}",
		`$$$${N}$$`:              "$${N}$",
		`$$${N}`:                 "$7",
		`pa$word$`:               "pa$word$",
		`${SECRET:-${N}`:         secret,
		"|\n      ${N}\n      x": "7\nx\n",
	} {
		t.Run(given, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(smallest, "milvus:\n", "  password: "+given+"\nmilvus:\n", 1)
			cfg := parse(t, text, config.Options{Env: env})
			require.Equal(t, want, cfg.Postgres.Password.Reveal())
		})
	}
}

func TestExpansionOfOtherTypes(t *testing.T) {
	t.Parallel()
	env := environment(map[string]string{"N": "7", "YES": "true", "SIZE": "100MiB"})
	text := strings.Replace(smallest, "milvus:\n", "  connections: ${N}\n  create_publication: \"${YES}\"\nmilvus:\n", 1) +
		"sink: { max_run_bytes: \"${SIZE}\" }\n"
	cfg := parse(t, text, config.Options{Env: env})
	require.Equal(t, 7, cfg.Postgres.Connections)
	require.Equal(t, config.Size(100<<20), cfg.Sink.MaxRunBytes)
}

func TestNoExpand(t *testing.T) {
	t.Parallel()
	text := strings.Replace(smallest, "milvus:\n", "  password: a$$${B}\nmilvus:\n", 1)
	require.Equal(t, "a$$${B}", parse(t, text, config.Options{NoExpand: true}).Postgres.Password.Reveal())
}

// TestSecretsAreMasked prints a whole configuration in every way that a program prints things.
func TestSecretsAreMasked(t *testing.T) {
	t.Parallel()
	text := strings.Replace(smallest, "app@", "app:hunter2@", 1)
	text = strings.Replace(text, "milvus:\n", "  password: hunter2\nmilvus:\n  token: hunter2\n", 1)
	cfg := parse(t, text, config.Options{})
	require.Equal(t, "hunter2", cfg.Milvus.Token.Reveal())

	type hiding struct{ secret config.Secret }
	for _, v := range []any{cfg, *cfg, cfg.Postgres, cfg.Postgres.DSN, cfg.Milvus.Token, &cfg.Milvus.Token, hiding{cfg.Milvus.Token}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			require.NotContains(t, fmt.Sprintf(verb, v), "hunter2", "%s of %T", verb, v)
			require.NotContains(t, fmt.Sprintf(verb, v), "68756e746572", "%s of %T", verb, v)
		}
		data, err := json.Marshal(v)
		require.NoError(t, err)
		require.NotContains(t, string(data), "hunter2")
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("text", "v", v)
		require.NotContains(t, log.String(), "hunter2")
	}
	for _, v := range cfg.Values() {
		require.NotContains(t, v.Text+v.Source, "hunter2")
	}
	require.Equal(t, "******", fmt.Sprint(cfg.Milvus.Token))
	require.Equal(t, "postgres://app:******@127.0.0.1:5432/app", cfg.Postgres.DSN.String())
}

func TestMaskedDSN(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"":                           "",
		"postgres://127.0.0.1/app":   "postgres://127.0.0.1/app",
		"postgres:///app":            "postgres:///app",
		"postgresql://app:hunter2@h": "postgresql://app:******@h",
		"postgres://:hunter2@h/d":    "postgres://:******@h/d",
		"postgres://app:hunter2@h1:5432,[::1]:5433/d?sslmode=require&password=hunter2":            "postgres://app:******@h1:5432,[::1]:5433/d?sslmode=require&password=******",
		"postgres://app@h/d?sslpassword=hunter2&options=-c%20x=hunter2":                           "postgres://app@h/d?sslpassword=******&options=******",
		"postgres://app:12/hunter2@h/d":                                                           "******",
		"postgres://app:12?hunter2@h/d":                                                           "******",
		"postgres://app:12#hunter2@h/d":                                                           "******",
		"postgres://app:12@hunter2@h/d":                                                           "******",
		"host=h user=app password=hunter2":                                                        "host=h user=app password=******",
		`host = h password = 'hunter2 \' hunter2' dbname=d`:                                       "host=h password=****** dbname=d",
		`password=hunter2\ hunter2 host='a b'`:                                                    "password=****** host='a b'",
		"PASSWORD=hunter2 sslpassword=hunter2 passwd=hunter2 sslmode=disable application_name=''": "PASSWORD=****** sslpassword=****** passwd=****** sslmode=disable application_name=''",
		"host=h password='hunter2":                                                                "******",
		"hunter2":                                                                                 "******",
		"mysql://app:hunter2@h/d":                                                                 "******",
		"host=h hunter2":                                                                          "******",
		"host=h hunter2 user=app":                                                                 "******",
	} {
		require.Equal(t, want, config.NewDSN(dsn).String(), dsn)
		require.Equal(t, dsn, config.NewDSN(dsn).Reveal())
	}
}

func TestRelation(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config.Relation{
		"documents":         {Schema: "public", Name: "documents"},
		"App.Documents":     {Schema: "app", Name: "documents"},
		`public."My Table"`: {Schema: "public", Name: "My Table"},
		`"a.b"."c""d"`:      {Schema: "a.b", Name: `c"d`},
		`"Only"`:            {Schema: "public", Name: "Only"},
		`größe.straße`:      {Schema: "größe", Name: "straße"},
		`x.t$1`:             {Schema: "x", Name: "t$1"},
	} {
		got, err := config.ParseRelation(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := config.ParseRelation(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again, "String can be read back")
	}
	for _, text := range []string{"", ".", "a.", ".a", "a.b.c", `"a`, `""`, `"a"b`, "1a", "a b", "a..b", `a.""`} {
		_, err := config.ParseRelation(text)
		require.Error(t, err, text)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]config.Size{
		"0": 0, "1234": 1234, "512MB": 512e6, "20GiB": 20 << 30, "1 KiB": 1024, "3B": 3, "2kB": 2000, "1TiB": 1 << 40,
	} {
		got, err := config.ParseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := config.ParseSize(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again, "String can be read back")
	}
	require.Equal(t, "20GiB", config.Size(20<<30).String())
	require.Equal(t, "512MB", config.Size(512e6).String())
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/refused/*.yaml")
	for _, file := range append(files, "testdata/full.yaml", "sample.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "tables.0.batch_rows=500", "hunter2")
	}
	f.Fuzz(func(t *testing.T, data []byte, set, env string) {
		opts := config.Options{
			Set:      []string{set},
			Env:      func(string) (string, bool) { return env, env != "" },
			ReadFile: func(string) ([]byte, error) { return []byte(env), nil },
		}
		cfg, err := config.Parse("fuzz.yaml", data, opts)
		if (cfg == nil) == (err == nil) {
			t.Fatal("neither a configuration nor an error, or both")
		}
		if err != nil && strings.Count(err.Error(), "\n") >= len(problems(t, err)) {
			t.Fatalf("a problem breaks its line: %q", err)
		}
		if cfg != nil {
			_ = cfg.Render(&bytes.Buffer{})
			_ = cfg.RenderJSON(&bytes.Buffer{})
		}
	})
}

func problems(t *testing.T, err error) []config.Problem {
	t.Helper()
	var refused *config.Error
	require.ErrorAs(t, err, &refused)
	return refused.Problems
}

// FuzzMask looks for a password that shows in the masked form of a DSN.
func FuzzMask(f *testing.F) {
	f.Add("postgres://app:", "@127.0.0.1:5432/app?sslmode=require")
	f.Add("host=h password='", "' dbname=d")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2hunter2"
		if !strings.HasSuffix(before, "assword=") && !strings.HasSuffix(before, "assword='") && !strings.HasSuffix(before, ":") {
			t.Skip()
		}
		_ = config.NewDSN(before + secret + after).String() // must not panic, whatever it is given
		if masked := config.NewDSN("postgres://app:" + before + secret + "@" + after).String(); strings.Contains(masked, secret) {
			t.Fatalf("%q shows its password", masked)
		}
	})
}
