package milvus

import (
	"context"
	"fmt"

	"github.com/milvus-io/milvus-sdk-go/v2/client"
	"github.com/milvus-io/milvus-sdk-go/v2/entity"

	"github.com/vecferry/vecferry"
)

// Hit is one result of a search. Score is Milvus' own: of COSINE and IP the larger is
// the nearer, of L2 it is the square of the distance.
type Hit struct {
	Key   vecferry.Key
	Score float32
}

// searcher is a backend that can search.
type searcher interface {
	Search(ctx context.Context, vector []float32, k, ef int, filter string) ([]Hit, error)
}

// Search returns the k entities nearest to a vector, the nearest first. An HNSW index
// looks at ef candidates, at least at k. The filter is an expression of Milvus, such
// as `workspace == "a"`, or empty. A search is Strong.
func (c *Collection) Search(ctx context.Context, vector []float32, k, ef int, filter string) (hits []Hit, err error) {
	s, ok := c.backend.(searcher)
	if !ok {
		return nil, fmt.Errorf("search in %s: this backend cannot search", c.layout.table.Collection)
	}
	err = c.retry.do(ctx, task{name: c.name("search in")}, func(ctx context.Context) error {
		hits, err = s.Search(ctx, vector, k, ef, filter)
		return err
	})
	return hits, err
}

// Search implements searcher.
func (r *remote) Search(ctx context.Context, vector []float32, k, ef int, filter string) ([]Hit, error) {
	t := r.layout.table
	ctx, cancel := context.WithTimeout(ctx, r.client.retry.pace.Call)
	defer cancel()
	results, err := r.client.conn().Search(ctx, t.Collection, nil, filter, nil,
		[]entity.Vector{entity.FloatVector(vector)}, t.VectorField().Name, entity.MetricType(t.Index.Metric), k,
		searchParams(t.Index.Type, max(k, ef)), client.WithSearchQueryConsistencyLevel(entity.ClStrong))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("reply of Milvus has %d results for one vector", len(results))
	}
	return hitsOf(results[0])
}

// params are the search parameters of an index.
type params map[string]any

func (p params) Params() map[string]any        { return p }
func (p params) AddRadius(radius float64)      { p["radius"] = radius }
func (p params) AddRangeFilter(filter float64) { p["range_filter"] = filter }

func searchParams(index string, ef int) entity.SearchParam {
	switch index {
	case "HNSW":
		return params{"ef": ef}
	case "IVF_FLAT":
		return params{"nprobe": ivfProbes}
	}
	return params{}
}

func hitsOf(result client.SearchResult) ([]Hit, error) {
	if result.Err != nil {
		return nil, fmt.Errorf("reply of Milvus to a search: %w", result.Err)
	}
	hits := make([]Hit, result.ResultCount)
	for i := range hits {
		hits[i].Score = result.Scores[i]
		switch ids := result.IDs.(type) {
		case *entity.ColumnInt64:
			hits[i].Key = vecferry.IntKey(ids.Data()[i])
		case *entity.ColumnVarChar:
			hits[i].Key = vecferry.Key(ids.Data()[i])
		default:
			return nil, fmt.Errorf("reply of Milvus to a search has keys of type %s", result.IDs.Type().Name())
		}
	}
	return hits, nil
}
