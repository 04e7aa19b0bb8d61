package demo

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func dot(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func TestEmbedIsAUnitVectorForEveryText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-zA-Z \x00\xff.,-]{0,60}`)).Draw(t, "text")
		v := Embed(text)
		require.Len(t, v, Dimensions)
		require.InDelta(t, 1, dot(v, v), 1e-5)
		require.Equal(t, v, Embed(text))
	})
	broken := Embed("ab\xffcd\xc3 Ab\xe2\x82")
	require.InDelta(t, 1, dot(broken, broken), 1e-5, "bytes that are not UTF-8 do no harm")
}

func TestEmbedNearness(t *testing.T) {
	t.Parallel()
	const text = "Unmarshal parses the JSON-encoded data"
	for _, c := range []struct{ what, near, far string }{
		{"the same words", "the JSON-encoded data that Unmarshal parses", "a listener accepts connections"},
		{"other forms of the words", "parsing encoded JSON", "closing idle connections"},
		{"names in camel case", "ParseJSONData", "CloseIdleConnections"},
		{"more words in common", "parses the JSON-encoded data", "parses the form"},
	} {
		v := Embed(text)
		require.Greater(t, dot(v, Embed(c.near)), dot(v, Embed(c.far))+0.05, c.what)
	}
	require.Equal(t, Embed("a text"), Embed("A Text!"), "case and marks do not count")
	require.NotEqual(t, Embed("!"), Embed("?"))
	require.Less(t, math.Abs(dot(Embed("alpha beta"), Embed("gzip wurst"))), 0.2)
}

func TestCamelParts(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		"NewReader": "New Reader", "JSONText": "JSON Text", "parseURL": "parse URL", "utf8": "utf8",
		"X": "X", "HTTP": "HTTP", "ÄpfelUndÖl": "Äpfel Und Öl", "aB": "a B",
	} {
		require.Equal(t, want, strings.Join(camelParts(token), " "))
		require.True(t, utf8.ValidString(token))
	}
}

// TestSearchesMakeSense asks the whole corpus as the demonstration does.
func TestSearchesMakeSense(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	vectors := make([][]float32, len(docs))
	for i, d := range docs {
		vectors[i] = Embed(d.Text())
	}
	for query, want := range map[string]string{
		"parse JSON":                       "encoding/json",
		"match a regular expression":       "regexp",
		"read gzip compressed files":       "compress/gzip",
		"HTTP request header":              "net/http",
		"elliptic curve private key":       "crypto/",
		"wait for a group of goroutines":   "sync",
		"decode the XML of a document":     "encoding/xml",
		"year, month and day of a date":    "time",
		"rows of a SQL query's result set": "database/sql",
	} {
		top := search(docs, vectors, query, 10)
		hits := 0
		for _, d := range top {
			if strings.HasPrefix(d.Metadata["package"].(string), want) {
				hits++
			}
		}
		require.GreaterOrEqual(t, hits, 4, "%q found %v", query, titles(top))
	}
}

// TestNearerToItsOwnPackage compares whole packages, not only the best hits.
func TestNearerToItsOwnPackage(t *testing.T) {
	t.Parallel()
	mean := func(pkg string) float64 {
		var sum, n float64
		for _, d := range documents(t) {
			if d.Metadata["package"] == pkg {
				sum += dot(Embed("parse JSON"), Embed(d.Text()))
				n++
			}
		}
		require.Greater(t, n, 20.0, pkg)
		return sum / n
	}
	require.Greater(t, mean("encoding/json"), 2*mean("net/http"))
}

func search(docs []Document, vectors [][]float32, query string, k int) []Document {
	type hit struct {
		doc   Document
		score float64
	}
	q := Embed(query)
	hits := make([]hit, len(docs))
	for i := range docs {
		hits[i] = hit{docs[i], dot(q, vectors[i])}
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Compare(b.score, a.score) })
	out := make([]Document, k)
	for i := range out {
		out[i] = hits[i].doc
	}
	return out
}

func titles(docs []Document) []string {
	out := make([]string, len(docs))
	for i, d := range docs {
		out[i] = d.Title
	}
	return out
}

func BenchmarkEmbed(b *testing.B) {
	docs := documents(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		Embed(docs[i%len(docs)].Text())
	}
}

func BenchmarkCorpus(b *testing.B) {
	for b.Loop() {
		_, err := Corpus(b.Context(), 5000)
		require.NoError(b, err)
	}
}
