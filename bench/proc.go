package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vecferry/vecferry/internal/testenv"
)

// ticks is how many units of processor time in /proc make a second: USER_HZ, which
// is 100 on every architecture that Linux shows to programs.
const ticks = 100

// procs are the processes that are measured, by their topmost one.
type procs struct{ postgres, milvus int }

// findProcs asks the servers' directories: PostgreSQL notes its process, and Milvus
// is started with the name of its own as an argument.
func findProcs(pg *testenv.PostgresServer, m *testenv.MilvusServer) (procs, error) {
	text, err := os.ReadFile(filepath.Join(pg.DataDir(), "postmaster.pid"))
	if err != nil {
		return procs{}, fmt.Errorf("process of PostgreSQL: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	p := procs{}
	if p.postgres, err = strconv.Atoi(first); err != nil {
		return procs{}, fmt.Errorf("process of PostgreSQL: %w", err)
	}
	alias := filepath.Base(filepath.Dir(m.LogPath()))
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte("\x00-alias\x00"+alias+"\x00")) {
			p.milvus, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return p, err
		}
	}
	return procs{}, errors.New("process of Milvus: not found")
}

// stat is what /proc/<pid>/stat says of a process; cpu includes its ended children.
type stat struct {
	parent int
	cpu    int64 // ticks
}

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 15 {
		return stat{}, false
	}
	s := stat{}
	s.parent, _ = strconv.Atoi(f[1])
	for _, text := range f[11:15] { // utime stime cutime cstime
		n, _ := strconv.ParseInt(text, 10, 64)
		s.cpu += n
	}
	return s, true
}

// treeSeconds is the processor time of a process and everything below it.
func treeSeconds(root int) float64 {
	if root == 0 {
		return 0
	}
	stats, children := map[int]stat{}, map[int][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if s, ok := readStat(pid); ok {
			stats[pid] = s
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	var total int64
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		total += stats[queue[0]].cpu
		queue = append(queue, children[queue[0]]...)
	}
	return float64(total) / ticks
}

// machineSeconds is the processor time that the whole machine has spent.
func machineSeconds() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var busy int64
	for i, text := range strings.Fields(line)[1:] {
		n, _ := strconv.ParseInt(text, 10, 64)
		if i != 3 && i != 4 && i < 8 { // idle, iowait; guest time is in user already
			busy += n
		}
	}
	return float64(busy) / ticks
}

// peakMiB is the most memory that a process had resident since resetPeak.
func peakMiB(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.SplitSeq(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

func resetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return fmt.Errorf("reset the peak of memory: %w", err)
	}
	return nil
}

// load is the machine's load average over one minute.
type load float64

func loadNow() load {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	n, _ := strconv.ParseFloat(first, 64)
	return load(n)
}

// usage is processor time in seconds, by who spent it.
type usage struct{ ferry, postgres, milvus, bench, machine float64 }

func (u usage) minus(v usage) usage {
	return usage{u.ferry - v.ferry, u.postgres - v.postgres, u.milvus - v.milvus, u.bench - v.bench, u.machine - v.machine}
}

// together is what the run itself spent.
func (u usage) together() float64 { return u.ferry + u.postgres + u.milvus + u.bench }

// others is what processes spent that have nothing to do with the run.
func (u usage) others() float64 {
	return max(0, u.machine-u.together())
}

func (b *bench) usage(ferry int) usage {
	own, _ := readStat(os.Getpid())
	return usage{
		ferry: treeSeconds(ferry), postgres: treeSeconds(b.procs.postgres), milvus: treeSeconds(b.procs.milvus),
		bench: float64(own.cpu) / ticks, machine: machineSeconds(),
	}
}

// settle waits until Milvus has nothing left to do from what came before, so that
// no measurement pays for another one's index.
func (b *bench) settle(ctx context.Context) error {
	const quiet, window, most = 0.3, time.Second, 30 * time.Second
	for begun := time.Now(); time.Since(begun) < most; {
		before := treeSeconds(b.procs.milvus)
		if err := sleep(ctx, window); err != nil {
			return err
		}
		if treeSeconds(b.procs.milvus)-before < quiet*window.Seconds() {
			return nil
		}
	}
	b.say("Milvus is still busy after %v, going on", most)
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
