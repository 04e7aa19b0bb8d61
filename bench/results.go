package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// goals is what each case is meant to reach, as the share of its floor.
func goals() map[string]float64 {
	return map[string]float64{"copy": 0.85, "capture": 0.8, "stream": 0.8, "scalar": 0.8}
}

// Goals that are no share of a floor.
const (
	goalCPU       = 60.0  // µs of vecferry a row, of the case copy
	goalMemory    = 512.0 // MiB
	goalP50       = 1.25  // of the floor's
	goalP99       = 1.5
	goalFirst     = 10.0 // seconds, of the case txn
	goalFlat      = 1.15 // the slowest size by the fastest, of the case growth
	growthPrefix  = "growth "
	firstRow      = "first row"
	unknownFigure = "-"
)

func (s sample) foreign() float64 {
	return 100 * s.use.others() / (s.took.Seconds() * float64(runtime.NumCPU()))
}

func (s sample) micros(seconds float64) float64 { return 1e6 * seconds / float64(s.rows) }

// results is the page for people.
func (b *bench) results() string {
	var w strings.Builder
	fmt.Fprintf(&w, "# Results\n\nWritten by `make bench`; README.md says how to read it.\n\n")
	fmt.Fprintf(&w, "%s, %d cores, %s of memory, Linux %s, %s. PostgreSQL 16 (fsync off), Milvus 2.3.5 standalone, both on this machine.\n",
		cpuModel(), runtime.NumCPU(), memory(), firstLine("/proc/sys/kernel/osrelease"), runtime.Version())
	fmt.Fprintf(&w, "%d rows of %d dimensions, %d round(s). %s, %.0f minutes; load average %.1f before, %.1f after.\n",
		b.rows, b.dim, b.rounds, b.begun.UTC().Format("2006-01-02"), time.Since(b.begun).Minutes(), b.started, loadNow())
	if len(b.config) > 0 {
		fmt.Fprintf(&w, "vecferry with %s.\n", strings.Join(b.config, ", "))
	}
	if b.skipped != "" {
		fmt.Fprintln(&w, b.skipped)
	}
	b.throughput(&w)
	b.commitToSearch(&w)
	b.growth(&w)
	b.verdicts(&w)
	return w.String()
}

// table writes lines of cells as Markdown that is readable as it stands.
func table(w *strings.Builder, lines [][]string) {
	if len(lines) < 2 {
		return
	}
	fmt.Fprintln(w)
	rule := make([]string, len(lines[0]))
	for i := range rule {
		rule[i] = "---"
	}
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	for i, line := range lines {
		fmt.Fprintf(tw, "| %s |\n", strings.Join(line, "\t| "))
		if i == 0 {
			fmt.Fprintf(tw, "| %s |\n", strings.Join(rule, "\t| "))
		}
	}
	_ = tw.Flush() // into memory
}

// throughput has a line for every arm that moves rows.
func (b *bench) throughput(w *strings.Builder) {
	lines := [][]string{{"case", "arm", "rows/s", "of each round", "MB/s", "vecferry µs/row", "client", "postgres", "milvus", "together", "peak MiB", "others", "load"}}
	for _, f := range b.figures {
		if f.kase == "latency" || f.arm == firstRow || strings.HasPrefix(f.kase, growthPrefix) {
			continue
		}
		lines = append(lines, f.line())
	}
	table(w, lines)
}

func (f figure) line() []string {
	per := func(seconds func(usage) float64) string {
		return number(f.median(func(s sample) float64 { return s.micros(seconds(s.use)) }))
	}
	rate, arm := f.median(sample.rate), f.arm
	if f.how != "" {
		arm += ": " + f.how
	}
	line := []string{f.kase, arm, number(rate), list(f.values(sample.rate)), number(rate * float64(4*f.dim) / 1e6),
		per(func(u usage) float64 { return u.ferry }), per(func(u usage) float64 { return u.bench }),
		per(func(u usage) float64 { return u.postgres }), per(func(u usage) float64 { return u.milvus }), per(usage.together),
		number(f.median(func(s sample) float64 { return s.peak })),
		number(f.median(sample.foreign)) + " %", fmt.Sprintf("%.1f", f.median(func(s sample) float64 { return float64(s.load) }))}
	switch f.arm {
	case floorArm:
		line[5], line[10] = unknownFigure, unknownFigure
	case plainArm:
		line[5] = unknownFigure
	}
	return line
}

// commitToSearch has the distribution of the case latency.
func (b *bench) commitToSearch(w *strings.Builder) {
	lines := [][]string{{"commit → searchable", "p50 ms", "of each round", "p99 ms", "of each round", "vecferry µs/row", "others", "load"}}
	ms := func(value func(sample) float64) func(sample) float64 {
		return func(s sample) float64 { return 1000 * value(s) }
	}
	p50, p99 := ms(func(s sample) float64 { return s.p50 }), ms(func(s sample) float64 { return s.p99 })
	for _, f := range b.figures {
		if f.kase == "latency" {
			line := f.line()
			lines = append(lines, []string{line[1], number(f.median(p50)), list(f.values(p50)), number(f.median(p99)), list(f.values(p99)), line[5], line[11], line[12]})
		}
	}
	table(w, lines)
}

