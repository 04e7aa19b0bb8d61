package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink/milvus"
	"github.com/vecferry/vecferry/sink/milvus/memory"
)

// script is a source, a log, a sink and one chunk worker that do the same in
// every life, but for the step at which the program dies.
type script struct {
	t      *testing.T
	src    source
	log    openLog
	target *memory.Server
	store  mortalStore
	dead   mortalDead
	points *failpoint
	rules  Rules
	table  *vecferry.Table

	sink    *Sink
	stop    context.CancelFunc
	ended   chan error
	attempt uint64
	highs   map[uint64]vecferry.Mark // of the chunks that were copied
	wrong   []string
	deaths  int
	serial  int
}

func newScript(t *testing.T, rules Rules, at ...int) *script {
	t.Helper()
	points := &failpoint{at: map[int]bool{}}
	for _, step := range at {
		points.at[step] = true
	}
	table := testTable()
	table.Fields[fieldID].MaxLength, table.Fields[fieldBody].Type, table.BatchRows = 100, vecferry.FieldInt64, 2
	s := &script{t: t, target: memory.New(), points: points, rules: rules, table: table, highs: map[uint64]vecferry.Mark{},
		log: openLog{fakeLog: &fakeLog{}, more: make(chan struct{}, 1)}, store: mortalStore{failpoint: points}, dead: mortalDead{failpoint: points}}
	s.store.crash = func() error { return nil }
	_, err := s.target.Prepare(t.Context(), table)
	require.NoError(t, err)
	return s
}

// start is a life of the sink.
func (s *script) start() {
	s.points.dead = false
	s.sink = New(Options{Pipeline: "test", Log: &s.log, Store: &s.store, DeadLetters: &s.dead,
		Logger: slog.New(slog.DiscardHandler), Rules: s.rules,
		Tables: []Mapped{{Table: s.table, Empty: true, Target: milvus.NewCollection(s.table,
			mortalBackend{s.target.Backend(s.table), s.points}, milvus.Config{Lanes: 1})}},
		NewDecoder: func(*vecferry.Table, []vecferry.RelationColumn) (Decoder, error) { return testDecoder{}, nil }})
	ctx, stop := context.WithCancel(s.t.Context())
	s.stop, s.ended = stop, make(chan error, 1)
	go func(sink *Sink, ended chan error) { ended <- sink.Run(ctx) }(s.sink, s.ended)
}

// live shows the sink all that is in the log, as one run, and waits until it is
// applied and persisted, through as many lives as that takes.
func (s *script) live() {
	s.log.publish()
	for range 1000 {
		if s.sink == nil {
			s.start()
		}
		synctest.Wait() // it waits for more of the log, or is dead
		select {
		case err := <-s.ended:
			s.stop()
			s.sink = nil
			s.deaths++
			if !errors.Is(err, errCrash) {
				s.wrong = append(s.wrong, fmt.Sprint(err))
				return
			}
		default:
			s.compare()
			return
		}
	}
}

// end ends the sink.
func (s *script) end() {
	if s.sink != nil {
		s.stop()
		require.NotErrorIs(s.t, <-s.ended, vecferry.ErrCorrupt)
	}
}

// compare is the oracle.
func (s *script) compare() {
	cp := s.store.checkpoint()
	if cp.Applying != 0 || int(cp.Applied) != len(s.log.batches) {
		s.wrong = append(s.wrong, fmt.Sprintf("applied %d of %d, applying %d", cp.Applied, len(s.log.batches), cp.Applying))
	}
	if n := s.sink.tables[testOID].count.Breaches; n != 0 {
		s.wrong = append(s.wrong, fmt.Sprintf("%d breaches", n))
	}
	have := map[vecferry.Key][]vecferry.Row{}
	for _, e := range s.target.Entities(s.table.Collection) {
		have[e.Row.Key] = append(have[e.Row.Key], e.Row)
	}
	rows := rowsAfter(s.src.txs, func(*tx) bool { return true })
	for i := range 12 {
		k := vecferry.Key(keyName(i))
		state := cp.Tables[testOID].Ranges[find(cp.Tables[testOID].Ranges, k)].State
		row, there := rows[string(k)]
		var want []vecferry.Row
		if there && row.v != 0 && row.meta != badMeta {
			want = []vecferry.Row{targetRow(string(k), row, 0)}
		}
		switch {
		case state == vecferry.Dead && row.meta == badMeta && len(have[k]) == 0:
		case state == vecferry.Live && slices.EqualFunc(have[k], want, sameRow) && (row.meta != badMeta || row.v == 0):
		case state == vecferry.Todo, state == vecferry.Copying:
		default:
			s.wrong = append(s.wrong, fmt.Sprintf("key %s, %s, at batch %d: have %v, want %v", k, state, cp.Applied, have[k], want))
		}
	}
}

