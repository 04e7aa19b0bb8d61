package changelog

import (
	"bufio"
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"no server":        {Pipeline: "docs"},
		"both servers":     {Pipeline: "docs", Embedded: &Embedded{Dir: "x"}, External: &External{URL: "nats://x"}},
		"no folder":        {Pipeline: "docs", Embedded: &Embedded{}},
		"name":             {Pipeline: "Docs.1", Embedded: &Embedded{Dir: "x"}},
		"negative size":    {Pipeline: "docs", Embedded: &Embedded{Dir: "x"}, MaxBytes: -1},
		"missing NKey":     {Pipeline: "docs", External: &External{URL: "nats://127.0.0.1:1", NKeyFile: "/nonexistent"}},
		"missing JWT file": {Pipeline: "docs", External: &External{URL: "nats://127.0.0.1:1", CredsFile: "/nonexistent"}},
	} {
		_, err := Open(t.Context(), o)
		require.Error(t, err, name)
	}
}

func TestFolderBelongsToOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openEmbedded(t, dir)
	_, err := Open(t.Context(), Options{Pipeline: "other", Embedded: &Embedded{Dir: dir}})
	var locked *LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, LockedError{Dir: dir, PID: os.Getpid()}, *locked)
	require.Contains(t, err.Error(), strconv.Itoa(os.Getpid()))
	l.Close()
	openEmbedded(t, dir)
}

// Another process writes and is killed: its lock is seen while it lives, and
// what it was told is stored is there afterwards.
func TestKilledWriterLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stored uint64
	for round := range 4 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		target := stored + 20 + uint64(round)*7
		for stored < target {
			require.True(t, lines.Scan(), "the child ended")
			stored, err = strconv.ParseUint(lines.Text(), 10, 64)
			require.NoError(t, err, lines.Text())
		}
		_, err = Open(t.Context(), Options{Pipeline: "docs", Embedded: &Embedded{Dir: dir}})
		var locked *LockedError
		require.ErrorAs(t, err, &locked)
		require.Equal(t, child.Process.Pid, locked.PID)
		require.NoError(t, child.Process.Kill())
		for lines.Scan() { // what it still said before it died
			stored, err = strconv.ParseUint(lines.Text(), 10, 64)
			require.NoError(t, err, lines.Text())
		}
		require.Error(t, child.Wait())

		l := openEmbedded(t, dir)
		tail, err := l.Tail(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, tail.Sequence, stored)
		readRange(t, newReader(t, l, 0), 1, tail.Sequence)
		stored = tail.Sequence
		l.Close()
	}
}

func TestReopenGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openEmbedded(t, dir)
	id := l.ID()
	w := newWriter(t, l)
	appendRange(t, w, 1, 30, 1000)
	for n := uint64(31); n <= 34; n++ { // left in flight
		_, err := w.Append(t.Context(), batchOf(n, 1000, nil), headerOf(n))
		require.NoError(t, err)
	}
	l.Close()

	l = openEmbedded(t, dir)
	require.Equal(t, id, l.ID())
	w2 := newWriter(t, l)
	require.Greater(t, w2.Epoch(), w.Epoch())
	require.GreaterOrEqual(t, w2.Tail().Sequence, uint64(30))
	appendRange(t, w2, w2.Tail().Sequence+1, 40, 1000)
	readRange(t, newReader(t, l, 0), 1, 40)
}

func TestIdentityChangesWithTheStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openEmbedded(t, dir)
	written(t, l, 3, 10)
	p := point(t, l, 3)
	require.NoError(t, l.Check(t.Context(), p))
	require.NoError(t, l.js.DeleteStream(t.Context(), l.opts.streamName()))
	requireHalt(t, l.Check(t.Context(), p))
	l.Close()
	l = openEmbedded(t, dir)
	written(t, l, 3, 10)
	requireHalt(t, l.Check(t.Context(), p))
	requireHalt(t, l.Check(t.Context(), Point{Log: p.Log}))
}

func TestCheckProvesThePoint(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	require.NoError(t, l.Check(t.Context(), Point{Log: l.ID()}))
	written(t, l, 10, 10)
	good := point(t, l, 7)
	require.NoError(t, l.Check(t.Context(), good))
	for name, change := range map[string]func(*Point){
		"log":   func(p *Point) { p.Log = "another" },
		"batch": func(p *Point) { p.Batch = 8 },
		"tail":  func(p *Point) { p.Batch = 11 },
		"epoch": func(p *Point) { p.Epoch++ },
		"LSN":   func(p *Point) { p.EndLSN++ },
	} {
		bad := good
		change(&bad)
		requireHalt(t, l.Check(t.Context(), bad))
		require.NotEqual(t, good, bad, name)
	}
	require.NoError(t, l.Trim(t.Context(), 7))
	require.NoError(t, l.Check(t.Context(), good), "the trimmer keeps the checkpoint")
	require.NoError(t, l.Trim(t.Context(), 8))
	requireHalt(t, l.Check(t.Context(), good))
}

