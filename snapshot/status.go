package snapshot

import (
	"time"

	"github.com/vecferry/vecferry"
)

// State says how far a table is.
type State string

// The states of a table.
const (
	Waiting State = "waiting" // the sink's record does not know the table yet
	Copying State = "copying"
	Live    State = "live"
)

// Status is how far the copy is.
type Status struct {
	Tables []TableStatus `json:"tables"`
}

// TableStatus is how far the copy of one table is.
type TableStatus struct {
	Table      string        `json:"table"`
	Collection string        `json:"collection"`
	State      State         `json:"state"`
	Rows       int64         `json:"rows"`                 // copied; a row copied twice counts twice
	Estimated  int64         `json:"estimated,omitempty"`  // rows in the source by its statistics, 0 if not known
	Open       int           `json:"open"`                 // chunks at work
	Reason     string        `json:"waiting,omitempty"`    // why nothing goes on
	LastError  string        `json:"last_error,omitempty"` // of the last attempt, empty after a success
	Started    time.Time     `json:"started,omitzero"`     // when this process began on it
	Rate       float64       `json:"rate,omitempty"`       // rows a second, over about 10 s
	ETA        time.Duration `json:"eta,omitempty"`        // 0 if not known
}

// Status returns how far each table is.
func (s *Snapshot) Status() Status {
	cp, _ := s.record.get()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{}
	for _, t := range s.tables {
		out.Tables = append(out.Tables, t.status(stateOf(cp, t), time.Now()))
	}
	return out
}

func (t *table) status(state *vecferry.TableState, now time.Time) TableStatus {
	out := TableStatus{
		Table: t.String(), Collection: t.Collection, State: Waiting, Open: len(t.open),
		Estimated: t.estimate.Rows, LastError: t.lastError, Started: t.meter.started,
	}
	if state == nil {
		out.Reason = "waiting for the sink"
		return out
	}
	out.State, out.Rows = Live, state.Rows
	if state.AllLive() {
		return out
	}
	out.State, out.Reason = Copying, t.reason()
	out.Rate = t.meter.rate(now, read(state))
	if left := out.Estimated - read(state); left > 0 && out.Rate > 0 {
		out.ETA = time.Duration(float64(left) / out.Rate * float64(time.Second)).Round(time.Second)
	}
	return out
}

// reason returns why a table's chunks do not go on, empty if one does.
func (t *table) reason() string {
	if len(t.open) == 0 && t.planning {
		return "looking for the boundaries of chunks"
	}
	out := ""
	for _, c := range t.open {
		if c.waiting == "" {
			return ""
		}
		if out == "" {
			out = c.waiting
		}
	}
	return out
}

// read returns the rows of the source that chunks have dealt with.
func read(state *vecferry.TableState) int64 { return state.Rows + state.Nulls + state.Dead }

// meter measures the rows of a table in a second.
type meter struct {
	started time.Time
	samples []sample // about one a second, the oldest first
}

type sample struct {
	at   time.Time
	rows int64
}

// rateWindow is what a rate looks back at.
const rateWindow = 10 * time.Second

// observe takes a sample unless the last one is fresh.
func (m *meter) observe(now time.Time, state *vecferry.TableState) {
	if state == nil || state.AllLive() {
		m.samples = nil
		return
	}
	if m.started.IsZero() {
		m.started = now
	}
	if n := len(m.samples); n > 0 && now.Sub(m.samples[n-1].at) < time.Second {
		return
	}
	m.samples = append(m.samples, sample{now, read(state)})
	for len(m.samples) > 1 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
}

// rate returns the rows a second since the oldest sample.
func (m *meter) rate(now time.Time, rows int64) float64 {
	if len(m.samples) == 0 {
		return 0
	}
	seconds := now.Sub(m.samples[0].at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(rows-m.samples[0].rows) / seconds
}
