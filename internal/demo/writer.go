package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Work is what a Writer has done.
type Work struct {
	Transactions int64 // committed
	RolledBack   int64 // transactions; their changes count nowhere
	Inserts      int64
	Updates      int64 // of columns other than the vector, which Postgres then does not send
	Embeddings   int64 // new content with a new vector
	Deletes      int64
	Rekeys       int64         // changes of the primary key
	Slowest      time.Duration // transaction, from begin to the end of commit
}

// Changes is the number of rows changed.
func (w Work) Changes() int64 { return w.Inserts + w.Updates + w.Embeddings + w.Deletes + w.Rekeys }

// Since returns what was done after an earlier state. Slowest is of all time.
func (w Work) Since(earlier Work) Work {
	w.Transactions -= earlier.Transactions
	w.RolledBack -= earlier.RolledBack
	w.Inserts -= earlier.Inserts
	w.Updates -= earlier.Updates
	w.Embeddings -= earlier.Embeddings
	w.Deletes -= earlier.Deletes
	w.Rekeys -= earlier.Rekeys
	return w
}

// add returns the sum of two.
func (w Work) add(o Work) Work {
	sum := w.Since(Work{
		Transactions: -o.Transactions, RolledBack: -o.RolledBack, Inserts: -o.Inserts, Updates: -o.Updates,
		Embeddings: -o.Embeddings, Deletes: -o.Deletes, Rekeys: -o.Rekeys,
	})
	sum.Slowest = max(w.Slowest, o.Slowest)
	return sum
}

// WriterOptions configure a Writer.
type WriterOptions struct {
	DSN   string
	Docs  []Document    // what new rows are made of; at least one
	Seed  uint64        // of the random choices
	Pause time.Duration // mean time between transactions, 40 ms if 0
}

// Writer is the application: transactions of 1 to 5 random changes, one after the
// other, some of them rolled back. Work may be called at any time; Run by one
// goroutine at a time, which owns everything else.
type Writer struct {
	o WriterOptions
	r *rand.Rand
	n int // of the texts made so far, which are all different

	mu   sync.Mutex
	done Work
}

// NewWriter returns a Writer that has done nothing yet.
func NewWriter(o WriterOptions) *Writer {
	if o.Pause == 0 {
		o.Pause = 40 * time.Millisecond
	}
	return &Writer{o: o, r: rand.New(rand.NewPCG(o.Seed, 0))}
}

// Work returns what was committed so far.
func (w *Writer) Work() Work {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

func (w *Writer) note(what Work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = w.done.add(what)
}

// lastTransaction bounds a transaction that goes on after Run was told to stop.
const lastTransaction = 30 * time.Second

// Run writes until ctx ends, finishes the transaction at hand, and returns nil; or
// it returns the first error. It may be called again. It changes the rows that it
// finds in the table when it starts and its own.
func (w *Writer) Run(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	work := context.WithoutCancel(ctx)
	s, err := w.open(work)
	if err != nil {
		return err
	}
	defer func() { _ = s.conn.Close(work) }()
	for w.think(ctx) {
		if err := s.transaction(work); err != nil {
			return fmt.Errorf("demo: writer: %w", err)
		}
	}
	return nil
}

// open connects and learns which rows there are.
func (w *Writer) open(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, lastTransaction)
	defer cancel()
	conn, err := Connect(ctx, w.o.DSN)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, "select id from "+TableName)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("demo: writer: %w", err), conn.Close(ctx))
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, errors.Join(fmt.Errorf("demo: writer: %w", err), conn.Close(ctx))
	}
	return &session{w: w, conn: conn, ids: ids}, nil
}

