package config

import (
	_ "embed"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"time"
)

// The doc comments of config.go are the documentation of the keys; the compiler drops them, so the
// source is carried along.
//
//go:embed config.go
var source string

// kind says how the text of a key is read.
type kind int

const (
	kindText kind = iota
	kindInt
	kindBool
	kindSize
	kindDuration
	kindSecret
	kindRelation
	kindSection // a mapping with fixed keys
	kindList    // a list of such mappings
	kindMap     // a mapping from free names to such mappings
)

// section describes a mapping with fixed keys.
type section struct {
	fields []field
}

// field describes one key.
type field struct {
	key      string
	doc      string
	kind     kind
	index    []int // path of the Go field in its struct
	optional bool  // a section that stays nil when it is not given
	required bool
	twin     bool
	def      string
	low      string
	high     string
	oneOf    []string
	format   string
	example  string
	env      string
	needs    []string
	excludes []string
	choice   string
	entry    string
	inner    section
}

// describe returns the schema of the whole file.
func describe() section {
	return describeStruct(reflect.TypeFor[Config](), nil)
}

func describeStruct(t reflect.Type, docs map[string]string) section {
	var s section
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Anonymous:
			s.fields = append(s.fields, inlined(describeStruct(f.Type, docs), i)...)
		case f.IsExported():
			s.fields = append(s.fields, describeField(t, i, docs))
		}
	}
	return s
}

func inlined(s section, at int) []field {
	for i := range s.fields {
		s.fields[i].index = append([]int{at}, s.fields[i].index...)
	}
	return s.fields
}

func describeField(t reflect.Type, i int, docs map[string]string) field {
	sf := t.Field(i)
	tag := sf.Tag
	f := field{
		key: tag.Get("key"), doc: docs[t.Name()+"."+sf.Name], index: []int{i},
		required: tag.Get("required") != "", twin: tag.Get("twin") != "",
		def: tag.Get("default"), oneOf: list(tag.Get("oneof")), format: tag.Get("format"),
		example: tag.Get("example"), env: tag.Get("env"), needs: list(tag.Get("needs")),
		excludes: list(tag.Get("excludes")), choice: tag.Get("choice"), entry: tag.Get("entry"),
	}
	f.low, f.high, _ = strings.Cut(tag.Get("range"), "..")
	f.kind, f.optional = kindOf(sf.Type)
	if f.kind >= kindSection {
		f.inner = describeStruct(element(sf.Type), docs)
	}
	return f
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "|")
}

func kindOf(t reflect.Type) (k kind, optional bool) {
	switch t {
	case reflect.TypeFor[Secret]():
		return kindSecret, false
	case reflect.TypeFor[Size]():
		return kindSize, false
	case reflect.TypeFor[time.Duration]():
		return kindDuration, false
	case reflect.TypeFor[Relation]():
		return kindRelation, false
	}
	return kindOfShape(t.Kind())
}

func kindOfShape(k reflect.Kind) (_ kind, optional bool) {
	switch k {
	case reflect.Int:
		return kindInt, false
	case reflect.Bool:
		return kindBool, false
	case reflect.Pointer:
		return kindSection, true
	case reflect.Struct:
		return kindSection, false
	case reflect.Slice:
		return kindList, false
	case reflect.Map:
		return kindMap, false
	default:
		return kindText, false
	}
}

// element is the struct behind a pointer, a list or a map.
func element(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Struct {
		return t
	}
	return t.Elem()
}

func (s section) find(key string) (f field, isTwin, ok bool) {
	for _, f := range s.fields {
		if f.key == key {
			return f, false, true
		}
		if f.twin && f.twinKey() == key {
			return f, true, true
		}
	}
	return field{}, false, false
}

// keys lists the keys of the section with the _file twins.
func (s section) keys() []string {
	var keys []string
	for _, f := range s.fields {
		keys = append(keys, f.names()...)
	}
	return keys
}

func (f field) twinKey() string { return f.key + "_file" }

// names lists the keys under which the field can be given.
func (f field) names() []string {
	if f.twin {
		return []string{f.key, f.twinKey()}
	}
	return []string{f.key}
}

// documented returns the schema with its documentation, which reading a file does not need.
func documented() section {
	return describeStruct(reflect.TypeFor[Config](), docComments())
}

// docComments maps Type.Field to the comment of the field.
func docComments() map[string]string {
	docs := map[string]string{}
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		return docs // cannot be: this file was compiled
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			commentsOf(spec, docs)
		}
		return true
	})
	return docs
}

func commentsOf(spec *ast.TypeSpec, docs map[string]string) {
	shape, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range shape.Fields.List {
		text := strings.Join(strings.Fields(f.Doc.Text()), " ")
		for _, name := range f.Names {
			docs[spec.Name.Name+"."+name.Name] = text
		}
	}
}
