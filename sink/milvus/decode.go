package milvus

import (
	"fmt"

	"github.com/milvus-io/milvus-proto/go-api/v2/schemapb"

	"github.com/vecferry/vecferry"
)

// replies decodes what a query returned; see rows.
type replies struct {
	layout *layout
	byName map[string]*schemapb.FieldData
	n      int
}

// rows is the inverse of insertRequest.
func (l *layout) rows(fields []*schemapb.FieldData, keysOnly bool) ([]vecferry.Row, error) {
	d := &replies{layout: l, byName: make(map[string]*schemapb.FieldData, len(fields))}
	for _, f := range fields {
		name := f.GetFieldName()
		if f.GetIsDynamic() {
			name = metaField
		}
		d.byName[name] = f
	}
	keys, err := d.keys()
	if err != nil || keysOnly {
		return keys, err
	}
	return keys, d.values(keys)
}

// keys returns one row for each key.
func (d *replies) keys() ([]vecferry.Row, error) {
	t := d.layout.table
	s := d.byName[t.KeyField().Name].GetScalars()
	var rows []vecferry.Row
	if t.KeyType == vecferry.KeyInt {
		for _, v := range s.GetLongData().GetData() {
			rows = append(rows, vecferry.Row{Key: vecferry.IntKey(v)})
		}
	} else {
		for _, v := range s.GetStringData().GetData() {
			rows = append(rows, vecferry.Row{Key: vecferry.Key(v)})
		}
	}
	d.n = len(rows)
	if d.n == 0 && d.byName[t.KeyField().Name] == nil && len(d.byName) > 0 {
		return nil, fmt.Errorf("reply of Milvus lacks the key field %s", t.KeyField().Name)
	}
	return rows, nil
}

// values fills in everything but the keys.
func (d *replies) values(rows []vecferry.Row) error {
	width := len(d.layout.table.Fields)
	all := make([]vecferry.Value, width*len(rows))
	for i := range rows {
		rows[i].Values = all[i*width : (i+1)*width : (i+1)*width]
	}
	for _, i := range d.layout.typed {
		if err := d.field(i, rows); err != nil {
			return err
		}
	}
	at := d.byName[vecferry.PositionField].GetScalars().GetLongData().GetData()
	if len(at) != d.n {
		return d.short(vecferry.PositionField, len(at))
	}
	for i := range rows {
		rows[i].Position = vecferry.Position(at[i])
	}
	return d.dynamic(rows)
}

func (d *replies) short(name string, n int) error {
	return fmt.Errorf("reply of Milvus has %d values of field %s for %d keys", n, name, d.n)
}

// field fills in one field of the schema.
func (d *replies) field(i int, rows []vecferry.Row) error {
	t := d.layout.table
	f := &t.Fields[i]
	if i == t.Key {
		for k := range rows {
			rows[k].Values[i] = keyValue(t.KeyType, rows[k].Key)
		}
		return nil
	}
	data := d.byName[f.Name]
	if f.Type == vecferry.FieldVector {
		return d.vectors(i, data.GetVectors().GetFloatVector().GetData(), rows)
	}
	n, get := scalarReader(f.Type, data.GetScalars())
	if n != d.n {
		return d.short(f.Name, n)
	}
	for k := range rows {
		rows[k].Values[i] = get(k)
	}
	return nil
}

// keyValue returns the key as the value of its column.
func keyValue(t vecferry.KeyType, k vecferry.Key) vecferry.Value {
	if t == vecferry.KeyInt {
		return vecferry.IntValue(k.Int())
	}
	return vecferry.TextValue(string(k))
}

// vectors cuts the elements of all rows, without copying them.
func (d *replies) vectors(i int, flat []float32, rows []vecferry.Row) error {
	f := &d.layout.table.Fields[i]
	if len(flat) != d.n*f.Dim {
		return d.short(f.Name, len(flat)/max(1, f.Dim))
	}
	for k := range rows {
		rows[k].Values[i] = vecferry.VectorValue(flat[k*f.Dim : (k+1)*f.Dim : (k+1)*f.Dim])
	}
	return nil
}

// scalarReader returns how many values there are and how to get one.
func scalarReader(t vecferry.FieldType, s *schemapb.ScalarField) (int, func(int) vecferry.Value) {
	switch t {
	case vecferry.FieldBool:
		data := s.GetBoolData().GetData()
		return len(data), func(k int) vecferry.Value { return vecferry.BoolValue(data[k]) }
	case vecferry.FieldInt16, vecferry.FieldInt32:
		data := s.GetIntData().GetData()
		return len(data), func(k int) vecferry.Value { return vecferry.IntValue(int64(data[k])) }
	case vecferry.FieldInt64:
		data := s.GetLongData().GetData()
		return len(data), func(k int) vecferry.Value { return vecferry.IntValue(data[k]) }
	case vecferry.FieldFloat:
		data := s.GetFloatData().GetData()
		return len(data), func(k int) vecferry.Value { return vecferry.FloatValue(float64(data[k])) }
	case vecferry.FieldDouble:
		data := s.GetDoubleData().GetData()
		return len(data), func(k int) vecferry.Value { return vecferry.FloatValue(data[k]) }
	case vecferry.FieldVarChar:
		data := s.GetStringData().GetData()
		return len(data), func(k int) vecferry.Value { return vecferry.TextValue(data[k]) }
	case vecferry.FieldJSON:
		data := s.GetJsonData().GetData()
		return len(data), func(k int) vecferry.Value { return vecferry.JSONValue(string(data[k])) }
	}
	return 0, nil
}

// dynamic fills in the keys of the dynamic field.
func (d *replies) dynamic(rows []vecferry.Row) error {
	if len(d.layout.dynamic) == 0 {
		return nil
	}
	data := d.byName[metaField].GetScalars().GetJsonData().GetData()
	if len(data) != d.n {
		return d.short(metaField, len(data))
	}
	for i := range rows {
		if !d.layout.readDynamic(string(data[i]), rows[i].Values) {
			return fmt.Errorf("reply of Milvus has a dynamic field of key %s that is no JSON object",
				rows[i].Key.Format(d.layout.table.KeyType))
		}
	}
	return nil
}
