package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vecferry/vecferry"
)

const (
	firstWait    = 2 * time.Millisecond // between two looks for a visible snapshot
	longestWait  = time.Second
	rollbackTime = 5 * time.Second
)

// ChunkRequest says what to read.
type ChunkRequest struct {
	Table    *vecferry.Table
	Ranges   []vecferry.Range
	Need     []vecferry.XID    // transactions that the snapshot must see
	Position vecferry.Position // of the rows
	Filenode uint32            // the table's file, 0 if it does not matter
	// Waiting, if set, is called with each snapshot that does not see Need yet.
	Waiting func(snapshot string)
}

// Chunk is what a range of keys held at one moment.
type Chunk struct {
	Snapshot string // pg_current_snapshot() that it was read with
	Filenode uint32
	Rows     []vecferry.Row // complete, with a vector
	Dead     []DeadRow
	Nulls    int64 // rows left out because their vector is NULL
	Bytes    int64 // that COPY sent
}

// DeadRow is a row that the target cannot hold.
type DeadRow struct {
	Key vecferry.Key
	Err *vecferry.RowError
}

// ReadChunk reads ranges of keys in one short read-only transaction and one
// snapshot. It waits, as long as ctx allows, until a snapshot sees all of Need.
// What it returns is durable: no crash of the server takes it back.
//
// The error is ErrRewritten if the table has another file than Filenode, and a
// *vecferry.HaltError if it is no longer what was mapped or may not be read.
func (s *Source) ReadChunk(ctx context.Context, req ChunkRequest) (*Chunk, error) {
	op := "copy from " + req.Table.String()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, s.fail(ctx, op, err)
	}
	defer conn.Release()
	wait := firstWait
	for {
		chunk, err := readChunk(ctx, conn.Conn(), req)
		if err != nil {
			return nil, s.fail(ctx, op, tableError(req.Table, err))
		}
		if chunk.Rows != nil {
			return chunk, nil
		}
		if req.Waiting != nil {
			req.Waiting(chunk.Snapshot)
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, fmt.Errorf("%s: snapshot %s does not see all needed transactions: %w", op, chunk.Snapshot, err)
		}
		wait = min(2*wait, longestWait)
	}
}

// readChunk makes one attempt. Rows are nil, not empty, if the snapshot does
// not see what it must.
func readChunk(ctx context.Context, conn *pgx.Conn, req ChunkRequest) (_ *Chunk, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer rollback(ctx, tx)
	// The lock takes no snapshot; it keeps TRUNCATE and rewrites out until the
	// end, which are not safe for a snapshot older than they are.
	if _, err := tx.Exec(ctx, "LOCK TABLE ONLY "+relation(req.Table)+" IN ACCESS SHARE MODE"); err != nil {
		return nil, err
	}
	chunk, err := beginChunk(ctx, tx, req)
	if err != nil {
		return nil, err
	}
	visible, err := vecferry.ParseVisibility(chunk.Snapshot)
	if err != nil || !visible.SeesAll(req.Need) {
		return chunk, err
	}
	if err := chunk.read(ctx, tx, req); err != nil {
		return nil, err
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, err
	}
	return chunk, harden(ctx, conn)
}

// harden makes durable whatever this session has seen. A transaction with
// synchronous_commit = off is visible before it is durable: a server that is
// killed forgets it, gives its id to another, and the chunk would hold what
// never was. The commit of a message flushes the log behind all that was
// committed before, and no id below its own is given out again. It must be this
// session, which does not outlive a crash. A standby has only seen what it had.
func harden(ctx context.Context, conn *pgx.Conn) error {
	const sql = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_logical_emit_message(true, 'vecferry', '') END"
	_, err := conn.Exec(ctx, sql)
	return err
}

// rollback ends a transaction also when the caller's context is over; after a
// commit it does nothing.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	_ = tx.Rollback(ctx) // a connection that cannot roll back is closed by the pool
}

