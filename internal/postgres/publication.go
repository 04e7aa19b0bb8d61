package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/vecferry/vecferry"
)

const publishAll = "insert, update, delete, truncate"

// EnsurePublication checks that a publication carries all changes of the mapped
// columns of the tables: the four operations, no row filter, no column list
// that lacks one. With create it makes a publication that is missing and adds
// tables that are missing; everything else, and without create these too, is a
// *vecferry.HaltError with the statement to run.
//
// The publication must exist before the slot is created: the slot reads the
// catalog as it was then.
func (s *Source) EnsurePublication(ctx context.Context, name string, tables []*vecferry.Table, create bool) error {
	err := s.ensurePublication(ctx, name, tables, create)
	if sqlState(err) == stateDuplicateObject { // somebody else was faster: check theirs
		err = s.ensurePublication(ctx, name, tables, create)
	}
	return s.fail(ctx, "publication "+name, err)
}

func (s *Source) ensurePublication(ctx context.Context, name string, tables []*vecferry.Table, create bool) error {
	exists, err := s.checkOperations(ctx, name)
	if err != nil {
		return err
	}
	if !exists {
		sql := fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (publish = '%s')", ident(name), tableList(tables), publishAll)
		return s.change(ctx, sql, create, "publication "+name+" does not exist")
	}
	published, err := s.publishedTables(ctx, name)
	if err != nil {
		return err
	}
	missing, err := checkTables(name, tables, published)
	if err != nil || len(missing) == 0 {
		return err
	}
	sql := fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", ident(name), tableList(missing))
	return s.change(ctx, sql, create, fmt.Sprintf("publication %s lacks %s", name, tableList(missing)))
}

func tableList(tables []*vecferry.Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = "ONLY " + relation(t)
	}
	return strings.Join(names, ", ")
}

// change runs a statement, or asks the operator to.
func (s *Source) change(ctx context.Context, sql string, allowed bool, what string) error {
	if !allowed {
		return &vecferry.HaltError{What: what, Fix: "run: " + sql}
	}
	_, err := s.pool.Exec(ctx, sql)
	if sqlState(err) == stateInsufficientPrivilege {
		return &vecferry.HaltError{What: what, Err: err, Fix: "have the owner of the tables run: " + sql}
	}
	return err
}

// checkOperations reports whether the publication exists.
func (s *Source) checkOperations(ctx context.Context, name string) (exists bool, err error) {
	const sql = "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = $1::text"
	var all bool
	err = s.pool.QueryRow(ctx, sql, name).Scan(&all)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	case !all:
		return false, &vecferry.HaltError{
			What: "publication " + name + " leaves out some of " + publishAll,
			Fix:  fmt.Sprintf("run: ALTER PUBLICATION %s SET (publish = '%s')", ident(name), publishAll),
		}
	}
	return true, nil
}

// publishedTable is a row of pg_publication_tables.
type publishedTable struct {
	OID      uint32
	Columns  []string // nil before version 15, which has no lists
	Filtered bool
}

func (s *Source) publishedTables(ctx context.Context, name string) (map[uint32]publishedTable, error) {
	const sql = `
SELECT c.oid,
       (SELECT array_agg(x) FROM jsonb_array_elements_text(
          CASE jsonb_typeof(to_jsonb(p)->'attnames') WHEN 'array' THEN to_jsonb(p)->'attnames' END) x),
       to_jsonb(p)->>'rowfilter' IS NOT NULL
FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = $1::text`
	rows, err := s.pool.Query(ctx, sql, name)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[publishedTable])
	if err != nil {
		return nil, err
	}
	published := make(map[uint32]publishedTable, len(list))
	for _, p := range list {
		published[p.OID] = p
	}
	return published, nil
}

// checkTables returns the tables that are not published.
func checkTables(name string, tables []*vecferry.Table, published map[uint32]publishedTable) (missing []*vecferry.Table, err error) {
	var problems []error
	for _, t := range tables {
		p, ok := published[t.OID]
		if !ok {
			missing = append(missing, t)
			continue
		}
		problems = append(problems, checkPublished(name, t, p))
	}
	return missing, errors.Join(problems...)
}

func checkPublished(name string, t *vecferry.Table, p publishedTable) error {
	fix := fmt.Sprintf("run: ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE ONLY %s",
		ident(name), relation(t), ident(name), relation(t))
	if p.Filtered {
		return &vecferry.HaltError{What: fmt.Sprintf("publication %s filters the rows of %s", name, t), Fix: fix}
	}
	if p.Columns == nil {
		return nil
	}
	var lacks []string
	for i := range t.Fields {
		if c := t.Fields[i].Column; !slices.Contains(p.Columns, c) {
			lacks = append(lacks, c)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return &vecferry.HaltError{
		What: fmt.Sprintf("publication %s leaves out columns of %s: %s", name, t, strings.Join(lacks, ", ")), Fix: fix,
	}
}

// DropPublication removes a publication; one that is missing is no error.
func (s *Source) DropPublication(ctx context.Context, name string) error {
	_, err := s.pool.Exec(ctx, "DROP PUBLICATION IF EXISTS "+ident(name))
	return s.fail(ctx, "drop publication "+name, err)
}
