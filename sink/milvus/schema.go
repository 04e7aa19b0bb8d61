package milvus

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/milvus-io/milvus-sdk-go/v2/entity"

	"github.com/vecferry/vecferry"
)

// schemaOf returns the schema of a table's collection.
func schemaOf(t *vecferry.Table) *entity.Schema {
	s := entity.NewSchema().WithName(t.Collection).WithDynamicFieldEnabled(true).
		WithDescription("written by vecferry from " + t.String())
	for i := range t.Fields {
		if !t.Fields[i].Dynamic {
			s.WithField(fieldOf(t, i))
		}
	}
	return s.WithField(positionField())
}

func positionField() *entity.Field {
	return entity.NewField().WithName(vecferry.PositionField).WithDataType(entity.FieldTypeInt64).
		WithDescription("where in the change log the row was written")
}

// fieldOf returns one field of the schema.
func fieldOf(t *vecferry.Table, i int) *entity.Field {
	f := &t.Fields[i]
	out := entity.NewField().WithName(f.Name).WithDataType(entity.FieldType(dataType(f.Type))).
		WithIsPartitionKey(i == t.PartitionKey)
	if i == t.Key {
		out = out.WithIsPrimaryKey(true).WithDataType(entity.FieldTypeInt64)
		if t.KeyType == vecferry.KeyText {
			out = out.WithDataType(entity.FieldTypeVarChar)
		}
	}
	switch out.DataType {
	case entity.FieldTypeVarChar:
		out = out.WithMaxLength(int64(f.MaxLength))
	case entity.FieldTypeFloatVector:
		out = out.WithDim(int64(f.Dim))
	}
	return out
}

// indexOf returns the vector index. The wrapper's own HNSW index allows less than the
// server does.
func indexOf(x vecferry.Index) entity.Index {
	params := map[string]string{"metric_type": x.Metric}
	build := map[string]int{}
	switch x.Type {
	case "HNSW":
		build["M"], build["efConstruction"] = x.M, x.EfConstruction
	case "IVF_FLAT":
		build["nlist"] = ivfLists
	}
	if len(build) > 0 {
		text, _ := json.Marshal(build) // a map of integers always encodes
		params["params"] = string(text)
	}
	return entity.NewGenericIndex("", entity.IndexType(x.Type), params)
}

// IVF_FLAT: clusters of the index, and how many of them a search looks into.
const (
	ivfLists  = 1024
	ivfProbes = 32
)

// misfit says what is wrong with a collection that exists.
func misfit(t *vecferry.Table, what, fix string) error {
	if fix == "" {
		fix = "name another collection, or drop this one so that it is created anew"
	}
	return &vecferry.HaltError{What: fmt.Sprintf("collection %s does not fit %s: %s", t.Collection, t, what), Fix: fix}
}

// compareSchema finds the first thing that keeps a table out of a collection.
func compareSchema(t *vecferry.Table, found *entity.Schema) error {
	there := make(map[string]*entity.Field, len(found.Fields))
	for _, f := range found.Fields {
		if !f.IsDynamic {
			there[f.Name] = f
		}
	}
	want := schemaOf(t)
	for _, w := range want.Fields {
		f, ok := there[w.Name]
		if !ok {
			return misfit(t, fmt.Sprintf("it has no field %s; wanted is %s", w.Name, describe(w)), "")
		}
		if !fits(f, w) {
			return misfit(t, fmt.Sprintf("its field %s is %s; wanted is %s", w.Name, describe(f), describe(w)), "")
		}
		delete(there, w.Name)
	}
	for _, f := range found.Fields {
		if there[f.Name] != nil {
			return misfit(t, fmt.Sprintf("its field %s, %s, is not mapped, and Milvus wants a value for it", f.Name, describe(f)),
				"map a column to it, or name another collection")
		}
	}
	if found.AutoID {
		return misfit(t, "it makes up its own keys (AutoID)", "")
	}
	if !found.EnableDynamicField {
		return misfit(t, "its dynamic field is off; wanted is on", "")
	}
	return nil
}

// fits reports whether a field can take the values of the wanted one. A longer
// VarChar does no harm.
func fits(f, w *entity.Field) bool {
	return f.DataType == w.DataType && f.PrimaryKey == w.PrimaryKey && f.IsPartitionKey == w.IsPartitionKey && !f.AutoID &&
		number(f, entity.TypeParamDim) == number(w, entity.TypeParamDim) &&
		number(f, entity.TypeParamMaxLength) >= number(w, entity.TypeParamMaxLength)
}

func number(f *entity.Field, param string) int {
	n, _ := strconv.Atoi(f.TypeParams[param]) // missing means that the type has none
	return n
}

// describe writes a field as a person would.
func describe(f *entity.Field) string {
	s := f.DataType.Name()
	if n := number(f, entity.TypeParamDim); n > 0 {
		s += fmt.Sprintf(" of %d dimensions", n)
	}
	if n := number(f, entity.TypeParamMaxLength); n > 0 {
		s += fmt.Sprintf(" of %d bytes", n)
	}
	if f.PrimaryKey {
		s += ", primary key"
	}
	if f.IsPartitionKey {
		s += ", partition key"
	}
	if f.AutoID {
		s += ", AutoID"
	}
	return s
}

// compareIndex refuses an index of another type or metric: a search with the wanted
// metric would fail. Other parameters only tune it.
func compareIndex(t *vecferry.Table, found entity.Index) error {
	params := found.Params()
	kind, metric := params["index_type"], params["metric_type"]
	if kind == t.Index.Type && metric == t.Index.Metric {
		return nil
	}
	return misfit(t, fmt.Sprintf("its index on %s is %s with metric %s; wanted is %s with metric %s",
		t.VectorField().Name, kind, metric, t.Index.Type, t.Index.Metric),
		"drop the index in Milvus so that it is created anew, or change the mapping")
}