// growth has a line for every size.
func (b *bench) growth(w *strings.Builder) {
	lines := [][]string{{"rows of 128 dimensions", "vecferry µs a row", "floor µs a row", "vecferry's CPU µs a row", "peak MiB", "others", "load"}}
	for _, f := range b.figures {
		size, ok := strings.CutPrefix(f.kase, growthPrefix)
		if !ok || f.arm != ferryArm {
			continue
		}
		line := f.line()
		floor := unknownFigure
		if g := b.figure(f.kase, floorArm); g != nil {
			floor = number(1e6 / g.median(sample.rate))
		}
		lines = append(lines, []string{size, number(1e6 / f.median(sample.rate)), floor, line[5], line[10], line[11], line[12]})
	}
	table(w, lines)
}

func (b *bench) figure(kase, arm string) *figure {
	for i := range b.figures {
		if b.figures[i].kase == kase && b.figures[i].arm == arm {
			return &b.figures[i]
		}
	}
	return nil
}

// verdicts compares with the goals.
func (b *bench) verdicts(w *strings.Builder) {
	lines := [][]string{{"goal", "wanted", "measured", ""}}
	add := func(goal, wanted, measured string, met bool) {
		lines = append(lines, []string{goal, wanted, measured, map[bool]string{true: "met", false: "**missed**"}[met]})
	}
	for _, kase := range standard() {
		floor, ours := b.figure(kase, floorArm), b.figure(kase, ferryArm)
		if want := goals()[kase]; want > 0 && floor != nil && ours != nil {
			share := ours.median(sample.rate) / floor.median(sample.rate)
			add(kase+": rows/s of the floor's", fmt.Sprintf("at least %.2f", want), fmt.Sprintf("%.2f", share), share >= want)
		}
	}
	if ours := b.figure("copy", ferryArm); ours != nil {
		cpu := ours.median(func(s sample) float64 { return s.micros(s.use.ferry) })
		add("copy: vecferry's CPU", "at most 60 µs a row", number(cpu)+" µs", cpu <= goalCPU)
	}
	if floor, ours := b.figure("latency", floorArm), b.figure("latency", ferryArm); floor != nil && ours != nil {
		p50 := ours.median(func(s sample) float64 { return s.p50 }) / floor.median(func(s sample) float64 { return s.p50 })
		p99 := ours.median(func(s sample) float64 { return s.p99 }) / floor.median(func(s sample) float64 { return s.p99 })
		add("latency: p50 of the floor's", "at most 1.25", fmt.Sprintf("%.2f", p50), p50 <= goalP50)
		add("latency: p99 of the floor's", "at most 1.50", fmt.Sprintf("%.2f", p99), p99 <= goalP99)
	}
	if first := b.figure("txn", firstRow); first != nil {
		s := first.median(func(s sample) float64 { return s.took.Seconds() })
		add(fmt.Sprintf("one transaction of %d rows: first row in Milvus", b.txnRows), "within 10 s", fmt.Sprintf("%.1f s", s), s <= goalFirst)
	}
	b.flatness(add)
	if peak := b.peak(); peak > 0 {
		add("memory of vecferry, all cases", "at most 512 MiB", number(peak)+" MiB", peak <= goalMemory)
	}
	table(w, lines)
}

// flatness judges the case growth.
func (b *bench) flatness(add func(goal, wanted, measured string, met bool)) {
	low, high := math.Inf(1), 0.0
	for _, f := range b.figures {
		if strings.HasPrefix(f.kase, growthPrefix) && f.arm == ferryArm {
			took := 1 / f.median(sample.rate)
			low, high = min(low, took), max(high, took)
		}
	}
	if high > low {
		add("growth: time of a row, slowest size by fastest", "at most 1.15", fmt.Sprintf("%.2f", high/low), high/low <= goalFlat)
	}
}

// peak is the most memory of vecferry in any measurement.
func (b *bench) peak() float64 {
	peak := 0.0
	for _, f := range b.figures {
		if f.arm == ferryArm {
			for _, s := range f.samples {
				peak = max(peak, s.peak)
			}
		}
	}
	return peak
}

// number prints three digits or more, and nothing that was not measured.
func number(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

func list(values []float64) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = number(v)
	}
	return strings.Join(out, " ")
}

func firstLine(path string) string {
	b, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.SplitSeq(string(b), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func memory() string {
	fields := strings.Fields(firstLine("/proc/meminfo"))
	if len(fields) < 2 {
		return "unknown size"
	}
	kib, _ := strconv.ParseFloat(fields[1], 64)
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}
