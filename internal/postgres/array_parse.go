package postgres

import (
	"bytes"

	"github.com/vecferry/vecferry"
)

// An arrayParser turns the print of an array into JSON. Only a source without
// binary output sends it.
type arrayParser struct {
	in      []byte
	element func(dst []byte, c vecferry.Column) ([]byte, error)
	depth   int
}

func (p *arrayParser) parse() ([]byte, error) {
	if len(p.in) > 0 && p.in[0] == '[' { // bounds, which JSON has no place for
		_, after, ok := bytes.Cut(p.in, []byte("="))
		if !ok {
			return nil, corruptf("array with bounds and no elements")
		}
		p.in = after
	}
	out, err := p.array(nil)
	if err == nil && len(p.in) != 0 {
		err = corruptf("array is followed by %d bytes", len(p.in))
	}
	return out, err
}

func (p *arrayParser) array(dst []byte) ([]byte, error) {
	if p.depth++; p.depth > maxDimensions || !p.take('{') {
		return dst, corruptf("array does not start with a brace, or is too deep")
	}
	defer func() { p.depth-- }()
	dst = append(dst, '[')
	if p.take('}') {
		return append(dst, ']'), nil
	}
	for {
		var err error
		if dst, err = p.item(dst); err != nil {
			return dst, err
		}
		if p.take('}') {
			return append(dst, ']'), nil
		}
		if !p.take(',') {
			return dst, corruptf("array is cut off")
		}
		dst = append(dst, ',')
	}
}

func (p *arrayParser) take(b byte) bool {
	if len(p.in) == 0 || p.in[0] != b {
		return false
	}
	p.in = p.in[1:]
	return true
}

func (p *arrayParser) item(dst []byte) ([]byte, error) {
	if len(p.in) > 0 && p.in[0] == '{' {
		return p.array(dst)
	}
	if p.take('"') {
		text, err := p.quoted()
		if err != nil {
			return dst, err
		}
		return p.element(dst, vecferry.Column{Kind: vecferry.ColumnText, Data: text})
	}
	end := bytes.IndexAny(p.in, ",}")
	if end <= 0 {
		return dst, corruptf("array element is cut off")
	}
	text := p.in[:end]
	p.in = p.in[end:]
	if isNullWord(text) {
		return p.element(dst, vecferry.Column{Kind: vecferry.ColumnNull})
	}
	return p.element(dst, vecferry.Column{Kind: vecferry.ColumnText, Data: text})
}

// quoted reads up to the closing quote; a backslash takes the next byte as it
// is.
func (p *arrayParser) quoted() ([]byte, error) {
	var out []byte
	for i := 0; i < len(p.in); i++ {
		switch p.in[i] {
		case '"':
			p.in = p.in[i+1:]
			return out, nil
		case '\\':
			i++
		}
		if i < len(p.in) {
			out = append(out, p.in[i])
		}
	}
	return nil, corruptf("quoted array element is cut off")
}
