package changelog

import "sync"

// The prefetch window. A pull is sent only when all that it may bring fits,
// so the reader's goroutine never waits for room with a pull open.
const (
	windowBytes = 32 << 20
	pullBytes   = 16 << 20 // above maxPayload, so that every batch fits a pull
	pullBatches = 16
)

// window holds the batches that were fetched and not yet taken. One goroutine
// pushes, one pops.
type window struct {
	filled chan struct{} // something was pushed
	drawn  chan struct{} // something was popped

	mu    sync.Mutex
	queue []*Message
	bytes int
}

func newWindow() *window {
	return &window{filled: make(chan struct{}, 1), drawn: make(chan struct{}, 1)}
}

// push adds a message.
func (w *window) push(m *Message) {
	w.mu.Lock()
	w.queue = append(w.queue, m)
	w.bytes += len(m.Data)
	w.mu.Unlock()
	signal(w.filled)
}

// pop takes the oldest message, nil if there is none.
func (w *window) pop() *Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil
	}
	m := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	w.bytes -= len(m.Data)
	signal(w.drawn)
	return m
}

// roomy reports whether another pull fits.
func (w *window) roomy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes+pullBytes <= windowBytes
}

// buffered returns the batches in the window.
func (w *window) buffered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// signal wakes the one receiver, if it is not about to be woken anyway.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
