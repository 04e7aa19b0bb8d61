package config

import (
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// candidate is one text that a field could take, and where it comes from.
type candidate struct {
	spot
	key  string // the field's key, or its _file twin
	text string
	vars []string // variables in it
}

// scalar fills a single value: from --set, else the environment, else the file, else the default.
func (d *decoder) scalar(at spot, f field, nodes map[string]*yaml.Node, into reflect.Value) {
	d.useDefault(f, into) // also under a bad value, so that it does not look like several problems
	found, bad := d.candidates(at, f, nodes)
	switch {
	case len(found) > 1:
		d.given[at.path] = origin{source: found[0].source, line: found[0].line}
		d.note(found[1].spot, "cannot be given together with "+found[0].path)
	case len(found) == 1:
		d.take(found[0], f, into)
	case bad:
		d.given[at.path] = origin{source: at.source, line: at.line}
	case f.required:
		d.note(at, "is required"+f.hint())
	}
}

// hint gives an example of a value that would do.
func (f field) hint() string {
	switch {
	case len(f.oneOf) == 1:
		return "; it must be " + f.oneOf[0]
	case f.env != "":
		return ", such as " + shown(f.example) + "; or give " + f.twinKey() + " or the variable " + f.env
	default:
		return ", such as " + shown(f.example)
	}
}

// useDefault skips the checks: a default may hold a placeholder that is filled in later.
func (d *decoder) useDefault(f field, into reflect.Value) {
	switch {
	case f.def == "":
	case f.kind == kindText:
		into.SetString(f.def)
	default:
		_ = f.store(f.def, into) // a test reads every default
	}
}

// candidates returns what the highest source that says anything says; bad is a file value that is no text.
func (d *decoder) candidates(at spot, f field, nodes map[string]*yaml.Node) (found []candidate, bad bool) {
	parent := strings.TrimSuffix(at.path, f.key)
	for _, key := range f.names() {
		path := parent + key
		if text, ok := d.takeSet(path); ok {
			found = append(found, candidate{spot: spot{path: path, source: "--set"}, key: key, text: text})
		}
	}
	if len(found) > 0 {
		return found, false
	}
	if text, ok := d.fromEnv(f); ok {
		return []candidate{{spot: spot{path: at.path, source: "env " + f.env}, key: f.key, text: text}}, false
	}
	for _, key := range f.names() {
		n := nodes[key]
		if n == nil {
			continue
		}
		if c, ok := d.fromNode(d.on(spot{path: parent + key}, n), f, n); ok {
			c.key = key
			found = append(found, c)
		} else {
			bad = true
		}
	}
	return found, bad
}

// fromEnv reads the field's own variable. An empty one counts as none, as it does in a manifest.
func (d *decoder) fromEnv(f field) (string, bool) {
	if f.env == "" {
		return "", false
	}
	text, found := d.opts.Env(f.env)
	return text, found && text != ""
}

// fromNode reads a value of the file, expands it, and checks that YAML sees the type that is due.
func (d *decoder) fromNode(at spot, f field, n *yaml.Node) (candidate, bool) {
	if !d.isKind(at, n, yaml.ScalarNode) {
		return candidate{}, false
	}
	e := expansion{text: n.Value}
	if !d.opts.NoExpand {
		var err error
		if e, err = expand(n.Value, d.opts.Env); err != nil {
			d.note(at, err.Error())
			return candidate{}, false
		}
	}
	if says := f.wrongTag(n); says != "" && len(e.vars) == 0 {
		text := f.quote(n.Value)
		if n.Style&quoted != 0 && text == n.Value {
			text = strconv.Quote(text)
		}
		d.noteValue(at, text, says)
		return candidate{}, false
	}
	return candidate{spot: at, text: e.text, vars: e.vars}, true
}

const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle

// wrongTag says what is wrong with the YAML type of a value, if anything.
func (f field) wrongTag(n *yaml.Node) string {
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		return "has a YAML tag; write the plain value"
	case f.kind == kindBool && n.Style&quoted != 0:
		return errBool.Error() + ", without quotes"
	case f.kind == kindInt && n.Style&quoted != 0:
		return errInt.Error() + ", without quotes"
	case f.kind == kindBool, f.kind == kindInt, f.kind == kindSize, f.kind == kindDuration:
		return ""
	case n.ShortTag() != "!!str":
		return "must be text: put it in quotes"
	default:
		return ""
	}
}

// quote is a value as a message shows it: not at all if the key holds secrets.
func (f field) quote(text string) string {
	switch {
	case f.kind == kindSecret:
		return ""
	case f.format == "nats_url":
		return shown(maskUserinfo(text))
	default:
		return shown(text)
	}
}

// maskUserinfo hides what stands before an @.
func maskUserinfo(text string) string {
	before, after, found := cutLast(text, "@")
	if !found {
		return text
	}
	if scheme, _, ok := strings.Cut(before, "://"); ok {
		return scheme + "://" + Mask + "@" + after
	}
	return Mask + "@" + after
}

// take stores a candidate, reading its file if it names one.
func (d *decoder) take(c candidate, f field, into reflect.Value) {
	path := strings.TrimSuffix(c.path, c.key) + f.key
	d.given[path] = origin{source: c.source, text: f.quote(c.text), line: c.line, vars: c.vars}
	if c.key != f.key {
		text, ok := d.secretFile(c)
		if !ok {
			return
		}
		d.given[path] = origin{source: c.source, file: c.text, line: c.line}
		c.text = text
	}
	if err := f.store(c.text, into); err != nil {
		d.noteValue(c.spot, d.given[path].text, err.Error())
	}
}

// secretFile reads a secret. One line end after it belongs to the editor, not to the secret.
func (d *decoder) secretFile(c candidate) (string, bool) {
	if c.text == "" {
		d.note(c.spot, errEmpty.Error())
		return "", false
	}
	data, err := d.opts.ReadFile(c.text)
	if err != nil {
		d.noteValue(c.spot, shown(c.text), "cannot be read: "+reason(err))
		return "", false
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		d.noteValue(c.spot, shown(c.text), "is an empty file; it must hold the secret")
		return "", false
	}
	return text, true
}
