package impl

import (
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
	"github.com/pyarena/pyarena/pymalloc"
)

// pyarena is an Allocator, with or without a Heap for each worker.
type pyarena struct {
	a     *pymalloc.Allocator
	heaps bool
	begun osmem.Counts
}

func newPymalloc(int) Impl     { return Pymalloc(new(pymalloc.Allocator), false) }
func newPymallocHeap(int) Impl { return Pymalloc(new(pymalloc.Allocator), true) }

// Pymalloc returns the allocator as an Impl, with a Heap for each worker or without.
func Pymalloc(a *pymalloc.Allocator, heaps bool) Impl { return &pyarena{a, heaps, osmem.Calls()} }

// Hardened returns an Allocator with Options.Hardened.
func Hardened() Info { return hardened("pymalloc-hardened", pymalloc.Options{Hardened: true}) }

// Canaries returns an Allocator with Options.Canaries.
func Canaries() Info { return hardened("pymalloc-canaries", pymalloc.Options{Canaries: true}) }

func hardened(name string, o pymalloc.Options) Info {
	return Info{Name: name, Align: 16, HighWater: true, New: func(int) Impl {
		a, err := pymalloc.NewAllocator(o)
		if err != nil {
			panic(err) // the options are ours
		}
		return &pyarena{a: a, begun: osmem.Calls()}
	}}
}

func (i *pyarena) Worker() Worker {
	if i.heaps {
		return heapWorker{i.a.AcquireHeap()}
	}
	return allocatorWorker{i.a}
}

// Mapped is the high water of blocks, and the tables.
func (i *pyarena) Mapped() uint64 {
	s := i.a.Stats()
	return s.HighWaterBytes + s.MetadataBytes
}

func (i *pyarena) LiveBlocks() int { return int(i.a.Stats().LiveBlocks) }

// Calls counts those of osmem; one that must align a mapping takes up to four
// system calls.
func (i *pyarena) Calls() *Calls {
	c := osmem.Calls().Sub(i.begun)
	return &Calls{
		Map:   c.Map + c.Reserve,
		Unmap: c.Release,
		Other: c.Commit + c.Decommit + c.Protect + c.Advise + c.Remap,
	}
}

type allocatorWorker struct{ a *pymalloc.Allocator }

func (w allocatorWorker) Malloc(size int) (unsafe.Pointer, error) { return w.a.UnsafeMalloc(size) }
func (w allocatorWorker) Calloc(size int) (unsafe.Pointer, error) { return w.a.UnsafeCalloc(size) }
func (w allocatorWorker) Free(p unsafe.Pointer) error             { return w.a.UnsafeFree(p) }
func (w allocatorWorker) Release()                                {}

func (w allocatorWorker) AlignedMalloc(size, align int) (unsafe.Pointer, error) {
	return w.a.UnsafeAlignedMalloc(size, align)
}

func (w allocatorWorker) Realloc(p unsafe.Pointer, _, size int) (unsafe.Pointer, error) {
	return w.a.UnsafeRealloc(p, size)
}

type heapWorker struct{ h *pymalloc.Heap }

func (w heapWorker) Malloc(size int) (unsafe.Pointer, error) { return w.h.UnsafeMalloc(size) }
func (w heapWorker) Calloc(size int) (unsafe.Pointer, error) { return w.h.UnsafeCalloc(size) }
func (w heapWorker) Free(p unsafe.Pointer) error             { return w.h.UnsafeFree(p) }
func (w heapWorker) Release()                                { w.h.Release() }

func (w heapWorker) AlignedMalloc(size, align int) (unsafe.Pointer, error) {
	return w.h.UnsafeAlignedMalloc(size, align)
}

func (w heapWorker) Realloc(p unsafe.Pointer, _, size int) (unsafe.Pointer, error) {
	return w.h.UnsafeRealloc(p, size)
}
