// Package impl is what the benchmarks compare: one small interface, and the
// allocators behind it.
package impl

import "unsafe"

// Impl is an allocator in use.
type Impl interface {
	// Worker returns the allocator for the use of one goroutine. Blocks may be
	// freed through any worker.
	Worker() Worker
	// Mapped returns the bytes that the allocator has from the system, 0 where
	// that is not known. It may be called while workers are
	// at work, but not twice at once.
	Mapped() uint64
	// LiveBlocks returns the number of blocks not yet freed, or -1 where the
	// allocator does not know.
	LiveBlocks() int
	// Calls returns how often the allocator has asked the system, or nil where
	// it is not known.
	Calls() *Calls
}

// Worker allocates and frees for one goroutine. Size 0 may give nil, and nil may
// be given back.
type Worker interface {
	Malloc(size int) (unsafe.Pointer, error)
	// Calloc returns zeroed memory.
	Calloc(size int) (unsafe.Pointer, error)
	// AlignedMalloc returns a block at a multiple of align.
	AlignedMalloc(size, align int) (unsafe.Pointer, error)
	// Realloc changes the size of p, a block of old bytes.
	Realloc(p unsafe.Pointer, old, size int) (unsafe.Pointer, error)
	Free(p unsafe.Pointer) error
	// Release ends the worker's use.
	Release()
}

// Mallocer is what most of a program's calls go to.
type Mallocer interface {
	UnsafeMalloc(size int) (unsafe.Pointer, error)
	UnsafeFree(p unsafe.Pointer) error
}

// Direct returns the allocator behind a worker, if nothing has to be done around
// its calls, or else the worker: a program that embeds an allocator calls it
// without our interface between.
func Direct(w Worker) Mallocer {
	switch w := w.(type) {
	case allocatorWorker:
		return w.a
	case heapWorker:
		return w.h
	}
	return indirect{w}
}

// indirect is a worker as a Mallocer.
type indirect struct{ Worker }

func (i indirect) UnsafeMalloc(size int) (unsafe.Pointer, error) { return i.Malloc(size) }
func (i indirect) UnsafeFree(p unsafe.Pointer) error             { return i.Free(p) }

// Calls counts requests to the operating system since the allocator was made.
type Calls struct {
	Map   uint64 `json:"map"`   // memory or address space obtained
	Unmap uint64 `json:"unmap"` // given back
	Other uint64 `json:"other"` // protection, advice, remapping
}

// Info describes an allocator.
type Info struct {
	Name string
	// Align is what every address is a multiple of, whatever the size.
	Align int
	// GoHeap tells that blocks are the collector's: whoever holds one must hold
	// it where the collector looks.
	GoHeap bool
	// HighWater tells that Mapped returns the most there has been: one look at
	// the end will do.
	HighWater bool
	// New makes an allocator for that many goroutines at once.
	New func(goroutines int) Impl
}

// All returns the allocators, in the order in which tables show them.
func All() []Info {
	return []Info{
		{Name: "pymalloc", Align: 16, HighWater: true, New: newPymalloc},
		{Name: "pymalloc-heap", Align: 16, HighWater: true, New: newPymallocHeap},
		{Name: "goheap", Align: 1, GoHeap: true, New: newGoHeap},
		{Name: "modernc", Align: 2 * int(unsafe.Sizeof(uintptr(0))), New: newModernc},
	}
}
