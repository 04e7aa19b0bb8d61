package demo

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// corpusForTest reads the sources once for all tests.
var corpusForTest = sync.OnceValues(func() ([]Document, error) {
	return Corpus(context.Background(), 5000)
})

func documents(tb testing.TB) []Document {
	tb.Helper()
	docs, err := corpusForTest()
	require.NoError(tb, err)
	return docs
}

func TestCorpusShape(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	require.Len(t, docs, 5000)
	contents, workspaces := map[string]bool{}, map[string]int{}
	for _, d := range docs {
		require.GreaterOrEqual(t, len(d.Content), minContent, d.Title)
		require.LessOrEqual(t, len(d.Content), maxContent, d.Title)
		require.True(t, utf8.ValidString(d.Content), d.Title)
		require.NotContains(t, d.Content, "\x00", "PostgreSQL's text cannot hold it: %s", d.Title)
		require.False(t, contents[d.Content], "twice: %s", d.Title)
		contents[d.Content] = true
		workspaces[d.WorkspaceID]++

		pkg, file := d.Metadata["package"].(string), d.Metadata["file"].(string)
		require.True(t, pkg == d.WorkspaceID || strings.HasPrefix(pkg, d.WorkspaceID+"/"), pkg)
		require.True(t, strings.HasPrefix(file, pkg+"/"), file)
		require.Positive(t, d.Metadata["line"])
		require.Contains(t, []string{"package", "func", "method", "type", "const", "var"}, d.Metadata["kind"])
		require.Contains(t, d.Title, pkg)
		require.False(t, d.UpdatedAt.IsZero())
	}
	require.Greater(t, len(workspaces), 30)
	for _, w := range []string{"net", "encoding", "crypto", "os"} {
		require.Greater(t, workspaces[w], 50, w)
	}
}

func TestCorpusFlagsAreOfBothKinds(t *testing.T) {
	t.Parallel()
	counts := map[string]int{}
	for _, d := range documents(t) {
		for name, set := range map[string]bool{
			"deprecated": d.HasDeprecated, "fixme": d.HasFixme, "todo": d.HasTodo, "security": d.HasSecurity,
		} {
			if set {
				counts[name]++
			}
		}
		require.Equal(t, strings.Contains(d.Content, "Deprecated:"), d.HasDeprecated, d.Title)
	}
	for _, name := range []string{"deprecated", "fixme", "todo", "security"} {
		require.Positive(t, counts[name], name)
		require.Less(t, counts[name], 2500, name)
	}
}

func TestCorpusIsInOrderAndTheSameEveryTime(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	again, err := Corpus(t.Context(), len(docs))
	require.NoError(t, err)
	require.Equal(t, docs, again)
	require.True(t, slices.IsSortedFunc(docs, func(a, b Document) int {
		return strings.Compare(a.Metadata["package"].(string), b.Metadata["package"].(string))
	}))
}

func TestCorpusRefuses(t *testing.T) {
	t.Parallel()
	_, err := Corpus(t.Context(), 10_000_000)
	require.ErrorContains(t, err, "10000000 documents wanted")
	_, err = Corpus(t.Context(), -1)
	require.Error(t, err)

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Corpus(canceled, 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestCorpusWithoutSources(t *testing.T) {
	goroot := t.TempDir()
	t.Setenv("GOROOT", goroot)
	_, err := Corpus(t.Context(), 1)
	require.ErrorIs(t, err, ErrNoSources)

	require.NoError(t, os.Mkdir(filepath.Join(goroot, "src"), 0o755))
	_, err = Corpus(t.Context(), 1)
	require.ErrorIs(t, err, ErrNoSources)

	t.Setenv("PATH", "")
	_, err = Corpus(t.Context(), 1)
	require.ErrorIs(t, err, ErrNoSources)
}

func TestCollect(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("b/b.go", `// Package b is the second one; its comment is long enough to be taken.
package b

// Box is a type with a comment that is long enough to be taken along.
type Box[T any] struct{}

// Open is a method with a comment that is long enough to be taken along.
func (*Box[T]) Open() {}

// hidden is not exported, so that its comment is never taken along at all.
func hidden() {}

func (hiddenType) Open() {}

// The group has a comment and so has each of those that follow in the block.
const (
	first = iota
	// Second is a constant with a comment that is long enough to be taken.
	Second
	Short // no comment before it
)

// Short is not enough.
func Short() {}
`)
	write("b/zz.go", "package b\n\n// Box is a type with a comment that is long enough to be taken along.\ntype Box2 struct{}\n")
	write("b/b_test.go", "package b\n\n// Test is in a test file, so that its comment is never taken along.\nfunc Test() {}\n")
	write("b/gen.go", "package main\n\n// Main is in a program, so that its comment is never taken along at all.\nfunc Main() {}\n")
	write("a/a.go", "package a\n\n// Long is "+strings.Repeat("long äöü ", 1000)+"\nfunc Long() {}\n")
	write("cmd/x/x.go", "package x\n\n// Tool is in a tool, so that its comment is never taken along at all.\nfunc Tool() {}\n")

	all, err := collect(t.Context(), root)
	require.NoError(t, err)
	var got []string
	for _, c := range all {
		got = append(got, c.kind+" "+c.title())
	}
	require.Equal(t, []string{
		"func a.Long", "package package b", "type b.Box", "method b.Box.Open", "const b.Second", "const b.Second",
	}, got)
	require.LessOrEqual(t, len(all[0].text), maxContent)
	require.Greater(t, len(all[0].text), maxContent-12)
	require.True(t, utf8.ValidString(all[0].text))
	require.Equal(t, 4, all[2].line)
}
