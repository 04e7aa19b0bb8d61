package changelog

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
)

// Sizes that the package keeps to.
const (
	// DefaultMaxBytes is the size limit of the change log when none is given.
	DefaultMaxBytes = 20 << 30

	maxPayload   = 8 << 20   // of the embedded server; above it the server warns
	stateBytes   = 256 << 20 // limit of the state bucket, which keeps one value a key
	deadBytes    = 1 << 30   // limit of the dead letters
	headerMargin = 4 << 10   // room for subject and headers beside a payload
)

// Options say where the change log is and how large it may become. Exactly one
// of Embedded and External is set.
type Options struct {
	// Pipeline names the streams, the subjects and the bucket: a-z, 0-9 and _,
	// starting with a letter, up to 40.
	Pipeline string
	Embedded *Embedded
	External *External
	// MaxBytes limits the change log; a full log refuses batches. 0 means DefaultMaxBytes.
	MaxBytes int64
	// Replicas is the number of servers that hold a copy. 0 means 1; the
	// embedded server is alone and always has 1.
	Replicas int
	Logger   *slog.Logger // nil discards
}

// Embedded keeps the change log in a server inside this process. Every write
// is on the disk (fsync) before it is acknowledged.
type Embedded struct {
	Dir string // created if missing; belongs to one process at a time
}

// External keeps the change log in a NATS server or cluster with JetStream,
// 2.14 or newer. Whether it syncs each write is its own setting
// (sync_interval: always), which a client cannot see.
type External struct {
	URL       string // servers, separated by commas, without credentials
	CredsFile string // a user's JWT and seed
	NKeyFile  string // a user's NKey seed
	Username  string
	Password  string
	TLS       *tls.Config // nil leaves it to the URL
	// InboxPrefix replaces _INBOX for users that may subscribe to one prefix only.
	InboxPrefix string
}

var pipelineName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// complete returns the options with defaults, or what is wrong with them.
func (o Options) complete() (Options, error) {
	if !pipelineName.MatchString(o.Pipeline) {
		return o, fmt.Errorf("pipeline name %q: want 1 to 40 of a-z, 0-9 and _, starting with a letter", o.Pipeline)
	}
	if (o.Embedded == nil) == (o.External == nil) {
		return o, errors.New("change log: want exactly one of an embedded and an external server")
	}
	if o.Embedded != nil && o.Embedded.Dir == "" {
		return o, errors.New("change log: the embedded server needs a folder")
	}
	if o.MaxBytes < 0 || o.Replicas < 0 {
		return o, errors.New("change log: size limit and replicas cannot be negative")
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Replicas == 0 || o.Embedded != nil {
		o.Replicas = 1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// consumerName is the durable consumer that the reader owns.
const consumerName = "sink"

func (o Options) streamName() string { return "VECFERRY_" + o.Pipeline }
func (o Options) subject() string    { return "vecferry." + o.Pipeline + ".changes" }
func (o Options) deadStream() string { return "VECFERRY_DLQ_" + o.Pipeline }
func (o Options) deadPrefix() string { return "vecferry." + o.Pipeline + ".dead." }
func (o Options) bucket() string     { return "vecferry_" + o.Pipeline }
func (o Options) keyPrefix() string  { return "$KV." + o.bucket() + "." }
