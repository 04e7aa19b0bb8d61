package postgres

import (
	"errors"
	"fmt"

	"github.com/vecferry/vecferry"
)

// A Decoder turns tuples of one version of a table into rows. It keeps a
// scratch buffer: one goroutine uses it at a time.
type Decoder struct {
	table   *vecferry.Table
	plan    []column // one for each field
	keyText family   // of a KeyText
	width   int      // columns of a tuple
	scratch []vecferry.Column
}

// column is where a field comes from.
type column struct {
	source  int
	convert converter
}

// NewDecoder binds a mapped table to the columns of its tuples, which are those
// of a Relation, or of a SELECT list. They are matched by name. A mapped column
// that is missing or has another type or dimension is a *vecferry.HaltError.
func NewDecoder(t *vecferry.Table, columns []vecferry.RelationColumn) (*Decoder, error) {
	byName := make(map[string]int, len(columns))
	for i, c := range columns {
		byName[c.Name] = i
	}
	d := &Decoder{table: t, width: len(columns), plan: make([]column, len(t.Fields))}
	d.keyText, _ = familyOf(t.KeyField().TypeName, false) // converterOf fails below if there is none
	for i := range t.Fields {
		f := &t.Fields[i]
		at, ok := byName[f.Column]
		if !ok {
			return nil, changed(t, f, "is gone: it was dropped or renamed")
		}
		if err := checkColumn(t, f, columns[at]); err != nil {
			return nil, err
		}
		convert, ok := converterOf(f)
		if !ok {
			return nil, fmt.Errorf("table %s, column %s: no conversion from %s to %s", t, f.Column, f.TypeName, f.Type)
		}
		d.plan[i] = column{source: at, convert: convert}
	}
	return d, nil
}

func checkColumn(t *vecferry.Table, f *vecferry.Field, c vecferry.RelationColumn) error {
	declared := f.TypeOID
	if f.DomainOID != 0 {
		declared = f.DomainOID
	}
	if c.Type != declared {
		return changed(t, f, fmt.Sprintf("has another type than %s", f.TypeName))
	}
	// A vector's modifier is its dimension; a domain keeps it to itself.
	if f.Type == vecferry.FieldVector && f.DomainOID == 0 && int(c.Typmod) != f.Dim {
		return changed(t, f, fmt.Sprintf("has dimension %d instead of %d", c.Typmod, f.Dim))
	}
	return nil
}

// changed says that the table is no longer what was mapped.
func changed(t *vecferry.Table, f *vecferry.Field, what string) error {
	return &vecferry.HaltError{
		What: fmt.Sprintf("table %s: the mapped column %s %s", t, f.Column, what),
		Fix:  "undo the change, or adapt the mapping and copy the table into a new collection",
	}
}

// Row decodes a new tuple: Values in the order of the table's fields, absent
// where the tuple has no value because it did not change. A NULL vector is a
// NULL value; the caller decides. The error is a *vecferry.RowError if the row
// cannot be carried, wraps ErrNoKey if the tuple has no key, and wraps
// vecferry.ErrCorrupt if the bytes are not what they should be.
func (d *Decoder) Row(tuple vecferry.Tuple, pos vecferry.Position) (vecferry.Row, error) {
	if err := d.split(tuple); err != nil {
		return vecferry.Row{}, err
	}
	return d.row(d.scratch, pos)
}

// Key returns the key of an old or new tuple. The error is as for Row.
func (d *Decoder) Key(tuple vecferry.Tuple) (vecferry.Key, error) {
	if err := d.split(tuple); err != nil {
		return "", err
	}
	return d.key(d.scratch)
}

func (d *Decoder) split(tuple vecferry.Tuple) error {
	cols, err := tuple.Columns(d.scratch)
	d.scratch = cols
	if err != nil {
		return fmt.Errorf("table %s: %w", d.table, err)
	}
	if len(cols) != d.width {
		return corruptf("table %s: tuple of %d columns, its relation has %d", d.table, len(cols), d.width)
	}
	return nil
}

func (d *Decoder) row(cols []vecferry.Column, pos vecferry.Position) (vecferry.Row, error) {
	key, err := d.key(cols)
	if err != nil {
		return vecferry.Row{}, err
	}
	row := vecferry.Row{Key: key, Position: pos, Values: make([]vecferry.Value, len(d.plan))}
	for i := range d.plan {
		if row.Values[i], err = d.value(i, cols); err != nil {
			return vecferry.Row{Key: key, Position: pos}, d.rowError(key, i, err)
		}
	}
	return row, nil
}

func (d *Decoder) value(i int, cols []vecferry.Column) (vecferry.Value, error) {
	c := cols[d.plan[i].source]
	switch c.Kind {
	case vecferry.ColumnAbsent:
		return vecferry.Value{}, nil
	case vecferry.ColumnNull:
		if !d.table.Fields[i].Dynamic && i != d.table.Vector {
			return vecferry.Value{}, valueError("NULL in a column that was NOT NULL when it was mapped")
		}
		return vecferry.NullValue(), nil
	case vecferry.ColumnText, vecferry.ColumnBinary:
		return d.plan[i].convert(c)
	}
	return vecferry.Value{}, corruptf("column of unknown kind %q", c.Kind)
}

// rowError gives a value's error its row, or names the column of a corrupt one.
func (d *Decoder) rowError(key vecferry.Key, i int, err error) error {
	name := d.table.Fields[i].Column
	if reason, ok := errors.AsType[valueError](err); ok {
		return d.table.RowError(key, name, string(reason))
	}
	return fmt.Errorf("table %s, column %s: %w", d.table, name, err)
}

func (d *Decoder) key(cols []vecferry.Column) (vecferry.Key, error) {
	c := cols[d.plan[d.table.Key].source]
	if c.Kind != vecferry.ColumnText && c.Kind != vecferry.ColumnBinary {
		return "", fmt.Errorf("table %s, column %s: %w", d.table, d.table.KeyField().Column, ErrNoKey)
	}
	if d.table.KeyType == vecferry.KeyInt {
		v, err := toInt(c)
		return vecferry.IntKey(v.Int()), err
	}
	out, err := d.keyText.bytes(c)
	if err != nil {
		return "", fmt.Errorf("table %s: key: %w", d.table, err)
	}
	return vecferry.Key(out), nil
}
