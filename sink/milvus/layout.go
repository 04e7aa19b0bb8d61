package milvus

import (
	"fmt"
	"strings"
	"sync"

	"github.com/vecferry/vecferry"
)

// metaField is Milvus' own name of the dynamic field.
const metaField = "$meta"

// layout is what the requests for a table need to know, worked out once.
type layout struct {
	table   *vecferry.Table
	typed   []int // indexes of the fields of the schema, the key and the vector among them
	dynamic []dynamicField
	outputs []string  // what a query of whole rows asks for
	flat    sync.Pool // of *[]float32, the vectors of a request
}

// dynamicField is a field that is kept as a key of the dynamic field.
type dynamicField struct {
	index  int
	prefix string // its name as JSON and the colon
}

func newLayout(t *vecferry.Table) *layout {
	l := &layout{table: t}
	for i := range t.Fields {
		f := &t.Fields[i]
		if f.Dynamic {
			l.dynamic = append(l.dynamic, dynamicField{index: i, prefix: string(appendString(nil, f.Name)) + ":"})
			continue
		}
		l.typed = append(l.typed, i)
		l.outputs = append(l.outputs, f.Name)
	}
	l.outputs = append(l.outputs, vecferry.PositionField)
	if len(l.dynamic) > 0 {
		l.outputs = append(l.outputs, metaField)
	}
	return l
}

// validate finds what no collection can hold, before the server says it less well.
func (l *layout) validate() error {
	t := l.table
	bad := func(format string, args ...any) error {
		return &vecferry.HaltError{
			What: fmt.Sprintf("the mapping of %s does not fit Milvus: ", t) + fmt.Sprintf(format, args...),
			Fix:  "change the mapping of the table",
		}
	}
	if !identifier(t.Collection) {
		return bad("collection name %q: want letters, digits and underscores, at most 255", t.Collection)
	}
	seen := map[string]bool{vecferry.PositionField: true, metaField: true}
	for i, f := range t.Fields {
		switch {
		case seen[f.Name]:
			return bad("field name %q is used twice or reserved", f.Name)
		case !f.Dynamic && !identifier(f.Name):
			return bad("field name %q: want letters, digits and underscores, at most 255", f.Name)
		case f.Dynamic && (i == t.Key || i == t.Vector || i == t.PartitionKey || f.Type == vecferry.FieldVector):
			return bad("field %s cannot be a dynamic one", f.Name)
		case !f.Dynamic && f.Type == vecferry.FieldVector && i != t.Vector:
			return bad("field %s would be a second vector", f.Name)
		}
		seen[f.Name] = true
	}
	if p := t.PartitionKey; p >= 0 && t.Fields[p].Type != vecferry.FieldInt64 && t.Fields[p].Type != vecferry.FieldVarChar {
		return bad("partition key %s is %s: want int64 or varchar", t.Fields[p].Name, t.Fields[p].Type)
	}
	return nil
}

// identifier reports whether Milvus takes a name (internal/proxy/util.go).
func identifier(s string) bool {
	if s == "" || len(s) > 255 || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// rowBytes is about what a row takes in a request: its vector, its texts and a few
// bytes for each field.
func (l *layout) rowBytes(r vecferry.Row) int {
	n := len(r.Key) + 16
	for _, v := range r.Values {
		n += 4*len(v.Vector()) + len(v.Text()) + 12
	}
	return n
}

// replyBytes is about what a row takes in a reply. Its texts are not known before.
func (l *layout) replyBytes() int {
	const texts = 512
	return 4*l.table.VectorField().Dim + 12*len(l.table.Fields) + texts
}
