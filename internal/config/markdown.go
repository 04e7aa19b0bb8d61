package config

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed sample.yaml
var sample string

//go:embed reference.md
var preface string

// Sample returns a file with every key, its meaning and its default.
func Sample() []byte { return []byte(sample) }

// Markdown returns the reference page of the configuration.
func Markdown() []byte {
	var b strings.Builder
	b.WriteString(preface)
	writeVariables(&b, documented(), "")
	b.WriteString("\n## Keys\n")
	writeSection(&b, documented(), "")
	return []byte(b.String())
}

// writeVariables lists the environment variables that stand for a key.
func writeVariables(b *strings.Builder, s section, path string) {
	for _, f := range s.fields {
		if f.env != "" {
			fmt.Fprintf(b, "| `%s` | `%s` |\n", f.env, path+f.key)
		}
		writeVariables(b, f.inner, path+f.key+".")
	}
}

// writeSection writes one table for the plain keys, then one section for each nested one.
func writeSection(b *strings.Builder, s section, path string) {
	var nested []field
	b.WriteString("\n| Key | Default | Allowed | Meaning |\n|---|---|---|---|\n")
	for _, f := range s.fields {
		if f.kind >= kindSection {
			nested = append(nested, f)
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.key, f.defaultCell(), f.allowedCell(), f.meaningCell())
		if f.twin {
			fmt.Fprintf(b, "| `%s` | | path | %s |\n", f.twinKey(), f.twinDoc())
		}
	}
	for _, f := range nested {
		at := path + f.pathCell()
		fmt.Fprintf(b, "\n### `%s`\n\n%s\n", at, f.doc)
		writeSection(b, f.inner, at+".")
	}
}

func (f field) pathCell() string {
	switch f.kind {
	case kindList:
		return f.key + "[]"
	case kindMap:
		return f.key + ".<name>"
	default:
		return f.key
	}
}

func (f field) defaultCell() string {
	switch {
	case f.required:
		return "**required**"
	case f.def != "":
		return "`" + f.def + "`"
	default:
		return ""
	}
}

func (f field) allowedCell() string {
	format, found := formatOf(f.format)
	switch {
	case len(f.oneOf) > 0:
		return "`" + strings.Join(f.oneOf, "`, `") + "`"
	case f.limits() != "":
		return f.limits()
	case found:
		return strings.TrimPrefix(format.says, "must be ")
	default:
		return f.kindName()
	}
}

func (f field) kindName() string {
	switch f.kind {
	case kindBool:
		return "`true`, `false`"
	case kindSecret:
		return "secret"
	case kindRelation:
		return "table name"
	case kindDuration:
		return "duration"
	case kindSize:
		return "size"
	case kindInt:
		return "whole number"
	default:
		return "text"
	}
}

// meaningCell adds what the tags say to the comment.
func (f field) meaningCell() string {
	text := f.doc
	if len(f.needs) > 0 {
		text += " Needs `" + strings.Join(f.needs, "`, `") + "`."
	}
	if len(f.excludes) > 0 {
		text += " Not together with `" + strings.Join(f.excludes, "`, `") + "`."
	}
	if f.example != "" {
		text += " Example: `" + f.example + "`."
	}
	return text
}
