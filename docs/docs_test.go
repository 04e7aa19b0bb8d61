// Package docs keeps the pages beside this file true to the code.
package docs

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/config"
)

var update = flag.Bool("update", false, "write the pages that are made from the code")

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// pages returns every page below docs/ and the README.
func pages(t *testing.T) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			out = append(out, path)
		}
		return err
	}))
	require.Greater(t, len(out), 15)
	if _, err := os.Stat("../README.md"); err == nil {
		out = append(out, "../README.md")
	}
	return out
}

func TestConfigurationPageIsGenerated(t *testing.T) {
	t.Parallel()
	const page = "reference/configuration.md"
	if *update {
		require.NoError(t, os.WriteFile(page, config.Markdown(), 0o600))
	}
	require.Equal(t, string(config.Markdown()), read(t, page), "write it again with: make docs")
}

// TestLinksLeadSomewhere follows the links between the files of the repository.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if to == "" || strings.Contains(to, "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(page), filepath.FromSlash(to)))
			require.NoError(t, err, "%s links to %s", page, to)
		}
	}
}

// TestEveryPageIsReached keeps the table of contents complete.
func TestEveryPageIsReached(t *testing.T) {
	t.Parallel()
	contents := read(t, "README.md")
	for _, page := range pages(t) {
		if page != "README.md" && page != "../README.md" {
			require.Contains(t, contents, "("+filepath.ToSlash(page)+")", page)
		}
	}
}

// TestConfigurationExamplesLoad takes every whole configuration in the pages.
func TestConfigurationExamplesLoad(t *testing.T) {
	t.Parallel()
	example := regexp.MustCompile("(?s)```yaml\n(version: 1\n.*?)```")
	found := 0
	for _, page := range pages(t) {
		for _, m := range example.FindAllStringSubmatch(read(t, page), -1) {
			_, err := config.Parse(page, []byte(m[1]), config.Options{Env: func(string) (string, bool) { return "", false }})
			require.NoError(t, err)
			found++
		}
	}
	require.Positive(t, found)
}

// TestDependencies compares the table with go.mod.
func TestDependencies(t *testing.T) {
	t.Parallel()
	var want, have []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(read(t, "../go.mod"), -1) {
		want = append(want, m[1])
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ").FindAllStringSubmatch(read(t, "explanation/dependencies.md"), -1) {
		have = append(have, m[1])
	}
	require.ElementsMatch(t, want, have)
}

// sources parses the program's own files, without the tests.
func sources(t *testing.T, root string) []*ast.File {
	t.Helper()
	var out []*ast.File
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		out = append(out, file)
		return err
	}))
	require.NotEmpty(t, out)
	return out
}

// constants returns the string constants in a file.
func constants(file *ast.File) []string {
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				out = append(out, s)
			}
		}
		return true
	})
	return out
}

// TestMetrics: a metric that is not on the page is one that nobody uses, and
// one on the page that the code lacks breaks somebody's dashboard.
func TestMetrics(t *testing.T) {
	t.Parallel()
	metric := regexp.MustCompile(`^vecferry_[a-z_]+_(total|seconds|bytes|info|rows|ratio)$`)
	var want, have []string
	for _, file := range sources(t, "..") {
		for _, s := range constants(file) {
			if metric.MatchString(s) {
				want = append(want, s)
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(vecferry_[a-z_]+)` \\| ").FindAllStringSubmatch(read(t, "reference/metrics.md"), -1) {
		have = append(have, m[1])
	}
	slices.Sort(want)
	require.ElementsMatch(t, slices.Compact(want), have)
}

// TestCommands looks for each command and each flag of the program on its page.
func TestCommands(t *testing.T) {
	t.Parallel()
	page := read(t, "reference/cli.md")
	found := 0
	for _, file := range sources(t, "../cmd/vecferry") {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr: // cobra.Command{Use: "run"}
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Use" {
					found += wantWord(t, page, n.Value, "%s")
				}
			case *ast.CallExpr: // Flags().BoolVar(&yes, "yes", false, "…")
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && isFlag(f.Sel.Name) && len(n.Args) > 3 {
					found += wantWord(t, page, n.Args[1], "--%s")
				}
			}
			return true
		})
	}
	require.Greater(t, found, 12)
}

// isFlag names the methods of a set of flags that add one.
func isFlag(method string) bool {
	return slices.Contains([]string{"BoolVar", "BoolVarP", "StringVar", "StringVarP", "StringArrayVar", "DurationVar", "IntVar"}, method)
}

func wantWord(t *testing.T, page string, e ast.Expr, form string) int {
	t.Helper()
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return 0
	}
	text, err := strconv.Unquote(lit.Value)
	require.NoError(t, err)
	word, _, _ := strings.Cut(text, " ")
	require.Regexp(t, "[`, ]"+regexp.QuoteMeta(strings.ReplaceAll(form, "%s", word))+"[` ]", page)
	return 1
}

// TestStatusJSON compares the fields on the page with those of the reports.
func TestStatusJSON(t *testing.T) {
	t.Parallel()
	var want, have []string
	for _, file := range sources(t, "../cmd/vecferry") {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if ok && strings.HasPrefix(spec.Name.Name, "Report") {
				want = append(want, jsonNames(spec)...)
			}
			return true
		})
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ").FindAllStringSubmatch(read(t, "reference/json.md"), -1) {
		have = append(have, m[1])
	}
	require.NotEmpty(t, want)
	require.ElementsMatch(t, want, have)
}

func jsonNames(spec *ast.TypeSpec) []string {
	var out []string
	shape, ok := spec.Type.(*ast.StructType)
	if !ok {
		return nil
	}
	for _, f := range shape.Fields.List {
		if f.Tag == nil {
			continue
		}
		name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		if name != "" && name != "-" {
			out = append(out, name)
		}
	}
	return out
}
