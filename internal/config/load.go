package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Options say what a file is read with. The zero value reads the file and the process environment.
type Options struct {
	Set      []string                          // key=value, each over file and environment
	Env      func(name string) (string, bool)  // the environment; os.LookupEnv if nil
	ReadFile func(name string) ([]byte, error) // reads *_file keys; a bounded os.Open if nil
	NoExpand bool                              // take ${VAR} in the file literally
}

// Limits in bytes: both are far beyond use, and keep a wrong path from filling the memory.
const (
	longestFile   = 4 << 20
	longestSecret = 64 << 10
)

// Load reads, checks and completes the file at path. A refusal is an [*Error].
func Load(path string, opts Options) (*Config, error) {
	data, err := readUpTo(path, longestFile)
	if err != nil {
		problem := Problem{Source: path, Text: "cannot be read: " + reason(err)}
		return nil, &Error{Problems: []Problem{problem}, cause: err}
	}
	return Parse(path, data, opts)
}

// Parse is [Load] for a file that is in memory; name stands for it in messages.
func Parse(name string, data []byte, opts Options) (*Config, error) {
	d := newDecoder(name, opts)
	cfg := &Config{given: d.given}
	root := d.document(data)
	if root == nil {
		return nil, &Error{Problems: d.problems}
	}
	d.section(d.at("", root.Line), root, shape{describe(), reflect.ValueOf(cfg).Elem()})
	d.leftOver()
	if d.check(cfg); len(d.problems) > 0 {
		return nil, &Error{Problems: inOrder(d.problems)}
	}
	cfg.derive()
	return cfg, nil
}

// derive fills the defaults that depend on other values.
func (c *Config) derive() {
	for _, name := range []*string{&c.Postgres.Slot, &c.Postgres.Publication} {
		*name = strings.ReplaceAll(*name, "<pipeline>", c.Pipeline)
	}
}

// document returns the one mapping that the file is, or nil after noting why it is not.
func (d *decoder) document(data []byte) *yaml.Node {
	stream := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := stream.Decode(&doc); errors.Is(err, io.EOF) {
		d.note(d.at("", 1), "is empty; it needs at least version, pipeline, postgres, milvus, log and tables")
		return nil
	} else if err != nil {
		d.syntax(err)
		return nil
	}
	root := doc.Content[0]
	if err := stream.Decode(&second); !errors.Is(err, io.EOF) {
		d.note(d.at("", max(second.Line, 1)), "holds more than one YAML document; one file is one pipeline")
		return nil
	}
	if root.Kind != yaml.MappingNode {
		d.note(d.at("", root.Line), "must be keys with values, not "+nodeName(root))
		return nil
	}
	return root
}

// syntax notes an error of the YAML parser at its line.
func (d *decoder) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if found := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); found != nil {
		line, _ = strconv.Atoi(found[1])
		text = strings.TrimPrefix(text, found[0])
	}
	d.note(d.at("", line), "is not valid YAML near this line: "+withoutNames(text))
}

// withoutNames hides the name of an alias: *word may be a password that lacks its quotes.
func withoutNames(text string) string {
	return regexp.MustCompile(`anchor '.*'`).ReplaceAllString(text, "anchor")
}

// readUpTo reads a file that may be a pipe, but not one without an end.
func readUpTo(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("it is longer than %v", Size(most))
	}
	return data, nil
}

// reason is an error without the path, which the message names already.
func reason(err error) string {
	if onPath, ok := errors.AsType[*fs.PathError](err); ok {
		return onPath.Err.Error()
	}
	return err.Error()
}
