package capture

import (
	"encoding/binary"
	"time"

	"github.com/vecferry/vecferry"
)

// The messages of pgoutput as PostgreSQL writes them (PostgreSQL manual,
// "Logical Replication Message Formats").

var be = binary.BigEndian

func wireBegin(commit vecferry.LSN, xid uint32, at time.Time) []byte {
	b := be.AppendUint64([]byte{'B'}, uint64(commit))
	b = be.AppendUint64(b, uint64(at.UnixMicro()-y2k))
	return be.AppendUint32(b, xid)
}

func wireCommit(commit, end vecferry.LSN, at time.Time) []byte {
	b := be.AppendUint64([]byte{'C', 0}, uint64(commit))
	b = be.AppendUint64(b, uint64(end))
	return be.AppendUint64(b, uint64(at.UnixMicro()-y2k))
}

// wireRelation describes a table of one int8 key and one vector.
func wireRelation(oid uint32, schema, name string) []byte {
	b := be.AppendUint32([]byte{'R'}, oid)
	b = append(append(b, schema...), 0)
	b = append(append(b, name...), 0)
	b = append(b, 'd')
	b = be.AppendUint16(b, 2)
	for i, column := range []string{"id", "embedding"} {
		b = append(append(append(b, byte(1-i)), column...), 0)
		b = be.AppendUint32(b, 20)
		b = be.AppendUint32(b, 0xffffffff)
	}
	return b
}

// wireInsert is a row of a key and size bytes of vector.
func wireInsert(oid uint32, key uint64, size int) []byte {
	b := be.AppendUint32([]byte{'I'}, oid)
	b = append(b, 'N', 0, 2, 'b', 0, 0, 0, 8)
	b = be.AppendUint64(b, key)
	b = be.AppendUint32(append(b, 'b'), uint32(size))
	return append(b, make([]byte, size)...)
}

func wireTruncate(oids ...uint32) []byte {
	b := append(be.AppendUint32([]byte{'T'}, uint32(len(oids))), 0)
	for _, oid := range oids {
		b = be.AppendUint32(b, oid)
	}
	return b
}

func wireMessage(transactional bool, prefix, content string) []byte {
	b := []byte{'M', 0}
	if transactional {
		b[1] = 1
	}
	b = be.AppendUint64(b, 1)
	b = append(append(b, prefix...), 0)
	b = be.AppendUint32(b, uint32(len(content)))
	return append(b, content...)
}

// wireData frames a message as XLogData.
func wireData(start vecferry.LSN, raw []byte) []byte {
	b := be.AppendUint64([]byte{'w'}, uint64(start))
	b = be.AppendUint64(b, uint64(start))
	return append(be.AppendUint64(b, 0), raw...)
}
