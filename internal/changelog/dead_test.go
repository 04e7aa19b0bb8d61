package changelog

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

func letter(n int) DeadLetter {
	return DeadLetter{
		Table: "public.docs", Key: fmt.Sprint(n), Column: "embedding", Reason: "holds NaN",
		Position: vecferry.PositionAt(uint64(n), 3), LSN: 77, Time: time.Unix(1700000000, 0).UTC(), Row: json.RawMessage(`{"id":1}`),
	}
}

func TestDeadLettersAreKeptOnce(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	count := func() uint64 {
		n, err := l.DeadLetters(t.Context())
		require.NoError(t, err)
		return n
	}
	require.Zero(t, count())
	for n := range 3 {
		require.NoError(t, l.DeadLetter(t.Context(), letter(n)))
		require.NoError(t, l.DeadLetter(t.Context(), letter(n)), "a redo")
	}
	require.Equal(t, uint64(3), count())
	other := letter(0)
	other.Position++
	require.NoError(t, l.DeadLetter(t.Context(), other))
	require.Equal(t, uint64(4), count())

	got, next, err := l.ReadDeadLetters(t.Context(), 0, 2)
	require.NoError(t, err)
	require.Equal(t, []DeadLetter{letter(0), letter(1)}, got)
	got, _, err = l.ReadDeadLetters(t.Context(), next, 100)
	require.NoError(t, err)
	require.Equal(t, []DeadLetter{letter(2), other}, got)
}

func TestLargeRowIsLeftOut(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	d := letter(1)
	row, err := json.Marshal(strings.Repeat("x", l.MaxBatch()))
	require.NoError(t, err)
	d.Row = row
	require.NoError(t, l.DeadLetter(t.Context(), d))
	got, _, err := l.ReadDeadLetters(t.Context(), 0, 1)
	require.NoError(t, err)
	require.Nil(t, got[0].Row)
	require.Equal(t, len(row), got[0].RowBytes)
}

func TestFullDeadLettersAreAnError(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	s, err := l.deadStream(t.Context())
	require.NoError(t, err)
	c := s.CachedInfo().Config
	c.MaxBytes = 600
	_, err = l.js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	for n := 0; err == nil; n++ {
		require.Less(t, n, 5)
		err = l.DeadLetter(t.Context(), letter(n))
	}
	require.ErrorIs(t, err, ErrFull)
}

func TestTableNamesBecomeSubjects(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, name := range []string{
		"public.docs", `public."a b"`, "public.a*", "public.a>", "a..b", ".", "", "%", "a.%", "ä.ö", "public.DOCS", "public.do%63s", "a/b\\c",
	} {
		subject := "vecferry.p.dead." + tokens(name)
		require.True(t, server.IsValidPublishSubject(subject), "%q gives %q", name, subject)
		require.Empty(t, seen[subject], "%q and %q share %q", name, seen[subject], subject)
		seen[subject] = name
	}
	require.Equal(t, "public.docs", tokens("public.docs"))
}
