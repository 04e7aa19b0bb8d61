package config

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// object is a JSON object.
type object = map[string]any

// JSONSchema returns the format of the file as a JSON Schema (draft 2020-12), for editors and CI.
// It judges the file alone, so what the environment may provide is not required by it.
func JSONSchema() []byte {
	root := documented().schema()
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "vecferry.yaml"
	root["$defs"] = object{"expansion": object{
		"type": "string", "pattern": expansionPattern, "description": "A value taken from an environment variable.",
	}}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(root) // maps of strings and numbers always encode
	return b.Bytes()
}

// schema is the JSON Schema of a mapping.
func (s section) schema() object {
	properties, required, rules := object{}, []string{}, []any{}
	for _, f := range s.fields {
		properties[f.key] = f.schema()
		if f.twin {
			properties[f.twinKey()] = object{"type": "string", "minLength": 1, "description": f.twinDoc()}
		}
		if s.requiredInFile(f) {
			required = append(required, f.key)
		}
		rules = append(rules, s.rulesOf(f)...)
	}
	out := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	if alternatives := s.alternatives(); len(alternatives) > 0 {
		out["oneOf"] = alternatives
	}
	if len(rules) > 0 {
		out["allOf"] = rules
	}
	return out
}

// requiredInFile reports whether the file must have the key: it, or something in it, has no other source.
func (s section) requiredInFile(f field) bool {
	if f.kind != kindSection || f.optional {
		return f.required && f.env == ""
	}
	if len(f.inner.alternatives()) > 0 {
		return true
	}
	return slices.ContainsFunc(f.inner.fields, f.inner.requiredInFile)
}

// rulesOf turns what a key says about its siblings into rules.
func (s section) rulesOf(f field) []any {
	var rules []any
	if f.twin {
		rules = append(rules, together(f.key, f.twinKey()))
	}
	for _, name := range f.names() {
		for _, key := range f.excludes {
			other, _, _ := s.find(key)
			for _, otherName := range other.names() {
				rules = append(rules, together(name, otherName))
			}
		}
		for _, key := range f.needs {
			if other, _, _ := s.find(key); other.env == "" {
				rules = append(rules, object{"dependentRequired": object{name: []string{key}}})
			}
		}
	}
	return rules
}

// together forbids two keys side by side.
func together(a, b string) object {
	return object{"not": object{"required": []string{a, b}}}
}

func (s section) alternatives() []any {
	var all []any
	for _, f := range s.fields {
		if f.choice != "" {
			all = append(all, object{"required": []string{f.key}})
		}
	}
	return all
}

// schema is the JSON Schema of a key's value.
func (f field) schema() object {
	var out object
	switch f.kind {
	case kindSection:
		out = f.inner.schema()
	case kindList:
		out = object{"type": "array", "minItems": 1, "items": f.inner.schema()}
	case kindMap:
		out = object{"type": "object", "additionalProperties": f.inner.schema()}
	default:
		out = f.scalarSchema()
	}
	out["description"] = f.doc
	return out
}

// scalarSchema allows a variable wherever the value itself is limited.
func (f field) scalarSchema() object {
	rule := f.rule()
	out := object{}
	if len(rule) == 2 && rule["minLength"] == 1 {
		out = rule
	} else {
		out["anyOf"] = []any{rule, object{"$ref": "#/$defs/expansion"}}
	}
	if f.def != "" {
		out["default"] = f.typed(f.def)
	}
	if f.example != "" {
		out["examples"] = []any{f.typed(f.example)}
	}
	return out
}

// rule is what the value must be if it holds no variable.
func (f field) rule() object {
	switch f.kind {
	case kindBool:
		return object{"type": "boolean"}
	case kindInt:
		return f.intRule()
	case kindSize:
		return object{"anyOf": []any{
			object{"type": "integer", "minimum": 0},
			object{"type": "string", "pattern": `^[0-9]+ *(([KMGT]i?|k)?B)?$`},
		}}
	case kindDuration:
		return object{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	}
	switch format, found := formatOf(f.format); {
	case len(f.oneOf) > 0:
		return object{"enum": f.oneOf}
	case found:
		return object{"type": "string", "pattern": format.pattern}
	default:
		return object{"type": "string", "minLength": 1}
	}
}

func (f field) intRule() object {
	if len(f.oneOf) > 0 {
		var allowed []any
		for _, text := range f.oneOf {
			allowed = append(allowed, f.typed(text))
		}
		return object{"enum": allowed}
	}
	rule := object{"type": "integer"}
	if f.low != "" {
		rule["minimum"] = f.typed(f.low)
	}
	if f.high != "" {
		rule["maximum"] = f.typed(f.high)
	}
	return rule
}

// typed is a text of a tag as JSON has it.
func (f field) typed(text string) any {
	switch f.kind {
	case kindBool:
		return text == "true"
	case kindInt:
		number, err := strconv.Atoi(text)
		if err == nil {
			return number
		}
	}
	return text
}

func (f field) twinDoc() string {
	return "File that holds the value of " + f.key + ". One line end after it is cut off."
}
