package sink

import (
	"fmt"
	"time"

	"github.com/vecferry/vecferry"
)

// decide walks one batch and gives each change to its table.
func (s *Sink) decide(m Message) (vecferry.BatchHeader, error) {
	r, err := vecferry.NewBatchReader(m.Data, &s.cache)
	if err != nil {
		return vecferry.BatchHeader{}, &vecferry.HaltError{What: "the change log is damaged", Err: err,
			Fix: "restore the log's directory, or start over with an empty one and an empty collection"}
	}
	var c vecferry.Change
	for {
		more, err := r.Next(&c)
		if err != nil {
			return r.Header, err
		}
		if !more {
			return r.Header, nil
		}
		if err := s.change(&c); err != nil {
			return r.Header, err
		}
	}
}

// change routes one change.
func (s *Sink) change(c *vecferry.Change) error {
	switch c.Op {
	case vecferry.OpMark:
		return s.mark(c)
	case vecferry.OpTruncate:
		for _, oid := range c.Tables {
			if t := s.tables[oid]; t != nil {
				t.truncate(c)
				t.ops.add(c.Op)
			}
		}
		return nil
	}
	t := s.tables[c.Relation.OID]
	if t == nil {
		return s.unmapped(c.Relation)
	}
	if err := s.bind(t, c.Relation); err != nil {
		return err
	}
	t.ops.add(c.Op)
	return t.change(c, t.decoder)
}

// unmapped passes over a table that is not mapped any more. One of a mapped name
// was dropped and made again: its rows would be lost without a word.
func (s *Sink) unmapped(rel *vecferry.Relation) error {
	for _, m := range s.o.Tables {
		if m.Table.Schema == rel.Schema && m.Table.Name == rel.Name {
			return &vecferry.HaltError{
				What: fmt.Sprintf("table %s was dropped and made again", m.Table),
				Fix:  "start over, as docs/how-to/start-over.md says",
			}
		}
	}
	return nil
}

// bind makes the decoder fit the columns that the table had at this change.
func (s *Sink) bind(t *tableSink, rel *vecferry.Relation) error {
	if t.relation == rel {
		return nil
	}
	d, err := s.o.NewDecoder(t.table, rel.Columns)
	if err != nil {
		return err
	}
	t.relation, t.decoder = rel, d
	return nil
}

// mark gives a chunk's mark to its table, and its snapshot to all.
func (s *Sink) mark(c *vecferry.Change) error {
	if string(c.Prefix) != vecferry.MarkPrefix(s.o.Pipeline) {
		return nil
	}
	mark, err := vecferry.DecodeMark(c.Content)
	if err != nil {
		return err
	}
	seen, err := vecferry.ParseVisibility(mark.Snapshot)
	if err != nil {
		return err
	}
	t := s.tables[mark.Table]
	if mark.Kind == vecferry.High {
		if t == nil || !t.high(mark, seen) {
			return nil // void: its snapshot proves nothing about other tables' chunks
		}
	}
	for _, each := range s.tables {
		each.forgetSeen(seen)
	}
	if mark.Kind == vecferry.Low && t != nil {
		t.low(mark, c.Position)
	}
	return nil
}

// publish makes the state visible to Status.
func (s *Sink) publish(doing string) {
	old := s.status.Load()
	st := &Status{Doing: doing, Runs: old.Runs, Batches: old.Batches}
	if s.cp != nil {
		st.Applied, st.AppliedLSN = s.cp.Applied, s.cp.AppliedLSN
		if s.cp.CommitTime != 0 {
			st.CommitTime = time.UnixMicro(s.cp.CommitTime)
		}
	}
	for _, m := range s.o.Tables {
		if t := s.tables[m.Table.OID]; t != nil {
			st.Tables = append(st.Tables, t.status())
		}
	}
	s.status.Store(st)
}

func (t *tableSink) status() TableStatus {
	st := t.state
	return TableStatus{
		Source: st.Source, Collection: st.Collection, Copied: st.AllLive(),
		Rows: st.Rows, Nulls: st.Nulls, Chunks: st.Chunks, Dead: st.Dead, Taints: st.Taints,
		Open: len(st.Copies), Ranges: len(st.Ranges), Counts: t.count,
	}
}
