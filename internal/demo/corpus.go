// Package demo holds what the demonstration and the benchmarks show vecferry
// with: documents with real text, and vectors of it that make searches
// meaningful without a model or a network.
//
// The corpus and the embedder are functions of their input: no state, no
// goroutine, the same bytes on every call.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrNoSources says that the Go installation has no standard library sources,
// or that there is no Go installation.
var ErrNoSources = errors.New("no sources of the Go standard library")

// Bounds of a document's content in bytes: shorter says nothing, longer is cut
// at a word.
const (
	minContent = 40
	maxContent = 4000
)

// Document is one row of the demonstration: the doc comment of one exported
// declaration of Go's standard library.
type Document struct {
	WorkspaceID   string // top-level directory, such as "encoding"
	Title         string // such as "encoding/json.Decoder.Decode"
	Content       string // the comment, 40 to 4,000 bytes of UTF-8
	HasDeprecated bool
	HasFixme      bool
	HasTodo       bool
	HasSecurity   bool
	Metadata      map[string]any // package, file, line, kind
	UpdatedAt     time.Time      // UTC, whole seconds; the same on every machine
}

// Text is what stands for the document in its vector.
func (d Document) Text() string { return d.Title + "\n" + d.Content }

// Corpus returns n different documents from the sources of the Go installation
// that is in the PATH, spread evenly over its packages and ordered by package,
// file and line. The same Go version gives the same documents. Without sources
// the error wraps ErrNoSources.
func Corpus(ctx context.Context, n int) ([]Document, error) {
	root, err := sources(ctx)
	if err != nil {
		return nil, err
	}
	all, err := collect(ctx, root)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > len(all) {
		return nil, fmt.Errorf("%d documents wanted, the Go sources in %s have %d", n, root, len(all))
	}
	out := make([]Document, n)
	for i := range out {
		out[i] = all[i*len(all)/n].document(i)
	}
	return out, nil
}

// sources returns the folder of the standard library.
func sources(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("%w: go env GOROOT: %w", ErrNoSources, err)
	}
	// Some distributions keep the sources elsewhere, behind a symbolic link.
	dir := filepath.Join(strings.TrimSpace(string(out)), "src")
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w; install them, some distributions have a package of their own (golang-src)", ErrNoSources, err)
	}
	return root, nil
}

// collect returns every different comment in the sources under root, in order.
func collect(ctx context.Context, root string) ([]comment, error) {
	files, err := goFiles(ctx, root)
	if err != nil {
		return nil, err
	}
	var all []comment
	seen := make(map[uint64]struct{}, 1<<14)
	seed := maphash.MakeSeed()
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found, err := commentsOf(root, name)
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			h := maphash.String(seed, c.text)
			if _, dup := seen[h]; !dup {
				seen[h] = struct{}{}
				all = append(all, c)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %s has none", ErrNoSources, root)
	}
	return all, nil
}

// goFiles returns the sources that make up the library, sorted by package and
// name, relative to root with slashes.
func goFiles(ctx context.Context, root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir() && skipDir(e.Name()) && path != root:
			return filepath.SkipDir
		case !e.Type().IsRegular() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		rel, err := filepath.Rel(root, path)
		files = append(files, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSources, err)
	}
	slices.SortFunc(files, func(a, b string) int {
		return cmp.Or(cmp.Compare(dirOf(a), dirOf(b)), cmp.Compare(a, b))
	})
	return files, nil
}

// skipDir leaves out the tools, what users cannot import, foreign code and the tests' data.
func skipDir(name string) bool {
	switch name {
	case "cmd", "internal", "vendor", "testdata", "builtin":
		return true
	}
	return strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".")
}

// dirOf returns the package of a file, empty for one that is in none.
func dirOf(file string) string {
	dir, _, found := cutLast(file, "/")
	if !found {
		return ""
	}
	return dir
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// document makes row i of a comment.
func (c comment) document(i int) Document {
	workspace, _, _ := strings.Cut(c.pkg, "/")
	return Document{
		WorkspaceID:   workspace,
		Title:         c.title(),
		Content:       c.text,
		HasDeprecated: strings.Contains(c.text, "Deprecated:"),
		HasFixme:      containsAny(c.text, "FIXME", "XXX", "BUG"),
		HasTodo:       strings.Contains(c.text, "TODO"),
		HasSecurity:   containsAny(strings.ToLower(c.text), "security", "insecure", "vulnerab", "attack", "constant time", "constant-time"),
		Metadata:      map[string]any{"package": c.pkg, "file": c.file, "line": c.line, "kind": c.kind},
		UpdatedAt:     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * 37 * time.Minute),
	}
}

func containsAny(s string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
}

// clip cuts text that is too long at the last word that fits.
func clip(text string) string {
	if len(text) <= maxContent {
		return text
	}
	cut := maxContent
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	if i := strings.LastIndexAny(text[:cut], " \n\t"); i > minContent {
		cut = i
	}
	return strings.TrimSpace(text[:cut])
}
