package replay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

// ErrThreads is returned for a plan of several threads, which the file of ops
// cannot hold.
var ErrThreads = errors.New("a plan of several threads")

// opsMagic begins a file of ops.
const opsMagic = 0x31304f5052594141

// opKinds are the kinds of op in the file, as workload.c has them.
var opKinds = map[trace.Op]uint32{
	trace.Alloc: 0, trace.Calloc: 1, trace.AllocAligned: 2, trace.Realloc: 3, trace.Free: 4,
}

// WriteOps writes the plan as a file of ops, for the C program.
func (p *Plan) WriteOps(w io.Writer) error {
	if len(p.Threads) != 1 {
		return ErrThreads
	}
	out := bufio.NewWriterSize(w, 1<<16)
	ops := p.Threads[0].Ops
	var buf [24]byte
	binary.NativeEndian.PutUint64(buf[0:], opsMagic)
	binary.NativeEndian.PutUint64(buf[8:], uint64(p.Slots))
	binary.NativeEndian.PutUint64(buf[16:], uint64(len(ops)))
	out.Write(buf[:])
	for i := range ops {
		op := &ops[i]
		binary.NativeEndian.PutUint32(buf[0:], opKinds[op.Kind]|uint32(op.Log)<<8)
		binary.NativeEndian.PutUint32(buf[4:], op.Slot)
		binary.NativeEndian.PutUint32(buf[8:], op.Size)
		binary.NativeEndian.PutUint32(buf[12:], op.Old)
		out.Write(buf[:16])
	}
	return out.Flush()
}
