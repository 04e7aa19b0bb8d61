// Package memory is a model of Milvus in memory, exact in what a sink has to know and
// without network, goroutines or a clock of its own, for tests that need many runs or
// faults on demand.
//
// It promises what was measured on a real server, and the suite in package conformance
// holds both to it:
//
//   - Insert never looks at the key. A key that is inserted twice makes two entities.
//   - Every request has a timestamp of its own. A delete removes the entities of its
//     keys that are older than itself, not one of the same timestamp.
//   - A query shows one entity of a duplicated key: the oldest.
//   - Count counts duplicates.
//   - A request that was acknowledged is seen by every later one.
//
// It is a [milvus.Backend], so that the very code that talks to a server runs over it:
// retries, bisection and the redo of what is in doubt.
//
// # Faults
//
// A Hook decides for each request whether it fails and whether it is carried out all
// the same: at once, which is a lost reply; in part, which a server with shards does;
// or later, which a server does that was frozen.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/sink/milvus"
)

// Method names a request.
type Method string

// The requests.
const (
	Insert Method = "Insert"
	Delete Method = "Delete"
	Query  Method = "Query"
	Count  Method = "Count"
)

// Call is a request before it is carried out.
type Call struct {
	Number     int // of the call on this server, from 1
	Method     Method
	Collection string
	Selection  milvus.Selection // of all but Insert
	Rows       []vecferry.Row   // of Insert
}

// Outcome is what happens to a call. The zero value is success.
type Outcome struct {
	Err    error // what the caller gets; nil is success
	Lands  bool  // with Err: the request is carried out all the same
	Rows   int   // with Lands: only so many rows of an insert, 0 for all
	Behind int   // with Lands: only before the Behind-th call after this one
}

// Hook decides the outcome of a call. It is called under the server's lock, so it must
// not use the server.
type Hook func(Call) Outcome

// Entity is one stored entity.
type Entity struct {
	Row       vecferry.Row
	Timestamp uint64
}

// Server is the model. It is safe for concurrent use.
type Server struct {
	mu          sync.Mutex
	clock       uint64
	calls       int
	hook        Hook
	collections map[string][]Entity
	late        []landing
}

// landing is a request that is carried out later.
type landing struct {
	before int // the number of the call
	do     func()
}

// New returns a server without collections.
func New() *Server { return &Server{collections: make(map[string][]Entity)} }

// Fast is a pace for tests that run in real time.
func Fast() milvus.Pace {
	const unit = 50 * time.Microsecond
	return milvus.Pace{First: unit, Max: 4 * unit, Slow: unit, SlowMax: 4 * unit, Settle: 2 * unit, NotLoaded: time.Second}
}

// OnCall sets the hook, or removes it with nil.
func (s *Server) OnCall(h Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = h
}

// Prepare creates the collection of a table if it is missing.
func (s *Server) Prepare(_ context.Context, t *vecferry.Table) (milvus.Prepared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entities, there := s.collections[t.Collection]
	if !there {
		s.collections[t.Collection] = []Entity{}
	}
	return milvus.Prepared{Created: !there, Entities: int64(len(entities))}, nil
}

// Drop deletes a collection.
func (s *Server) Drop(_ context.Context, collection string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.collections, collection)
	return nil
}

// Collection returns the collection of a table that was prepared.
func (s *Server) Collection(t *vecferry.Table, cfg milvus.Config) *milvus.Collection {
	return milvus.NewCollection(t, s.Backend(t), cfg)
}

// Backend returns the single requests on the collection of a table.
func (s *Server) Backend(t *vecferry.Table) milvus.Backend {
	return &backend{server: s, name: t.Collection}
}

// Entities returns everything in a collection, duplicates too, by key and age. What
// has not landed yet is not in it.
func (s *Server) Entities(collection string) []Entity {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.collections[collection])
	slices.SortFunc(out, func(a, b Entity) int {
		return cmp.Or(cmp.Compare(a.Row.Key, b.Row.Key), cmp.Compare(a.Timestamp, b.Timestamp))
	})
	return out
}

// Land carries out everything that is late.
func (s *Server) Land() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.land(int(^uint(0) >> 1))
}

