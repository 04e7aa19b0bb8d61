package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// milvusPorts names the ports of a standalone server: those of the template's
// placeholders, then those of the metrics and of etcd's second listener.
func milvusPorts() []string {
	return []string{
		"proxy_port", "metrics_port", "etcd_port", "etcd_peer_port", "root_coord_port", "proxy_internal_port", "query_coord_port",
		"query_node_port", "index_coord_port", "index_node_port", "data_coord_port", "data_node_port",
	}
}

// writeMilvusConfig fills the instance directory; the server looks for configs/ in
// its working directory.
func writeMilvusConfig(root, dir string, values map[string]string, overrides map[string]string) error {
	for _, sub := range []string{"configs", "logs", "data", "tmp"} {
		if err := mkdirOpen(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	template, err := os.ReadFile(filepath.Join(root, "config.yaml.template"))
	if err != nil {
		return fmt.Errorf("milvus template: %w", err)
	}
	glog, err := os.ReadFile(filepath.Join(root, "glog.conf"))
	if err != nil {
		return fmt.Errorf("milvus glog.conf: %w", err)
	}
	etcdPath := filepath.Join(dir, "configs", "etcd.yaml")
	config, err := renderMilvusConfig(string(template), values, map[string]string{"etcd.config.path": etcdPath}, overrides)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "configs", "milvus.yaml"), config, 0o644),
		os.WriteFile(filepath.Join(dir, "configs", "glog.conf"), glog, 0o644),
		os.WriteFile(etcdPath, etcdConfig(dir, values), 0o644),
	)
}

// etcdConfig is the only way to move the embedded etcd off its default ports.
func etcdConfig(dir string, values map[string]string) []byte {
	client, peer := "http://127.0.0.1:"+values["etcd_port"], "http://127.0.0.1:"+values["etcd_peer_port"]
	return fmt.Appendf(nil, `name: default
data-dir: %q
listen-client-urls: %s
advertise-client-urls: %s
listen-peer-urls: %s
initial-advertise-peer-urls: %s
initial-cluster: default=%s
`, filepath.Join(dir, "data", "etcd.data"), client, client, peer, peer, peer)
}

// renderMilvusConfig replaces each {{ name(type): default }} and then sets the
// values with dotted names.
func renderMilvusConfig(template string, values map[string]string, overlays ...map[string]string) ([]byte, error) {
	placeholder := regexp.MustCompile(`\{\{\s*(\w+)\s*(?:\(\w+\))?\s*(?::\s*([^}]*?))?\s*\}\}`)
	text := placeholder.ReplaceAllStringFunc(template, func(match string) string {
		parts := placeholder.FindStringSubmatch(match)
		if value, ok := values[parts[1]]; ok {
			return value
		}
		return parts[2]
	})
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		return nil, fmt.Errorf("milvus template: %w", err)
	}
	for _, overlay := range overlays {
		for name, value := range overlay {
			if err := setDotted(tree, name, value); err != nil {
				return nil, err
			}
		}
	}
	return yaml.Marshal(tree)
}

// setDotted keeps numbers and truth values what they are in YAML.
func setDotted(tree map[string]any, name, value string) error {
	parts := strings.Split(name, ".")
	for _, part := range parts[:len(parts)-1] {
		if tree[part] == nil {
			tree[part] = map[string]any{}
		}
		next, ok := tree[part].(map[string]any)
		if !ok {
			return fmt.Errorf("milvus setting %s: %s is not a section", name, part)
		}
		tree = next
	}
	var typed any
	if err := yaml.Unmarshal([]byte(value), &typed); err != nil {
		return fmt.Errorf("milvus setting %s: %w", name, err)
	}
	tree[parts[len(parts)-1]] = typed
	return nil
}

// milvusValues fills the placeholders of the template.
func milvusValues(dir string, ports []int) map[string]string {
	data := filepath.Join(dir, "data")
	values := map[string]string{
		"etcd_log_path": filepath.Join(dir, "logs", "etcd.log"), "system_log_path": filepath.Join(dir, "logs"),
		"etcd_data_dir": filepath.Join(data, "etcd.data"), "local_storage_dir": data, "rocksmq_data_dir": filepath.Join(data, "rocksmq"),
	}
	for n, name := range milvusPorts() {
		values[name] = strconv.Itoa(ports[n])
	}
	return values
}
