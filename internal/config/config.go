// Package config reads vecferry.yaml: one strict file that says what is carried from where to where.
//
// The struct types in this file are the only description of that file's format. Their tags hold the
// keys, defaults and limits, their comments hold the documentation. Reading, checking, provenance,
// the JSON Schema, the reference page and the sample are all derived from them.
//
// A value comes from the first of: --set, the environment (secrets only), the file, the default.
// Everything wrong with a file is reported at once, as an [*Error], before any server is dialled.
//
// Tags: key, default, required, range ("lo..hi", either end may be open), oneof, format (see
// formats.go), example, env, twin (a <key>_file sibling exists), needs and excludes (sibling keys),
// choice (exactly one of the siblings with that mark), entry (the name of a sample map entry).
package config

import "time"

// Config is a whole, checked configuration file.
type Config struct {
	// Version of the file format. There is one so far.
	Version int `key:"version" required:"true" oneof:"1" example:"1"`
	// Name of the pipeline. It names the replication slot, the publication and the stream.
	Pipeline string `key:"pipeline" required:"true" format:"pipeline" example:"documents"`
	// The source: the PostgreSQL database that holds the tables and their vectors.
	Postgres Postgres `key:"postgres"`
	// The target.
	Milvus Milvus `key:"milvus"`
	// The change log between source and target, a NATS JetStream stream. It also holds all state.
	Log Log `key:"log"`
	// The tables to carry, each into one collection.
	Tables []Table `key:"tables" required:"true"`
	// Copying of the rows that were there before.
	Snapshot Snapshot `key:"snapshot"`
	// Applying of the change log to the target.
	Sink Sink `key:"sink"`
	// The HTTP server for health, metrics, status and the console.
	HTTP HTTP `key:"http"`
	// The program's own log, written to standard error.
	Logging Logging `key:"logging"`

	given map[string]origin
}

// Postgres says how to reach the source and what vecferry calls its objects there.
type Postgres struct {
	// Where the source is: a postgres:// URI or keyword/value pairs. A password in it is never printed.
	DSN Secret `key:"dsn" twin:"true" required:"true" format:"dsn" env:"VECFERRY_POSTGRES_DSN" example:"postgres://app@127.0.0.1:5432/app"`
	// Password, in place of one in the DSN.
	Password Secret `key:"password" twin:"true" env:"VECFERRY_POSTGRES_PASSWORD" example:"change-me"`
	// Most SQL connections used for copying and comparing. Replication takes one more.
	Connections int `key:"connections" default:"4" range:"1..64"`
	// Name of the replication slot.
	Slot string `key:"slot" default:"vecferry_<pipeline>" format:"slot"`
	// Name of the publication.
	Publication string `key:"publication" default:"vecferry_<pipeline>" format:"identifier"`
	// Create the publication if it is missing. With false, an owner creates it beforehand.
	CreatePublication bool `key:"create_publication" default:"true"`
}

// Milvus says how to reach the target.
type Milvus struct {
	// Host and port of the gRPC endpoint.
	Address string `key:"address" required:"true" format:"address" example:"127.0.0.1:19530"`
	// User name, with a password.
	Username string `key:"username" needs:"password" example:"vecferry"`
	// Password of that user.
	Password Secret `key:"password" twin:"true" needs:"username" env:"VECFERRY_MILVUS_PASSWORD" example:"change-me"`
	// API key or user:password token, in place of user name and password.
	Token Secret `key:"token" twin:"true" excludes:"username|password" env:"VECFERRY_MILVUS_TOKEN" example:"change-me"`
	// Database in Milvus.
	Database string `key:"database" default:"default" format:"milvus_name"`
	// Encryption of the connection.
	TLS MilvusTLS `key:"tls"`
	// Number of gRPC connections.
	Connections int `key:"connections" default:"2" range:"1..16"`
}

// MilvusTLS switches encryption on and says whom to trust.
type MilvusTLS struct {
	// Encrypt the connection.
	Enabled bool `key:"enabled" default:"false"`
	TLS
}

// TLS holds the files of an encrypted connection. Empty fields mean the system's own.
type TLS struct {
	// File with the certificates of the authorities to trust, in PEM.
	CAFile string `key:"ca_file" example:"/etc/vecferry/ca.pem"`
	// File with the client's certificate, in PEM.
	CertFile string `key:"cert_file" needs:"key_file" example:"/etc/vecferry/client.pem"`
	// File with the client's private key, in PEM.
	KeyFile string `key:"key_file" needs:"cert_file" example:"/etc/vecferry/client-key.pem"`
	// Name to expect in the server's certificate, if it is not the host name.
	ServerName string `key:"server_name" example:"db.example.com"`
}

// Log says where the change log is kept: exactly one of Embedded and NATS is set.
type Log struct {
	// A NATS server inside this process, with its files in a local folder. Either this or nats.
	Embedded *Embedded `key:"embedded" choice:"server"`
	// An external NATS server or cluster with JetStream. Either this or embedded.
	NATS *NATS `key:"nats" choice:"server"`
	// How much of the log is kept after it was applied, for a replay.
	ReplayWindow time.Duration `key:"replay_window" default:"1h" range:"0s.."`
}

