package milvus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/golang/protobuf/proto" //nolint:staticcheck // what the messages of the client were generated for
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/testenv"
)

// documents is the table of the benchmarks: 1,536 dimensions, some fields of the
// schema and some dynamic ones.
func documentsTable() *vecferry.Table {
	return &vecferry.Table{
		Schema: "public", Name: "documents", Collection: "documents", KeyType: vecferry.KeyInt,
		Key: 0, Vector: 1, PartitionKey: -1, Shards: 1, BatchRows: 1000,
		Index: vecferry.Index{Type: "HNSW", Metric: "COSINE", M: 16, EfConstruction: 256},
		Fields: []vecferry.Field{
			{Column: "id", Name: "id", Type: vecferry.FieldInt64},
			{Column: "embedding", Name: "embedding", Type: vecferry.FieldVector, Dim: 1536},
			{Column: "workspace", Name: "workspace", Type: vecferry.FieldVarChar, MaxLength: 64},
			{Column: "has_todo", Name: "has_todo", Type: vecferry.FieldBool},
			{Column: "title", Name: "title", Type: vecferry.FieldVarChar, Dynamic: true},
			{Column: "attributes", Name: "attributes", Type: vecferry.FieldJSON, Dynamic: true},
			{Column: "tokens", Name: "tokens", Type: vecferry.FieldInt64, Dynamic: true},
		},
	}
}

func documentRows(from, n int) []vecferry.Row {
	rows := make([]vecferry.Row, n)
	for i := range rows {
		v := make([]float32, 1536)
		for j := range v {
			v[j] = rand.Float32()*2 - 1
		}
		id := int64(from + i)
		rows[i] = vecferry.Row{Key: vecferry.IntKey(id), Position: 1, Values: []vecferry.Value{
			vecferry.IntValue(id), vecferry.VectorValue(v), vecferry.TextValue(fmt.Sprint("workspace-", i%16)), vecferry.BoolValue(i%2 == 0),
			vecferry.TextValue("A title of some words"), vecferry.JSONValue(`{"lang": "en", "path": "/a/b/c"}`), vecferry.IntValue(int64(i)),
		}}
	}
	return rows
}

func BenchmarkCheck(b *testing.B) {
	l, rows := newLayout(documentsTable()), documentRows(0, 1000)
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range rows {
			if err := l.check(r); err != nil {
				b.Fatal(err)
			}
		}
	}
	perRow(b, len(rows))
}

func BenchmarkInsertRequest(b *testing.B) {
	l, rows := newLayout(documentsTable()), documentRows(0, 1000)
	b.ReportAllocs()
	for b.Loop() {
		l.release(l.insertRequest(rows))
	}
	perRow(b, len(rows))
}

func BenchmarkInsertRequestAndMarshal(b *testing.B) {
	l, rows := newLayout(documentsTable()), documentRows(0, 1000)
	b.ReportAllocs()
	for b.Loop() {
		req := l.insertRequest(rows)
		if _, err := proto.Marshal(req); err != nil {
			b.Fatal(err)
		}
		l.release(req)
	}
	perRow(b, len(rows))
}

func BenchmarkDecode(b *testing.B) {
	l := newLayout(documentsTable())
	fields := l.insertRequest(documentRows(0, 1000)).GetFieldsData()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.rows(fields, false); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, 1000)
}

func perRow(b *testing.B, rows int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
}

// BenchmarkServer writes and reads 2,000 rows of 1,536 dimensions at a time.
func BenchmarkServer(b *testing.B) {
	m := testenv.Milvus(b)
	for _, lanes := range []int{1, 2, 4} {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		c, err := Connect(ctx, Options{Address: m.Address, Lanes: lanes})
		require.NoError(b, err)
		t := documentsTable()
		t.Collection = fmt.Sprint(m.Prefix, "bench_", lanes)
		_, err = c.Prepare(ctx, t)
		cancel()
		require.NoError(b, err)
		coll := c.Collection(t)
		rows := documentRows(0, 2000)
		next := 0
		put := func(b *testing.B, fresh bool) {
			w := vecferry.Write{Put: rows}
			if fresh {
				w = vecferry.Write{New: rows}
			}
			for b.Loop() {
				if fresh {
					for i := range rows {
						rows[i].Key = vecferry.IntKey(int64(next + i))
					}
					next += len(rows)
				}
				if _, err := coll.Replace(b.Context(), w); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
		}
		b.Run(fmt.Sprint("insert/lanes=", lanes), func(b *testing.B) { put(b, true) })
		b.Run(fmt.Sprint("replace/lanes=", lanes), func(b *testing.B) { put(b, false) })
		b.Run(fmt.Sprint("read/lanes=", lanes), func(b *testing.B) {
			keys := make([]vecferry.Key, len(rows))
			for i, r := range rows {
				keys[i] = r.Key
			}
			for b.Loop() {
				got, err := coll.Read(b.Context(), keys)
				if err != nil || len(got) != len(keys) {
					b.Fatal(len(got), err)
				}
			}
			b.ReportMetric(float64(len(rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
		require.NoError(b, c.Drop(b.Context(), t.Collection))
		require.NoError(b, c.Close())
	}
}
