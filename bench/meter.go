package main

import (
	"context"
	"slices"
	"time"
)

// sample is one measurement.
type sample struct {
	rows int
	took time.Duration
	use  usage
	load load
	peak float64 // MiB of vecferry, from resetPeak or its start to the end
	p50  float64 // seconds, of the case latency
	p99  float64
}

func (s sample) rate() float64 { return float64(s.rows) / s.took.Seconds() }

// meter measures between its start and its stop.
type meter struct {
	b      *bench
	ferry  *ferry // nil if a floor is measured
	before usage
	begun  time.Time
	load   load
	told   counters
}

// meter starts measuring. A label names the profile of vecferry.
func (b *bench) meter(ctx context.Context, f *ferry, label string) (*meter, error) {
	if err := f.startProfile(ctx, label); err != nil {
		return nil, err
	}
	told, err := f.counters(ctx)
	if err != nil {
		return nil, err
	}
	return &meter{b: b, ferry: f, told: told, load: loadNow(), before: b.usage(f.pid()), begun: time.Now()}, nil
}

func (m *meter) stop(ctx context.Context, rows int) (sample, error) {
	s := sample{rows: rows, took: time.Since(m.begun), use: m.b.usage(m.ferry.pid()).minus(m.before), load: m.load}
	if m.ferry != nil {
		s.peak = peakMiB(m.ferry.pid())
	}
	if err := m.explain(ctx); err != nil {
		return s, err
	}
	return s, m.ferry.stopProfile(ctx)
}

// figure is what one arm of a case came to over the rounds.
type figure struct {
	kase    string
	arm     string // floor, vecferry, plain script
	how     string // the cell of a floor
	dim     int
	samples []sample
}

// record adds a sample to the figure of its arm, and says it.
func (b *bench) record(kase, arm, how string, dim int, s sample) {
	i := slices.IndexFunc(b.figures, func(f figure) bool { return f.kase == kase && f.arm == arm })
	if i < 0 {
		i = len(b.figures)
		b.figures = append(b.figures, figure{kase: kase, arm: arm, how: how, dim: dim})
	}
	b.figures[i].samples = append(b.figures[i].samples, s)
	if s.p50 > 0 {
		b.say("  %-12s p50 %4.0f ms, p99 %4.0f ms (load %.1f)", arm, s.p50*1000, s.p99*1000, s.load)
		return
	}
	if arm == firstRow {
		b.say("  %-12s after %.1f s (load %.1f)", arm, s.took.Seconds(), s.load)
		return
	}
	b.say("  %-12s %6.0f rows/s (load %.1f, others use %.0f %% of the machine)", arm, s.rate(), s.load, s.foreign())
}

// median returns the middle value of the samples.
func (f figure) median(value func(sample) float64) float64 {
	all := f.values(value)
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

func (f figure) values(value func(sample) float64) []float64 {
	out := make([]float64, len(f.samples))
	for i, s := range f.samples {
		out[i] = value(s)
	}
	return out
}

// turns runs a floor and vecferry in each round, the one first and then the other.
func (b *bench) turns(floor, ferry func(round int) error) error {
	for round := range b.rounds {
		first, second := floor, ferry
		if round%2 == 1 {
			first, second = ferry, floor
		}
		if err := first(round); err != nil {
			return err
		}
		if err := second(round); err != nil {
			return err
		}
	}
	return nil
}
