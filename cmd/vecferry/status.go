package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/config"
	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/snapshot"
)

// Report is what vecferry status prints with --json and GET /api/v1/status
// returns; docs/reference/json.md documents it. Fields are added, never renamed.
type Report struct {
	Pipeline string        `json:"pipeline"`
	Version  string        `json:"version"`
	Time     time.Time     `json:"time"`
	Started  time.Time     `json:"started"`
	State    string        `json:"state"` // copying, catching up, streaming, waiting
	Reason   string        `json:"reason,omitempty"`
	Tables   []ReportTable `json:"tables"`
	Hops     []ReportHop   `json:"hops"`
	Slot     ReportSlot    `json:"slot"`
	Log      ReportLog     `json:"log"`
}

// ReportTable is one table.
type ReportTable struct {
	Source       string  `json:"source"`
	Collection   string  `json:"collection"`
	State        string  `json:"state"` // waiting, copying, live
	CopiedRows   int64   `json:"copied_rows"`
	Estimated    int64   `json:"estimated_rows"`
	RowsPerSec   float64 `json:"rows_per_second"`
	ETASeconds   float64 `json:"eta_seconds,omitempty"`
	NullVectors  int64   `json:"null_vectors"`
	DeadLetters  int64   `json:"dead_letters"`
	OpenChunks   int     `json:"open_chunks"`
	TaintedKeys  int64   `json:"tainted_keys"`
	Breaches     int64   `json:"breaches"`
	Reason       string  `json:"reason,omitempty"`
	AppliedHalfs int64   `json:"applied_changes"`
}

// ReportHop is one stretch of the way of a row.
type ReportHop struct {
	Hop        string       `json:"hop"` // capture, sink
	Doing      string       `json:"doing"`
	Reason     string       `json:"reason,omitempty"` // why it waits
	Position   vecferry.LSN `json:"position"`
	LagBytes   int64        `json:"lag_bytes"`
	LagRows    int64        `json:"lag_rows"`
	LagSeconds float64      `json:"lag_seconds"`
}

// ReportSlot is the replication slot.
type ReportSlot struct {
	Name          string       `json:"name"`
	Active        bool         `json:"active"`
	WALStatus     string       `json:"wal_status"`
	RetainedBytes int64        `json:"retained_bytes"`
	SafeBytes     *int64       `json:"safe_bytes,omitempty"`
	ConfirmedLSN  vecferry.LSN `json:"confirmed_lsn"`
	SourceLSN     vecferry.LSN `json:"source_lsn"`
}

// ReportLog is the change log.
type ReportLog struct {
	Batches  uint64 `json:"batches"`
	Bytes    uint64 `json:"bytes"`
	MaxBytes int64  `json:"max_bytes"`
	Last     uint64 `json:"last_batch"`
	Applied  uint64 `json:"applied_batch"`
}

// probe asks the source and the log now and then, so that a status costs them
// nothing.
type probe struct {
	p       *pipeline
	started time.Time

	mu   sync.Mutex
	slot ReportSlot
	log  ReportLog
	rows int64 // behind the applied batch
}

func newProbe(p *pipeline) *probe { return &probe{p: p, started: time.Now()} }

// probeEvery is the age that the source's figures in a status may have.
const probeEvery = time.Second

func (b *probe) run(ctx context.Context) error {
	for {
		if err := b.once(ctx); err != nil && ctx.Err() == nil {
			b.p.log.Debug("probe", "error", err)
		}
		if !lifecycle.Sleep(ctx, probeEvery) {
			return nil
		}
	}
}

