package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vecferry/vecferry"
)

// newRegistry has the figures of the process itself.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "vecferry_build_info",
		Help: "1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return reg
}

// server answers on the HTTP address from before the servers are reached until
// the pipeline has ended.
type server struct {
	http *http.Server
	ln   net.Listener
	p    chan *pipeline // holds the pipeline once it is open
}

// listen takes the address, so that a port in use is found before anything else.
func listen(ctx context.Context, address string) (*server, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &usageError{fmt.Errorf("http.listen = %s: %w; is another vecferry running? give another address", address, err)}
	}
	s := &server{ln: ln, p: make(chan *pipeline, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /api/v1/status", s.status)
	mux.HandleFunc("POST /api/v1/fence", s.fence)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return s, nil
}

// serve works until ctx ends.
func (s *server) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if s.http.Shutdown(grace) != nil {
			_ = s.http.Close() // a request that does not end is cut off
		}
	})
	defer stop()
	if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// pipeline returns the open pipeline, or nil while it starts.
func (s *server) pipeline() *pipeline {
	select {
	case p := <-s.p:
		s.p <- p
		return p
	default:
		return nil
	}
}

// with answers 503 while the pipeline starts.
func (s *server) with(w http.ResponseWriter) *pipeline {
	p := s.pipeline()
	if p != nil {
		return p
	}
	http.Error(w, errStarting.Error(), http.StatusServiceUnavailable)
	return nil
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if p := s.with(w); p != nil {
		r := p.probe.report()
		fmt.Fprintln(w, r.State, r.Reason)
	}
}

func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	if p := s.with(w); p != nil {
		promhttp.HandlerFor(p.reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	}
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) {
	if p := s.with(w); p != nil {
		writeJSON(w, p.probe.report())
	}
}

// Fence is the answer to POST /api/v1/fence: everything that was committed
// before the call is in the target once the applied LSN has reached it.
type Fence struct {
	LSN vecferry.LSN `json:"lsn"`
}

func (s *server) fence(w http.ResponseWriter, r *http.Request) {
	p := s.with(w)
	if p == nil {
		return
	}
	lsn, err := p.fence(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	writeJSON(w, Fence{LSN: lsn})
}

// fence returns a position behind everything committed, which the log will
// reach even if nobody writes any more.
func (p *pipeline) fence(ctx context.Context) (vecferry.LSN, error) {
	lsn, err := p.source.CurrentLSN(ctx)
	if err != nil {
		return 0, err
	}
	snap, err := p.source.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	_, err = p.source.Emit(ctx, p.cfg.Pipeline, vecferry.Mark{Kind: vecferry.Beat, Snapshot: snap})
	return lsn, err
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone, there is nobody to tell
}

// dialAddress makes an address to dial of one to listen on.
func dialAddress(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
