package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// relationInfo is what pg_class says of a table.
type relationInfo struct {
	OID         uint32
	Kind        string // relkind
	Persistence string
	Identity    string // relreplident
	RowSecurity bool   // policies apply to us
	Children    bool   // by inheritance
	Encoding    string // of the database
}

// columnInfo is what pg_attribute and pg_type say of a column.
type columnInfo struct {
	Number    int16
	Name      string
	NotNull   bool
	Generated bool
	Readable  bool
	Declared  uint32 // its type, perhaps a domain
	Type      uint32 // after domains were resolved
	BuiltIn   bool   // that type is in pg_catalog
	TypeName  string
	Kind      string // typtype
	Typmod    int32
	PGVector  bool // the type belongs to extension vector

	Element        string // of an array
	ElementBuiltIn bool
	ElementKind    string

	Deterministic bool
	Provider      string // of the collation
	Locale        string
}

// indexInfo is one index that could identify rows, or serve ranges of keys.
type indexInfo struct {
	Primary  bool
	Identity bool // replica identity
	Unique   bool // and complete: valid, immediate, no expression, no predicate
	Columns  []int16
	Pattern  bool // its first column is ordered by bytes: text_pattern_ops
}

const relationSQL = `
SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relreplident::text, row_security_active(c.oid),
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid), current_setting('server_encoding')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1::text AND c.relname = $2::text`

// columnsSQL resolves domains, and collations down to their provider and
// locale, whose columns have other names in each version. A NOT NULL that was
// not validated (18) does not count.
const columnsSQL = `
WITH RECURSIVE base (num, typ, typmod) AS (
  SELECT attnum, atttypid, atttypmod FROM pg_attribute
  WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped
  UNION ALL
  SELECT b.num, d.typbasetype, CASE WHEN b.typmod = -1 THEN d.typtypmod ELSE b.typmod END
  FROM base b JOIN pg_type d ON d.oid = b.typ AND d.typtype = 'd')
SELECT a.attnum, a.attname::text,
       a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid
         AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey)),
       a.attgenerated <> '', has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       a.atttypid, t.oid, tn.nspname = 'pg_catalog', t.typname::text, t.typtype::text, b.typmod,
       EXISTS (SELECT FROM pg_depend p JOIN pg_extension x ON x.oid = p.refobjid
         WHERE p.classid = 'pg_type'::regclass AND p.objid = t.oid AND p.deptype = 'e'
           AND p.refclassid = 'pg_extension'::regclass AND x.extname = 'vector'),
       coalesce(e.typname::text, ''), coalesce(en.nspname = 'pg_catalog', false), coalesce(e.typtype::text, ''),
       coalesce(co.collisdeterministic, true), coalesce(lp.provider, ''),
       coalesce(CASE WHEN co.collprovider = 'd'
         THEN CASE lp.provider WHEN 'c' THEN db.datcollate::text
              ELSE coalesce(to_jsonb(db)->>'datlocale', to_jsonb(db)->>'daticulocale') END
         ELSE CASE lp.provider WHEN 'c' THEN co.collcollate::text
              ELSE coalesce(to_jsonb(co)->>'colllocale', to_jsonb(co)->>'colliculocale') END END, '')
FROM pg_attribute a
JOIN base b ON b.num = a.attnum
JOIN pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
JOIN pg_namespace tn ON tn.oid = t.typnamespace
JOIN pg_database db ON db.datname = current_database()
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' AND t.typlen = -1
LEFT JOIN pg_namespace en ON en.oid = e.typnamespace
LEFT JOIN pg_collation co ON co.oid = a.attcollation
LEFT JOIN LATERAL (SELECT CASE co.collprovider WHEN 'd' THEN coalesce(to_jsonb(db)->>'datlocprovider', 'c')
                          ELSE co.collprovider::text END AS provider) lp ON true
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum`

const indexesSQL = `
SELECT i.indisprimary, i.indisreplident,
       i.indisunique AND i.indimmediate AND NOT i.indisexclusion AND i.indexprs IS NULL AND i.indpred IS NULL,
       ARRAY(SELECT k.num FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (num, ord)
             WHERE k.ord <= i.indnkeyatts ORDER BY k.ord),
       i.indpred IS NULL AND EXISTS (SELECT FROM pg_opclass o JOIN pg_opfamily f ON f.oid = o.opcfamily
             WHERE o.oid = i.indclass[0] AND f.opfname = 'text_pattern_ops')
FROM pg_index i WHERE i.indrelid = $1::oid AND i.indisvalid AND i.indisready`

func (s *Source) readRelation(ctx context.Context, schema, name string) (relationInfo, error) {
	rows, err := s.pool.Query(ctx, relationSQL, schema, name)
	if err != nil {
		return relationInfo{}, err
	}
	rel, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[relationInfo])
	if errors.Is(err, pgx.ErrNoRows) {
		return rel, &MappingError{Table: schema + "." + name, What: "there is no such table",
			Fix: "check `source:`; names in capital letters need quotes"}
	}
	return rel, err
}

func (s *Source) readColumns(ctx context.Context, table uint32) ([]columnInfo, error) {
	rows, err := s.pool.Query(ctx, columnsSQL, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[columnInfo])
}

func (s *Source) readIndexes(ctx context.Context, table uint32) ([]indexInfo, error) {
	rows, err := s.pool.Query(ctx, indexesSQL, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[indexInfo])
}

// typeName returns the name by which familyOf and elementOf know the type, or
// false for a type that only happens to have such a name.
func (c *columnInfo) typeName() (name string, enum, ok bool) {
	switch {
	case c.Element != "":
		return "_" + c.Element, c.ElementKind == "e", c.ElementBuiltIn || c.ElementKind == "e"
	case c.Kind == "e":
		return c.TypeName, true, true
	}
	return c.TypeName, false, c.BuiltIn || c.PGVector
}

// isVector reports whether the column is of pgvector's type vector.
func (c *columnInfo) isVector() bool { return c.PGVector && c.TypeName == "vector" }

// isOtherVector reports whether the column is a vector of another kind.
func (c *columnInfo) isOtherVector() bool {
	return c.PGVector && slices.Contains([]string{"halfvec", "sparsevec"}, c.TypeName) ||
		c.BuiltIn && c.TypeName == "bit"
}

// domain returns the OID of the domain that the column is declared with, or 0.
func (c *columnInfo) domain() uint32 {
	if c.Declared != c.Type {
		return c.Declared
	}
	return 0
}

// byteOrder reports whether the column's collation compares bytes.
func (c *columnInfo) byteOrder() bool {
	switch c.Provider {
	case "c":
		return c.Locale == "C" || c.Locale == "POSIX"
	case "b": // all of the built-in provider's do (manual, "Locale Providers")
		return slices.Contains([]string{"C", "C.UTF-8", "PG_UNICODE_FAST"}, c.Locale)
	}
	return false
}

// spelled names the type for a person.
func (c *columnInfo) spelled() string {
	if c.Element != "" {
		return c.Element + "[]"
	}
	if c.TypeName == "vector" && c.Typmod > 0 {
		return fmt.Sprintf("vector(%d)", c.Typmod)
	}
	return c.TypeName
}