// tx commits changes and puts them into the log, a batch for each part.
func (s *script) tx(parts ...[]event) {
	t := s.src.begin()
	for _, p := range parts {
		t.events = append(t.events, p...)
	}
	s.src.commit(t, true)
	s.append(t, parts)
}

func (s *script) append(t *tx, parts [][]event) {
	for i, p := range parts {
		last := i == len(parts)-1
		s.log.append(t, p, last)
	}
}

// fresh is a row with values that no other has.
func (s *script) fresh() srcRow {
	s.serial++
	return srcRow{meta: 100 + s.serial, body: 1000 + s.serial, v: 2000 + s.serial}
}

func (s *script) insert(k int) event {
	return event{op: vecferry.OpInsert, key: keyName(k), row: s.fresh()}
}

// scalar is an update that sends neither body nor vector.
func (s *script) scalar(k int) event {
	r := s.fresh()
	r.body, r.v = -1, -1
	return event{op: vecferry.OpUpdate, key: keyName(k), row: r}
}

// vector is an update that does not send body.
func (s *script) vector(k int) event {
	r := s.fresh()
	r.body = -1
	return event{op: vecferry.OpUpdate, key: keyName(k), row: r}
}

func (s *script) null(k int) event {
	e := s.vector(k)
	e.row.v = 0
	return e
}

// bad is a scalar update to what the target cannot hold.
func (s *script) bad(k int) event {
	e := s.scalar(k)
	e.row.meta = badMeta
	return e
}

// move is a key change that sends neither body nor vector.
func (s *script) move(from, to int) event {
	e := s.scalar(to)
	e.old = keyName(from)
	return e
}

func (s *script) gone(k int) event { return event{op: vecferry.OpDelete, key: keyName(k)} }

// mark puts a mark into the log.
func (s *script) mark(m vecferry.Mark) {
	s.tx([]event{{op: vecferry.OpMark, mark: &m}})
}

// low opens a chunk over the keys [lo, hi).
func (s *script) low(lo, hi int) uint64 {
	s.attempt++
	r := vecferry.Range{Lo: vecferry.Key(keyName(lo)), Hi: vecferry.Key(keyName(hi))}
	if lo == 0 {
		r.Lo = ""
	}
	if hi > 11 {
		r = vecferry.Range{Lo: r.Lo, ToEnd: true}
	}
	s.lowOf(r)
	return s.attempt
}

func (s *script) lowOf(ranges ...vecferry.Range) {
	s.mark(vecferry.Mark{Kind: vecferry.Low, Table: testOID, Attempt: s.attempt, Ranges: ranges, Snapshot: s.src.snapshot()})
}

// hasten lets the worker act on what the sink has in memory, persisted or not.
func (s *script) hasten() {
	s.store.before = func(value []byte) {
		cp, err := vecferry.DecodeCheckpoint(value)
		require.NoError(s.t, err)
		for attempt := range cp.Tables[testOID].Copies {
			if _, done := s.highs[attempt]; !done {
				s.fill(attempt, cp.Tables[testOID])
			}
		}
	}
}

// copy does what a worker does between LOW and HIGH, if the record holds the
// chunk, and returns the HIGH mark.
func (s *script) copy(attempt uint64) vecferry.Mark {
	st := s.store.checkpoint().Tables[testOID]
	if _, done := s.highs[attempt]; !done && st.Copies[attempt] != nil {
		s.fill(attempt, st)
	}
	if high, done := s.highs[attempt]; done {
		return high
	}
	return vecferry.Mark{Kind: vecferry.High, Table: testOID, Attempt: attempt, Snapshot: s.src.snapshot()}
}

