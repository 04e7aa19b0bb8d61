package changelog

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"
)

// TrimApplied removes the batches that were applied, except those whose newest
// transaction was committed within the window, and the last applied one, which
// proves the checkpoint.
func (l *Log) TrimApplied(ctx context.Context, applied uint64, window time.Duration) error {
	info, err := l.Info(ctx)
	if err != nil {
		return err
	}
	if applied <= info.FirstBatch {
		return nil
	}
	keep, err := l.firstSince(ctx, info.FirstBatch, applied, time.Now().Add(-window))
	if err != nil || keep <= info.FirstBatch {
		return err
	}
	return l.Trim(ctx, keep)
}

// firstSince finds the first batch in [lo, hi] with a transaction since then,
// or hi. Commit times grow along the log but for clock steps, which only make
// it keep more or less than the window.
func (l *Log) firstSince(ctx context.Context, lo, hi uint64, since time.Time) (uint64, error) {
	var failed error
	n := sort.Search(int(hi-lo), func(i int) bool {
		h, err := l.Header(ctx, lo+uint64(i))
		if err != nil && !errors.Is(err, ErrNotFound) {
			failed = fmt.Errorf("trim: %w", err)
			return true
		}
		return err == nil && h.CommitTime >= since.UnixMicro()
	})
	return lo + uint64(n), failed
}
