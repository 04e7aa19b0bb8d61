package milvus

import (
	"math"
	"strconv"

	"github.com/vecferry/vecferry"
)

// Selection names entities: those with one of Keys, or with any key of Range if Keys
// is nil.
type Selection struct {
	Keys  []vecferry.Key
	Range vecferry.Range
}

// Empty reports whether no key can be selected.
func (s Selection) Empty() bool {
	if s.Keys != nil {
		return len(s.Keys) == 0
	}
	return s.Range.Empty()
}

// expression returns the selection as Milvus' filter. A text is quoted as Go does it:
// the server unquotes with strconv.Unquote (internal/parser/planparserv2).
func (l *layout) expression(s Selection) string {
	t := l.table
	name := t.KeyField().Name
	if s.Keys != nil {
		return string(appendIn(nil, name, s.Keys, t.KeyType))
	}
	if k, ok := s.Range.Single(); ok {
		return string(appendIn(nil, name, []vecferry.Key{k}, t.KeyType))
	}
	b := []byte(name)
	lower, bounded := s.Range.Lower(t.KeyType)
	if !bounded {
		lower = vecferry.Bound{Key: leastKey(t.KeyType), Inclusive: true}
	}
	b = appendBound(b, " >", lower, t.KeyType)
	if upper, ok := s.Range.Upper(t.KeyType); ok {
		b = append(append(b, " && "...), name...)
		b = appendBound(b, " <", upper, t.KeyType)
	}
	return string(b)
}

func leastKey(t vecferry.KeyType) vecferry.Key {
	if t == vecferry.KeyInt {
		return vecferry.IntKey(math.MinInt64)
	}
	return ""
}

// appendIn appends "name in [a,b]".
func appendIn(b []byte, name string, keys []vecferry.Key, t vecferry.KeyType) []byte {
	b = append(append(b, name...), " in ["...)
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendKey(b, k, t)
	}
	return append(b, ']')
}

func appendBound(b []byte, operator string, bound vecferry.Bound, t vecferry.KeyType) []byte {
	b = append(b, operator...)
	if bound.Inclusive {
		b = append(b, '=')
	}
	return appendKey(append(b, ' '), bound.Key, t)
}

// appendKey appends a key as a literal. The parser reads the sign of a number apart
// from its digits, so the least int64 has none and is written as a difference.
func appendKey(b []byte, k vecferry.Key, t vecferry.KeyType) []byte {
	switch {
	case t == vecferry.KeyText:
		return strconv.AppendQuote(b, string(k))
	case k.Int() == math.MinInt64:
		return append(b, "(-9223372036854775807-1)"...)
	}
	return strconv.AppendInt(b, k.Int(), 10)
}
