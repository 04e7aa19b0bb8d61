package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/capture"
	"github.com/vecferry/vecferry/internal/changelog"
	"github.com/vecferry/vecferry/internal/config"
	"github.com/vecferry/vecferry/internal/lifecycle"
	"github.com/vecferry/vecferry/internal/postgres"
	"github.com/vecferry/vecferry/sink"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/snapshot"
)

// pipeline is everything that vecferry run works with.
type pipeline struct {
	cfg      *config.Config
	log      *slog.Logger
	patience time.Duration // for servers that cannot be reached at the start
	reg      *prometheus.Registry
	source   *postgres.Source
	target   *milvus.Client
	changes  *changelog.Log
	tables   []*vecferry.Table
	mapped   []sink.Mapped
	capture  *capture.Capture
	sink     *sink.Sink
	snapshot *snapshot.Snapshot
	probe    *probe
}

// open connects to the servers, checks that they can do the job, and makes what
// is missing: publication, log and collections. The slot is made by capture.
func open(ctx context.Context, cfg *config.Config, log *slog.Logger, patience time.Duration) (_ *pipeline, err error) {
	p := &pipeline{cfg: cfg, log: log, patience: patience, reg: newRegistry()}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	steps := []func(context.Context) error{p.openSource, p.openLog, p.openTarget, p.mapTables, p.prepareTarget, p.build}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// close ends what open opened, the last first.
func (p *pipeline) close() {
	if p.changes != nil {
		p.changes.Close()
	}
	if p.target != nil {
		if err := p.target.Close(); err != nil {
			p.log.Debug("closing the connection to Milvus", "error", err)
		}
	}
	if p.source != nil {
		p.source.Close()
	}
}

// patient tries until a server can be reached, or the patience is over.
func (p *pipeline) patient(ctx context.Context, name string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	wait := lifecycle.Backoff()
	for {
		err := try(ctx)
		var reach interface{ Unreachable() bool }
		if err == nil || !errors.As(err, &reach) || !reach.Unreachable() {
			return err
		}
		p.log.Warn("cannot be reached yet, trying again", "server", name, "error", err)
		if !lifecycle.Sleep(ctx, wait.NextBackOff()) {
			return err
		}
	}
}

func (p *pipeline) openSource(ctx context.Context) error {
	err := p.patient(ctx, "postgres", func(ctx context.Context) (err error) {
		p.source, err = postgres.Open(ctx, sourceOptions(p.cfg.Postgres, p.cfg.Postgres.Connections+3))
		return err
	})
	if err != nil {
		return err
	}
	server, err := p.source.Preflight(ctx, p.cfg.Postgres.Slot)
	if err != nil {
		return err
	}
	for _, n := range server.Notes {
		p.log.Warn("postgres", "note", n.String())
	}
	p.log.Info("connected to postgres", "version", server.Version, "pgvector", server.PGVector)
	return nil
}

func (p *pipeline) openLog(ctx context.Context) error {
	o, err := logOptions(p.cfg, p.log)
	if err != nil {
		return err
	}
	return p.patient(ctx, "nats", func(ctx context.Context) (err error) {
		p.changes, err = changelog.Open(ctx, o)
		return err
	})
}

func (p *pipeline) openTarget(ctx context.Context) error {
	o, err := targetOptions(p.cfg, p.log)
	if err != nil {
		return err
	}
	return p.patient(ctx, "milvus", func(ctx context.Context) (err error) {
		p.target, err = milvus.Connect(ctx, o)
		return err
	})
}

// mapTables finds out how each table becomes a collection, and makes sure that
// its changes are published.
func (p *pipeline) mapTables(ctx context.Context) error {
	var errs []error
	for _, t := range p.cfg.Tables {
		table, notes, err := p.source.Inspect(ctx, tableSpec(t))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, n := range notes {
			p.log.Info("mapping", "note", n.String())
		}
		p.tables = append(p.tables, table)
	}
	if err := errors.Join(errs...); err != nil {
		return &usageError{err}
	}
	return p.source.EnsurePublication(ctx, p.cfg.Postgres.Publication, p.tables, p.cfg.Postgres.CreatePublication)
}

// prepareTarget makes the collections ready and refuses one that holds what
// this pipeline did not write.
func (p *pipeline) prepareTarget(ctx context.Context) error {
	known, err := p.checkpoint(ctx)
	if err != nil {
		return err
	}
	for _, t := range p.tables {
		p.log.Info("preparing collection", "collection", t.Collection, "table", t.String())
		made, err := p.prepareCollection(ctx, t)
		if err != nil {
			return err
		}
		st := known.Tables[t.OID]
		if err := fits(t, st, made); err != nil {
			if made.Created { // found missing again at the next start
				err = errors.Join(err, p.target.Drop(ctx, t.Collection))
			}
			return err
		}
		p.mapped = append(p.mapped, sink.Mapped{Table: t, Target: p.target.Collection(t), Empty: made.Entities == 0})
	}
	return nil
}

func (p *pipeline) prepareCollection(ctx context.Context, t *vecferry.Table) (milvus.Prepared, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	return p.target.Prepare(ctx, t)
}

// fits compares what a collection holds with what the checkpoint says.
func fits(t *vecferry.Table, st *vecferry.TableState, made milvus.Prepared) error {
	switch {
	case st == nil && made.Entities > 0:
		return &vecferry.HaltError{
			What: fmt.Sprintf("collection %s holds %d entities that this pipeline did not write", t.Collection, made.Entities),
			Fix:  "name another collection, or drop that one, and start again",
		}
	case st != nil && made.Created && st.Chunks > 0:
		return &vecferry.HaltError{
			What: fmt.Sprintf("collection %s is gone, but %d rows were copied into it", t.Collection, st.Rows),
			Fix:  "restore it, or start over as docs/how-to/start-over.md says",
		}
	}
	return nil
}

// checkpoint returns the sink's record, empty if there is none.
func (p *pipeline) checkpoint(ctx context.Context) (*vecferry.Checkpoint, error) {
	e, err := p.changes.Get(ctx, checkpointKey)
	if errors.Is(err, changelog.ErrNotFound) {
		return &vecferry.Checkpoint{}, nil
	}
	if err != nil {
		return nil, err
	}
	return vecferry.DecodeCheckpoint(e.Value)
}

// build makes the stages; they start with run.
func (p *pipeline) build(context.Context) (err error) {
	store := stateStore{p.changes}
	targets := make(map[uint32]snapshot.Target, len(p.mapped))
	for _, m := range p.mapped {
		targets[m.Table.OID] = m.Target
	}
	p.capture, err = capture.New(capture.Options{
		Pipeline: p.cfg.Pipeline, Slot: p.cfg.Postgres.Slot, Publication: p.cfg.Postgres.Publication, Tables: p.tables,
		Source: p.source, Log: captureLog{p.changes}, Store: store, Logger: p.log.With("stage", "capture"), LogFull: changelog.ErrFull,
	})
	if err != nil {
		return err
	}
	p.sink = sink.New(sink.Options{
		Pipeline: p.cfg.Pipeline, Tables: p.mapped, Log: sinkLog{p.changes}, Store: checkpointStore{store},
		DeadLetters: buryOne{p.changes}, NewDecoder: newDecoder, Logger: p.log.With("stage", "sink"),
		Metrics: sink.NewMetrics(p.reg), MaxRunBytes: int(p.cfg.Sink.MaxRunBytes),
	})
	p.snapshot, err = snapshot.New(snapshot.Options{
		Pipeline: p.cfg.Pipeline, Tables: p.tables, Workers: p.cfg.Snapshot.Workers,
		ChunkBytes: int64(p.cfg.Snapshot.ChunkBytes), Logger: p.log.With("stage", "snapshot"),
	}, snapshot.Deps{
		Marks: p.source, Source: chunkSource{p.source}, Targets: targets, Checkpoints: checkpoints{p.changes},
		Counters: p.changes, DeadLetters: buryMany{p.changes},
	})
	p.probe = newProbe(p)
	return err
}

// copy starts the snapshot once the stream is there: what it writes into the
// source's log before that is lost.
func (p *pipeline) copy(ctx context.Context) error {
	for p.capture.Status().ServerEnd == 0 {
		if !lifecycle.Sleep(ctx, 20*time.Millisecond) {
			return nil
		}
	}
	return p.snapshot.Run(ctx)
}

// run works until ctx ends or a stage halts.
func (p *pipeline) run(ctx context.Context) error {
	return lifecycle.Group(ctx, p.log,
		lifecycle.Service{Name: "capture", Run: p.capture.Run},
		lifecycle.Service{Name: "sink", Run: p.sink.Run},
		lifecycle.Service{Name: "snapshot", Run: p.copy},
		lifecycle.Service{Name: "trimmer", Run: p.trim},
		lifecycle.Service{Name: "probe", Run: p.probe.run},
		lifecycle.Service{Name: "progress", Run: p.progress},
	)
}
