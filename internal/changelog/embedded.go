package changelog

import (
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout bounds what is left to do when the server has read back its files.
const startTimeout = 30 * time.Second

// embedded is a NATS server in this process, and the lock on its folder.
type embedded struct {
	srv  *server.Server
	lock *os.File
}

// startEmbedded locks the folder and starts a server without any port.
func startEmbedded(o Options) (*embedded, error) {
	lock, err := lockDir(o.Embedded.Dir)
	if err != nil {
		return nil, err
	}
	e := &embedded{lock: lock}
	out := &serverLog{log: o.Logger.With("component", "nats")}
	e.srv, err = server.NewServer(&server.Options{
		ServerName: "vecferry_" + o.Pipeline,
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   o.Embedded.Dir,
		SyncAlways: true,
		MaxPayload: maxPayload,
		// Every stream of ours has a limit of its own that is reserved against
		// this one. The factor leaves room for a pipeline of another name that
		// had this folder before.
		JetStreamMaxStore:  4 * (o.MaxBytes + stateBytes + deadBytes),
		JetStreamMaxMemory: 64 << 20,
	})
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	e.srv.SetLoggerV2(out, false, false, false)
	e.srv.Start() // returns when it is up, or after a fatal line in its log
	if failure := out.fatal.Load(); failure != nil {
		e.stop()
		return nil, fmt.Errorf("embedded NATS server in %s did not start: %s", o.Embedded.Dir, *failure)
	}
	if !e.srv.ReadyForConnections(startTimeout) {
		e.stop()
		return nil, fmt.Errorf("embedded NATS server in %s did not start within %v", o.Embedded.Dir, startTimeout)
	}
	return e, nil
}

// stop ends the server, with everything on disk, and then frees the folder.
func (e *embedded) stop() {
	if e.srv != nil {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	}
	_ = e.lock.Close() // only gives up the lock; nothing was written that could fail
}

// serverLog passes the server's log on. Its notices are our debug lines.
type serverLog struct {
	log   *slog.Logger
	fatal atomic.Pointer[string] // why it cannot run
}

func (s *serverLog) Noticef(format string, v ...any) {
	s.log.Debug("nats server", "says", fmt.Sprintf(format, v...))
}
func (s *serverLog) Debugf(format string, v ...any) {
	s.log.Debug("nats server", "says", fmt.Sprintf(format, v...))
}
func (s *serverLog) Tracef(format string, v ...any) {
	s.log.Debug("nats server", "says", fmt.Sprintf(format, v...))
}
func (s *serverLog) Warnf(format string, v ...any) {
	s.log.Warn("nats server", "says", fmt.Sprintf(format, v...))
}
func (s *serverLog) Errorf(format string, v ...any) {
	s.log.Error("nats server", "says", fmt.Sprintf(format, v...))
}

// Fatalf implements server.Logger. It returns, so that the caller can clean up.
func (s *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	s.fatal.Store(&text)
	s.log.Error("nats server cannot run", "says", text)
}
