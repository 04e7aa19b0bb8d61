package sink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry"
)

// A key in the dead letters fails once more and is mended in the same run, by
// updates that leave out what is out of line: it must be read again, or it would
// stay in the dead letters with nothing wrong.
func TestADeadKeyIsMendedInTheRunInWhichItFailsAgain(t *testing.T) {
	t.Parallel()
	const key = "05"
	m := newMachine(Protocol{}, testTable(), &vecferry.TableState{
		Ranges: []vecferry.MappedRange{{Range: vecferry.Everything(), State: vecferry.Live}}})
	update := func(meta int) {
		t.Helper()
		c := &vecferry.Change{Op: vecferry.OpUpdate, New: appendTuple(nil, key, &srcRow{meta: meta, body: -1, v: -1})}
		require.NoError(t, m.change(c, testDecoder{}))
	}
	settle := func() *outcome { return m.settle(nil, func(vecferry.Row) error { return nil }) }

	update(badMeta)
	require.Len(t, settle().dead, 1)
	require.Equal(t, vecferry.Dead, m.rangeOf(key).State)

	update(badMeta)
	update(7)
	require.Equal(t, []vecferry.Key{key}, settle().write.Delete)
	require.Equal(t, vecferry.Todo, m.rangeOf(key).State)
	require.EqualValues(t, 1, m.count.Tainted)
}
