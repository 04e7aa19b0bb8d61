package changelog

import (
	"context"
	"errors"
	"fmt"

	"github.com/vecferry/vecferry"
)

// Point names a batch by everything that tells it from another batch of the
// same number: a log that was restored or recreated gives numbers out again.
type Point struct {
	Log    string // identity of the log, see Log.ID
	Batch  uint64 // 0: before the first
	Epoch  uint64 // of the batch
	EndLSN vecferry.LSN
}

// Check proves that the log still holds the batch that p names and did not go
// back in time. If it cannot, the error is a *vecferry.HaltError.
func (l *Log) Check(ctx context.Context, p Point) error {
	info, err := l.info(ctx)
	if err != nil {
		return err
	}
	if id := incarnation(info); p.Log != id {
		return recreated(fmt.Sprintf("the change log is not the one that was read before: it is %s, not %s", id, p.Log), nil)
	}
	if p.Batch == 0 {
		return nil
	}
	if last := info.State.LastSeq; last < p.Batch {
		return recreated(fmt.Sprintf("the change log went back: it ends at batch %d, batch %d was read before", last, p.Batch), nil)
	}
	h, err := l.Header(ctx, p.Batch)
	if errors.Is(err, ErrNotFound) {
		return recreated(fmt.Sprintf("batch %d, up to which the log was read, is missing; it goes from %d to %d",
			p.Batch, info.State.FirstSeq, info.State.LastSeq), err)
	}
	if err != nil {
		return err
	}
	if h.Epoch != p.Epoch || h.EndLSN != p.EndLSN {
		return recreated(fmt.Sprintf("batch %d of the change log was written again: it has epoch %d and LSN %s, was epoch %d and LSN %s",
			p.Batch, h.Epoch, h.EndLSN, p.Epoch, p.EndLSN), nil)
	}
	return nil
}

// recreated is the answer to a log that is not what it was.
func recreated(what string, err error) error {
	return &vecferry.HaltError{
		What: what,
		Fix:  "changes may be lost: put back the newest copy of the change log's storage, or reset the pipeline and copy its tables again",
		Err:  err,
	}
}
