package vecferry

import "errors"

// FieldType is the type of a field in the target.
type FieldType uint8

// The field types. What a column of the source becomes is decided by the
// mapping in internal/postgres.
const (
	FieldBool FieldType = iota + 1
	FieldInt16
	FieldInt32
	FieldInt64
	FieldFloat
	FieldDouble
	FieldVarChar
	FieldJSON
	FieldVector // dense float32
)

// String returns the name that the configuration uses.
func (t FieldType) String() string {
	names := [...]string{"", "bool", "int16", "int32", "int64", "float", "double", "varchar", "json", "vector"}
	if int(t) < len(names) {
		return names[t]
	}
	return ""
}

// ParseFieldType is the inverse of String.
func ParseFieldType(s string) (FieldType, bool) {
	for t := FieldBool; t <= FieldVector; t++ {
		if t.String() == s {
			return t, true
		}
	}
	return 0, false
}

// Field maps one column of the source to one field of the collection.
type Field struct {
	Column    string    // the column in the source
	Attnum    int16     // its attribute number, which survives a rename
	TypeOID   uint32    // its type after domains were resolved; differs per database for extensions
	DomainOID uint32    // the domain it is declared with, which a Relation shows as its type; 0 if none
	TypeName  string    // that type's name, such as "int8", "vector" or "_text"
	Typmod    int32     // type modifier, -1 if none
	Enum      bool      // an enum, sent as its label
	Name      string    // the field, or the key in the dynamic field
	Type      FieldType // the type in the collection
	MaxLength int       // of a VarChar, in bytes
	Dim       int       // of a vector, in elements
	Dynamic   bool      // kept as a key of the dynamic field, absent when NULL
}

// Index describes the vector index of a collection.
type Index struct {
	Type           string // HNSW, FLAT, IVF_FLAT, AUTOINDEX
	Metric         string // COSINE, L2, IP
	M              int    // HNSW: neighbours of a node
	EfConstruction int    // HNSW: candidates while building
}

// Table maps one table of the source to one collection.
type Table struct {
	OID          uint32
	Schema       string
	Name         string
	Collection   string
	KeyType      KeyType
	ByteOrder    bool // the key column's own order is already the byte order of Key
	Fields       []Field
	Key          int // index in Fields
	Vector       int // index in Fields
	PartitionKey int // index in Fields, -1 if none
	Partitions   int // number of partitions of a partition key
	Index        Index
	Shards       int
	BatchRows    int // rows of one insert
}

// PositionField is the field that carries a row's Position in every collection.
const PositionField = "vecferry_position"

// String returns schema.name.
func (t *Table) String() string { return t.Schema + "." + t.Name }

// KeyField returns the field of the key.
func (t *Table) KeyField() *Field { return &t.Fields[t.Key] }

// VectorField returns the field of the vector.
func (t *Table) VectorField() *Field { return &t.Fields[t.Vector] }

// RowError returns a RowError of this table.
func (t *Table) RowError(k Key, column, reason string) *RowError {
	return &RowError{Table: t.String(), Key: k.Format(t.KeyType), Column: column, Reason: reason}
}

// AsRowError returns the RowError in err, or makes one of it.
func (t *Table) AsRowError(k Key, err error) *RowError {
	if re, ok := errors.AsType[*RowError](err); ok {
		return re
	}
	return t.RowError(k, "", err.Error())
}
