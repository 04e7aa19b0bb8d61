package milvus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Pace says how long to wait after which failure. The zero value of a field
// means its default.
type Pace struct {
	First     time.Duration // after a first failure, 100 ms; doubles up to Max
	Max       time.Duration // 5 s
	Slow      time.Duration // the first wait of back-pressure, 1 s; doubles up to SlowMax
	SlowMax   time.Duration // 30 s
	Settle    time.Duration // at least, before a write that may still land is redone, 1 s
	NotLoaded time.Duration // how long a collection may stay not loaded, 2 min
	Tries     int           // of an ambiguous request before it is divided, 4
	LogEvery  time.Duration // while it goes on failing, 30 s
	Call      time.Duration // how long a request may take, 1 min; the deletion of a range ten times as long
}

func (p Pace) withDefaults() Pace {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&p.First, 100*time.Millisecond)
	def(&p.Max, 5*time.Second)
	def(&p.Slow, time.Second)
	def(&p.SlowMax, 30*time.Second)
	def(&p.Settle, time.Second)
	def(&p.NotLoaded, 2*time.Minute)
	def(&p.LogEvery, 30*time.Second)
	def(&p.Call, time.Minute)
	if p.Tries == 0 {
		p.Tries = 4
	}
	return p
}

// retrier repeats requests and knows which of them are failing.
type retrier struct {
	pace Pace
	log  *slog.Logger

	mu      sync.Mutex
	failing int // requests that wait for their next attempt
	trouble trouble
	logged  time.Time
	inserts uint64 // inserts that the server accepted, from 1
}

// trouble is why requests wait, from the first failure until none is failing.
type trouble struct {
	reason   string
	since    time.Time
	attempts int
}

func newRetrier(p Pace, log *slog.Logger) *retrier {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &retrier{pace: p.withDefaults(), log: log, inserts: 1}
}

// task is one request to repeat.
type task struct {
	name string // for people, such as "insert into docs"
	// divisible says that the caller handles Split, BadRow, and Ambiguous after
	// some tries, by smaller requests. Otherwise they halt, or go on.
	divisible bool
	hopeless  func() bool // asked before an ambiguous task is given up; nil means yes
}

// do calls try until it succeeds, ctx ends or repeating is pointless. It returns
// an *Error only for a divisible task; the rest are halts, errors of ctx, and
// errors that are none of the server's.
func (r *retrier) do(ctx context.Context, t task, try func(context.Context) error) error {
	p := newPacer(r.pace)
	run := &run{retrier: r, task: t}
	defer run.end()
	op := func() error {
		err := try(ctx)
		if err == nil {
			return nil
		}
		verdict, again := run.judge(ctx, err)
		if !again {
			return backoff.Permanent(verdict)
		}
		var e *Error
		errors.As(err, &e)
		p.last = e
		run.failed(e)
		return e
	}
	err := backoff.Retry(op, backoff.WithContext(p, ctx))
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) && run.last != nil {
		return fmt.Errorf("%s: %w; last failure: %w", t.name, context.Cause(ctx), run.last)
	}
	if err == nil {
		run.recovered()
	}
	return err
}

// run is one call of do.
type run struct {
	retrier   *retrier
	task      task
	last      *Error
	ambiguous int
	schema    int
	notLoaded time.Time // first time
}

// judge decides whether to try again, and if not with which error to end.
func (u *run) judge(ctx context.Context, err error) (verdict error, again bool) {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", u.task.name, context.Cause(ctx)), false
	}
	var e *Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", u.task.name, err), false
	}
	stop := haltError(u.task.name, e)
	switch e.Class {
	case Halt:
		return stop, false
	case Schema:
		u.schema++
		return stop, u.schema == 1
	case NotLoaded:
		if u.notLoaded.IsZero() {
			u.notLoaded = time.Now()
		}
		return stop, time.Since(u.notLoaded) < u.retrier.pace.NotLoaded
	case Split, BadRow:
		if u.task.divisible {
			return err, false
		}
		return stop, false
	case Ambiguous:
		u.ambiguous++
		enough := u.task.divisible && u.ambiguous >= u.retrier.pace.Tries
		return err, !enough || u.task.hopeless != nil && !u.task.hopeless()
	}
	return nil, true
}

// failed notes that the task waits because of e.
func (u *run) failed(e *Error) {
	r := u.retrier
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if u.last == nil {
		r.failing++
	}
	u.last = e
	if r.trouble.attempts == 0 {
		r.trouble.since = now
		r.logged = time.Time{}
	}
	r.trouble.attempts++
	r.trouble.reason = e.Error()
	if now.Sub(r.logged) < r.pace.LogEvery {
		return
	}
	r.logged = now
	r.log.Warn("Milvus does not take a request; trying again", "request", u.task.name, "class", e.Class.String(),
		"reason", e, "attempts", r.trouble.attempts, "failing_for", now.Sub(r.trouble.since).Round(time.Millisecond))
}

// end takes the task out of what waits, however it ended.
func (u *run) end() {
	r := u.retrier
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.last == nil {
		return
	}
	r.failing--
	if r.failing == 0 {
		r.trouble = trouble{}
	}
}

// recovered says so once nothing else is failing.
func (u *run) recovered() {
	r := u.retrier
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.last == nil || r.failing > 1 {
		return
	}
	r.log.Info("Milvus takes requests again", "request", u.task.name, "attempts", r.trouble.attempts,
		"failed_for", time.Since(r.trouble.since).Round(time.Millisecond))
}

// waiting returns the present trouble; the reason is empty if there is none.
func (r *retrier) waiting() (reason string, since time.Time, attempts int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble.reason, r.trouble.since, r.trouble.attempts
}

// accepted notes an insert that the server took; inserted returns how many.
func (r *retrier) accepted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inserts++
}

func (r *retrier) inserted() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inserts
}

// pacer chooses the next wait by the last failure. It is the only use of backoff.
type pacer struct {
	normal, slow *backoff.ExponentialBackOff
	settle       time.Duration
	last         *Error
}

func newPacer(p Pace) *pacer {
	grow := func(first, most time.Duration) *backoff.ExponentialBackOff {
		return backoff.NewExponentialBackOff(backoff.WithInitialInterval(first), backoff.WithMaxInterval(most),
			backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.3), backoff.WithMaxElapsedTime(0))
	}
	return &pacer{normal: grow(p.First, p.Max), slow: grow(p.Slow, p.SlowMax), settle: p.Settle}
}

// NextBackOff implements backoff.BackOff.
func (p *pacer) NextBackOff() time.Duration {
	if p.last.Class == BackPressure {
		return p.slow.NextBackOff()
	}
	d := p.normal.NextBackOff()
	if p.last.InDoubt() && p.last.writes() {
		return max(d, p.settle)
	}
	return d
}

// Reset implements backoff.BackOff.
func (p *pacer) Reset() {
	p.normal.Reset()
	p.slow.Reset()
}

// writes reports whether the request changes entities.
func (e *Error) writes() bool { return e.Method == methodInsert || e.Method == methodDelete }