func (b *probe) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, errInfo := b.p.changes.Info(ctx)
	applied := b.p.sink.Status().Applied
	rows, errRows := b.rowsBehind(ctx, applied)
	slot, errSlot := b.p.source.SlotState(ctx, b.p.cfg.Postgres.Slot)
	end, errEnd := b.p.source.CurrentLSN(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if errInfo == nil {
		b.log = ReportLog{Batches: info.Messages, Bytes: info.Bytes, MaxBytes: info.MaxBytes, Last: info.LastBatch, Applied: applied}
	}
	if errRows == nil {
		b.rows = rows
	}
	if errSlot == nil && errEnd == nil {
		b.slot = ReportSlot{Name: b.p.cfg.Postgres.Slot, Active: slot.Active, WALStatus: slot.WALStatus, RetainedBytes: slot.Retained,
			SafeBytes: slot.SafeWALSize, ConfirmedLSN: slot.ConfirmedLSN, SourceLSN: end}
	}
	return errors.Join(errInfo, errRows, errSlot, errEnd)
}

// rowsBehind counts the changes in the log behind a batch.
func (b *probe) rowsBehind(ctx context.Context, applied uint64) (int64, error) {
	tail, err := b.p.changes.Tail(ctx)
	if err != nil || tail.Empty || applied >= tail.Sequence {
		return 0, err
	}
	if applied == 0 {
		return int64(tail.Header.Total), nil
	}
	at, err := b.p.changes.Header(ctx, applied)
	return int64(tail.Header.Total - at.Total), err
}

// report puts the figures of all stages together.
func (b *probe) report() Report {
	b.mu.Lock()
	slot, log, rows := b.slot, b.log, b.rows
	b.mu.Unlock()
	r := Report{Pipeline: b.p.cfg.Pipeline, Version: version, Time: time.Now().UTC(), Started: b.started.UTC(), Slot: slot, Log: log}
	r.Tables = b.tables()
	r.Hops = b.hops(slot, rows)
	r.State, r.Reason = stateOf(r)
	return r
}

func (b *probe) tables() []ReportTable {
	copies := make(map[string]snapshot.TableStatus)
	for _, t := range b.p.snapshot.Status().Tables {
		copies[t.Table] = t
	}
	var out []ReportTable
	for _, t := range b.p.sink.Status().Tables {
		c := copies[t.Source]
		rt := ReportTable{Source: t.Source, Collection: t.Collection, State: string(c.State), CopiedRows: t.Rows, Estimated: c.Estimated,
			RowsPerSec: c.Rate, ETASeconds: c.ETA.Seconds(), NullVectors: t.Nulls, DeadLetters: t.Dead, OpenChunks: t.Open,
			TaintedKeys: t.Taints, Breaches: t.Counts.Breaches, Reason: c.Reason, AppliedHalfs: t.Counts.Applied}
		if t.Copied {
			rt.State = string(snapshot.Live)
		}
		out = append(out, rt)
	}
	return out
}

func (b *probe) hops(slot ReportSlot, rows int64) []ReportHop {
	c, s := b.p.capture.Status(), b.p.sink.Status()
	toLog := ReportHop{Hop: "capture", Doing: c.State, Position: c.Written, LagBytes: slot.SourceLSN.Sub(c.Written)}
	if c.Err != nil {
		toLog.Reason = c.Err.Error()
	}
	if toLog.LagBytes > 0 && c.Received > c.Written && !c.CommitTime.IsZero() {
		toLog.LagSeconds = time.Since(c.CommitTime).Seconds()
	}
	toTarget := ReportHop{Hop: "sink", Doing: s.Doing, Position: s.AppliedLSN, LagBytes: c.Written.Sub(s.AppliedLSN), LagRows: rows}
	if why, since, tries := b.p.target.Waiting(); why != "" {
		toTarget.Reason = fmt.Sprintf("%s (%d tries in %s)", why, tries, time.Since(since).Round(time.Second))
	}
	if toTarget.LagBytes > 0 && !s.CommitTime.IsZero() {
		toTarget.LagSeconds = time.Since(s.CommitTime).Seconds()
	}
	return []ReportHop{toLog, toTarget}
}

