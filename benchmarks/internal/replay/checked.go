package replay

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/offheap"
	"github.com/pyarena/pyarena/benchmarks/internal/proc"
	"github.com/pyarena/pyarena/benchmarks/internal/stamp"
	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

// Memory is what a checked replay took at most. A figure that is not known is 0.
type Memory struct {
	Live     uint64 `json:"live_bytes"`     // asked for by the blocks live at once
	Mapped   uint64 `json:"mapped_bytes"`   // had from the system
	Resident uint64 `json:"resident_bytes"` // in memory, more than before the replay
}

const (
	sampleEvery = 1024      // records between two looks at the memory
	sampleAbove = 256 << 10 // and one after each block as large as this, in bytes
)

// Check replays a plan and fills every block over its whole length with a
// pattern of its own. It checks the whole pattern when the block is freed, when
// it was resized (up to the smaller size), and at the end for blocks that the
// trace leaves live; those are freed then. It checks that calloc returns zeros,
// that addresses are aligned, and that no block is left over. The error is a
// [*RecordError].
func Check(p *Plan, info impl.Info) (Memory, error) {
	r, err := newRun(p, info)
	if err != nil {
		return Memory{}, err
	}
	c := &checked{run: r}
	if c.born, err = offheap.Slice[uint32](p.Slots); err != nil {
		return Memory{}, err
	}
	if c.size, err = offheap.Slice[uint32](p.Slots); err != nil {
		return Memory{}, err
	}
	clear(c.born)
	clear(c.size)
	r.impl = info.New(len(p.Threads))
	_, err = r.all(func() { c.base = proc.Read().Resident }, c.thread)
	if err != nil {
		return c.peak, err
	}
	c.sample()
	c.peak.Mapped = max(c.peak.Mapped, c.impl.Mapped())
	c.peak.Live = uint64(c.peakLive.Load())
	return c.peak, c.sweep()
}

// checked is a run with the contents of all blocks in mind.
type checked struct {
	*run
	born []uint32 // by slot: the record that made the block, which gives its seed
	size []uint32 // by slot: the block's size, 0 if there is none

	live, peakLive atomic.Int64 // bytes

	mu   sync.Mutex
	base uint64 // resident before
	peak Memory
}

func (c *checked) thread(t Thread, w impl.Worker) error {
	for i := range t.Ops {
		op := &t.Ops[i]
		if !c.wait(op) {
			return nil
		}
		if err := c.op(w, op, t.Records[i]); err != nil {
			return c.errorAt(t, i, err)
		}
		c.pass(op)
		if i%sampleEvery == 0 || op.Size >= sampleAbove {
			c.sample()
		}
	}
	return nil
}

func (c *checked) op(w impl.Worker, op *Op, record uint32) (err error) {
	s := op.Slot
	p := c.table[s]
	size, old := int(op.Size), int(op.Old)
	kept := 0 // bytes of the new block that hold the pattern
	switch op.Kind {
	case trace.Free:
		c.count(-old)
		c.table[s], c.size[s] = nil, 0
		if err := stamp.Verify(p, old, stamp.Seed(uint64(c.born[s]))); err != nil {
			return err
		}
		return w.Free(p)
	case trace.Realloc:
		if err := stamp.Verify(p, old, stamp.Seed(uint64(c.born[s]))); err != nil {
			return err
		}
		kept = min(old, size)
		p, err = w.Realloc(p, old, size)
	case trace.Calloc:
		p, err = w.Calloc(size)
	case trace.AllocAligned:
		p, err = w.AlignedMalloc(size, 1<<op.Log)
	default:
		p, err = w.Malloc(size)
	}
	switch {
	case err != nil:
		return err
	case p == nil && size > 0:
		return errNil
	}
	if op.Kind != trace.Realloc {
		c.born[s] = record
	}
	c.table[s], c.size[s] = p, op.Size
	c.count(size - old)
	if align := max(c.info.Align, 1<<op.Log); size > 0 && uintptr(p)&uintptr(align-1) != 0 {
		return fmt.Errorf("address %p is no multiple of %d", p, align)
	}
	if op.Kind == trace.Calloc {
		if err := stamp.VerifyZero(p, size); err != nil {
			return err
		}
	}
	id := stamp.Seed(uint64(c.born[s]))
	if err := stamp.Verify(p, kept, id); err != nil {
		return err
	}
	stamp.Fill(p, kept&^7, size, id)
	return nil
}

// count adds to the live bytes.
func (c *checked) count(bytes int) {
	n := c.live.Add(int64(bytes))
	for peak := c.peakLive.Load(); n > peak && !c.peakLive.CompareAndSwap(peak, n); {
		peak = c.peakLive.Load()
	}
}

// sample looks at the memory.
func (c *checked) sample() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.info.HighWater {
		c.peak.Mapped = max(c.peak.Mapped, c.impl.Mapped())
	}
	now := proc.Read().Resident
	c.peak.Resident = max(c.peak.Resident, max(now, c.base)-c.base)
}

// sweep checks and frees what is still live.
func (c *checked) sweep() error {
	w := c.impl.Worker()
	defer w.Release()
	for s, p := range c.table {
		size := c.size[s]
		err := stamp.Verify(p, int(size), stamp.Seed(uint64(c.born[s])))
		if err == nil {
			c.table[s] = nil
			err = w.Free(p)
		}
		if err != nil {
			return &RecordError{c.info.Name, -1, Op{Old: size}, err}
		}
	}
	if n := c.impl.LiveBlocks(); n > 0 {
		return &RecordError{c.info.Name, -1, Op{}, fmt.Errorf("%d blocks are live after all were freed", n)}
	}
	runtime.KeepAlive(unsafe.Pointer(unsafe.SliceData(c.table)))
	return nil
}
