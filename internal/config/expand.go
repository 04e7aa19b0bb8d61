package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// expansionPattern is what a value with a variable looks like, for the JSON Schema.
const expansionPattern = `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`

// These do not quote what they found: it may be a piece of a secret.
var (
	errNotClosed = errors.New("has ${ without }; write $$ for a plain $")
	errNoName    = errors.New("has ${…} that names no variable; write ${NAME}, ${NAME:-default}, or $$ for a plain $")
)

// expansion is a text with its variables replaced.
type expansion struct {
	text string
	vars []string // names of the variables that were used
}

// expand replaces ${VAR} and ${VAR:-default} in a single value; $$ stands for $, any other $ for itself.
// It works on values and never on the text of the file, so a secret may hold any YAML character.
func expand(text string, env func(string) (string, bool)) (expansion, error) {
	var e expansion
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		switch {
		case !found:
			e.text = b.String()
			return e, nil
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			text = after[1:]
		case strings.HasPrefix(after, "{"):
			reference, rest, closed := strings.Cut(after[1:], "}")
			if !closed {
				return e, errNotClosed
			}
			value, err := e.resolve(reference, env)
			if err != nil {
				return e, err
			}
			b.WriteString(value)
			text = rest
		default:
			b.WriteByte('$')
			text = after
		}
	}
}

// resolve finds the value of what stands between the braces.
func (e *expansion) resolve(reference string, env func(string) (string, bool)) (string, error) {
	name, fallback, hasFallback := strings.Cut(reference, ":-")
	if ok, _ := regexp.MatchString(`^[A-Za-z_][A-Za-z0-9_]*$`, name); !ok {
		return "", errNoName
	}
	if !slices.Contains(e.vars, name) {
		e.vars = append(e.vars, name)
	}
	value, found := env(name)
	switch {
	case hasFallback && value == "":
		return fallback, nil
	case !found:
		return "", fmt.Errorf("the environment variable %s is not set; set it, or write ${%s:-default}", name, name)
	default:
		return value, nil
	}
}
