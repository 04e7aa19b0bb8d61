package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/changelog"
	"github.com/vecferry/vecferry/internal/config"
	"github.com/vecferry/vecferry/internal/postgres"
	"github.com/vecferry/vecferry/sink/milvus"
)

// sourceOptions says how to reach Postgres with so many connections.
func sourceOptions(c config.Postgres, conns int) postgres.Options {
	return postgres.Options{DSN: c.DSN.Reveal(), Password: c.Password.Reveal(), MaxConns: conns}
}

// tableSpec is a table of the configuration as the source's mapping takes it.
func tableSpec(t config.Table) postgres.Spec {
	s := postgres.Spec{
		Schema: t.Source.Schema, Name: t.Source.Name, Collection: t.Collection,
		Key: t.Key, Vector: t.Vector, PartitionKey: t.PartitionKey, Shards: t.Shards, BatchRows: t.BatchRows,
		Columns: make(map[string]postgres.ColumnSpec, len(t.Columns)),
		Index:   vecferry.Index{Type: t.Index.Type, Metric: t.Index.Metric, M: t.Index.M, EfConstruction: t.Index.EFConstruction},
	}
	if t.PartitionKey != "" {
		s.Partitions = t.Partitions
	}
	for name, c := range t.Columns {
		s.Columns[name] = postgres.ColumnSpec{Include: &c.Include, Rename: c.Rename, Type: c.Type, MaxLength: c.MaxLength}
	}
	return s
}

// logOptions says where the change log is.
func logOptions(c *config.Config, log *slog.Logger) (changelog.Options, error) {
	o := changelog.Options{Pipeline: c.Pipeline, Logger: log.With("stage", "log")}
	if e := c.Log.Embedded; e != nil {
		o.Embedded, o.MaxBytes = &changelog.Embedded{Dir: e.Dir}, int64(e.MaxBytes)
		return o, nil
	}
	n := c.Log.NATS
	o.MaxBytes, o.Replicas = int64(n.MaxBytes), n.Replicas
	o.External = &changelog.External{URL: n.URL, CredsFile: n.CredsFile, NKeyFile: n.NKeyFile,
		Username: n.Username, Password: n.Password.Reveal()}
	var err error
	if n.TLS != (config.TLS{}) {
		o.External.TLS, err = tlsConfig("log.nats.tls", n.TLS)
	}
	return o, err
}

// targetOptions says how to reach Milvus.
func targetOptions(c *config.Config, log *slog.Logger) (milvus.Options, error) {
	m := c.Milvus
	o := milvus.Options{Address: m.Address, Username: m.Username, Password: m.Password.Reveal(), Token: m.Token.Reveal(),
		Database: m.Database, Connections: m.Connections, Lanes: c.Sink.Lanes, Logger: log.With("stage", "milvus")}
	if o.Database == "default" {
		o.Database = ""
	}
	var err error
	if m.TLS.Enabled {
		o.TLS, err = tlsConfig("milvus.tls", m.TLS.TLS)
	}
	return o, err
}

// tlsConfig loads the files of an encrypted connection.
func tlsConfig(key string, c config.TLS) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, &usageError{fmt.Errorf("%s.ca_file: %w", key, err)}
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &usageError{fmt.Errorf("%s.ca_file = %s: %w", key, c.CAFile, errNoCertificate)}
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, &usageError{fmt.Errorf("%s.cert_file and key_file: %w", key, err)}
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

var errNoCertificate = errors.New("holds no certificate in PEM form")

// rowJSON is a row for the dead letters, without its vector.
func rowJSON(t *vecferry.Table, row vecferry.Row) json.RawMessage {
	out := make(map[string]any)
	for i, v := range row.Values {
		switch v.Kind() {
		case vecferry.Null:
			out[t.Fields[i].Column] = nil
		case vecferry.Bool:
			out[t.Fields[i].Column] = v.Bool()
		case vecferry.Int:
			out[t.Fields[i].Column] = v.Int()
		case vecferry.Float:
			out[t.Fields[i].Column] = fmt.Sprint(v.Float()) // JSON has no NaN
		case vecferry.Text, vecferry.JSON:
			out[t.Fields[i].Column] = v.Text()
		}
	}
	if len(out) == 0 {
		return nil
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return b
}
