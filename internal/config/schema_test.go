package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSchemaIsSound checks what the compiler cannot see in the tags.
func TestSchemaIsSound(t *testing.T) {
	t.Parallel()
	requireSound(t, documented(), reflect.TypeFor[Config](), "")
}

func requireSound(t *testing.T, s section, shape reflect.Type, path string) {
	t.Helper()
	for _, f := range s.fields {
		at := path + f.key
		goType := shape.FieldByIndex(f.index).Type
		require.NotEmpty(t, f.key, "a field of %q has no key", path)
		require.NotEmpty(t, f.doc, "%s is not documented", at)
		if f.kind >= kindSection {
			requireSound(t, f.inner, element(goType), at+".")
			continue
		}
		requireSoundTags(t, s, f, at)
		if text := strings.ReplaceAll(f.def, "<pipeline>", "x"); text != "" {
			require.NoError(t, f.store(text, reflect.New(goType).Elem()), "default of %s", at)
		}
		if f.example != "" {
			require.NoError(t, f.store(f.example, reflect.New(goType).Elem()), "example of %s", at)
		}
	}
}

func requireSoundTags(t *testing.T, s section, f field, at string) {
	t.Helper()
	require.True(t, f.def != "" || f.example != "", "%s has neither default nor example", at)
	require.False(t, f.def != "" && f.required, "%s is required and has a default", at)
	for _, other := range append(f.needs, f.excludes...) {
		_, isTwin, found := s.find(other)
		require.True(t, found && !isTwin, "%s names %s, which is not there", at, other)
	}
	for _, limit := range []string{f.low, f.high} {
		if limit != "" {
			_, err := f.number(limit)
			require.NoError(t, err, "range of %s", at)
		}
	}
	if _, found := formatOf(f.format); f.format != "" && f.format != "dsn" {
		require.True(t, found, "%s has the unknown format %s", at, f.format)
	}
	require.Equal(t, f.kind == kindSecret, f.twin, "%s: exactly the secrets have a _file twin", at)
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"postgres", "milvus", "m", "max_bytes", "key"}
	for key, want := range map[string]string{
		"postgress": "postgres", "Milvus": "milvus", "maxbytes": "max_bytes", "kye": "key", "x": "", "zzzzzz": "",
	} {
		got, _ := nearest(key, known)
		require.Equal(t, want, got, key)
	}
	require.Equal(t, 3, distance("kitten", "sitting"))
}
