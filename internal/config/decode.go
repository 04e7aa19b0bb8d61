package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// origin is where a value was given, and its text with secrets masked.
type origin struct {
	source string
	text   string
	vars   []string // the variables that its text came from
	file   string   // the file that it was read from
	line   int
}

// String is the origin as config show has it.
func (o origin) String() string {
	switch {
	case o.file != "":
		return o.source + " (" + o.file + ")"
	case len(o.vars) > 0:
		return o.source + " ($" + strings.Join(o.vars, ", $") + ")"
	default:
		return o.source
	}
}

// spot is a place in the configuration: the path of a key, and where it was given.
type spot struct {
	path   string
	source string
	line   int
}

// shape is a section of the schema with the struct that it fills.
type shape struct {
	section
	value reflect.Value
}

// decoder fills a Config and collects everything that is wrong on the way.
type decoder struct {
	name     string
	opts     Options
	set      map[string]string // --set by dotted path; taken out as it is used
	known    []string          // dotted paths that --set could have meant
	given    map[string]origin
	problems []Problem
}

func newDecoder(name string, opts Options) *decoder {
	if opts.Env == nil {
		opts.Env = os.LookupEnv
	}
	if opts.ReadFile == nil {
		opts.ReadFile = func(path string) ([]byte, error) { return readUpTo(path, longestSecret) }
	}
	d := &decoder{name: name, opts: opts, set: map[string]string{}, given: map[string]origin{}}
	for _, assignment := range opts.Set {
		d.assign(assignment)
	}
	return d
}

// at is a spot in the file.
func (d *decoder) at(path string, line int) spot {
	return spot{path: path, source: d.name + ":" + strconv.Itoa(line), line: line}
}

func (s spot) key(key string) spot {
	if s.path != "" {
		key = s.path + "." + key
	}
	s.path = key
	return s
}

func (s spot) item(i int) spot {
	s.path += "[" + strconv.Itoa(i) + "]"
	return s
}

// on moves a spot to the line of a node, if there is one.
func (d *decoder) on(s spot, n *yaml.Node) spot {
	if n == nil {
		return s
	}
	return d.at(s.path, n.Line)
}

func (d *decoder) note(s spot, text string) { d.noteValue(s, "", text) }

func (d *decoder) noteValue(s spot, value, text string) {
	if s.path != "" {
		s.path = shownPath(s.path)
	}
	d.problems = append(d.problems, Problem{Source: s.source, Key: s.path, Value: value, Text: text, line: s.line})
}

// shownPath keeps a key with odd characters from breaking the line.
func shownPath(path string) string {
	const longest = 4 * longestShown
	if quoted := strconv.Quote(path); quoted != `"`+path+`"` && strings.ContainsFunc(path, isControl) {
		path = quoted
	}
	if len(path) > longest {
		path = strings.ToValidUTF8(path[:longest], "") + "…"
	}
	return path
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || !strconv.IsPrint(r) }

// section fills a struct from a mapping; without one it fills in the defaults.
func (d *decoder) section(at spot, n *yaml.Node, into shape) {
	if n != nil && !d.isKind(at, n, yaml.MappingNode) {
		return
	}
	nodes := d.entries(at, n, into.keys())
	for _, f := range into.fields {
		d.field(at.key(f.key), f, nodes, into.value.FieldByIndex(f.index))
	}
	d.relations(at, into.section)
}

// entries returns the values of a mapping by key, after noting keys that are unknown or there twice.
func (d *decoder) entries(at spot, n *yaml.Node, known []string) map[string]*yaml.Node {
	nodes := map[string]*yaml.Node{}
	for key, value := range d.pairs(at, n) {
		switch spot := d.on(at.key(key.Value), key); {
		case known != nil && !slices.Contains(known, key.Value):
			d.unknown(at, key, known)
		case nodes[key.Value] != nil:
			d.note(spot, fmt.Sprintf("is given twice, first on line %d", nodes[key.Value].Line))
		default:
			value.Line = key.Line // a value stands where its key does, even if it starts below
			nodes[key.Value] = value
		}
	}
	return nodes
}

