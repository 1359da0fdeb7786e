package impl

import (
	"math/bits"
	"sync"
	"unsafe"
)

// syncPool is a sync.Pool for each power of two, over the Go heap: what a Go
// program does before it looks for an allocator. A block has its class in a word
// before it.
type syncPool struct {
	goHeap
	pools [poolClasses]sync.Pool
}

const (
	poolClasses = 48
	poolHeader  = 16 // bytes before a block
)

// SyncPool returns it.
func SyncPool() Info { return Info{Name: "syncpool", Align: 1, GoHeap: true, New: newSyncPool} }

func newSyncPool(int) Impl {
	i := &syncPool{goHeap: *newGoHeap(0).(*goHeap)}
	for c := range i.pools {
		i.pools[c].New = func() any { return unsafe.Pointer(unsafe.SliceData(make([]byte, 1<<c))) }
	}
	return i
}

func (i *syncPool) Worker() Worker { return syncPoolWorker{i} }

type syncPoolWorker struct{ *syncPool }

func (w syncPoolWorker) Release() {}

func (w syncPoolWorker) Malloc(size int) (unsafe.Pointer, error) {
	c := bits.Len(uint(size + poolHeader - 1))
	p := w.pools[c].Get().(unsafe.Pointer)
	*(*uint64)(p) = uint64(c)
	return unsafe.Add(p, poolHeader), nil
}

func (w syncPoolWorker) Calloc(size int) (unsafe.Pointer, error) {
	p, err := w.Malloc(size)
	clear(unsafe.Slice((*byte)(p), size))
	return p, err
}

// AlignedMalloc gives 16 bytes at most: what lies behind a header.
func (w syncPoolWorker) AlignedMalloc(size, align int) (unsafe.Pointer, error) {
	if align > poolHeader {
		return goHeapWorker{}.AlignedMalloc(size, align) // never put back
	}
	return w.Malloc(size)
}

func (w syncPoolWorker) Realloc(p unsafe.Pointer, old, size int) (unsafe.Pointer, error) {
	q, err := w.Malloc(size)
	n := min(old, size)
	copy(unsafe.Slice((*byte)(q), n), unsafe.Slice((*byte)(p), n))
	if p != nil {
		err = w.Free(p)
	}
	return q, err
}

func (w syncPoolWorker) Free(p unsafe.Pointer) error {
	if p == nil {
		return nil
	}
	p = unsafe.Add(p, -poolHeader)
	w.pools[*(*uint64)(p)].Put(p)
	return nil
}
