package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/testenv"
)

// invoke runs the program and returns what it printed and its exit code.
func invoke(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		exit := new(exec.ExitError)
		require.ErrorAs(t, err, &exit)
	}
	return string(out), errs.String(), cmd.ProcessState.ExitCode()
}

// configFile writes a configuration with the given addresses.
func configFile(t *testing.T, dsn, milvus, http string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vecferry.yaml")
	yaml := "version: 1\npipeline: cli\npostgres: {dsn: \"" + dsn + "\"}\nmilvus: {address: \"" + milvus + "\"}\n" +
		"log: {embedded: {dir: \"" + t.TempDir() + "\"}}\nhttp: {listen: \"" + http + "\"}\ntables:\n  - {source: docs, collection: docs}\n"
	require.NoError(t, os.WriteFile(file, []byte(yaml), 0o600))
	return file
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	return ln.Addr().String()
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	nobody := freeAddress(t)
	source := "postgres://app:hunter2@" + nobody + "/app"
	file, away := configFile(t, source, nobody, freeAddress(t)), configFile(t, source, nobody, freeAddress(t))
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("version: 1\npipelin: x\n"), 0o600))
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"unknown command":      {[]string{"fly"}, exitUsage, "unknown command"},
		"unknown subcommand":   {[]string{"config", "fly"}, exitUsage, "unknown command"},
		"unknown flag":         {[]string{"run", "--fast"}, exitUsage, "unknown flag: --fast"},
		"surplus argument":     {[]string{"run", "now"}, exitUsage, "now"},
		"no file":              {[]string{"run", "-c", "/nowhere/vecferry.yaml"}, exitUsage, "/nowhere/vecferry.yaml"},
		"unknown key":          {[]string{"config", "validate", "-c", bad}, exitUsage, "did you mean"},
		"wait for nothing":     {[]string{"wait", "-c", file}, exitUsage, "--caught-up"},
		"status, nothing runs": {[]string{"status", "-c", file}, exitUnreachable, "no pipeline answers"},
		"wait, nothing runs":   {[]string{"wait", "--caught-up", "-c", file}, exitUnreachable, "no pipeline answers"},
		"Postgres is away":     {[]string{"run", "-c", away, "--start-timeout", "1s"}, exitUnreachable, "cannot be reached"},
		"slot, Postgres away":  {[]string{"slot", "drop", "-c", file}, exitUnreachable, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := invoke(t, c.args...)
			require.Equal(t, c.code, code, "%s", stderr)
			require.Contains(t, stderr, c.want)
			require.Empty(t, stdout)
			require.NotContains(t, stderr, "hunter2")
		})
	}
}

func TestConfigCommands(t *testing.T) {
	t.Parallel()
	file := configFile(t, "postgres://app:hunter2@h/app", "m:1", "127.0.0.1:1")
	out, _, code := invoke(t, "config", "show", "-c", file)
	require.Zero(t, code)
	require.Contains(t, out, "default")
	require.NotContains(t, out, "hunter2")
	out, _, code = invoke(t, "config", "schema")
	require.Zero(t, code)
	require.True(t, json.Valid([]byte(out)))
	out, _, code = invoke(t, "config", "validate", "-c", file)
	require.Zero(t, code)
	require.Contains(t, out, "is right")
	out, _, code = invoke(t, "version")
	require.Zero(t, code)
	require.Contains(t, out, "vecferry")
}

// A life of the program as an operator sees it.
func TestOperate(t *testing.T) {
	t.Parallel()
	m := testenv.Milvus(t)
	proxy := testenv.Proxy(t, m.Address)
	w := newWorld(t, 16, proxy.Addr(), "create table docs (id int primary key, v vector(3)); insert into docs select i, '[1,2,3]' from generate_series(1, 10) i",
		"{source: docs, collection: "+m.Prefix+"docs}")
	p := newProgram(t, w)
	p.start()
	p.caughtUp()

	out, err := p.command("status", "--json").Output()
	require.NoError(t, err)
	var r Report
	require.NoError(t, json.Unmarshal(out, &r))
	require.Equal(t, "streaming", r.State)
	require.Equal(t, int64(10), r.Tables[0].CopiedRows)
	out, err = p.command("status").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "public.docs")
	require.NoError(t, p.command("healthcheck").Run())

	second, stderr, code := invoke(t, "run", "-c", p.file)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "http.listen")
	require.Empty(t, second)
	_, stderr, code = invoke(t, "slot", "drop", "--yes", "-c", p.file)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "in use")

	proxy.Block()
	w.exec("insert into docs values (11, '[1,2,3]')")
	_, stderr, code = invoke(t, "wait", "--caught-up", "--timeout", "2s", "-c", p.file)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "not there after 2s")
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt)) // drains, but Milvus does not answer
	require.Eventually(t, func() bool { return strings.Contains(p.text(), "stopping") }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, exitKilled, p.kill(os.Interrupt))
	proxy.Unblock()

	p.start()
	p.caughtUp()
	w.equal()
	require.Equal(t, exitDone, p.kill(syscall.SIGTERM))
	stdout, _, code := invoke(t, "slot", "drop", "-c", p.file)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stdout, "would drop")
	stdout, stderr, code = invoke(t, "slot", "drop", "--yes", "-c", p.file)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "dropped slot")
	_, stderr, code = invoke(t, "run", "-c", p.file)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "slot")
}