// think waits up to twice the pause; false means that ctx ended.
func (w *Writer) think(ctx context.Context) bool {
	t := time.NewTimer(time.Duration(w.r.Int64N(int64(2*w.o.Pause) + 1)))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// session is one connection of a Writer. A row that a transaction changes is taken
// out of ids until that has ended, so that each is changed once in it.
type session struct {
	w    *Writer
	conn *pgx.Conn
	ids  []int64
}

// rollbacks is how often a transaction is rolled back: one in so many.
const rollbacks = 16

// errRollback makes pgx roll a transaction back.
var errRollback = errors.New("rolled back on purpose")

// attempt is a transaction that may still be rolled back.
type attempt struct {
	pgx.Tx
	took []int64 // rows that it found
	left []int64 // rows that it leaves
	done Work
}

func (s *session) transaction(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lastTransaction)
	defer cancel()
	var a attempt
	start := time.Now()
	err := pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		a.Tx = tx
		for range 1 + s.w.r.IntN(5) {
			if err := s.change(ctx, &a); err != nil {
				return err
			}
		}
		if s.w.r.IntN(rollbacks) == 0 {
			return errRollback
		}
		return nil
	})
	if errors.Is(err, errRollback) {
		s.ids = append(s.ids, a.took...)
		s.w.note(Work{RolledBack: 1})
		return nil
	}
	if err != nil {
		return err
	}
	s.ids = append(s.ids, a.left...)
	a.done.Transactions, a.done.Slowest = 1, time.Since(start)
	s.w.note(a.done)
	return nil
}

// change makes one random change of a random row: of a hundred 30 insert, 38 update
// other columns, 15 embed anew, 10 delete, 7 change the key.
func (s *session) change(ctx context.Context, a *attempt) (err error) {
	kind := s.w.r.IntN(100)
	if kind < 30 || len(s.ids) == 0 {
		var id int64
		err = a.QueryRow(ctx, insertSQL, s.w.document().values()...).Scan(&id)
		a.left = append(a.left, id)
		a.done.Inserts++
		return err
	}
	id := s.take()
	a.took = append(a.took, id)
	switch {
	case kind < 68:
		err = s.w.update(ctx, a, id)
		a.done.Updates++
	case kind < 83:
		d := s.w.document()
		_, err = a.Exec(ctx, embedSQL, id, d.Title, d.Content, wire(Embed(d.Text())))
		a.done.Embeddings++
	case kind < 93:
		_, err = a.Exec(ctx, "delete from documents where id = $1", id)
		a.done.Deletes++
		return err
	default:
		err = a.QueryRow(ctx, "update documents set id = nextval('documents_id_seq') where id = $1 returning id", id).Scan(&id)
		a.done.Rekeys++
	}
	a.left = append(a.left, id)
	return err
}

// take removes a random id and returns it.
func (s *session) take() int64 {
	i, last := s.w.r.IntN(len(s.ids)), len(s.ids)-1
	id := s.ids[i]
	s.ids[i] = s.ids[last]
	s.ids = s.ids[:last]
	return id
}

// document returns a document with a text of its own.
func (w *Writer) document() Document {
	w.n++
	d := w.o.Docs[w.r.IntN(len(w.o.Docs))]
	d.Content = fmt.Sprintf("%s\n\nRevision %d.", d.Content, w.n)
	d.UpdatedAt = time.Now()
	return d
}

// update changes columns but not the vector.
func (w *Writer) update(ctx context.Context, tx pgx.Tx, id int64) (err error) {
	const set = "update documents set updated_at = now(), "
	switch w.r.IntN(3) {
	case 0:
		_, err = tx.Exec(ctx, set+"has_todo = not has_todo, has_fixme = not has_fixme where id = $1", id)
	case 1:
		_, err = tx.Exec(ctx, set+"metadata = jsonb_set(coalesce(metadata, '{}'), '{views}', to_jsonb($2::int)) where id = $1", id, w.r.IntN(1000))
	case 2:
		_, err = tx.Exec(ctx, set+"title = regexp_replace(title, ' \\(.*\\)$', '') || $2 where id = $1", id, fmt.Sprintf(" (read %d times)", w.r.IntN(1000)))
	}
	return err
}

// insertSQL takes Document.values and returns the key.
const insertSQL = `insert into documents (workspace_id, title, content, has_deprecated, has_fixme, has_todo, has_security,
  metadata, updated_at, embedding) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning id`

const embedSQL = `update documents set title = $2, content = $3, embedding = $4, updated_at = now() where id = $1`
