package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
)

// pprofEnv names the address at which a vecferry built with -profile can be asked for
// profiles. The product itself has no such address.
const pprofEnv = "VECFERRY_BENCH_PPROF"

// profiler is a source file that -profile adds to the program, in the compiler's eyes
// only.
//
//go:embed profiler.go.txt
var profiler []byte

// overlay writes what go build -overlay reads, and returns its path.
func (b *bench) overlay() (string, error) {
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return "", fmt.Errorf("folder for profiles: %w", err)
	}
	var err error
	if b.profile, err = filepath.Abs(b.profile); err != nil {
		return "", fmt.Errorf("folder for profiles: %w", err)
	}
	added, err := filepath.Abs("cmd/vecferry/bench_profiler.go")
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	source, list := filepath.Join(b.dir, "profiler.go"), filepath.Join(b.dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{added: source}})
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	if err := os.WriteFile(source, profiler, 0o600); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	if err := os.WriteFile(list, text, 0o600); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	return list, nil
}

// startProfile begins a CPU profile, if profiles are wanted.
func (f *ferry) startProfile(ctx context.Context, what string) error {
	if f == nil || f.b.profile == "" {
		return nil
	}
	f.profiling++
	path := filepath.Join(f.b.profile, fmt.Sprintf("%s-%s-%d.pprof", f.name, what, f.profiling))
	return f.askProfiler(ctx, "/start", path)
}

// stopProfile ends it and writes the heap as it stands beside it.
func (f *ferry) stopProfile(ctx context.Context) error {
	if f == nil || f.b.profile == "" {
		return nil
	}
	return f.askProfiler(ctx, "/stop", "")
}

func (f *ferry) askProfiler(ctx context.Context, verb, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.pprof+verb+"?file="+url.QueryEscape(path), nil)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", resp.Status)
	}
	return nil
}
