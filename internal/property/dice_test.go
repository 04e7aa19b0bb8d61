package property

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vecferry/vecferry/internal/lifecycle"
)

// errCrash is what a stage gets when it dies between two steps.
var errCrash = errors.New("crash")

// dice are random choices that follow from a seed. They are safe for concurrent
// use, and each actor has its own, so that what one of them does next depends on
// its own past alone.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(seed, actor uint64) *dice { return &dice{r: rand.New(rand.NewPCG(seed, actor))} }

// n returns a number from 0 to below.
func (d *dice) n(below int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(max(1, below))
}

// happens is true with a probability.
func (d *dice) happens(p float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.Float64() < p
}

// upTo returns a time from 0 to d.
func (d *dice) upTo(most time.Duration) time.Duration { return time.Duration(d.n(int(most) + 1)) }

// life is one life of a stage. Once it is over, none of its steps succeeds.
type life struct {
	dice   *dice
	chance float64      // of dying at a step
	calm   *atomic.Bool // nobody dies any more
	over   atomic.Bool
	deaths *atomic.Int64
}

// step is the moment between two steps.
func (l *life) step() error {
	if l.over.Load() {
		return errCrash
	}
	if !l.calm.Load() && l.dice.happens(l.chance) {
		l.over.Store(true)
		l.deaths.Add(1)
		return errCrash
	}
	return nil
}

// stumble is a step at which one piece of work dies, and not the whole stage.
func (l *life) stumble() error {
	if l.over.Load() {
		return errCrash
	}
	if !l.calm.Load() && l.dice.happens(l.chance) {
		l.deaths.Add(1)
		return errCrash
	}
	return nil
}

// end is a death from outside.
func (l *life) end() {
	if l != nil {
		l.over.Store(true)
	}
}

// around does something between two steps: the death comes before it, or after
// it had its effect and nobody heard of it.
func around(step func() error, do func() error) error {
	if err := step(); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return step()
}

// nap lets time pass for up to most, unless the world is calm.
func (w *world) nap(ctx context.Context, d *dice, most time.Duration) {
	if !w.calm.Load() && most > 0 {
		lifecycle.Sleep(ctx, d.upTo(most))
	}
}
