package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/vecferry/vecferry"
)

// Spec says how a table is to be mapped. Schema, Name and Collection are
// required; what is empty is found.
type Spec struct {
	Schema       string
	Name         string
	Collection   string
	Key          string // column, else the primary key
	Vector       string // column, else the only vector(n)
	PartitionKey string // column, else none
	Partitions   int
	Columns      map[string]ColumnSpec // by name; others are carried as they are
	Index        vecferry.Index
	Shards       int
	BatchRows    int
}

// ColumnSpec says what becomes of one column.
type ColumnSpec struct {
	Include   *bool  // false leaves it behind; nil is true
	Rename    string // the field's name, else the column's
	Type      string // the field's type by vecferry.FieldType.String, else what follows from the column's
	MaxLength int    // of a varchar, in bytes
}

// Inspect maps a table of the source. The error holds one *MappingError for
// each thing that stands in the way (errors.Join). The notes say what is left
// out and what will be slow.
func (s *Source) Inspect(ctx context.Context, spec Spec) (*vecferry.Table, []Note, error) {
	m, err := s.newMapper(ctx, spec)
	if err != nil {
		return nil, nil, s.fail(ctx, "inspect table", err)
	}
	m.checkRelation()
	m.checkSpec()
	key, vector := m.chooseKey(), m.chooseVector()
	for i := range m.columns {
		m.addColumn(&m.columns[i], key, vector)
	}
	if len(m.problems) > 0 {
		return nil, m.notes, fmt.Errorf("inspect table: %w", errors.Join(m.problems...))
	}
	return m.table, m.notes, nil
}

// mapper collects the mapping of one table, and everything that is wrong.
type mapper struct {
	spec     Spec
	relation relationInfo
	columns  []columnInfo
	indexes  []indexInfo

	table    *vecferry.Table
	notes    []Note
	problems []error
}

func (s *Source) newMapper(ctx context.Context, spec Spec) (*mapper, error) {
	rel, err := s.readRelation(ctx, spec.Schema, spec.Name)
	if err != nil {
		return nil, err
	}
	columns, err := s.readColumns(ctx, rel.OID)
	if err != nil {
		return nil, err
	}
	indexes, err := s.readIndexes(ctx, rel.OID)
	if err != nil {
		return nil, err
	}
	table := &vecferry.Table{
		OID: rel.OID, Schema: spec.Schema, Name: spec.Name, Collection: spec.Collection,
		Key: -1, Vector: -1, PartitionKey: -1,
		Index: spec.Index, Shards: spec.Shards, BatchRows: spec.BatchRows,
	}
	if spec.PartitionKey != "" {
		table.Partitions = spec.Partitions
	}
	return &mapper{spec: spec, relation: rel, columns: columns, indexes: indexes, table: table}, nil
}

func (m *mapper) refuse(column, what, fix string) {
	m.problems = append(m.problems, &MappingError{Table: m.table.String(), Column: column, What: what, Fix: fix})
}

func (m *mapper) note(column, text string) {
	m.notes = append(m.notes, Note{Table: m.table.String(), Column: column, Text: text})
}

// checkRelation refuses what is not an ordinary table that we may read whole.
func (m *mapper) checkRelation() {
	switch {
	case m.relation.Kind == "p":
		m.refuse("", "it is a partitioned table", "carry its partitions as tables of their own, each into a collection")
	case m.relation.Kind != "r":
		m.refuse("", "it is "+kindName(m.relation.Kind)+", which has no changes to follow", "carry the table behind it")
	case m.relation.Persistence != "p":
		m.refuse("", "it is unlogged or temporary, so that its changes are not in the write-ahead log", "ALTER TABLE "+m.sql()+" SET LOGGED")
	}
	if m.relation.RowSecurity {
		m.refuse("", "row-level security hides rows from this role, but not from the write-ahead log",
			"ALTER ROLE … BYPASSRLS, or connect as the owner of the table")
	}
	if m.relation.Children {
		m.note("", "tables inherit from it; only its own rows are carried")
	}
}

func kindName(relkind string) string {
	switch relkind {
	case "v":
		return "a view"
	case "m":
		return "a materialized view"
	case "f":
		return "a foreign table"
	}
	return "no ordinary table"
}

// checkSpec refuses columns that are configured and do not exist.
func (m *mapper) checkSpec() {
	for name := range m.spec.Columns {
		if m.find(name) == nil {
			m.refuse(name, "`columns:` names it, but the table has no such column", "")
		}
	}
	if name := m.spec.PartitionKey; name != "" && m.find(name) == nil {
		m.refuse(name, "`partition_key:` names it, but the table has no such column", "")
	}
}

func (m *mapper) find(name string) *columnInfo {
	for i := range m.columns {
		if m.columns[i].Name == name {
			return &m.columns[i]
		}
	}
	return nil
}

func (m *mapper) byNumber(number int16) *columnInfo {
	for i := range m.columns {
		if m.columns[i].Number == number {
			return &m.columns[i]
		}
	}
	return nil
}

// included reports whether the configuration lets a column in.
func (m *mapper) included(c *columnInfo) bool {
	include := m.spec.Columns[c.Name].Include
	return include == nil || *include
}

// sql is the table as a statement spells it.
func (m *mapper) sql() string { return relation(m.table) }
