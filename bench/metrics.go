package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// counters are vecferry's own metrics by their full name, labels included.
type counters map[string]float64

// told are the metrics that say where the time and the memory of a measurement went.
func told(name string) bool {
	if strings.Contains(name, "_bucket{") || strings.Contains(name, "_timestamp_") {
		return false
	}
	for _, prefix := range []string{"vecferry_", "go_gc_duration_seconds_", "go_memstats_alloc_bytes_total", "go_memstats_mallocs_total"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// counters asks a vecferry for its metrics, if they are wanted.
func (f *ferry) counters(ctx context.Context) (counters, error) {
	if f == nil || !f.b.metrics {
		return nil, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.http+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	defer resp.Body.Close()
	out := make(counters)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); ok && err == nil && told(name) {
			out[name] = value
		}
	}
	return out, nil
}

// explain says what moved in vecferry during a measurement.
func (m *meter) explain(ctx context.Context) error {
	now, err := m.ferry.counters(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if d := now[name] - m.told[name]; d != 0 {
			m.b.say("    %-72s %+.6g", name, d)
		}
	}
	return nil
}