// land carries out what is due before a call.
func (s *Server) land(call int) {
	due := s.late
	s.late = nil
	for _, l := range due {
		if l.before > call {
			s.late = append(s.late, l)
			continue
		}
		l.do()
	}
}

// call runs one request through the hook.
func (s *Server) call(ctx context.Context, c Call, do func(rows int)) error {
	if err := ctx.Err(); err != nil {
		return &milvus.Error{RPC: "Canceled", Method: string(c.Method), Reason: err.Error(), Class: milvus.Retry}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	c.Number = s.calls
	s.land(c.Number)
	if _, there := s.collections[c.Collection]; !there {
		return &milvus.Error{
			Code: 100, Method: string(c.Method), Class: milvus.Halt,
			Reason: fmt.Sprintf("collection not found[collection=%s]", c.Collection),
		}
	}
	var out Outcome
	if s.hook != nil {
		out = s.hook(c)
	}
	rows := len(c.Rows)
	if out.Rows > 0 {
		rows = min(rows, out.Rows)
	}
	switch {
	case out.Err == nil:
		do(len(c.Rows))
	case out.Lands && out.Behind > 0:
		s.late = append(s.late, landing{before: c.Number + out.Behind, do: func() { do(rows) }})
	case out.Lands:
		do(rows)
	}
	return out.Err
}

// backend is one collection.
type backend struct {
	server *Server
	name   string
}

// Insert implements milvus.Backend.
func (b *backend) Insert(ctx context.Context, rows []vecferry.Row) error {
	s := b.server
	return s.call(ctx, Call{Method: Insert, Collection: b.name, Rows: rows}, func(n int) {
		s.clock++
		for _, r := range rows[:n] {
			r.Values = slices.Clone(r.Values)
			s.collections[b.name] = append(s.collections[b.name], Entity{Row: r, Timestamp: s.clock})
		}
	})
}

// Delete implements milvus.Backend.
func (b *backend) Delete(ctx context.Context, sel milvus.Selection) error {
	s := b.server
	has := selects(sel)
	return s.call(ctx, Call{Method: Delete, Collection: b.name, Selection: sel}, func(int) {
		s.clock++
		s.collections[b.name] = slices.DeleteFunc(s.collections[b.name], func(e Entity) bool {
			return e.Timestamp < s.clock && has(e.Row.Key)
		})
	})
}

// Query implements milvus.Backend.
func (b *backend) Query(ctx context.Context, q milvus.Query) ([]vecferry.Row, error) {
	oldest := map[vecferry.Key]vecferry.Row{}
	has := selects(q.Selection)
	err := b.server.call(ctx, Call{Method: Query, Collection: b.name, Selection: q.Selection}, func(int) {
		for _, e := range b.server.collections[b.name] { // in the order of their timestamps
			if _, there := oldest[e.Row.Key]; !there && has(e.Row.Key) {
				oldest[e.Row.Key] = e.Row
			}
		}
	})
	if err != nil {
		return nil, err
	}
	rows := make([]vecferry.Row, 0, len(oldest))
	for _, r := range oldest {
		if q.KeysOnly {
			r = vecferry.Row{Key: r.Key}
		}
		r.Values = slices.Clone(r.Values)
		rows = append(rows, r)
	}
	if q.Limit > 0 && q.Limit < len(rows) {
		slices.SortFunc(rows, func(a, b vecferry.Row) int { return cmp.Compare(a.Key, b.Key) })
		rows = rows[:q.Limit]
	}
	return rows, nil
}

// Count implements milvus.Backend.
func (b *backend) Count(ctx context.Context, sel milvus.Selection) (int64, error) {
	var n int64
	has := selects(sel)
	err := b.server.call(ctx, Call{Method: Count, Collection: b.name, Selection: sel}, func(int) {
		for _, e := range b.server.collections[b.name] {
			if has(e.Row.Key) {
				n++
			}
		}
	})
	return n, err
}

// selects returns the test for a selection.
func selects(sel milvus.Selection) func(vecferry.Key) bool {
	if sel.Keys == nil {
		return sel.Range.Has
	}
	keys := make(map[vecferry.Key]struct{}, len(sel.Keys))
	for _, k := range sel.Keys {
		keys[k] = struct{}{}
	}
	return func(k vecferry.Key) bool {
		_, there := keys[k]
		return there
	}
}
