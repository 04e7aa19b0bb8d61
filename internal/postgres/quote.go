package postgres

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/vecferry/vecferry"
)

// ident quotes one name.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// relation quotes the name of a table.
func relation(t *vecferry.Table) string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// literal quotes a text for statements that take no parameters. It means the
// same under either setting of standard_conforming_strings.
func literal(s string) (string, error) {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return "", fmt.Errorf("text %q cannot be in a statement: it is no UTF-8 or holds a zero byte", s)
	}
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.IndexByte(s, '\\') < 0 {
		return quoted, nil
	}
	return "E" + strings.ReplaceAll(quoted, `\`, `\\`), nil
}
