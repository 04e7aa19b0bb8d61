package changelog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const benchBatch = 800_000

// BenchmarkAppend writes batches of 800 KB, each synced to the disk.
func BenchmarkAppend(b *testing.B) {
	l := openEmbedded(b, b.TempDir(), func(o *Options) { o.MaxBytes = 0 })
	w := newWriter(b, l)
	filling := batchOf(1, benchBatch, nil).Seal(headerOf(1))
	b.SetBytes(benchBatch)
	b.ResetTimer()
	for n := uint64(1); n <= uint64(b.N); n++ {
		batch := batchOf(n, 0, w.Buffer())
		batch.Change(1, filling)
		_, err := w.Append(b.Context(), batch, headerOf(n))
		require.NoError(b, err)
	}
	require.NoError(b, w.Flush(b.Context()))
}

// BenchmarkRead reads 100 batches of 800 KB again and again.
func BenchmarkRead(b *testing.B) {
	const batches = 100
	l := openEmbedded(b, b.TempDir())
	written(b, l, batches, benchBatch)
	b.SetBytes(benchBatch)
	b.ResetTimer()
	for done := 0; done < b.N; done += batches {
		r := newReader(b, l, 0)
		readRange(b, r, 1, uint64(min(batches, b.N-done)))
		r.Close()
	}
}

// BenchmarkPut writes one key of 10 KB, such as a checkpoint, synced to the disk.
func BenchmarkPut(b *testing.B) {
	l := openEmbedded(b, b.TempDir())
	value := make([]byte, 10_000)
	var rev uint64
	b.ResetTimer()
	for range b.N {
		var err error
		rev, err = l.Put(b.Context(), "checkpoint", value, rev)
		require.NoError(b, err)
	}
}
