package config

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"text/tabwriter"
)

// Value is one setting with where it comes from.
type Value struct {
	Key    string `json:"key"`    // path, such as tables[0].index.m
	Text   string `json:"value"`  // as it would stand in the file; secrets masked
	Source string `json:"source"` // file:line, "env VAR", "--set", "default" or "not set"
}

// Values lists every setting in the order of the schema.
func (c *Config) Values() []Value {
	l := lister{given: c.given}
	l.section("", shape{describe(), reflect.ValueOf(c).Elem()})
	return l.values
}

// Render writes the settings as a table.
func (c *Config) Render(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tVALUE\tSOURCE")
	for _, v := range c.Values() {
		text := "-"
		if v.Text != "" {
			text = shown(v.Text)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", shownPath(v.Key), text, shownPath(v.Source))
	}
	return table.Flush()
}

// RenderJSON writes the settings as a JSON list of key, value and source.
func (c *Config) RenderJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(c.Values())
}

// lister walks a Config along its schema.
type lister struct {
	given  map[string]origin
	values []Value
}

func (l *lister) section(path string, s shape) {
	for _, f := range s.fields {
		at := f.key
		if path != "" {
			at = path + "." + f.key
		}
		l.field(at, f, s.value.FieldByIndex(f.index))
	}
}

func (l *lister) field(at string, f field, v reflect.Value) {
	switch f.kind {
	case kindSection:
		if f.optional && v.IsNil() {
			return
		}
		l.section(at, shape{f.inner, reflect.Indirect(v)})
	case kindList:
		for i := range v.Len() {
			l.section(at+"["+strconv.Itoa(i)+"]", shape{f.inner, v.Index(i)})
		}
	case kindMap:
		for _, name := range names(v) {
			l.section(at+"."+name, shape{f.inner, v.MapIndex(reflect.ValueOf(name))})
		}
	default:
		l.values = append(l.values, Value{Key: at, Text: f.print(v), Source: l.source(at, f)})
	}
}

func names(m reflect.Value) []string {
	set := map[string]bool{}
	for _, key := range m.MapKeys() {
		set[key.String()] = true
	}
	return sorted(set)
}

func (l *lister) source(at string, f field) string {
	switch o, found := l.given[at]; {
	case found:
		return o.String()
	case f.def != "":
		return "default"
	default:
		return "not set"
	}
}
