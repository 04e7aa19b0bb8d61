package demo

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// comment is a doc comment and where it stands.
type comment struct {
	pkg  string // import path
	name string // of the declaration; empty for the package itself
	kind string // package, func, method, type, const or var
	file string // relative to the sources
	line int
	text string
}

// title names the declaration as its documentation does.
func (c comment) title() string {
	if c.name == "" {
		return "package " + c.pkg
	}
	return c.pkg + "." + c.name
}

// commentsOf returns the doc comments of one file's exported declarations that
// are long enough, in their order.
func commentsOf(root, name string) ([]comment, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, filepath.Join(root, filepath.FromSlash(name)), nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("read Go sources: %w", err)
	}
	pkg := dirOf(name)
	if pkg == "" || file.Name.Name != path.Base(pkg) {
		return nil, nil // a program that generates the package
	}
	f := finder{set: set, pkg: pkg, file: name}
	f.add(file.Doc, "", "package")
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			f.function(d)
		case *ast.GenDecl:
			f.general(d)
		}
	}
	return f.found, nil
}

// finder collects the comments of one file.
type finder struct {
	set       *token.FileSet
	pkg, file string
	found     []comment
}

func (f *finder) function(d *ast.FuncDecl) {
	name, kind := d.Name.Name, "func"
	if d.Recv != nil && len(d.Recv.List) == 1 {
		receiver := typeName(d.Recv.List[0].Type)
		if !ast.IsExported(receiver) {
			return
		}
		name, kind = receiver+"."+name, "method"
	}
	if d.Name.IsExported() {
		f.add(d.Doc, name, kind)
	}
}

// general adds what is documented in a declaration of types, constants or
// variables: the group as a whole under its first exported name, and each
// member that has a comment of its own.
func (f *finder) general(d *ast.GenDecl) {
	group := d.Doc
	for _, s := range d.Specs {
		name, doc := specName(s)
		if !ast.IsExported(name) {
			continue
		}
		f.add(group, name, d.Tok.String())
		f.add(doc, name, d.Tok.String())
		group = nil
	}
}

func specName(s ast.Spec) (string, *ast.CommentGroup) {
	switch s := s.(type) {
	case *ast.TypeSpec:
		return s.Name.Name, s.Doc
	case *ast.ValueSpec:
		return s.Names[0].Name, s.Doc
	}
	return "", nil
}

// typeName returns the name of a receiver's type.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func (f *finder) add(doc *ast.CommentGroup, name, kind string) {
	text := strings.TrimSpace(doc.Text())
	if len(text) < minContent || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return
	}
	f.found = append(f.found, comment{
		pkg: f.pkg, name: name, kind: kind, file: f.file,
		line: f.set.Position(doc.Pos()).Line, text: clip(text),
	})
}
