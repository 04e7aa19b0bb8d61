package sink

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/vecferry/vecferry"
)

// Metrics are the sink's, registered once per process.
type Metrics struct {
	changes *prometheus.CounterVec
	rows    *prometheus.CounterVec
	dead    *prometheus.CounterVec
	runs    prometheus.Histogram
	applied prometheus.Gauge
	commit  prometheus.Gauge
	lag     prometheus.Histogram
}

// NewMetrics registers the sink's metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	seconds := prometheus.ExponentialBuckets(0.002, 2, 16)
	return &Metrics{
		changes: f.NewCounterVec(prometheus.CounterOpts{Name: "vecferry_sink_changes_total",
			Help: "Changes read from the log, by what they do in the source."}, []string{"collection", "op"}),
		rows: f.NewCounterVec(prometheus.CounterOpts{Name: "vecferry_sink_rows_total",
			Help: "Entities written or deleted, after each run was collapsed to one state per key."}, []string{"collection", "op"}),
		dead: f.NewCounterVec(prometheus.CounterOpts{Name: "vecferry_sink_dead_letters_total",
			Help: "Rows sent to the dead letters."}, []string{"collection"}),
		runs: f.NewHistogram(prometheus.HistogramOpts{Name: "vecferry_sink_run_duration_seconds",
			Help: "Time from the decision to apply a run to its last acknowledged write.", Buckets: seconds}),
		applied: f.NewGauge(prometheus.GaugeOpts{Name: "vecferry_sink_applied_lsn_bytes",
			Help: "End of the last transaction that the target has, as a byte position in the write-ahead log."}),
		commit: f.NewGauge(prometheus.GaugeOpts{Name: "vecferry_sink_applied_commit_timestamp_seconds",
			Help: "Commit time of the newest transaction that the target has."}),
		lag: f.NewHistogram(prometheus.HistogramOpts{Name: "vecferry_end_to_end_lag_seconds",
			Help: "Time from a run's newest commit in the source to its last acknowledged write.", Buckets: seconds}),
	}
}

// ops counts the changes of a run, so that the metric is touched once a run.
type ops struct{ insert, update, delete, truncate int }

func (o *ops) add(op vecferry.Op) {
	switch op {
	case vecferry.OpInsert:
		o.insert++
	case vecferry.OpUpdate:
		o.update++
	case vecferry.OpDelete:
		o.delete++
	case vecferry.OpTruncate:
		o.truncate++
	}
}

func (m *Metrics) read(collection string, o ops) {
	for op, n := range map[string]int{"insert": o.insert, "update": o.update, "delete": o.delete, "truncate": o.truncate} {
		if n > 0 {
			m.changes.WithLabelValues(collection, op).Add(float64(n))
		}
	}
}

func (m *Metrics) wrote(collection string, o *outcome) {
	m.rows.WithLabelValues(collection, "put").Add(float64(o.write.Rows()))
	m.rows.WithLabelValues(collection, "delete").Add(float64(len(o.write.Delete)))
	m.dead.WithLabelValues(collection).Add(float64(len(o.dead)))
}

func (m *Metrics) run(took time.Duration, cp *vecferry.Checkpoint) {
	m.runs.Observe(took.Seconds())
	m.applied.Set(float64(cp.AppliedLSN))
	if cp.CommitTime == 0 {
		return
	}
	commit := time.UnixMicro(cp.CommitTime)
	m.commit.Set(float64(cp.CommitTime) / 1e6)
	m.lag.Observe(time.Since(commit).Seconds())
}
