package milvus

import (
	"slices"

	"github.com/milvus-io/milvus-proto/go-api/v2/milvuspb"
	"github.com/milvus-io/milvus-proto/go-api/v2/schemapb"

	"github.com/vecferry/vecferry"
)

// insertRequest builds the columns of rows that passed check. It does not use the
// wrapper's columns: those hold a slice for each vector and are copied once more, and
// the wrapper's Insert keeps a schema of its own that nobody refreshes.
func (l *layout) insertRequest(rows []vecferry.Row) *milvuspb.InsertRequest {
	req := &milvuspb.InsertRequest{
		CollectionName: l.table.Collection,
		NumRows:        uint32(len(rows)),
		FieldsData:     make([]*schemapb.FieldData, 0, len(l.typed)+2),
	}
	for _, i := range l.typed {
		req.FieldsData = append(req.FieldsData, l.column(i, rows))
	}
	req.FieldsData = append(req.FieldsData, positions(rows))
	if len(l.dynamic) > 0 {
		req.FieldsData = append(req.FieldsData, l.dynamicColumn(rows))
	}
	return req
}

// column returns the data of one field of the schema.
func (l *layout) column(i int, rows []vecferry.Row) *schemapb.FieldData {
	f := &l.table.Fields[i]
	switch {
	case i == l.table.Key:
		return keyColumn(l.table, rows)
	case f.Type == vecferry.FieldVector:
		return l.vectorColumn(f, i, rows)
	}
	return scalarColumn(f, i, rows)
}

func keyColumn(t *vecferry.Table, rows []vecferry.Row) *schemapb.FieldData {
	name := t.KeyField().Name
	if t.KeyType == vecferry.KeyInt {
		data := collect(rows, func(r *vecferry.Row) int64 { return r.Key.Int() })
		return scalars(name, schemapb.DataType_Int64, &schemapb.ScalarField{Data: longs(data)})
	}
	data := collect(rows, func(r *vecferry.Row) string { return string(r.Key) })
	return scalars(name, schemapb.DataType_VarChar, &schemapb.ScalarField{Data: texts(data)})
}

func positions(rows []vecferry.Row) *schemapb.FieldData {
	data := collect(rows, func(r *vecferry.Row) int64 { return int64(r.Position) })
	return scalars(vecferry.PositionField, schemapb.DataType_Int64, &schemapb.ScalarField{Data: longs(data)})
}

// vectorColumn lays the vectors end to end, in memory that release takes back.
func (l *layout) vectorColumn(f *vecferry.Field, i int, rows []vecferry.Row) *schemapb.FieldData {
	var flat []float32
	if used, ok := l.flat.Get().(*[]float32); ok {
		flat = (*used)[:0]
	}
	flat = slices.Grow(flat, f.Dim*len(rows))
	for k := range rows {
		flat = append(flat, rows[k].Values[i].Vector()...)
	}
	return &schemapb.FieldData{
		Type: schemapb.DataType_FloatVector, FieldName: f.Name,
		Field: &schemapb.FieldData_Vectors{Vectors: &schemapb.VectorField{
			Dim:  int64(f.Dim),
			Data: &schemapb.VectorField_FloatVector{FloatVector: &schemapb.FloatArray{Data: flat}},
		}},
	}
}

// release takes back the memory of a request that was sent. gRPC encodes a request
// before it returns and keeps nothing of it.
func (l *layout) release(req *milvuspb.InsertRequest) {
	for _, f := range req.GetFieldsData() {
		if flat := f.GetVectors().GetFloatVector(); flat != nil {
			l.flat.Put(&flat.Data)
		}
	}
}