// stateOf answers in a word what the pipeline does.
func stateOf(r Report) (state, reason string) {
	for _, h := range r.Hops {
		if h.Reason != "" {
			return "waiting", h.Hop + ": " + h.Reason
		}
	}
	for _, t := range r.Tables {
		if t.State != string(snapshot.Live) {
			return "copying", t.Reason
		}
	}
	if n := r.Hops[len(r.Hops)-1].LagRows; n > 0 {
		return "catching up", fmt.Sprintf("%d changes behind", n)
	}
	return "streaming", ""
}

func newStatus(g *globals) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "Shows how far the running pipeline is", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			for {
				r, err := fetchStatus(cmd.Context(), c.HTTP)
				if err != nil {
					return err
				}
				if err := printStatus(cmd.OutOrStdout(), r, asJSON, watch); err != nil {
					return err
				}
				if !watch || !lifecycle.Sleep(cmd.Context(), 2*time.Second) {
					return nil
				}
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print again every 2 s")
	return cmd
}

// notRunningError says that no pipeline answers on the HTTP address.
type notRunningError struct {
	address string
	err     error
}

func (e *notRunningError) Error() string {
	return fmt.Sprintf("no pipeline answers on %s: %v; start it with vecferry run, or see http.listen in the configuration", e.address, e.err)
}
func (e *notRunningError) Unwrap() error     { return e.err }
func (e *notRunningError) Unreachable() bool { return true }

// errStarting says that the pipeline is there and not connected to its servers.
var errStarting = errors.New("vecferry run is starting: it is not connected to all servers yet")

func fetchStatus(ctx context.Context, c config.HTTP) (Report, error) {
	var r Report
	err := callAPI(ctx, c, http.MethodGet, "/api/v1/status", &r)
	return r, err
}

// callAPI asks the running pipeline.
func callAPI(ctx context.Context, c config.HTTP, method, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	address := dialAddress(c.Listen)
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return &notRunningError{address, errors.Unwrap(err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return errStarting
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("%s: %s: %s", address, resp.Status, strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%s answers something else than vecferry does: %w", address, err)
	}
	return nil
}

// printStatus prints one status for people or machines.
func printStatus(w io.Writer, r Report, asJSON, again bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	if again {
		fmt.Fprint(w, "\x1b[H\x1b[2J")
	}
	fmt.Fprintf(w, "%s is %s", r.Pipeline, r.State)
	if r.Reason != "" {
		fmt.Fprintf(w, ": %s", r.Reason)
	}
	fmt.Fprintf(w, "\nslot %s %s, keeps %s of WAL%s\n\n", r.Slot.Name, r.Slot.WALStatus, bytesText(r.Slot.RetainedBytes), safeText(r.Slot.SafeBytes))
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "TABLE\tCOLLECTION\tSTATE\tCOPIED\tOF ABOUT\tROWS/S\tETA\tDEAD LETTERS\tNO VECTOR")
	for _, t := range r.Tables {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d\t%.0f\t%s\t%d\t%d\n", t.Source, t.Collection, t.State, t.CopiedRows, t.Estimated,
			t.RowsPerSec, etaText(t.ETASeconds), t.DeadLetters, t.NullVectors)
	}
	fmt.Fprintln(tw, "\nHOP\tDOING\tPOSITION\tBEHIND\tROWS\tSECONDS")
	for _, h := range r.Hops {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\t%.1f\n", h.Hop, h.Doing, h.Position, bytesText(h.LagBytes), h.LagRows, h.LagSeconds)
	}
	fmt.Fprintf(tw, "\nlog: %d batches, %s of %s\n", r.Log.Batches, bytesText(int64(r.Log.Bytes)), bytesText(r.Log.MaxBytes))
	return tw.Flush()
}

func etaText(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

func safeText(n *int64) string {
	if n == nil {
		return ""
	}
	return ", lost after " + bytesText(*n) + " more"
}

// bytesText prints bytes in the largest binary unit that leaves digits.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
