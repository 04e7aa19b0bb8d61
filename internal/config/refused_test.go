package config_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestRefused reads every file in testdata/refused. Lines "#! set k=v" and "#! env K=V" are the options.
func TestRefused(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/refused/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			cfg, err := config.Parse("vecferry.yaml", data, optionsIn(string(data)))
			require.Nil(t, cfg)
			var refused *config.Error
			require.ErrorAs(t, err, &refused)
			require.NotEmpty(t, refused.Problems)
			require.NotContains(t, err.Error(), "hunter2", "a secret is in the message")
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", err.Error()+"\n")
		})
	}
}

func TestEveryGoldenHasItsFile(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/refused/*.golden")
	require.NoError(t, err)
	for _, file := range files {
		require.FileExists(t, strings.TrimSuffix(file, ".golden")+".yaml")
	}
}

func optionsIn(text string) config.Options {
	var opts config.Options
	env := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if set, ok := strings.CutPrefix(line, "#! set "); ok {
			opts.Set = append(opts.Set, set)
		}
		if pair, ok := strings.CutPrefix(line, "#! env "); ok {
			name, value, _ := strings.Cut(pair, "=")
			env[name] = value
		}
	}
	opts.Env = environment(env)
	return opts
}

func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, found := vars[name]
		return value, found
	}
}

// golden compares with a file, or rewrites it under -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "%s differs; run go test -update and read the diff", file)
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	_, err := config.Load("testdata/none.yaml", config.Options{})
	var refused *config.Error
	require.ErrorAs(t, err, &refused)
	require.EqualError(t, err, "testdata/none.yaml: cannot be read: no such file or directory")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestEndlessFileIsNotRead(t *testing.T) {
	t.Parallel()
	_, err := config.Load("/dev/zero", config.Options{})
	require.ErrorContains(t, err, "it is longer than 4MiB")
}