// Embedded is the built-in NATS server.
type Embedded struct {
	// Folder of the change log and of all state. Relative to the working directory.
	Dir string `key:"dir" required:"true" example:"./vecferry-data"`
	// Size limit of the change log in bytes. A full log holds capture back, nothing is thrown away.
	MaxBytes Size `key:"max_bytes" default:"20GiB" range:"64MiB.."`
}

// NATS is an external NATS server or cluster.
type NATS struct {
	// Servers, separated by commas, without credentials.
	URL string `key:"url" required:"true" format:"nats_url" example:"nats://127.0.0.1:4222"`
	// File with a user's JWT and seed.
	CredsFile string `key:"creds_file" excludes:"nkey_file|username|password" example:"/etc/vecferry/nats.creds"`
	// File with a user's NKey seed.
	NKeyFile string `key:"nkey_file" excludes:"username|password" example:"/etc/vecferry/nats.nk"`
	// User name, with a password.
	Username string `key:"username" needs:"password" example:"vecferry"`
	// Password of that user.
	Password Secret `key:"password" twin:"true" needs:"username" env:"VECFERRY_NATS_PASSWORD" example:"change-me"`
	// Encryption of the connection; any key here switches it on, as a tls:// URL does.
	TLS TLS `key:"tls"`
	// Number of servers that hold a copy of the stream.
	Replicas int `key:"replicas" default:"1" oneof:"1|3"`
	// Size limit of the change log in bytes. A full log holds capture back, nothing is thrown away.
	MaxBytes Size `key:"max_bytes" default:"20GiB" range:"64MiB.."`
}

// Table maps one source table to one collection.
type Table struct {
	// Source table as schema.table, quoted as in SQL where needed; without a schema it is public.
	Source Relation `key:"source" required:"true" example:"public.documents"`
	// Target collection. It is created if it is missing.
	Collection string `key:"collection" required:"true" format:"milvus_name" example:"documents"`
	// Column that is the collection's primary key. Found from the table's own key if not given.
	Key string `key:"key" format:"identifier" example:"id"`
	// Column that holds the vector. Found if the table has one only.
	Vector string `key:"vector" format:"identifier" example:"embedding"`
	// Column that becomes the partition key, such as the tenant.
	PartitionKey string `key:"partition_key" format:"identifier" example:"workspace_id"`
	// Number of physical partitions, with a partition key.
	Partitions int `key:"partitions" default:"64" range:"1..1024" needs:"partition_key"`
	// What becomes of single columns, by name. A column that is not named is carried under its own name and type.
	Columns map[string]Column `key:"columns" entry:"body"`
	// The index on the vector.
	Index Index `key:"index"`
	// Number of shards of the collection.
	Shards int `key:"shards" default:"1" range:"1..16"`
	// Most rows in one write to Milvus.
	BatchRows int `key:"batch_rows" default:"1000" range:"1..10000"`
}

// Column says what becomes of one source column.
type Column struct {
	// Carry the column. With false it stays behind.
	Include bool `key:"include" default:"true"`
	// Name of the field in Milvus, if not the column's.
	Rename string `key:"rename" format:"milvus_name" example:"content"`
	// Type of the field in Milvus, if not the one that follows from the column's type.
	Type string `key:"type" oneof:"bool|int16|int32|int64|float|double|varchar|json" example:"varchar"`
	// Longest text in bytes, for varchar.
	MaxLength int `key:"max_length" range:"1..65535" example:"65535"`
}

// Index is the vector index of a collection.
type Index struct {
	// Kind of index.
	Type string `key:"type" default:"HNSW" oneof:"HNSW|FLAT|IVF_FLAT|AUTOINDEX"`
	// Measure of distance.
	Metric string `key:"metric" default:"COSINE" oneof:"COSINE|L2|IP"`
	// Links per node of an HNSW index.
	M int `key:"m" default:"16" range:"4..64"`
	// Candidates looked at when a node enters an HNSW index.
	EFConstruction int `key:"ef_construction" default:"256" range:"8..512"`
}

// Snapshot tunes the copying.
type Snapshot struct {
	// Chunks that are copied at the same time.
	Workers int `key:"workers" default:"2" range:"1..32"`
	// Size to aim at for one chunk, in bytes.
	ChunkBytes Size `key:"chunk_bytes" default:"24MiB" range:"1MiB..1GiB"`
}

// Sink tunes the applying.
type Sink struct {
	// Writes that are sent to Milvus at the same time.
	Lanes int `key:"lanes" default:"2" range:"1..16"`
	// Most bytes of changes that are applied, and after a crash applied again, as one run.
	MaxRunBytes Size `key:"max_run_bytes" default:"32MiB" range:"1MiB..1GiB"`
}

// HTTP says where to serve.
type HTTP struct {
	// Host and port to listen on. Without a host it is every interface.
	Listen string `key:"listen" default:"127.0.0.1:9470" format:"listen"`
}

// Logging tunes the program's own log.
type Logging struct {
	// Least severity that is written.
	Level string `key:"level" default:"info" oneof:"debug|info|warn|error"`
	// Form of a line. With auto it is text on a terminal and JSON otherwise.
	Format string `key:"format" default:"auto" oneof:"auto|text|json"`
}

// IsZero reports whether nothing is said about encryption.
func (t TLS) IsZero() bool { return t == TLS{} }