// fill copies the rows of a chunk.
func (s *script) fill(attempt uint64, st *vecferry.TableState) {
	high := vecferry.Mark{Kind: vecferry.High, Table: testOID, Attempt: attempt, Snapshot: s.src.snapshot()}
	ranges := covered(st.Ranges, ofAttempt(attempt), vecferry.Everything())
	c := milvus.NewCollection(s.table, s.target.Backend(s.table), milvus.Config{})
	for _, r := range ranges {
		require.NoError(s.t, c.Clear(s.t.Context(), r))
	}
	var w vecferry.Write
	rows := s.src.visibleRows()
	for i := range 12 {
		k := keyName(i)
		row, there := rows[k]
		switch {
		case !there || row.v == 0 || !hasKey(ranges, vecferry.Key(k)):
		case row.meta == badMeta:
			high.Dead = append(high.Dead, vecferry.Key(k))
		default:
			w.New = append(w.New, targetRow(k, row, st.Copies[attempt].Low))
		}
	}
	_, err := c.Replace(s.t.Context(), w)
	require.NoError(s.t, err)
	s.highs[attempt] = high
}

// play is the whole story: what each phase puts into the log is one run.
func (s *script) play() {
	s.tx([]event{s.insert(1), s.insert(2), s.insert(3), s.insert(4), s.insert(5), s.insert(6), s.insert(7), s.insert(8)})
	first := s.low(0, 12)
	s.live()
	high := s.copy(first)
	s.tx([]event{s.scalar(1), s.insert(9)})
	s.mark(high)
	s.live()

	// Everything is live: all kinds of changes in one run, cut inside transactions.
	s.tx([]event{s.scalar(1), s.vector(2), s.gone(3)}, []event{s.insert(3), s.null(4), s.move(5, 10)}, []event{s.insert(5), s.scalar(10)})
	s.tx([]event{s.move(6, 11), s.move(7, 6), s.move(11, 7)}, []event{s.vector(8), s.move(8, 0), s.bad(9), s.bad(1)})
	s.tx([]event{s.scalar(1), s.vector(9), s.gone(2), s.insert(2), s.gone(2)})
	s.live()
	s.tx([]event{s.vector(4), s.scalar(0), s.bad(6)})
	s.live()
	s.tx([]event{s.bad(6), s.scalar(6), s.scalar(7), s.move(7, 8), s.insert(7)})
	s.live()

	// A part is copied again while changes go over its borders.
	s.tx([]event{s.scalar(0), s.vector(5), s.scalar(3)})
	again := s.low(3, 8)
	s.tx([]event{s.scalar(3), s.move(0, 4), s.insert(0)}, []event{s.move(5, 2), s.scalar(7)})
	s.live()
	s.tx([]event{s.scalar(7)})
	high = s.copy(again)
	s.tx([]event{s.vector(7), s.scalar(3), s.move(3, 5)}, []event{s.scalar(5), s.gone(4), s.move(2, 3), s.bad(10)})
	s.mark(high)
	s.tx([]event{s.scalar(3), s.scalar(5), s.move(8, 9)})
	s.live()

	// The table is emptied, and a live part of it copied again in the same run.
	s.tx([]event{s.scalar(3), {op: vecferry.OpTruncate}, s.insert(1), s.insert(2)}, []event{s.insert(3), s.scalar(2), s.insert(9)})
	again = s.low(2, 5)
	s.tx([]event{s.scalar(2), s.move(3, 4), s.scalar(9)})
	s.live()
	high = s.copy(again)
	s.tx([]event{s.scalar(4)})
	s.mark(high)
	s.tx([]event{s.scalar(2)})
	s.live()

	// The same with a chunk open.
	open := s.low(6, 12)
	s.live()
	high = s.copy(open)
	s.tx([]event{s.scalar(5), {op: vecferry.OpTruncate}, s.insert(1)}, []event{s.insert(8), s.scalar(8), s.insert(4), s.move(4, 7)})
	s.mark(high)
	s.tx([]event{s.scalar(1), s.scalar(7)})
	s.live()
	s.finish()
}

// finish copies what is not live until everything is.
func (s *script) finish() {
	for range 10 {
		st := s.store.checkpoint().Tables[testOID]
		todo := covered(st.Ranges, func(r vecferry.MappedRange) bool {
			return r.State == vecferry.Todo || r.State == vecferry.Copying
		}, vecferry.Everything())
		if len(todo) == 0 {
			return
		}
		s.attempt++
		s.lowOf(todo...)
		s.live()
		s.mark(s.copy(s.attempt))
		s.live()
	}
	s.wrong = append(s.wrong, "does not come to rest")
}