// unknown notes an unknown key. What follows a colon in it may be a secret: {password:hunter2} is one key.
func (d *decoder) unknown(at spot, key *yaml.Node, known []string) {
	name, _, found := strings.Cut(key.Value, ":")
	at = d.on(at.key(name), key)
	if found && slices.Contains(known, name) {
		d.note(at, "needs a space after its colon")
		return
	}
	d.note(at, unknownKey(name, known))
}

// pairs walks a mapping, if there is one.
func (d *decoder) pairs(at spot, n *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		if n == nil {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
				d.note(d.on(at, key), "has a key that is not a plain name")
				continue
			}
			if !yield(key, value) {
				return
			}
		}
	}
}

// isKind notes a node of the wrong kind. Aliases are refused: they would hide which line a value is from.
func (d *decoder) isKind(at spot, n *yaml.Node, want yaml.Kind) bool {
	if n.Kind == want && n.ShortTag() != "!!null" {
		return true
	}
	at = d.on(at, n)
	switch {
	case n.Kind == yaml.AliasNode:
		d.note(at, "is a YAML alias; write the value out")
	case n.ShortTag() == "!!null":
		d.note(at, "has no value; give it one, or leave the key out")
	case want == yaml.MappingNode:
		d.note(at, "must be keys with values, not "+nodeName(n))
	case want == yaml.SequenceNode:
		d.note(at, "must be a list, not "+nodeName(n))
	default:
		d.note(at, "must be a single value, not "+nodeName(n))
	}
	return false
}

func nodeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	default:
		return "a single value"
	}
}

// field fills one Go field, of whatever kind.
func (d *decoder) field(at spot, f field, nodes map[string]*yaml.Node, into reflect.Value) {
	n := nodes[f.key]
	at = d.on(at, n)
	switch f.kind {
	case kindSection:
		d.nested(at, f, n, into)
	case kindList:
		d.items(at, f, n, into)
	case kindMap:
		d.named(at, f, n, into)
	default:
		d.scalar(at, f, nodes, into)
	}
}

// nested fills a section; an optional one only if anything in it is given.
func (d *decoder) nested(at spot, f field, n *yaml.Node, into reflect.Value) {
	switch {
	case n != nil:
		d.given[at.path] = origin{source: at.source, line: at.line}
	case len(d.setUnder(at.path)) > 0:
		d.given[at.path] = origin{source: "--set"}
	case f.optional:
		return
	}
	if f.optional {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	d.section(at, n, shape{f.inner, into})
}

// items fills a list from its nodes, and from --set beyond their end.
func (d *decoder) items(at spot, f field, n *yaml.Node, into reflect.Value) {
	var nodes []*yaml.Node
	if n != nil && d.isKind(at, n, yaml.SequenceNode) {
		nodes = n.Content
	}
	count := len(nodes)
	for len(d.setUnder(at.item(count).path)) > 0 {
		count++
	}
	if count == 0 && f.required && (n == nil || n.Kind == yaml.SequenceNode) {
		d.note(at, "must list at least one "+strings.TrimSuffix(f.key, "s"))
	}
	into.Set(reflect.MakeSlice(into.Type(), count, count))
	for i := range count {
		var node *yaml.Node
		if i < len(nodes) {
			node = nodes[i]
		}
		d.section(d.on(at.item(i), node), node, shape{f.inner, into.Index(i)})
	}
}

// named fills a map of sections, from the file and from --set.
func (d *decoder) named(at spot, f field, n *yaml.Node, into reflect.Value) {
	if n != nil && !d.isKind(at, n, yaml.MappingNode) {
		return
	}
	nodes := d.entries(at, n, nil)
	for _, rest := range d.setUnder(at.path) {
		if name, _, ok := cutLast(rest, "."); ok && nodes[name] == nil {
			nodes[name] = nil
		}
	}
	if len(nodes) == 0 {
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for _, name := range sorted(nodes) {
		value := reflect.New(into.Type().Elem()).Elem()
		place := d.on(at.key(name), nodes[name])
		if !identifierOK(name) {
			d.note(place, "must be named by a column, 1 to 63 bytes")
		}
		d.section(place, nodes[name], shape{f.inner, value})
		into.SetMapIndex(reflect.ValueOf(name), value)
	}
}
