package config

import (
	"fmt"

	"github.com/vecferry/vecferry"
)

// check holds the rules that a single key, or its siblings, cannot state.
func (d *decoder) check(c *Config) {
	d.checkMilvusTLS(c.Milvus.TLS)
	sources, collections := map[Relation]string{}, map[string]string{}
	for i, t := range c.Tables {
		at := fmt.Sprintf("tables[%d]", i)
		if t.Source != (Relation{}) {
			d.unique(at+".source", sources[t.Source])
			sources[t.Source] = at
		}
		if t.Collection != "" {
			d.unique(at+".collection", collections[t.Collection])
			collections[t.Collection] = at
		}
		d.checkTable(at, t)
	}
}

func (d *decoder) unique(path, holder string) {
	if holder != "" {
		d.refuse(path, "is taken by "+holder+"; each may be used once")
	}
}

// checkMilvusTLS refuses files that would silently go unused.
func (d *decoder) checkMilvusTLS(tls MilvusTLS) {
	if tls.Enabled {
		return
	}
	for _, key := range []string{"ca_file", "cert_file", "key_file", "server_name"} {
		if d.has("milvus.tls." + key) {
			d.refuse("milvus.tls."+key, "has no effect without milvus.tls.enabled: true")
		}
	}
}

func (d *decoder) checkTable(at string, t Table) {
	if t.Index.Type != "HNSW" {
		for _, key := range []string{".index.m", ".index.ef_construction"} {
			if d.has(at + key) {
				d.refuse(at+key, "is for "+at+".index.type HNSW only")
			}
		}
	}
	d.checkRoles(at, t)
	d.checkColumns(at, t)
}

// role is a table key that names a column, and that column.
type role struct{ key, column string }

// checkRoles refuses one column in two roles: Milvus keeps key, vector and partition key apart.
func (d *decoder) checkRoles(at string, t Table) {
	seen := map[string]string{}
	for _, r := range t.roles() {
		if other := seen[r.column]; other != "" {
			d.refuse(at+"."+r.key, "is "+at+"."+other+" already; it must be another column")
		}
		seen[r.column] = r.key
		include := at + ".columns." + r.column + ".include"
		if d.has(include) && !t.Columns[r.column].Include {
			d.refuse(include, "must be true: it is "+at+"."+r.key)
		}
	}
}

// roles lists the columns that have one.
func (t Table) roles() []role {
	var found []role
	for _, r := range []role{{"key", t.Key}, {"vector", t.Vector}, {"partition_key", t.PartitionKey}} {
		if r.column != "" {
			found = append(found, r)
		}
	}
	return found
}

func (d *decoder) checkColumns(at string, t Table) {
	fields := map[string]string{}
	for _, name := range sorted(t.Columns) {
		column, path := t.Columns[name], at+".columns."+name
		d.checkColumn(path, column)
		if name == t.Vector && d.has(path+".type") {
			d.refuse(path+".type", "is for scalar columns; this one is the vector")
		}
		if column.Rename == "" || !column.Include {
			continue
		}
		if other, kept := t.Columns[column.Rename]; kept && other.Include && other.Rename == "" {
			d.refuse(path+".rename", "is the name of another column")
		}
		d.unique(path+".rename", fields[column.Rename])
		fields[column.Rename] = path
	}
}

func (d *decoder) checkColumn(path string, c Column) {
	if c.Rename == vecferry.PositionField {
		d.refuse(path+".rename", "is the name of a field that vecferry adds itself")
	}
	if c.Include && c.MaxLength > 0 && c.Type != "" && c.Type != "varchar" {
		d.refuse(path+".max_length", "is for type varchar only")
	}
	for _, key := range []string{".rename", ".type", ".max_length"} {
		if !c.Include && d.has(path+key) {
			d.refuse(path+key, "has no effect with include: false")
		}
	}
}
