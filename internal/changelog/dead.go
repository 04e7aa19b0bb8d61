package changelog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vecferry/vecferry"
)

// DeadLetter is a row that could not be applied, and why.
type DeadLetter struct {
	Table    string            `json:"table"` // schema-qualified
	Key      string            `json:"key"`   // as a person writes it
	Column   string            `json:"column,omitempty"`
	Reason   string            `json:"reason"`
	Position vecferry.Position `json:"position"` // of the change in the log
	LSN      vecferry.LSN      `json:"lsn"`
	Time     time.Time         `json:"time"`
	// Row is the row as far as it is known. It is left out if the letter would
	// not fit a message otherwise; RowBytes then says how large it was.
	Row      json.RawMessage `json:"row,omitempty"`
	RowBytes int             `json:"row_bytes,omitempty"`
}

// deadWindow is how long the server recognises a repeated letter. A sink that
// redoes a run after a longer outage stores its letters again: readers take
// table, key and position together as the identity of a letter.
const deadWindow = 10 * time.Minute

// DeadLetter stores a letter and returns when it is stored. The same table,
// key, column and position within 10 minutes is stored once.
func (l *Log) DeadLetter(ctx context.Context, d DeadLetter) error {
	if _, err := l.deadStream(ctx); err != nil {
		return err
	}
	body, err := l.encodeLetter(d)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("dead letter for %s key %s", d.Table, d.Key)
	err = l.do(ctx, what, func(ctx context.Context) error {
		_, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: l.opts.deadPrefix() + tokens(d.Table), Data: body}, jetstream.WithMsgID(l.letterID(d)))
		return err
	})
	if noRoom(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func (l *Log) encodeLetter(d DeadLetter) ([]byte, error) {
	body, err := json.Marshal(d)
	if err == nil && len(body) > l.MaxBatch() {
		d.RowBytes, d.Row = len(d.Row), nil
		body, err = json.Marshal(d)
	}
	if err != nil {
		return nil, fmt.Errorf("encode dead letter: %w", err)
	}
	return body, nil
}

// letterID names a letter. The log's identity is part of it because positions
// start again in a new log.
func (l *Log) letterID(d DeadLetter) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %d", l.id, d.Table, d.Key, d.Column, d.Position))
	return hex.EncodeToString(sum[:16])
}

// DeadLetters returns how many letters there are.
func (l *Log) DeadLetters(ctx context.Context) (uint64, error) {
	s, err := l.deadStream(ctx)
	if err != nil {
		return 0, err
	}
	var n uint64
	err = l.do(ctx, "count the dead letters", func(ctx context.Context) error {
		info, err := s.Info(ctx)
		if err == nil {
			n = info.State.Msgs
		}
		return err
	})
	return n, err
}

// ReadDeadLetters returns up to limit letters behind number after, oldest
// first, and the number of the last one, to go on from.
func (l *Log) ReadDeadLetters(ctx context.Context, after uint64, limit int) ([]DeadLetter, uint64, error) {
	s, err := l.deadStream(ctx)
	if err != nil {
		return nil, after, err
	}
	var letters []DeadLetter
	for len(letters) < limit {
		var raw *jetstream.RawStreamMsg
		err := l.do(ctx, "read dead letters", func(ctx context.Context) (err error) {
			raw, err = s.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(l.opts.deadPrefix()+">"))
			return err
		})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return letters, after, err
		}
		var d DeadLetter
		if err := json.Unmarshal(raw.Data, &d); err != nil {
			return letters, after, fmt.Errorf("dead letter %d: %w: %w", raw.Sequence, vecferry.ErrCorrupt, err)
		}
		letters, after = append(letters, d), raw.Sequence
	}
	return letters, after, nil
}

// deadStream opens the stream of the dead letters at first use: a stage that
// writes none needs no permission for it.
func (l *Log) deadStream(ctx context.Context) (jetstream.Stream, error) {
	l.deadMu.Lock()
	defer l.deadMu.Unlock()
	if l.dead != nil {
		return l.dead, nil
	}
	c := l.opts.streamConfig(l.opts.deadStream(), l.opts.deadPrefix()+">", deadBytes)
	c.Duplicates = deadWindow
	s, err := l.ensureStream(ctx, c)
	if err != nil {
		return nil, err
	}
	l.dead = s
	return s, nil
}

// tokens turns a table name into tokens of a subject: dots separate, and what
// a token may not hold is written as % and two hexadecimal digits.
func tokens(table string) string {
	var b strings.Builder
	for i, token := range strings.Split(table, ".") {
		if i > 0 {
			b.WriteByte('.')
		}
		if token == "" {
			b.WriteByte('%')
		}
		for _, c := range []byte(token) {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
				b.WriteByte(c)
			default:
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
	}
	return b.String()
}
