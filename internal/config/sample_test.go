package config

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// TestSampleIsCurrent writes the sample from the schema and compares it with sample.yaml.
func TestSampleIsCurrent(t *testing.T) {
	t.Parallel()
	var w sampleWriter
	w.line("# vecferry.yaml with every key. Lines that start with # and a word without a space between them")
	w.line("# are keys that may be left out; they show the default, or an example where there is none.")
	w.section(documented(), "")
	if flag.Lookup("update").Value.String() == "true" {
		require.NoError(t, os.WriteFile("sample.yaml", []byte(w.String()), 0o644))
	}
	data, err := os.ReadFile("sample.yaml")
	require.NoError(t, err)
	require.Equal(t, w.String(), string(data), "run go test -update ./internal/config")
}

func TestSampleLoads(t *testing.T) {
	t.Parallel()
	cfg, err := Parse("sample.yaml", Sample(), Options{Env: noEnv})
	require.NoError(t, err)
	require.Equal(t, "vecferry_documents", cfg.Postgres.Slot)
}

// TestSampleHasEveryKey reads the sample with all its comments taken away and walks it along the schema.
func TestSampleHasEveryKey(t *testing.T) {
	t.Parallel()
	setting := regexp.MustCompile(`(?m)^( *(?:- )?)#(\S|  )`)
	text := string(Sample())
	for setting.MatchString(text) {
		text = setting.ReplaceAllString(text, "$1$2")
	}
	var doc yaml.Node
	require.NoError(t, yaml.Unmarshal([]byte(text), &doc), text)
	requireKeys(t, describe(), doc.Content[0], "")
}

func requireKeys(t *testing.T, s section, n *yaml.Node, path string) {
	t.Helper()
	found := map[string]*yaml.Node{}
	var keys []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		found[n.Content[i].Value] = n.Content[i+1]
		keys = append(keys, n.Content[i].Value)
	}
	require.Equal(t, s.keys(), keys, "keys of %q", path)
	for _, f := range s.fields {
		value := found[f.key]
		switch f.kind {
		case kindSection:
			requireKeys(t, f.inner, value, path+f.key+".")
		case kindList:
			requireKeys(t, f.inner, value.Content[0], path+f.key+".")
		case kindMap:
			requireKeys(t, f.inner, value.Content[1], path+f.key+".")
		default:
			if f.def != "" {
				require.Equal(t, sampleDefault(f), value.Value, "default of %s%s", path, f.key)
			}
		}
	}
}

func noEnv(string) (string, bool) { return "", false }

// sampleWriter writes the sample from the schema.
type sampleWriter struct {
	strings.Builder
	marked bool // inside of a section that is commented out as a whole
}

func (w *sampleWriter) line(text string) { w.WriteString(strings.TrimRight(text, " ") + "\n") }

func (w *sampleWriter) section(s section, indent string) {
	for i, f := range s.fields {
		if indent == "" || i > 0 && (f.kind >= kindSection || s.fields[i-1].kind >= kindSection) {
			w.line("")
		}
		w.comment(f, indent)
		w.field(f, indent)
	}
}

func (w *sampleWriter) field(f field, indent string) {
	if f.kind < kindSection {
		w.setting(f, indent)
		return
	}
	mark := ""
	if !w.live(f) {
		mark = "#"
	}
	inner := sampleWriter{marked: mark != ""}
	inner.section(f.inner, "  ")
	w.line(indent + mark + f.key + ":")
	for text := range strings.Lines(inner.nested(f)) {
		if text = strings.TrimRight(text, "\n"); text != "" {
			text = mark + text
		}
		w.line(indent + text)
	}
}

// nested is the text of a section, as an item of a list or below a sample name where it is one.
func (w *sampleWriter) nested(f field) string {
	text := strings.TrimLeft(w.String(), "\n")
	switch f.kind {
	case kindList:
		first := text[:strings.Index(text, "\n  source")+1]
		rest := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(text[len(first):], "  $1")
		return first + "  - " + strings.TrimLeft(rest, " ")
	case kindMap:
		return "  " + f.entry + ":\n" + regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(text, "  $1")
	default:
		return text
	}
}

// live reports whether a section holds a key that a file needs.
func (w *sampleWriter) live(f field) bool {
	if f.choice != "" {
		return f.key == "embedded"
	}
	if len(f.inner.alternatives()) > 0 {
		return true
	}
	for _, inner := range f.inner.fields {
		if inner.required || inner.kind == kindSection && w.live(inner) {
			return f.kind != kindMap
		}
	}
	return false
}

func (w *sampleWriter) setting(f field, indent string) {
	text, mark := f.example, "#"
	if f.def != "" {
		text = sampleDefault(f)
	}
	if f.required || w.marked && f.def != "" {
		mark = ""
	}
	w.line(indent + mark + f.key + ": " + text)
	if f.twin {
		w.line(indent + "#" + f.twinKey() + ": /run/secrets/" + f.key)
	}
}

// sampleDefault is the default of a key in the pipeline of the sample.
func sampleDefault(f field) string { return strings.ReplaceAll(f.def, "<pipeline>", "documents") }

func (w *sampleWriter) comment(f field, indent string) {
	text := f.doc
	if limits := f.limits(); limits != "" {
		text += " " + strings.ToUpper(limits[:1]) + limits[1:] + "."
	}
	if len(f.oneOf) > 1 {
		text += " One of " + strings.Join(f.oneOf, ", ") + "."
	}
	if f.env != "" {
		text += " Also " + f.env + "."
	}
	const width = 100
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) >= width {
			w.line(line)
			line = indent + "#"
		}
		line += " " + word
	}
	w.line(line)
}
