package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vecferry/vecferry"
)

// where returns the condition that a row's key is in one of the ranges.
func where(t *vecferry.Table, ranges []vecferry.Range) (string, error) {
	p := predicate{table: t, column: ident(t.KeyField().Column)}
	for _, r := range ranges {
		if r.Empty() {
			continue
		}
		if err := p.add(r); err != nil {
			return "", err
		}
	}
	return p.String(), nil
}

// predicate collects the ranges of single keys in one set, which an index
// answers as one scan.
type predicate struct {
	table  *vecferry.Table
	column string
	parts  []string
	set    []string
}

func (p *predicate) add(r vecferry.Range) error {
	if k, ok := r.Single(); ok && p.isKey(k) {
		lit, err := p.literal(k)
		p.set = append(p.set, lit)
		return err
	}
	var conds []string
	if b, ok := r.Lower(p.table.KeyType); ok {
		cond, err := p.compare(">", b)
		if err != nil {
			return err
		}
		conds = append(conds, cond)
	}
	if b, ok := r.Upper(p.table.KeyType); ok {
		cond, err := p.compare("<", b)
		if err != nil {
			return err
		}
		conds = append(conds, cond)
	}
	if len(conds) == 0 {
		conds = []string{"true"}
	}
	p.parts = append(p.parts, "("+strings.Join(conds, " AND ")+")")
	return nil
}

// isKey reports whether bytes are a key of the table and not a mere boundary.
func (p *predicate) isKey(k vecferry.Key) bool {
	return p.table.KeyType != vecferry.KeyInt || len(k) == 8
}

func (p *predicate) compare(op string, b vecferry.Bound) (string, error) {
	lit, err := p.literal(b.Key)
	if err != nil {
		return "", err
	}
	if b.Inclusive {
		op += "="
	}
	if !p.table.ByteOrder { // the operators of text_pattern_ops compare bytes
		op = "~" + op + "~"
	}
	return p.column + " " + op + " " + lit, nil
}

func (p *predicate) literal(k vecferry.Key) (string, error) {
	if p.table.KeyType == vecferry.KeyInt {
		if len(k) != 8 {
			return "", fmt.Errorf("table %s: boundary %x is no integer key", p.table, string(k))
		}
		return "'" + strconv.FormatInt(k.Int(), 10) + "'::int8", nil
	}
	lit, err := literal(string(k))
	if err != nil {
		return "", fmt.Errorf("table %s: key: %w", p.table, err)
	}
	return lit + "::" + keyCast(p.table), nil
}

// keyCast is the type that literals of the key have.
func keyCast(t *vecferry.Table) string {
	switch {
	case t.KeyType == vecferry.KeyInt:
		return "int8"
	case t.KeyField().TypeName == "uuid":
		return "uuid"
	}
	return "text"
}

// String returns the condition; no range at all holds for no row.
func (p *predicate) String() string {
	parts := p.parts
	if len(p.set) > 0 {
		parts = append(slices.Clip(parts),
			fmt.Sprintf("%s = ANY (ARRAY[%s])", p.column, strings.Join(p.set, ", ")))
	}
	if len(parts) == 0 {
		return "false"
	}
	return strings.Join(parts, " OR ")
}
