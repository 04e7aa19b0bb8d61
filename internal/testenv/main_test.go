package testenv

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const (
	helperEnv  = "VECFERRY_TESTENV_HELPER" // which part a second process plays
	noGuardEnv = "VECFERRY_TESTENV_NO_GUARD"
	patience   = time.Minute
	step       = 10 * time.Millisecond
)

func TestMain(m *testing.M) {
	if os.Getenv(noGuardEnv) != "" { // a program that forgot about it
		os.Exit(m.Run()) //nolint:forbidigo // what TestMain is for
	}
	Main(m)
}

// TestHelperProcess is no test: other tests run it in a second process. It says
// what it got and waits until its input closes or it is killed.
func TestHelperProcess(t *testing.T) {
	opts := PostgresOptions{Version: 16}
	switch os.Getenv(helperEnv) {
	case "":
		t.Skip("for second processes only")
	case "shared":
		p, err := sharedPostgres(t.Context(), opts)
		require.NoError(t, err)
		announce(t, p)
		require.NoError(t, p.server.release())
	case "own":
		p, err := StartPostgres(t.Context(), opts)
		require.NoError(t, err)
		announce(t, p)
		require.NoError(t, p.Stop())
	case "alone":
		p, err := sharedPostgres(t.Context(), opts)
		require.NoError(t, err)
		require.NoError(t, p.server.release())
		goleak.VerifyNone(t)
	case "unguarded":
		_, err := StartPostgres(t.Context(), opts)
		require.ErrorIs(t, err, ErrNoGuard)
	}
}

func announce(t *testing.T, p *PostgresServer) {
	t.Helper()
	_, err := os.Stdout.WriteString(p.DSN("postgres") + "\n")
	require.NoError(t, err)
	_, err = bytes.NewBuffer(nil).ReadFrom(os.Stdin)
	require.NoError(t, err)
}

// privateCache shares the unpacked programs but not the running servers.
func privateCache(t *testing.T) string {
	t.Helper()
	opts := Options{Logf: t.Logf}.withDefaults()
	for _, version := range []int{16, 18} {
		root, err := postgresRoot(t.Context(), opts, version)
		require.NoError(t, err)
		_, err = postgresTemplate(t.Context(), opts, root, version)
		require.NoError(t, err)
	}
	dir, err := os.MkdirTemp(opts.Cache, "test-") //nolint:usetesting // nobody can search t.TempDir
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	for _, pattern := range []string{"postgres-*", "template-*"} {
		names, err := filepath.Glob(filepath.Join(opts.Cache, pattern))
		require.NoError(t, err)
		for _, name := range names {
			require.NoError(t, os.Symlink(name, filepath.Join(dir, filepath.Base(name))))
		}
	}
	return dir
}

// secondProcess is this test binary in another role.
type secondProcess struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	dsn    string
}

func startSecond(t *testing.T, role, cache string) *secondProcess {
	t.Helper()
	p := &secondProcess{cmd: secondCommand(t, role, cache)}
	stdin, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.cmd.Stderr = &p.output
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = stdin.Close(); p.kill() })
	line := make([]byte, 4096)
	n, err := stdout.Read(line)
	if err != nil {
		p.kill() // its output is ours to read only then
		require.NoError(t, err, p.output.String())
	}
	p.dsn = strings.TrimSpace(string(line[:n]))
	require.True(t, strings.HasPrefix(p.dsn, "postgres://"), p.dsn)
	return p
}

func secondCommand(t *testing.T, role, cache string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^TestHelperProcess$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), helperEnv+"="+role, "VECFERRY_CACHE="+cache, graceEnv+"=1s")
	return cmd
}

// kill is what a crash, or an impatient user, does.
func (p *secondProcess) kill() {
	_ = p.cmd.Process.Kill() // may have been killed before
	_ = p.cmd.Wait()
}

func answers(t *testing.T, dsn string) bool {
	t.Helper()
	ctx, cancel := contextWithin(t, patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// requireNothingLeft waits until no process and no data of a cache exist.
func requireNothingLeft(t *testing.T, cache string) {
	t.Helper()
	require.Eventually(t, func() bool {
		instances, err := filepath.Glob(filepath.Join(cache, "run", "*-*", "spec.json"))
		return err == nil && len(instances) == 0 && len(processesOf(cache)) == 0
	}, patience, 5*step, "instances or processes are left")
}

// processesOf finds guards by their environment and servers by their arguments.
func processesOf(cache string) []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if bytes.Contains(args, []byte(cache)) || bytes.Contains(env, []byte(guardEnv+"="+cache)) {
			found = append(found, dir+" "+string(args))
		}
	}
	return found
}
