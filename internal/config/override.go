package config

import (
	"maps"
	"slices"
	"strings"
)

// dotted is the one spelling by which --set keys are compared: tables[0].m and tables.0.m are one.
func dotted(path string) string {
	return strings.NewReplacer("[", ".", "]", "").Replace(path)
}

// assign takes in one --set.
func (d *decoder) assign(assignment string) {
	key, value, found := strings.Cut(assignment, "=")
	key = strings.TrimSpace(key)
	if !found || key == "" {
		d.note(spot{source: "--set"}, "must be key=value, such as milvus.address=127.0.0.1:19530")
		return
	}
	d.set[dotted(key)] = value
}

// takeSet returns the value that --set gives to a path, once.
func (d *decoder) takeSet(path string) (string, bool) {
	key := dotted(path)
	d.known = append(d.known, key)
	value, found := d.set[key]
	delete(d.set, key)
	return value, found
}

// setUnder lists what --set names below a path, without the path.
func (d *decoder) setUnder(path string) []string {
	var rests []string
	for _, key := range sorted(d.set) {
		if rest, found := strings.CutPrefix(key, dotted(path)+"."); found {
			rests = append(rests, rest)
		}
	}
	return rests
}

// leftOver notes the --set that nothing took.
func (d *decoder) leftOver() {
	for _, key := range sorted(d.set) {
		d.note(spot{source: "--set", path: key}, d.unknownSet(key))
	}
}

func (d *decoder) unknownSet(key string) string {
	for _, known := range d.known {
		if strings.HasPrefix(known, key+".") {
			return "holds other keys; name one of them, such as " + known
		}
	}
	return unknownKey(key, d.known)
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// cutLast is strings.Cut at the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}
