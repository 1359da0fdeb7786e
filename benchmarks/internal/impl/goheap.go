package impl

import (
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/proc"
)

// goHeap is make([]byte, n), and the collector. It holds nothing itself: the
// caller's table keeps a block alive.
type goHeap struct {
	memory *proc.GoMemory
	begun  uint64 // Mapped at the start
}

func newGoHeap(int) Impl {
	i := &goHeap{memory: proc.NewGoMemory()}
	i.begun = i.Mapped()
	return i
}

func (*goHeap) Worker() Worker  { return goHeapWorker{} }
func (*goHeap) LiveBlocks() int { return -1 }
func (*goHeap) Calls() *Calls   { return nil }

// Mapped is what the whole runtime has got more since the replay began, less
// what it has given back.
func (i *goHeap) Mapped() uint64 {
	return max(i.memory.Mapped(), i.begun) - i.begun
}

type goHeapWorker struct{}

func (goHeapWorker) Malloc(size int) (unsafe.Pointer, error) {
	return unsafe.Pointer(unsafe.SliceData(make([]byte, size))), nil
}

func (w goHeapWorker) Calloc(size int) (unsafe.Pointer, error) { return w.Malloc(size) }
func (goHeapWorker) Free(unsafe.Pointer) error                 { return nil }
func (goHeapWorker) Release()                                  {}

func (w goHeapWorker) AlignedMalloc(size, align int) (unsafe.Pointer, error) {
	p, err := w.Malloc(max(size, 1) + align - 1) // of no size, it must not point past the end
	return alignUp(p, align), err
}

// Realloc cuts in place, as reslicing does, and grows by copying.
func (w goHeapWorker) Realloc(p unsafe.Pointer, old, size int) (unsafe.Pointer, error) {
	if size <= old {
		return p, nil
	}
	q, err := w.Malloc(size)
	copy(unsafe.Slice((*byte)(q), size), unsafe.Slice((*byte)(p), old))
	return q, err
}

// alignUp moves p up to a multiple of align, a power of two.
func alignUp(p unsafe.Pointer, align int) unsafe.Pointer {
	return unsafe.Add(p, -uintptr(p)&uintptr(align-1))
}
