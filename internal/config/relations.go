package config

import "strings"

// relations checks what the keys of one section say about each other.
func (d *decoder) relations(at spot, s section) {
	for _, f := range s.fields {
		if !d.has(at.key(f.key).path) {
			continue
		}
		for _, other := range f.needs {
			if !d.has(at.key(other).path) {
				d.refuse(at.key(f.key).path, "needs "+at.key(other).path+" with it")
			}
		}
		for _, other := range f.excludes {
			if d.has(at.key(other).path) {
				d.refuse(at.key(f.key).path, "cannot be given together with "+at.key(other).path)
				break // user name and password are one reason, not two
			}
		}
	}
	d.choices(at, s)
}

// choices checks that exactly one of the keys marked as alternatives is given.
func (d *decoder) choices(at spot, s section) {
	var all, found []string
	for _, f := range s.fields {
		if f.choice == "" {
			continue
		}
		all = append(all, f.key)
		if d.has(at.key(f.key).path) {
			found = append(found, at.key(f.key).path)
		}
	}
	switch {
	case len(all) > 0 && len(found) == 0:
		d.note(at, "must have one of "+strings.Join(all, ", "))
	case len(found) > 1:
		d.refuse(found[1], "cannot be given together with "+found[0])
	}
}

// has reports whether a key is given, be it well or badly.
func (d *decoder) has(path string) bool {
	_, found := d.given[path]
	return found
}

// refuse notes a problem with a key that was given.
func (d *decoder) refuse(path, text string) {
	o, found := d.given[path]
	if !found {
		o = origin{source: d.name}
	}
	d.noteValue(spot{path: path, source: o.source, line: o.line}, o.text, text)
}
