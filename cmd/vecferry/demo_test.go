package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 54321: "54,321", 1234567: "1,234,567", -12: "-12", -123: "-123", -1234: "-1,234"} {
		require.Equal(t, want, thousands(n))
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a b", clip(" a\n\tb ", 3))
	require.Equal(t, "ab…", clip("abcd", 3))
	require.Equal(t, "日本…", clip("日本語の", 3))
	require.True(t, utf8.ValidString(clip("日本語", 2)))
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte("1\n2\n3\n4\n"), 0o600))
	require.Equal(t, "   3\n   4\n", lastLines(path, 2))
	require.Equal(t, "   1\n   2\n   3\n   4\n", lastLines(path, 9))
	require.Contains(t, lastLines(path+"x", 2), "no such file")
}

func TestPageHasHeadersOfOneWidth(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newPage(&out)
	p.step("Do this", "It shows that.")
	p.step("Do something else, at length", "It shows more.")
	p.tick("done")
	lines := strings.Split(out.String(), "\n")
	require.Len(t, lines[1], pageWidth)
	require.Len(t, lines[5], pageWidth)
	require.True(t, strings.HasPrefix(lines[5], "2. Do something else, at length ---"), lines[5])
	require.Equal(t, "   It shows that.", lines[2])
	require.Equal(t, "    0.0 s   done", lines[8])
}

// Secrets in the environment go before those in a file: none may reach the child.
func TestForeignEnvHasNoneOfOurVariables(t *testing.T) {
	t.Setenv("VECFERRY_POSTGRES_DSN", "postgres://elsewhere/production")
	t.Setenv("SOMETHING_ELSE", "1")
	env := strings.Join(foreignEnv(), "\n")
	require.NotContains(t, env, "elsewhere")
	require.Contains(t, env, "SOMETHING_ELSE=1")
}

func TestDemoRefusesTooFewRows(t *testing.T) {
	t.Parallel()
	cmd := newRoot()
	cmd.SetArgs([]string{"demo", "--rows", "3"})
	var usage *usageError
	require.ErrorAs(t, cmd.ExecuteContext(t.Context()), &usage)
}

func TestUntilSaysWhatItWaitedFor(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := &demonstration{page: newPage(&out)}
	n := 0
	require.NoError(t, d.until(t.Context(), "the third look", time.Minute, func(context.Context) (bool, string) {
		n++
		return n == 3, ""
	}))
	err := d.until(t.Context(), "the moon", 10*time.Millisecond, func(context.Context) (bool, string) { return false, "clouds" })
	require.ErrorIs(t, err, errWaitOver)
	require.ErrorContains(t, err, "the moon")
	require.ErrorContains(t, err, "clouds")
}

// A child that ends by itself ends the demonstration with the reason; one that was
// told to end does not.
func TestFerryTellsWhenItsChildEndsUnasked(t *testing.T) {
	t.Parallel()
	told := make(chan error, 2)
	f := &ferry{program: "/bin/false", dir: t.TempDir(), fail: func(err error) { told <- err }}
	require.NoError(t, f.start(t.Context()))
	select {
	case err := <-told:
		require.ErrorContains(t, err, "by itself")
	case <-time.After(time.Minute):
		t.Fatal("nobody was told")
	}
	<-f.now.ended
	require.FileExists(t, f.logPath())
	require.NoError(t, f.kill(), "it is gone already")
	require.NoError(t, f.kill(), "there is none")
	require.Empty(t, told)
	f.program = filepath.Join(f.dir, "nothing")
	require.ErrorIs(t, f.start(t.Context()), os.ErrNotExist)
	require.Empty(t, told, "it never lived")
}

func TestCausePrefersWhyTheContextEnded(t *testing.T) {
	t.Parallel()
	why, step := errors.New("the child died"), errors.New("connection refused")
	ctx, cancel := context.WithCancelCause(t.Context())
	require.Equal(t, step, cause(ctx, step))
	cancel(why)
	require.Equal(t, why, cause(ctx, step))
}
