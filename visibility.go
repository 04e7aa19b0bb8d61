package vecferry

import (
	"slices"
	"strconv"
	"strings"
)

// XID is a top-level transaction id with its epoch, 64 bits as in xid8.
type XID uint64

// Widen extends the 32 bits of a Begin message to 64 by taking the value
// nearest to near, a 64-bit id from about the same time. PostgreSQL keeps all
// live ids within 2^31 of each other, so the answer is unique.
func Widen(x uint32, near XID) XID {
	return near + XID(int64(int32(x-uint32(near))))
}

// Visibility is the text of pg_current_snapshot() in a form that answers
// whether a transaction's rows can be seen (PostgreSQL manual, "pg_snapshot
// Components").
type Visibility struct {
	xmin, xmax XID
	running    []XID // sorted ids in [xmin, xmax) that had not ended
}

// ParseVisibility reads xmin:xmax:id,id,...
func ParseVisibility(s string) (Visibility, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return Visibility{}, corruptf("snapshot %q: want xmin:xmax:list", s)
	}
	ids := append(parts[:2:2], strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' })...)
	xs := make([]XID, len(ids))
	for i, id := range ids {
		x, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return Visibility{}, corruptf("snapshot %q: %q is no transaction id", s, id)
		}
		xs[i] = XID(x)
	}
	v := Visibility{xmin: xs[0], xmax: xs[1], running: xs[2:]}
	slices.Sort(v.running)
	return v, nil
}

// Sees reports whether the rows of a committed transaction are visible.
func (v Visibility) Sees(x XID) bool {
	if x < v.xmin {
		return true
	}
	_, running := slices.BinarySearch(v.running, x)
	return x < v.xmax && !running
}

// SeesAll reports whether every one of the transactions is visible.
func (v Visibility) SeesAll(xs []XID) bool {
	return !slices.ContainsFunc(xs, func(x XID) bool { return !v.Sees(x) })
}

// Next returns the first id that no transaction had when the snapshot was taken.
func (v Visibility) Next() XID { return v.xmax }
