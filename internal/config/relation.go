package config

import (
	"errors"
	"strings"
)

// Relation is the name of a table with its schema, as the catalog spells them.
type Relation struct {
	Schema, Name string
}

var errRelation = errors.New(`must be a table, such as public.documents or public."My Table"`)

// ParseRelation reads schema.table as SQL does: without quotes letters are folded to lower case.
func ParseRelation(text string) (Relation, error) {
	first, rest, ok := identifier(text)
	if !ok {
		return Relation{}, errRelation
	}
	if rest == "" {
		return Relation{Schema: "public", Name: first}, nil
	}
	second, rest, ok := identifier(strings.TrimPrefix(rest, "."))
	if !ok || rest != "" {
		return Relation{}, errRelation
	}
	return Relation{Schema: first, Name: second}, nil
}

// identifier reads one name; what follows is empty or starts with a dot.
func identifier(text string) (name, rest string, ok bool) {
	if strings.HasPrefix(text, `"`) {
		name, rest, ok = quotedIdentifier(text[1:])
	} else {
		end := strings.IndexByte(text+".", '.')
		name, rest, ok = strings.ToLower(text[:end]), text[end:], isBare(strings.ToLower(text[:end]))
	}
	return name, rest, ok && identifierOK(name) && (rest == "" || rest[0] == '.')
}

func quotedIdentifier(text string) (name, rest string, ok bool) {
	var b strings.Builder
	for {
		part, after, found := strings.Cut(text, `"`)
		b.WriteString(part)
		if !found {
			return "", "", false
		}
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after, true
		}
		b.WriteByte('"')
		text = after[1:]
	}
}

// isBare reports whether SQL takes the name as it is, without quotes.
func isBare(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r > 127
		if !letter && (i == 0 || r != '$' && (r < '0' || r > '9')) {
			return false
		}
	}
	return name != ""
}

// String returns schema.table, quoted where SQL needs it.
func (r Relation) String() string {
	if r.Name == "" {
		return ""
	}
	return quoteIdentifier(r.Schema) + "." + quoteIdentifier(r.Name)
}

// MarshalText returns the same as String.
func (r Relation) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func quoteIdentifier(name string) string {
	if isBare(name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
