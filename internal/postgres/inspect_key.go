package postgres

import (
	"fmt"
	"slices"
	"strings"
)

// chooseKey returns the column that identifies rows in the collection, or nil
// after saying why there is none.
func (m *mapper) chooseKey() *columnInfo {
	key := m.configuredKey()
	if m.spec.Key == "" {
		key = m.primaryKey()
	}
	if key == nil || !m.checkKey(key) {
		return nil
	}
	m.checkIdentity(key)
	return key
}

func (m *mapper) configuredKey() *columnInfo {
	key := m.find(m.spec.Key)
	if key == nil {
		if m.spec.Key != "" {
			m.refuse(m.spec.Key, "`key:` names it, but the table has no such column", "")
		}
		return nil
	}
	unique := slices.ContainsFunc(m.indexes, func(i indexInfo) bool {
		return i.Unique && slices.Equal(i.Columns, []int16{key.Number})
	})
	if !unique {
		m.refuse(key.Name, "the key has no unique index of its own that is valid, whole and not deferrable",
			fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s)", m.sql(), ident(key.Name)))
		return nil
	}
	return key
}

func (m *mapper) primaryKey() *columnInfo {
	const fix = "set `key:` to a column that is NOT NULL and unique by itself, and make its index the replica identity: " +
		"ALTER TABLE %s REPLICA IDENTITY USING INDEX …"
	i := slices.IndexFunc(m.indexes, func(i indexInfo) bool { return i.Primary && i.Unique })
	if i < 0 {
		m.refuse("", "it has no primary key that is not deferrable", fmt.Sprintf(fix, m.sql()))
		return nil
	}
	if columns := m.indexes[i].Columns; len(columns) != 1 {
		m.refuse("", "its primary key has several columns ("+m.names(columns)+"), a collection's has one", fmt.Sprintf(fix, m.sql()))
		return nil
	}
	return m.byNumber(m.indexes[i].Columns[0])
}

func (m *mapper) names(numbers []int16) string {
	names := make([]string, len(numbers))
	for i, n := range numbers {
		if c := m.byNumber(n); c != nil {
			names[i] = c.Name
		}
	}
	return strings.Join(names, ", ")
}

// checkKey says everything that is wrong with the column as a key.
func (m *mapper) checkKey(key *columnInfo) bool {
	before := len(m.problems)
	if !key.NotNull {
		m.refuse(key.Name, "the key may be NULL", fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", m.sql(), ident(key.Name)))
	}
	if key.Generated {
		m.refuse(key.Name, "the key is generated, so that the log of changes does not have it", "choose another with `key:`")
	}
	if !m.included(key) {
		m.refuse(key.Name, "the key cannot be left out", "take away `include: false`")
	}
	if _, ok := keyType(key); !ok {
		m.refuse(key.Name, "a key cannot be of type "+key.spelled(), "choose a key of type int2, int4, int8, text, varchar or uuid with `key:`")
	}
	if isText(key) {
		m.checkTextKey(key)
	}
	return len(m.problems) == before
}

// checkTextKey refuses texts that the two stores would compare differently.
func (m *mapper) checkTextKey(key *columnInfo) {
	if !key.Deterministic {
		m.refuse(key.Name, "its collation is not deterministic: it takes different texts for the same key",
			"choose another key with `key:`")
	}
	if m.relation.Encoding != "UTF8" {
		m.refuse(key.Name, "a text key needs a database in UTF8, this one is in "+m.relation.Encoding, "choose another key with `key:`")
	}
	served := slices.ContainsFunc(m.indexes, func(i indexInfo) bool {
		return i.Pattern && len(i.Columns) > 0 && i.Columns[0] == key.Number
	})
	if !key.byteOrder() && !served {
		m.note(key.Name, fmt.Sprintf("keys are compared by their bytes, which no index serves, so that every chunk reads the whole table; "+
			"a large table needs CREATE INDEX CONCURRENTLY ON %s (%s text_pattern_ops)", m.sql(), ident(key.Name)))
	}
}

// checkIdentity refuses a table whose updates and deletes would be logged
// without the key (PostgreSQL manual, "ALTER TABLE", REPLICA IDENTITY).
func (m *mapper) checkIdentity(key *columnInfo) {
	identifies := func(i indexInfo) bool {
		return i.Unique && slices.Contains(i.Columns, key.Number) &&
			(m.relation.Identity == "d" && i.Primary || m.relation.Identity == "i" && i.Identity)
	}
	if m.relation.Identity == "f" || slices.ContainsFunc(m.indexes, identifies) {
		return
	}
	m.refuse(key.Name, "the replica identity of the table does not include the key, so that deletes would not say which row",
		fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX … with the key's unique index", m.sql()))
}

// chooseVector returns the column that becomes the vector field, or nil after
// saying why there is none.
func (m *mapper) chooseVector() *columnInfo {
	var found []*columnInfo
	var names []string
	for i := range m.columns {
		c := &m.columns[i]
		named := c.Name == m.spec.Vector
		if named && (!c.isVector() || !m.included(c)) {
			m.refuse(c.Name, "`vector:` names it, but it is left out or of type "+c.spelled()+" instead of vector(n)",
				"choose a column of type vector(n) that is included")
			return nil
		}
		if named || m.spec.Vector == "" && c.isVector() && m.included(c) {
			found, names = append(found, c), append(names, c.Name)
		}
	}
	switch {
	case len(found) == 1:
		return m.checkVector(found[0])
	case len(found) > 1:
		m.refuse("", "it has several vector columns: "+strings.Join(names, ", "), "choose one with `vector:`")
	case m.spec.Vector != "":
		m.refuse(m.spec.Vector, "`vector:` names it, but the table has no such column", "")
	default:
		m.refuse("", "it has no column of type vector(n)", "choose a table that has one, or include the column")
	}
	return nil
}

func (m *mapper) checkVector(c *columnInfo) *columnInfo {
	if c.Generated {
		m.refuse(c.Name, "the vector is generated, so that the log of changes does not have it", "choose another with `vector:`")
		return nil
	}
	if c.Typmod < 1 {
		m.refuse(c.Name, "the vector has no dimension, but a collection has one for all rows",
			fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE vector(n), which rewrites the table", m.sql(), ident(c.Name)))
		return nil
	}
	return c
}