// beginChunk takes the snapshot and checks that the locked table is ours.
func beginChunk(ctx context.Context, tx pgx.Tx, req ChunkRequest) (*Chunk, error) {
	const sql = `SELECT pg_current_snapshot()::text, coalesce(pg_relation_filenode($1::text::regclass), 0)::oid, $1::text::regclass::oid`
	chunk := &Chunk{}
	var oid uint32
	if err := tx.QueryRow(ctx, sql, relation(req.Table)).Scan(&chunk.Snapshot, &chunk.Filenode, &oid); err != nil {
		return nil, err
	}
	if oid != req.Table.OID {
		return nil, &vecferry.HaltError{
			What: fmt.Sprintf("table %s was dropped and created again (OID %d instead of %d)", req.Table, oid, req.Table.OID),
			Fix:  "copy it into a new collection",
		}
	}
	if req.Filenode != 0 && req.Filenode != chunk.Filenode {
		return nil, ErrRewritten
	}
	return chunk, nil
}

// read copies the rows.
func (c *Chunk) read(ctx context.Context, tx pgx.Tx, req ChunkRequest) error {
	condition, err := where(req.Table, req.Ranges)
	if err != nil {
		return err
	}
	decoder, err := copyDecoder(ctx, tx, req.Table)
	if err != nil {
		return err
	}
	names := make([]string, len(req.Table.Fields))
	for i := range req.Table.Fields {
		names[i] = ident(req.Table.Fields[i].Column)
	}
	sql := fmt.Sprintf("COPY (SELECT %s FROM ONLY %s WHERE %s) TO STDOUT (FORMAT binary)",
		strings.Join(names, ", "), relation(req.Table), condition)
	c.Rows = []vecferry.Row{}
	parser := &copyParser{row: func(cols []vecferry.Column) error { return c.add(decoder, cols, req.Position) }}
	if _, err := tx.Conn().PgConn().CopyTo(ctx, parser, sql); err != nil {
		return err
	}
	c.Bytes = parser.bytes
	return parser.close()
}

// add takes one row of the COPY.
func (c *Chunk) add(d *Decoder, cols []vecferry.Column, pos vecferry.Position) error {
	if len(cols) != d.width {
		return corruptf("COPY sends %d columns instead of %d", len(cols), d.width)
	}
	if cols[d.plan[d.table.Vector].source].Kind == vecferry.ColumnNull {
		c.Nulls++
		return nil
	}
	row, err := d.row(cols, pos)
	var dead *vecferry.RowError
	switch {
	case err == nil:
		c.Rows = append(c.Rows, row)
	case errors.As(err, &dead):
		c.Dead = append(c.Dead, DeadRow{Key: row.Key, Err: dead})
	default:
		return err
	}
	return nil
}

// copyDecoder binds the table to what its columns are now, in the order of its
// fields.
func copyDecoder(ctx context.Context, tx pgx.Tx, t *vecferry.Table) (*Decoder, error) {
	const sql = `SELECT attname::text, atttypid, atttypmod FROM pg_attribute
		WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped`
	rows, err := tx.Query(ctx, sql, t.OID)
	if err != nil {
		return nil, err
	}
	now := map[string]vecferry.RelationColumn{}
	var c vecferry.RelationColumn
	_, err = pgx.ForEachRow(rows, []any{&c.Name, &c.Type, &c.Typmod}, func() error {
		now[c.Name] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	columns := make([]vecferry.RelationColumn, 0, len(t.Fields))
	for i := range t.Fields {
		if c, ok := now[t.Fields[i].Column]; ok {
			columns = append(columns, c)
		}
	}
	return NewDecoder(t, columns)
}

// tableError says what a statement's failure means for a mapped table.
func tableError(t *vecferry.Table, err error) error {
	switch sqlState(err) {
	case stateUndefinedTable, stateUndefinedColumn:
		return &vecferry.HaltError{
			What: fmt.Sprintf("table %s is not what was mapped", t), Err: err,
			Fix: "it was dropped or renamed, or a column was: undo that, or adapt the configuration",
		}
	case stateInsufficientPrivilege:
		return &vecferry.HaltError{
			What: fmt.Sprintf("table %s may not be read", t), Err: err,
			Fix: fmt.Sprintf("GRANT SELECT ON %s to this role, and BYPASSRLS if the table has row-level security", relation(t)),
		}
	}
	return err
}

// Filenode returns the number of the table's file, which changes with each
// TRUNCATE and rewrite.
func (s *Source) Filenode(ctx context.Context, t *vecferry.Table) (uint32, error) {
	var node uint32
	err := s.pool.QueryRow(ctx, "SELECT coalesce(pg_relation_filenode($1::oid), 0)::oid", t.OID).Scan(&node)
	return node, s.fail(ctx, "filenode of "+t.String(), err)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
