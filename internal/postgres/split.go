package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vecferry/vecferry"
)

// countTime bounds the count that stands in for missing statistics.
const countTime = 2 * time.Second

// Split returns the boundaries inside a range that cut it into chunks of that
// many rows each (the last may be smaller), in the byte order of keys. It reads
// the keys once and nothing else.
func (s *Source) Split(ctx context.Context, t *vecferry.Table, r vecferry.Range, rows int) ([]vecferry.Key, error) {
	if rows < 1 {
		return nil, fmt.Errorf("split %s: chunks of %d rows", t, rows)
	}
	condition, err := where(t, []vecferry.Range{r})
	if err != nil {
		return nil, err
	}
	order := ident(t.KeyField().Column)
	if !t.ByteOrder {
		order += " USING ~<~"
	}
	cast := "text"
	if t.KeyType == vecferry.KeyInt {
		cast = "int8"
	}
	sql := fmt.Sprintf(`SELECT k::%s FROM (SELECT %s AS k, row_number() OVER (ORDER BY %s) AS n FROM ONLY %s WHERE %s) x
		WHERE n > 1 AND (n - 1) %% %d = 0 ORDER BY n`,
		cast, ident(t.KeyField().Column), order, relation(t), condition, rows)
	result, err := s.pool.Query(ctx, sql)
	if err != nil {
		return nil, s.fail(ctx, "split "+t.String(), tableError(t, err))
	}
	keys, err := pgx.CollectRows(result, scanKey(t))
	return keys, s.fail(ctx, "split "+t.String(), tableError(t, err))
}

// scanKey reads the key in the first column, as int8 or text.
func scanKey(t *vecferry.Table) pgx.RowToFunc[vecferry.Key] {
	return func(row pgx.CollectableRow) (vecferry.Key, error) {
		if t.KeyType == vecferry.KeyInt {
			var v int64
			err := row.Scan(&v)
			return vecferry.IntKey(v), err
		}
		var v string
		err := row.Scan(&v)
		return vecferry.Key(v), err
	}
}

// Estimate is how large a table is.
type Estimate struct {
	Rows  int64 // with and without a vector
	Bytes int64 // of the table and its TOAST table, without indexes
	Exact bool  // Rows were counted just now
}

// Estimate returns what ANALYZE last found. A table that was never analysed is
// counted if that takes no more than two seconds, else its rows are those that
// the planner expects.
func (s *Source) Estimate(ctx context.Context, t *vecferry.Table) (Estimate, error) {
	const sql = "SELECT reltuples::int8, pg_table_size(oid) FROM pg_class WHERE oid = $1::oid"
	var e Estimate
	err := s.pool.QueryRow(ctx, sql, t.OID).Scan(&e.Rows, &e.Bytes)
	if err == nil && e.Rows < 0 {
		e.Exact = true
		e.Rows, err = s.quickCount(ctx, t)
		if sqlState(err) == stateQueryCanceled {
			e.Exact = false
			e.Rows, err = s.plannedRows(ctx, t)
		}
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = tableGone(t)
	}
	return e, s.fail(ctx, "size of "+t.String(), tableError(t, err))
}

func tableGone(t *vecferry.Table) error {
	return &vecferry.HaltError{What: fmt.Sprintf("table %s (OID %d) is gone", t, t.OID), Fix: "take it out of the configuration"}
}

func (s *Source) quickCount(ctx context.Context, t *vecferry.Table) (rows int64, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		limit := fmt.Sprintf("SET LOCAL statement_timeout = %d", countTime.Milliseconds())
		if _, err := tx.Exec(ctx, limit); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT count(*) FROM ONLY "+relation(t)).Scan(&rows)
	})
	return rows, err
}

// plannedRows is the planner's guess from the size of the table.
func (s *Source) plannedRows(ctx context.Context, t *vecferry.Table) (int64, error) {
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	err := s.pool.QueryRow(ctx, "EXPLAIN (FORMAT JSON) SELECT FROM ONLY "+relation(t)).Scan(&plans)
	if err != nil || len(plans) == 0 {
		return 0, err
	}
	return int64(math.Round(plans[0].Plan.Rows)), nil
}

// Count counts the rows that have a vector and those that have none, without
// reading any vector.
func (s *Source) Count(ctx context.Context, t *vecferry.Table) (vectors, nulls int64, err error) {
	column := ident(t.VectorField().Column)
	sql := fmt.Sprintf("SELECT count(%s), count(*) - count(%s) FROM ONLY %s", column, column, relation(t))
	err = s.pool.QueryRow(ctx, sql).Scan(&vectors, &nulls)
	return vectors, nulls, s.fail(ctx, "count "+t.String(), tableError(t, err))
}
