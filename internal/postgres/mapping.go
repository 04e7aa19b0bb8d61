package postgres

import (
	"fmt"
	"slices"

	"github.com/vecferry/vecferry"
)

const (
	maxVarChar   = 65535 // bytes, of a field in Milvus
	enumLength   = 255   // a label has 63 bytes at most
	uuidLength   = 36
	maxFieldName = 255
)

// addColumn makes a field of a column, or says why not.
func (m *mapper) addColumn(c, key, vector *columnInfo) {
	if !m.included(c) {
		m.checkLeftOut(c)
		return
	}
	f := vecferry.Field{
		Column: c.Name, Attnum: c.Number, TypeOID: c.Type, DomainOID: c.domain(), Typmod: c.Typmod, Name: c.Name,
	}
	f.TypeName, f.Enum, _ = c.typeName()
	if rename := m.spec.Columns[c.Name].Rename; rename != "" {
		f.Name = rename
	}
	ok := false
	switch {
	case c == key:
		ok = m.keyField(&f, c)
	case c == vector:
		ok = m.vectorField(&f, c)
	case m.leaveOut(c):
	default:
		ok = m.plainField(&f, c)
	}
	if !ok || !m.checkName(&f) || !m.checkReadable(c) {
		return
	}
	m.place(f, c == key, c == vector)
}

func (m *mapper) place(f vecferry.Field, key, vector bool) {
	at := len(m.table.Fields)
	m.table.Fields = append(m.table.Fields, f)
	if key {
		m.table.Key = at
	}
	if vector {
		m.table.Vector = at
	}
	if f.Column == m.spec.PartitionKey {
		m.table.PartitionKey = at
	}
}

// leaveOut says which columns are not carried though nobody left them out.
func (m *mapper) leaveOut(c *columnInfo) bool {
	text := ""
	switch {
	case c.isVector():
		text = "left out: it is a second vector"
	case c.isOtherVector():
		text = "left out: only columns of type vector(n) are carried as vectors, this is " + c.spelled()
	case c.Generated:
		text = "left out: it is generated, so that the log of changes does not have it"
	default:
		return false
	}
	m.checkLeftOut(c)
	m.note(c.Name, text)
	return true
}

func (m *mapper) checkLeftOut(c *columnInfo) {
	if c.Name == m.spec.PartitionKey {
		m.refuse(c.Name, "the partition key is left out", "include it, or choose another with `partition_key:`")
	}
}

func (m *mapper) checkReadable(c *columnInfo) bool {
	if !c.Readable {
		m.refuse(c.Name, "this role may not read it", fmt.Sprintf("GRANT SELECT ON %s TO …", m.sql()))
	}
	return c.Readable
}

// keyType returns the kind of key that a column can be.
func keyType(c *columnInfo) (vecferry.KeyType, bool) {
	if !c.BuiltIn {
		return 0, false
	}
	switch c.TypeName {
	case "int2", "int4", "int8":
		return vecferry.KeyInt, true
	case "text", "varchar", "uuid":
		return vecferry.KeyText, true
	}
	return 0, false
}

func isText(c *columnInfo) bool {
	return c.BuiltIn && (c.TypeName == "text" || c.TypeName == "varchar")
}

// keyField makes the primary key, an Int64 or a VarChar.
func (m *mapper) keyField(f *vecferry.Field, c *columnInfo) bool {
	if c.Name == m.spec.PartitionKey {
		m.refuse(c.Name, "the key cannot be the partition key as well", "choose another with `partition_key:`")
	}
	m.table.KeyType, _ = keyType(c)
	m.table.ByteOrder = !isText(c) || c.byteOrder()
	return m.identifierField(f, c)
}

// identifierField makes a field of one of the two types that Milvus takes for
// primary and partition keys.
func (m *mapper) identifierField(f *vecferry.Field, c *columnInfo) bool {
	f.Type = vecferry.FieldVarChar
	if fam, ok := familyOf(f.TypeName, f.Enum); ok && fam.native != vecferry.FieldVarChar {
		f.Type = vecferry.FieldInt64
	}
	if wish := m.spec.Columns[c.Name].Type; wish != "" && wish != f.Type.String() {
		m.refuse(c.Name, "a key of type "+c.spelled()+" is of type "+f.Type.String()+" in the collection", "take away `type: "+wish+"`")
		return false
	}
	return m.setLength(f, c)
}

func (m *mapper) vectorField(f *vecferry.Field, c *columnInfo) bool {
	f.Type, f.Dim = vecferry.FieldVector, int(c.Typmod)
	if c.Name == m.spec.PartitionKey {
		m.refuse(c.Name, "a vector cannot be the partition key", "choose another with `partition_key:`")
	}
	if wish := m.spec.Columns[c.Name].Type; wish != "" {
		m.refuse(c.Name, "a vector has no other type", "take away `type: "+wish+"`")
		return false
	}
	return m.setLength(f, c)
}

