package config

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Mask stands for a secret wherever one is printed.
const Mask = "******"

// Secret is a text that no formatting, logging or encoding gives away. Only [Secret.Reveal] does.
// The text is behind a pointer, so that printing a struct that hides a Secret shows an address.
type Secret struct {
	text  *string
	shown string
}

// NewSecret returns a secret that is printed as [Mask].
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text, shown: Mask}
}

// NewDSN returns a PostgreSQL connection string that is printed without its passwords.
func NewDSN(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text, shown: maskDSN(text)}
}

// Reveal returns the secret itself, for the call that dials.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// String returns the masked form, or nothing if there is no secret.
func (s Secret) String() string { return s.shown }

// GoString returns the masked form.
func (s Secret) GoString() string { return s.shown }

// Format writes the masked form, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.shown) }

// LogValue returns the masked form.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.shown) }

// MarshalJSON returns the masked form.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.shown) }

// MarshalText returns the masked form.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.shown), nil }
