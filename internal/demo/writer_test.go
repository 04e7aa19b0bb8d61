package demo

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// write lets a writer work until so many transactions were done or undone.
func write(t *testing.T, w *Writer, transactions int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	require.Eventually(t, func() bool { n := w.Work(); return n.Transactions+n.RolledBack >= transactions }, time.Minute, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

func TestWriterCountsWhatItCommitted(t *testing.T) {
	t.Parallel()
	db, dsn, docs := newTable(t, 300)
	before := one[string](t, db, "select md5(string_agg(id || title, ',' order by id)) from documents")
	w := NewWriter(WriterOptions{DSN: dsn, Docs: docs, Seed: 7, Pause: time.Millisecond})
	require.Zero(t, w.Work())
	write(t, w, 120)
	first := w.Work()
	for what, n := range map[string]int64{"transactions": first.Transactions, "rolled back": first.RolledBack, "inserts": first.Inserts,
		"updates": first.Updates, "embeddings": first.Embeddings, "deletes": first.Deletes, "rekeys": first.Rekeys} {
		require.Positive(t, n, what)
	}
	require.Equal(t, first.Changes(), first.Inserts+first.Updates+first.Embeddings+first.Deletes+first.Rekeys)
	require.Positive(t, first.Slowest)
	require.Equal(t, 300+first.Inserts-first.Deletes, one[int64](t, db, "select count(*) from documents"))
	require.NotEqual(t, before, one[string](t, db, "select md5(string_agg(id || title, ',' order by id)) from documents"))
	require.Zero(t, one[int64](t, db, "select count(*) from documents where embedding is null"))

	write(t, w, first.Transactions+first.RolledBack+20)
	second := w.Work()
	require.GreaterOrEqual(t, second.Since(first).Transactions+second.Since(first).RolledBack, int64(20))
	require.Equal(t, 300+second.Inserts-second.Deletes, one[int64](t, db, "select count(*) from documents"), "it may run again")
}

// A scalar update must not carry the vector: the case in which Postgres leaves it out.
func TestWriterUpdatesLeaveTheVectorAlone(t *testing.T) {
	t.Parallel()
	db, dsn, docs := newTable(t, 5)
	w := NewWriter(WriterOptions{DSN: dsn, Docs: docs, Seed: 1})
	vectors := one[string](t, db, "select md5(string_agg(embedding::text, ',' order by id)) from documents")
	others := "select md5(string_agg(documents::text, ',' order by id)) from (select id, title, metadata, has_todo, has_fixme from documents) as documents"
	for range 12 { // each of three ways
		before := one[string](t, db, others)
		tx, err := db.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, w.update(t.Context(), tx, 1))
		require.NoError(t, tx.Commit(t.Context()))
		require.NotEqual(t, before, one[string](t, db, others))
	}
	require.Equal(t, vectors, one[string](t, db, "select md5(string_agg(embedding::text, ',' order by id)) from documents"))
}

func TestWriterFillsAnEmptyTable(t *testing.T) {
	t.Parallel()
	db, dsn, docs := newTable(t, 3)
	_, err := db.Exec(t.Context(), "delete from documents")
	require.NoError(t, err)
	w := NewWriter(WriterOptions{DSN: dsn, Docs: docs, Pause: time.Microsecond})
	write(t, w, 10)
	n := w.Work()
	require.Equal(t, n.Inserts-n.Deletes, one[int64](t, db, "select count(*) from documents"))
}

func TestWriterReturnsTheFirstError(t *testing.T) {
	t.Parallel()
	db, dsn, docs := newTable(t, 3)
	_, err := db.Exec(t.Context(), "alter table documents add check (title is null) not valid")
	require.NoError(t, err)
	w := NewWriter(WriterOptions{DSN: dsn, Docs: docs, Seed: 3, Pause: time.Microsecond})
	require.ErrorContains(t, w.Run(t.Context()), "check constraint")
	_, err = db.Exec(t.Context(), "drop table documents")
	require.NoError(t, err)
	require.ErrorContains(t, w.Run(t.Context()), "documents")
}

func TestWriterThatIsStoppedBeforeItStarts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := NewWriter(WriterOptions{DSN: "postgres://127.0.0.1:1/none"})
	require.NoError(t, w.Run(ctx))
	require.Zero(t, w.Work())
}

func TestWorkSince(t *testing.T) {
	t.Parallel()
	a := Work{Transactions: 1, RolledBack: 2, Inserts: 3, Updates: 4, Embeddings: 5, Deletes: 6, Rekeys: 7, Slowest: time.Second}
	b := Work{Transactions: 10, RolledBack: 20, Inserts: 30, Updates: 40, Embeddings: 50, Deletes: 60, Rekeys: 70, Slowest: time.Minute}
	sum := a.add(b)
	require.Equal(t, Work{11, 22, 33, 44, 55, 66, 77, time.Minute}, sum)
	require.Equal(t, b, sum.Since(a))
}
