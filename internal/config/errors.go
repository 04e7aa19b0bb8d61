package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Error is a refused configuration. It lists everything that is wrong, not only the first find.
type Error struct {
	Problems []Problem
	cause    error
}

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the cause when the file could not be read at all.
func (e *Error) Unwrap() error { return e.cause }

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Source string `json:"source"`          // where it stands: file:line, "env VAR" or "--set"
	Key    string `json:"key,omitempty"`   // path of the key, such as tables[0].index.m
	Value  string `json:"value,omitempty"` // value as given, quoted if needed; empty for a secret
	Text   string `json:"text"`            // what would be right
	line   int
}

// String returns "source: key = value: text".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Source)
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	if p.Value != "" {
		b.WriteString(" = " + p.Value)
	}
	b.WriteString(": " + p.Text)
	return b.String()
}

// inOrder sorts problems by their line; those that stand outside of the file come last.
func inOrder(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if (a.line == 0) != (b.line == 0) {
			return b.line - a.line
		}
		return a.line - b.line
	})
	return problems
}

const longestShown = 80

// shown makes a text fit for one line of a terminal: quoted if it holds spaces or worse, and not endless.
func shown(text string) string {
	if runes := []rune(text); len(runes) > longestShown {
		text = string(runes[:longestShown]) + "…"
	}
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	if text == "" || strings.ContainsFunc(text, odd) {
		return strconv.Quote(text)
	}
	return text
}

// unknownKey explains a key that is not in the schema.
func unknownKey(key string, known []string) string {
	if near, ok := nearest(key, known); ok {
		return fmt.Sprintf("unknown key; did you mean %s?", near)
	}
	const most = 16
	if len(known) > most {
		return "unknown key"
	}
	return "unknown key; known here: " + strings.Join(known, ", ")
}

// nearest finds the known key that was probably meant.
func nearest(key string, known []string) (string, bool) {
	best, least := "", max(2, len(key)/4)+1
	if len(key) > 3*longestShown {
		return "", false
	}
	for _, k := range known {
		if d := distance(strings.ToLower(key), k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best, best != ""
}

// distance counts the letters to insert, drop or change to get from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
