package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vecferry/vecferry/internal/testenv"
)

// plainScript copies a table as a first program of one's own would.
//
//go:embed peers/plain.py
var plainScript []byte

//go:embed peers/requirements.txt
var plainPackages string

// interpreter returns a Python that has what the script needs, or "" with the reason.
// Its environment is made once and kept with the downloaded servers.
func (b *bench) interpreter(ctx context.Context) (python, reason string) {
	dir := filepath.Join(testenv.CacheDir(), "bench-peers")
	python, stamp := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "packages.txt")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == plainPackages {
		return python, ""
	}
	b.say("  making a Python environment for the plain script")
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	install := append([]string{"-m", "pip", "install", "--quiet"}, strings.Fields(plainPackages)...)
	for _, args := range [][]string{{"python3", "-m", "venv", "--clear", dir}, append([]string{python}, install...)} {
		if text, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Sprintf("%s: %v\n%s", strings.Join(args[:3], " "), err, text)
		}
	}
	if err := os.WriteFile(stamp, []byte(plainPackages), 0o644); err != nil {
		return "", err.Error()
	}
	return python, ""
}

// plain copies the table once with the script. Where Python or its packages cannot be
// had, it says so and goes on.
func (b *bench) plain(ctx context.Context, c *copying) error {
	python, reason := b.interpreter(ctx)
	if reason != "" {
		b.say("  plain script skipped: %s", reason)
		b.skipped = "The plain script was skipped: its packages could not be installed."
		return nil
	}
	script := filepath.Join(b.dir, "plain.py")
	if err := os.WriteFile(script, plainScript, 0o600); err != nil {
		return fmt.Errorf("plain script: %w", err)
	}
	collection := "plain_" + c.table
	if err := b.create(ctx, collection, c.v.dim); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, python, script, b.pg.DSN("postgres"), c.table, b.milvus.Address(), collection)
	cmd.Env = append(os.Environ(), "PYTHONWARNINGS=ignore")
	cmd.Stderr = b.log
	m, err := b.meter(ctx, nil, "")
	if err != nil {
		return err
	}
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("plain script: %w", err)
	}
	var answer struct {
		Rows    int     `json:"rows"`
		Seconds float64 `json:"seconds"`
		CPU     float64 `json:"cpu_seconds"`
		Peak    float64 `json:"peak_mib"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("plain script: %w", err)
	}
	s, err := m.stop(ctx, answer.Rows)
	if err != nil {
		return err
	}
	// Its own figures leave out the start of Python.
	s.took, s.use.bench, s.peak = time.Duration(answer.Seconds*float64(time.Second)), answer.CPU, answer.Peak
	b.record(c.kase, plainArm, "psycopg cursor, pymilvus insert by 1,000", c.v.dim, s)
	if err := b.check(ctx, collection, c.v, c.rows); err != nil {
		return err
	}
	return b.drop(ctx, collection)
}
