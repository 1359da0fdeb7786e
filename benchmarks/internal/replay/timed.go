package replay

import (
	"encoding/binary"
	"runtime"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/proc"
	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

// Timing is what a replay against the clock took.
type Timing struct {
	Elapsed  time.Duration `json:"elapsed_ns"`
	GCCycles uint64        `json:"gc_cycles"` // those that ended
	GCCPU    float64       `json:"gc_cpu_s"`  // of those
	Faults   uint64        `json:"faults"`
	// Bytes that were resident at most, and before the replay; 0 where that is
	// not known.
	PeakResident  uint64      `json:"peak_rss"`
	BeginResident uint64      `json:"begin_rss"`
	Calls         *impl.Calls `json:"calls,omitempty"`
}

// Time replays a plan against the clock. Of each block only the first and the
// last 8 bytes are written, when it is new or resized, and read before it is
// resized or freed (the first byte of a block of less than 8). Blocks that the
// trace leaves live stay so.
func Time(p *Plan, info impl.Info) (Timing, error) {
	r, err := newRun(p, info)
	if err != nil {
		return Timing{}, err
	}
	r.impl = info.New(len(p.Threads))
	var gc proc.Collector
	var faults, resident uint64
	proc.BringIn()
	begin := func() { gc, faults, resident = proc.ReadCollector(), proc.Read().Faults, proc.Resident() }
	elapsed, err := r.all(begin, r.timedThread)
	now := proc.ReadCollector()
	t := Timing{
		Elapsed:  elapsed,
		GCCycles: now.Cycles - gc.Cycles,
		GCCPU:    now.CPU - gc.CPU,
		Faults:   proc.Read().Faults - faults,
		Calls:    r.impl.Calls(),

		PeakResident: proc.PeakResident(), BeginResident: resident,
	}
	runtime.KeepAlive(r.table)
	return t, err
}

func (r *run) timedThread(t Thread, w impl.Worker) error {
	for i := range t.Ops {
		op := &t.Ops[i]
		if !r.wait(op) {
			return nil
		}
		if err := timedOp(w, op, &r.table[op.Slot]); err != nil {
			return r.errorAt(t, i, err)
		}
		r.pass(op)
	}
	return nil
}

// timedOp runs an op on the block whose pointer is at slot.
func timedOp(w impl.Worker, op *Op, slot *unsafe.Pointer) (err error) {
	p := *slot
	switch op.Kind {
	case trace.Free:
		if !holdsMark(p, op.Slot, op.Old) {
			return errContent
		}
		*slot = nil
		return w.Free(p)
	case trace.Realloc:
		if !holdsMark(p, op.Slot, op.Old) {
			return errContent
		}
		p, err = w.Realloc(p, int(op.Old), int(op.Size))
	case trace.Calloc:
		p, err = w.Calloc(int(op.Size))
	case trace.AllocAligned:
		p, err = w.AlignedMalloc(int(op.Size), 1<<op.Log)
	default:
		p, err = w.Malloc(int(op.Size))
	}
	if err != nil {
		return err
	}
	*slot = p
	if op.Size == 0 {
		return nil
	}
	if p == nil {
		return errNil
	}
	mark(p, op.Slot, op.Size)
	return nil
}

func markOf(slot uint32) uint64 { return (uint64(slot) + 1) * 0x9e3779b97f4a7c15 }

// mark writes the first and the last 8 bytes of a block, or the first byte of a
// smaller one.
func mark(p unsafe.Pointer, slot, size uint32) {
	if size < 8 {
		*(*byte)(p) = byte(markOf(slot))
		return
	}
	b := unsafe.Slice((*byte)(p), size)
	binary.LittleEndian.PutUint64(b[size-8:], ^markOf(slot))
	binary.LittleEndian.PutUint64(b, markOf(slot))
}

// holdsMark tells whether the first 8 bytes of a block are as mark wrote them,
// and the last 8 where those are not the same ones.
func holdsMark(p unsafe.Pointer, slot, size uint32) bool {
	if size < 8 {
		return size == 0 || *(*byte)(p) == byte(markOf(slot))
	}
	b := unsafe.Slice((*byte)(p), size)
	return binary.LittleEndian.Uint64(b) == markOf(slot) &&
		(size < 16 || binary.LittleEndian.Uint64(b[size-8:]) == ^markOf(slot))
}