// Damage on the disk. Whatever the server makes of it, it is noticed.
func TestDamagedFilesAreNoticed(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, stream string){
		"a byte of the last batch": func(t *testing.T, stream string) { flip(t, lastBlock(t, stream), -500) },
		"and no index": func(t *testing.T, stream string) {
			flip(t, lastBlock(t, stream), -500)
			require.NoError(t, os.Remove(filepath.Join(stream, "msgs", "index.db")))
		},
		"the last block": func(t *testing.T, stream string) { require.NoError(t, os.Remove(lastBlock(t, stream))) },
		"the stream":     func(t *testing.T, stream string) { require.NoError(t, os.RemoveAll(stream)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := openEmbedded(t, dir)
			written(t, l, 30, 900_000) // several blocks
			p := point(t, l, 30)
			l.Close()
			streams, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "VECFERRY_docs"))
			require.NoError(t, err)
			require.Len(t, streams, 1)
			damage(t, streams[0])
			l = openEmbedded(t, dir)
			requireHalt(t, l.Check(t.Context(), p))
			r := newReader(t, l, 30)
			_, err = r.Next(t.Context(), 500*time.Millisecond)
			if tail, terr := l.Tail(t.Context()); terr == nil {
				require.Less(t, tail.Sequence, uint64(30))
				requireHalt(t, err)
			} else {
				requireHalt(t, terr)
			}
		})
	}
}

func TestHoleInTheMiddleHaltsTheReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openEmbedded(t, dir)
	written(t, l, 30, 900_000)
	l.Close()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "VECFERRY_docs", "msgs", "2.blk"))
	require.NoError(t, err)
	require.Len(t, blocks, 1)
	flip(t, blocks[0], -500)
	l = openEmbedded(t, dir)
	r := newReader(t, l, 0)
	var last uint64
	for err == nil {
		var m *Message
		if m, err = r.Next(t.Context(), 40*time.Second); err == nil {
			last++
			require.Equal(t, last, m.Batch)
		}
	}
	requireHalt(t, err)
	require.Less(t, last, uint64(30))
	require.Positive(t, last)
}

func lastBlock(t *testing.T, stream string) string {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(stream, "msgs", "*.blk"))
	require.NoError(t, err)
	require.Greater(t, len(blocks), 1)
	last, number := "", 0
	for _, b := range blocks {
		n, err := strconv.Atoi(string(bytes.TrimSuffix([]byte(filepath.Base(b)), []byte(".blk"))))
		require.NoError(t, err)
		if n > number {
			last, number = b, n
		}
	}
	return last
}

// flip changes one byte, counted from the end.
func flip(t *testing.T, file string, at int) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	b[len(b)+at] ^= 0x40
	require.NoError(t, os.WriteFile(file, b, 0o600))
}

func TestCorruptTailStopsTheWriter(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	written(t, l, 2, 10)
	_, err := l.js.Publish(t.Context(), l.opts.subject(), []byte("not a batch"))
	require.NoError(t, err)
	_, err = l.NewWriter(t.Context())
	requireHalt(t, err)
	require.ErrorIs(t, err, vecferry.ErrCorrupt)
}

func TestPurgedLogStopsTheWriter(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	written(t, l, 2, 10)
	require.NoError(t, l.changes.Purge(t.Context()))
	_, err := l.NewWriter(t.Context())
	requireHalt(t, err)
}

func TestInfo(t *testing.T) {
	t.Parallel()
	l := openEmbedded(t, t.TempDir())
	i, err := l.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, Info{MaxBytes: 1 << 30, LastTime: i.LastTime}, i)
	written(t, l, 4, 1000)
	i, err = l.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), i.FirstBatch)
	require.Equal(t, uint64(4), i.LastBatch)
	require.Equal(t, uint64(4), i.Messages)
	require.Greater(t, i.Bytes, uint64(4000))
	require.WithinDuration(t, time.Now(), i.LastTime, time.Minute)
}

func TestSizeLimitIsAdapted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openEmbedded(t, dir)
	written(t, l, 20, 100_000)
	id := l.ID()
	l.Close()
	l = openEmbedded(t, dir, func(o *Options) { o.MaxBytes = 1 << 20 })
	require.Equal(t, id, l.ID())
	i, err := l.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), i.MaxBytes)
	require.Equal(t, uint64(20), i.Messages, "a smaller limit throws nothing away")
	w := newWriter(t, l)
	_, err = w.Append(t.Context(), batchOf(21, 10, nil), headerOf(21))
	require.NoError(t, err)
	require.ErrorIs(t, w.Flush(t.Context()), ErrFull)
}

func TestForeignStreamIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"subjects":  func(c *jetstream.StreamConfig) { c.Subjects = []string{"else"} },
		"storage":   func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"retention": func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"discard":   func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"age":       func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"count":     func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 },
		"one key":   func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"delete":    func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"rollup":    func(c *jetstream.StreamConfig) { c.AllowRollup = true },
		"compress":  func(c *jetstream.StreamConfig) { c.Compression = jetstream.S2Compression },
		"no purge":  func(c *jetstream.StreamConfig) { c.DenyPurge = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := external(natsServer(t).ClientURL())
			l := open(t, o)
			require.NoError(t, l.js.DeleteStream(t.Context(), l.opts.streamName()))
			c := l.opts.streamConfig(l.opts.streamName(), l.opts.subject(), 1<<20)
			change(&c)
			_, err := l.js.CreateStream(t.Context(), c)
			require.NoError(t, err)
			_, err = Open(t.Context(), o)
			requireHalt(t, err)
		})
	}
}

func TestStreamMadeByAnAdministrator(t *testing.T) {
	t.Parallel()
	o := external(natsServer(t).ClientURL())
	l := open(t, o)
	require.NoError(t, l.js.DeleteStream(t.Context(), l.opts.streamName()))
	c := l.opts.streamConfig(l.opts.streamName(), l.opts.subject(), 1<<20)
	c.Metadata, c.AllowDirect = nil, true
	_, err := l.js.CreateStream(t.Context(), c)
	require.NoError(t, err)
	l = open(t, o)
	require.False(t, l.changes.CachedInfo().Config.AllowDirect, "reads must come from the leader")
	written(t, l, 3, 10)
	require.NoError(t, l.Check(t.Context(), point(t, l, 3)))
}

func TestServerErrors(t *testing.T) {
	t.Parallel()
	plain := natsServer(t, func(o *server.Options) { o.JetStream = false })
	locked := natsServer(t, func(o *server.Options) { o.Username, o.Password = "vecferry", "right" })
	for name, c := range map[string]struct {
		external External
		reason   Reason
	}{
		"nobody there":   {External{URL: "nats://127.0.0.1:1"}, Unreachable},
		"no JetStream":   {External{URL: plain.ClientURL()}, NoJetStream},
		"no password":    {External{URL: locked.ClientURL()}, Denied},
		"wrong password": {External{URL: locked.ClientURL(), Username: "vecferry", Password: "wrong"}, Denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Open(t.Context(), Options{Pipeline: "docs", External: &c.external})
			var s *ServerError
			require.ErrorAs(t, err, &s)
			require.Equal(t, c.reason, s.Reason, "%v", err)
			require.Equal(t, c.reason == Unreachable, s.Unreachable())
			require.NotContains(t, err.Error(), "wrong\"")
		})
	}
	l := open(t, Options{Pipeline: "docs", External: &External{URL: locked.ClientURL(), Username: "vecferry", Password: "right"}, MaxBytes: 1 << 30})
	written(t, l, 1, 10)
}

// A request without permission gets no answer at all; the error must not say
// "cannot be reached".
func TestMissingPermissionIsNamed(t *testing.T) {
	t.Parallel()
	s := natsServer(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "x"},
			{Username: "reader", Password: "x", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.MSG.GET.>"}},
			}},
		}
	})
	as := func(user string) Options {
		o := external(s.ClientURL())
		o.External.Username, o.External.Password = user, "x"
		return o
	}
	written(t, open(t, as("admin")), 1, 10)
	_, err := open(t, as("reader")).Tail(t.Context())
	var denied *ServerError
	require.ErrorAs(t, err, &denied)
	require.Equal(t, Denied, denied.Reason)
	require.Contains(t, err.Error(), "MSG.GET")
}

func TestServersLogIsPassedOn(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &serverLog{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	s.Noticef("a %d", 1)
	s.Debugf("b")
	s.Tracef("c")
	s.Warnf("d")
	s.Errorf("e")
	require.Nil(t, s.fatal.Load())
	s.Fatalf("disk %s", "gone")
	require.Equal(t, "disk gone", *s.fatal.Load())
	for _, want := range []string{`level=DEBUG msg="nats server" says="a 1"`, `level=WARN msg="nats server" says=d`, `level=ERROR msg="nats server cannot run" says="disk gone"`} {
		require.Contains(t, out.String(), want)
	}
}

func TestEmbeddedServerThatCannotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "jetstream"), []byte("a file where a folder must be"), 0o600))
	_, err := Open(t.Context(), Options{Pipeline: "docs", Embedded: &Embedded{Dir: dir}})
	require.ErrorContains(t, err, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "jetstream")))
	openEmbedded(t, dir) // the lock was given back
}

func TestVersionsAndAddresses(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{"2.14.0": true, "2.15.2": true, "3.0.0": true, "2.13.9": false, "1.99.0": false, "": false, "x.y": false, "2.14-RC.1": false} {
		require.Equal(t, want, recent(v), v)
	}
	require.Equal(t, "nats://a:1,tls://b", withoutCredentials("user:pa@ss@a:1, tls://token@b"))
}
