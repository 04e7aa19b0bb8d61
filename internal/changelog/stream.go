package changelog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vecferry/vecferry"
)

// Metadata of our streams.
const (
	metaPipeline    = "pipeline"
	metaIncarnation = "vecferry_id"
)

// streamConfig is what all three streams have in common.
func (o Options) streamConfig(name, subject string, maxBytes int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              name,
		Subjects:          []string{subject},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew, // DiscardOld eats what was not read yet
		MaxBytes:          maxBytes,
		MaxMsgs:           -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		DenyDelete:        true, // so that num_deleted counts damage only
		Replicas:          o.Replicas,
		AllowDirect:       false, // reads come from the leader
		Metadata:          map[string]string{metaPipeline: o.Pipeline, metaIncarnation: rand.Text()},
	}
}

// ensureStream creates a stream, or checks one that exists and adapts its size
// limit and its replicas.
func (l *Log) ensureStream(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	var s jetstream.Stream
	err := l.do(ctx, "open stream "+want.Name, func(ctx context.Context) (err error) {
		s, err = l.js.Stream(ctx, want.Name)
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		s, err = l.js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another stage was faster
			s, err = l.js.Stream(ctx, want.Name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	have := s.CachedInfo().Config
	if wrong := differences(have, want); len(wrong) > 0 {
		return nil, &vecferry.HaltError{
			What: fmt.Sprintf("stream %s is not a stream of vecferry: %s", want.Name, strings.Join(wrong, ", ")),
			Fix:  "rename the pipeline, or delete that stream if nobody needs it",
		}
	}
	if have.MaxBytes == want.MaxBytes && have.Replicas == want.Replicas && have.AllowDirect == want.AllowDirect {
		return s, nil
	}
	have.MaxBytes, have.Replicas, have.AllowDirect = want.MaxBytes, want.Replicas, want.AllowDirect
	err = l.do(ctx, "adapt stream "+want.Name, func(ctx context.Context) (err error) {
		s, err = l.js.UpdateStream(ctx, have)
		return err
	})
	return s, err
}

// differences names the settings of a stream with which it could lose, reorder
// or reuse messages.
func differences(have, want jetstream.StreamConfig) []string {
	var wrong []string
	note := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	note(slices.Equal(have.Subjects, want.Subjects), "its subjects are %s, not %s", strings.Join(have.Subjects, " "), strings.Join(want.Subjects, " "))
	note(have.Storage == want.Storage, "its storage is %s, not %s", have.Storage, want.Storage)
	note(have.Retention == want.Retention, "its retention is %s, not %s", have.Retention, want.Retention)
	note(have.Discard == want.Discard, "its discard policy is %s, not %s", have.Discard, want.Discard)
	note(have.MaxAge == want.MaxAge, "it drops messages after %v", have.MaxAge)
	note(have.MaxMsgs == want.MaxMsgs, "it holds %d messages at most", have.MaxMsgs)
	note(have.MaxMsgsPerSubject == want.MaxMsgsPerSubject, "it holds %d messages a subject, not %d", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	note(have.AllowRollup == want.AllowRollup, "its roll-up setting is %v", have.AllowRollup)
	note(have.DenyDelete == want.DenyDelete, "its deny-delete setting is %v", have.DenyDelete)
	note(!have.DenyPurge, "it cannot be trimmed (deny-purge)")
	note(!have.Sealed && !have.NoAck, "it is sealed or does not acknowledge")
	note(have.Mirror == nil && len(have.Sources) == 0 && have.SubjectTransform == nil, "it is fed from elsewhere")
	note(have.PersistMode == jetstream.DefaultPersistMode, "it acknowledges before it has stored")
	note(have.Compression == jetstream.NoCompression, "it is compressed")
	return wrong
}

// incarnation returns the identity of a stream: it changes when the stream is
// deleted and created again, even if its sequence numbers come back.
func incarnation(info *jetstream.StreamInfo) string {
	return info.Created.UTC().Format(time.RFC3339Nano) + "/" + info.Config.Metadata[metaIncarnation]
}
