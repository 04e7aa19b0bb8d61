// Package lifecycle starts, restarts and stops the loops of a process.
//
// A Service is a loop that runs until its context ends. Supervise keeps one
// alive: an error starts it again after a pause that grows from 100 ms to 15 s
// and is reset once it lived for a minute; a vecferry.HaltError ends it for
// good. Group runs several and ends them all when one halts. Each goroutine is
// owned by the call that started it, and none outlives that call.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"

	"github.com/vecferry/vecferry"
)

// Grace returns a context that outlives ctx by d, so that work at hand can be
// finished after a stop was asked for.
func Grace(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(d, func() {
			cancel(fmt.Errorf("not finished %v after the stop: %w", d, context.Cause(ctx)))
		})
	})
	return work, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		cancel(context.Canceled)
	}
}

// Service is one loop: it runs until ctx ends, then returns nil, or fails.
type Service struct {
	Name string
	Run  func(ctx context.Context) error
}

// Group runs services under supervision until ctx ends or one halts.
func Group(ctx context.Context, log *slog.Logger, services ...Service) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range services {
		g.Go(func() error { return Supervise(ctx, log, s) })
	}
	return g.Wait()
}

// Supervise runs a service again whenever it fails, until ctx ends or the
// failure halts.
func Supervise(ctx context.Context, log *slog.Logger, s Service) error {
	wait := Backoff()
	for {
		start := time.Now()
		err := s.Run(ctx)
		if vecferry.Halts(err) {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("ended without being asked to")
		}
		if time.Since(start) > time.Minute {
			wait.Reset()
		}
		pause := wait.NextBackOff()
		log.Warn("stage failed, starting it again", "stage", s.Name, "error", err, "in", pause.Round(time.Millisecond))
		if !Sleep(ctx, pause) {
			return nil
		}
	}
}

// Backoff returns the pauses between tries: 100 ms growing to 15 s, each off by
// up to a half, without an end.
func Backoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(15*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
}

// Sleep waits for d and reports false if ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
