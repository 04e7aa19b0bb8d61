package sink

import (
	"context"
	"fmt"

	"github.com/vecferry/vecferry"
)

// restore reads the checkpoint, or makes the first one, and proves that the log
// is the one that it belongs to.
func (s *Sink) restore(ctx context.Context) error {
	value, rev, err := s.o.Store.Load(ctx)
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	s.rev = rev
	s.cp = &vecferry.Checkpoint{Version: vecferry.CheckpointVersion, Log: s.o.Log.ID()}
	if value != nil {
		if s.cp, err = vecferry.DecodeCheckpoint(value); err != nil {
			return err
		}
		if err := s.proveLog(ctx); err != nil {
			return err
		}
	}
	s.mapTables()
	return nil
}

// proveLog checks that the log did not go back behind the checkpoint and was
// not exchanged.
func (s *Sink) proveLog(ctx context.Context) error {
	if id := s.o.Log.ID(); id != s.cp.Log {
		return &vecferry.HaltError{
			What: fmt.Sprintf("the checkpoint belongs to change log %s, this one is %s", s.cp.Log, id),
			Fix:  "give back the log that was here, or start the pipeline over: drop its slot, its log and its collections",
		}
	}
	if s.cp.Applied == 0 {
		return nil
	}
	return s.o.Log.Check(ctx, s.cp.Applied, s.cp.Epoch, s.cp.AppliedLSN)
}

// mapTables gives each mapped table its machine, and its state if it is new.
func (s *Sink) mapTables() {
	old := s.cp.Tables
	s.cp.Tables = make(map[uint32]*vecferry.TableState, len(s.o.Tables))
	s.tables = make(map[uint32]*tableSink, len(s.o.Tables))
	for _, m := range s.o.Tables {
		st := old[m.Table.OID]
		if st == nil || st.Collection != m.Table.Collection {
			st = &vecferry.TableState{Ranges: []vecferry.MappedRange{{
				Range: vecferry.Everything(), State: vecferry.Todo, Virgin: m.Empty}}}
		}
		st.Source, st.Collection = m.Table.String(), m.Table.Collection
		s.cp.Tables[m.Table.OID] = st
		s.tables[m.Table.OID] = &tableSink{machine: newMachine(s.o.Rules, m.Table, st), target: m.Target}
	}
}

// save persists the state as it stands after the last run, together with the
// run that is about to be applied, 0 for none.
func (s *Sink) save(ctx context.Context, applying uint64) error {
	s.cp.Applying = applying
	b, err := s.cp.Encode()
	if err != nil {
		return err
	}
	rev, err := s.o.Store.Save(ctx, b, s.rev)
	if err != nil {
		return fmt.Errorf("persist the checkpoint: %w", err)
	}
	s.rev = rev
	return nil
}
