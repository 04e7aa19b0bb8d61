package changelog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vecferry/vecferry"
)

// childDir makes the test binary a process that writes until it is killed.
const childDir = "VECFERRY_CHANGELOG_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		writeUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// openEmbedded opens a log on a folder and closes it with the test.
func openEmbedded(t testing.TB, dir string, change ...func(*Options)) *Log {
	t.Helper()
	o := Options{Pipeline: "docs", Embedded: &Embedded{Dir: dir}, MaxBytes: 1 << 30}
	for _, c := range change {
		c(&o)
	}
	return open(t, o)
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	l, err := Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

// natsServer runs an external server on a port of its own.
func natsServer(t testing.TB, change ...func(*server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true,
		StoreDir: t.TempDir(), MaxPayload: 8 << 20, SyncAlways: true, JetStreamMaxStore: 16 << 30}
	for _, c := range change {
		c(o)
	}
	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(10*time.Second))
	return s
}

func external(url string) Options {
	return Options{Pipeline: "docs", External: &External{URL: url}, MaxBytes: 1 << 30}
}

// batchOf builds a batch whose one change is the number n and size bytes of filling.
func batchOf(n uint64, size int, memory []byte) *vecferry.BatchBuilder {
	b := new(vecferry.BatchBuilder)
	b.Reset(memory)
	b.Begin(vecferry.Tx{XID: vecferry.XID(n), CommitLSN: vecferry.LSN(n), Time: time.UnixMicro(int64(n))})
	b.Change(vecferry.LSN(n), append(binary.BigEndian.AppendUint64(nil, n), make([]byte, size)...))
	return b
}

// numberOf returns the n of batchOf.
func numberOf(data []byte) uint64 {
	const header, begin, change = 64, 25, 13
	return binary.BigEndian.Uint64(data[header+begin+change:])
}

func headerOf(n uint64) vecferry.BatchHeader { return vecferry.BatchHeader{EndLSN: vecferry.LSN(n)} }

// appendRange appends the batches first to last, numbered like the log, and waits for them.
func appendRange(t testing.TB, w *Writer, first, last uint64, size int) {
	t.Helper()
	for n := first; n <= last; n++ {
		got, err := w.Append(t.Context(), batchOf(n, size, w.Buffer()), headerOf(n))
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
	require.NoError(t, w.Flush(t.Context()))
}

// written returns a log that holds the batches 1 to last.
func written(t testing.TB, l *Log, last uint64, size int) {
	t.Helper()
	w := newWriter(t, l)
	appendRange(t, w, w.Tail().Sequence+1, last, size)
	w.Close()
}

func newWriter(t testing.TB, l *Log) *Writer {
	t.Helper()
	w, err := l.NewWriter(t.Context())
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

func newReader(t testing.TB, l *Log, after uint64) *Reader {
	t.Helper()
	r, err := l.Reader(t.Context(), after)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

// readRange reads the batches first to last and nothing else.
func readRange(t testing.TB, r *Reader, first, last uint64) {
	t.Helper()
	for n := first; n <= last; n++ {
		m, err := r.Next(t.Context(), 30*time.Second)
		require.NoError(t, err)
		require.Equal(t, n, m.Batch)
		require.Equal(t, n, numberOf(m.Data), "content of batch %d", n)
	}
}

// point returns the Point of a batch.
func point(t testing.TB, l *Log, batch uint64) Point {
	t.Helper()
	h, err := l.Header(t.Context(), batch)
	require.NoError(t, err)
	return Point{Log: l.ID(), Batch: batch, Epoch: h.Epoch, EndLSN: h.EndLSN}
}

func requireHalt(t testing.TB, err error) {
	t.Helper()
	var halt *vecferry.HaltError
	require.ErrorAs(t, err, &halt)
	require.NotEmpty(t, halt.What)
	require.NotEmpty(t, halt.Fix)
}

// writeUntilKilled is the child process: it prints each batch that is stored.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	l, err := Open(ctx, Options{Pipeline: "docs", Embedded: &Embedded{Dir: dir}, MaxBytes: 1 << 30})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	w, err := l.NewWriter(ctx)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	go func() {
		for a := range w.Acked() {
			fmt.Println(a.Batch)
		}
	}()
	for n := w.Tail().Sequence + 1; ; n++ {
		if _, err := w.Append(ctx, batchOf(n, 100_000, w.Buffer()), headerOf(n)); err != nil {
			fmt.Println("error", err)
			return
		}
	}
}

// proxy is a TCP proxy that can cut or freeze what goes through it.
type proxy struct {
	listener net.Listener
	target   string
	all      sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	frozen chan struct{} // not nil while frozen
	down   bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: ln, target: target, conns: make(map[net.Conn]struct{})}
	p.all.Go(p.accept)
	t.Cleanup(func() {
		p.Thaw()
		ln.Close()
		p.Cut()
		p.all.Wait()
	})
	return p
}

func (p *proxy) URL() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		out, err := net.Dial("tcp", p.target)
		if err != nil || down {
			in.Close()
			if err == nil {
				out.Close()
			}
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.all.Go(func() { p.pipe(in, out) })
		p.all.Go(func() { p.pipe(out, in) })
	}
}

func (p *proxy) pipe(dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			p.wait()
			if _, werr := dst.Write(buf[:n]); werr != nil {
				err = errors.Join(err, werr)
			}
		}
		if err != nil {
			dst.Close()
			src.Close()
			p.mu.Lock()
			delete(p.conns, src)
			p.mu.Unlock()
			return
		}
	}
}

func (p *proxy) wait() {
	p.mu.Lock()
	frozen := p.frozen
	p.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// Cut closes every connection; the client may come back.
func (p *proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Down cuts, and refuses new connections until it is called with false.
func (p *proxy) Down(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.Cut()
	}
}

// Freeze holds back all bytes without closing anything.
func (p *proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze.
func (p *proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}