// plainField makes a field of any other column: one of its own if the column is
// NOT NULL, else a key of the dynamic field.
func (m *mapper) plainField(f *vecferry.Field, c *columnInfo) bool {
	if c.Name == m.spec.PartitionKey {
		return m.partitionField(f, c)
	}
	if !m.setType(f, c) {
		return false
	}
	_, array := elementOf(f.TypeName)
	f.Dynamic = !c.NotNull || array && f.Type == vecferry.FieldJSON
	return m.setLength(f, c)
}

func (m *mapper) partitionField(f *vecferry.Field, c *columnInfo) bool {
	_, ok := keyType(c)
	if !ok && !f.Enum || c.Element != "" {
		m.refuse(c.Name, "a partition key cannot be of type "+c.spelled(), "choose a column of type int2, int4, int8, text, varchar, uuid or an enum with `partition_key:`")
		return false
	}
	if !c.NotNull {
		m.refuse(c.Name, "the partition key may be NULL", fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", m.sql(), ident(c.Name)))
		return false
	}
	return m.identifierField(f, c)
}

// setType takes the configured type if it is exact, else the natural one.
func (m *mapper) setType(f *vecferry.Field, c *columnInfo) bool {
	native, ok := nativeType(c)
	if !ok {
		m.refuse(c.Name, "columns of type "+c.spelled()+" are not carried",
			fmt.Sprintf("leave it out: `columns: {%s: {include: false}}`", c.Name))
		return false
	}
	f.Type = native
	wish := m.spec.Columns[c.Name].Type
	if wish == "" {
		return true
	}
	wanted, ok := vecferry.ParseFieldType(wish)
	f.Type = wanted
	if _, converts := converterOf(f); !ok || !converts {
		m.refuse(c.Name, fmt.Sprintf("type %s cannot become %s exactly", c.spelled(), wish),
			"take away `type:`, or set a wider one of the same kind, or varchar")
		return false
	}
	return true
}

// nativeType is the field type that follows from a column's.
func nativeType(c *columnInfo) (vecferry.FieldType, bool) {
	name, enum, ok := c.typeName()
	if !ok {
		return 0, false
	}
	if c.Element != "" {
		_, ok := familyOf(c.Element, enum)
		return vecferry.FieldJSON, ok
	}
	fam, ok := familyOf(name, enum)
	return fam.native, ok
}

// setLength sets the most bytes of a VarChar. A key of the dynamic field has no
// limit of its own unless it is configured.
func (m *mapper) setLength(f *vecferry.Field, c *columnInfo) bool {
	wish := m.spec.Columns[c.Name].MaxLength
	if wish != 0 && (f.Type != vecferry.FieldVarChar || wish < 0 || wish > maxVarChar) {
		m.refuse(c.Name, fmt.Sprintf("`max_length: %d` is for varchar and between 1 and %d", wish, maxVarChar), "take it away or correct it")
		return false
	}
	if f.Type != vecferry.FieldVarChar {
		return true
	}
	f.MaxLength = wish
	if wish == 0 && !f.Dynamic {
		f.MaxLength = naturalLength(f)
	}
	return true
}

func naturalLength(f *vecferry.Field) int {
	switch {
	case f.Enum:
		return enumLength
	case f.TypeName == "uuid":
		return uuidLength
	case (f.TypeName == "varchar" || f.TypeName == "bpchar") && f.Typmod > 4:
		return min(4*(int(f.Typmod)-4), maxVarChar) // the modifier is 4 + n letters of up to 4 bytes
	}
	return maxVarChar
}

// checkName refuses names that Milvus refuses or keeps for itself.
func (m *mapper) checkName(f *vecferry.Field) bool {
	const fix = "give the field another name: `columns: {%s: {rename: …}}`"
	what := ""
	switch {
	case !isFieldName(f.Name):
		what = "a field cannot have the name " + f.Name + ": letters, digits and _, at most 255, no digit first"
	case slices.Contains([]string{vecferry.PositionField, "RowID", "Timestamp"}, f.Name):
		what = "the name " + f.Name + " is taken by the collection itself"
	case slices.ContainsFunc(m.table.Fields, func(o vecferry.Field) bool { return o.Name == f.Name }):
		what = "another column has the field name " + f.Name + " already"
	default:
		return true
	}
	m.refuse(f.Column, what, fmt.Sprintf(fix, f.Column))
	return false
}

func isFieldName(s string) bool {
	for i := range len(s) {
		b := s[i] | 0x20
		if s[i] != '_' && (b < 'a' || b > 'z') && (i == 0 || s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxFieldName
}