func scalarColumn(f *vecferry.Field, i int, rows []vecferry.Row) *schemapb.FieldData {
	s := &schemapb.ScalarField{}
	value := func(r *vecferry.Row) vecferry.Value { return r.Values[i] }
	switch f.Type {
	case vecferry.FieldBool:
		s.Data = &schemapb.ScalarField_BoolData{BoolData: &schemapb.BoolArray{
			Data: collect(rows, func(r *vecferry.Row) bool { return value(r).Bool() }),
		}}
	case vecferry.FieldInt16, vecferry.FieldInt32:
		s.Data = &schemapb.ScalarField_IntData{IntData: &schemapb.IntArray{
			Data: collect(rows, func(r *vecferry.Row) int32 { return int32(value(r).Int()) }),
		}}
	case vecferry.FieldInt64:
		s.Data = longs(collect(rows, func(r *vecferry.Row) int64 { return value(r).Int() }))
	case vecferry.FieldFloat:
		s.Data = &schemapb.ScalarField_FloatData{FloatData: &schemapb.FloatArray{
			Data: collect(rows, func(r *vecferry.Row) float32 { return float32(value(r).Float()) }),
		}}
	case vecferry.FieldDouble:
		s.Data = &schemapb.ScalarField_DoubleData{DoubleData: &schemapb.DoubleArray{
			Data: collect(rows, func(r *vecferry.Row) float64 { return value(r).Float() }),
		}}
	case vecferry.FieldVarChar:
		s.Data = texts(collect(rows, func(r *vecferry.Row) string { return value(r).Text() }))
	case vecferry.FieldJSON:
		s.Data = documents(collect(rows, func(r *vecferry.Row) []byte { return []byte(value(r).Text()) }))
	}
	return scalars(f.Name, dataType(f.Type), s)
}

// dynamicColumn builds the JSON of all rows in one buffer.
func (l *layout) dynamicColumn(rows []vecferry.Row) *schemapb.FieldData {
	buf := make([]byte, 0, 64*len(l.dynamic)*len(rows))
	ends := make([]int, len(rows))
	for i := range rows {
		buf = l.appendDynamic(buf, rows[i])
		ends[i] = len(buf)
	}
	data := make([][]byte, len(rows))
	start := 0
	for i, end := range ends {
		data[i] = buf[start:end:end]
		start = end
	}
	f := scalars("", schemapb.DataType_JSON, &schemapb.ScalarField{Data: documents(data)})
	f.IsDynamic = true
	return f
}

func collect[T any](rows []vecferry.Row, get func(*vecferry.Row) T) []T {
	out := make([]T, len(rows))
	for i := range rows {
		out[i] = get(&rows[i])
	}
	return out
}

func scalars(name string, t schemapb.DataType, s *schemapb.ScalarField) *schemapb.FieldData {
	return &schemapb.FieldData{Type: t, FieldName: name, Field: &schemapb.FieldData_Scalars{Scalars: s}}
}

func longs(data []int64) *schemapb.ScalarField_LongData {
	return &schemapb.ScalarField_LongData{LongData: &schemapb.LongArray{Data: data}}
}

func texts(data []string) *schemapb.ScalarField_StringData {
	return &schemapb.ScalarField_StringData{StringData: &schemapb.StringArray{Data: data}}
}

func documents(data [][]byte) *schemapb.ScalarField_JsonData {
	return &schemapb.ScalarField_JsonData{JsonData: &schemapb.JSONArray{Data: data}}
}

// dataType returns Milvus' type of a field.
func dataType(t vecferry.FieldType) schemapb.DataType {
	switch t {
	case vecferry.FieldBool:
		return schemapb.DataType_Bool
	case vecferry.FieldInt16:
		return schemapb.DataType_Int16
	case vecferry.FieldInt32:
		return schemapb.DataType_Int32
	case vecferry.FieldInt64:
		return schemapb.DataType_Int64
	case vecferry.FieldFloat:
		return schemapb.DataType_Float
	case vecferry.FieldDouble:
		return schemapb.DataType_Double
	case vecferry.FieldVarChar:
		return schemapb.DataType_VarChar
	case vecferry.FieldJSON:
		return schemapb.DataType_JSON
	case vecferry.FieldVector:
		return schemapb.DataType_FloatVector
	}
	return schemapb.DataType_None
}
