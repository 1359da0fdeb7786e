package pymalloc

import (
	"runtime"
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

// Heap is a private heap of an [Allocator] for one goroutine at a time: the
// fastest way to allocate, without pinning or atomic instructions. Blocks from a
// heap may be freed through the allocator or any of its heaps, by any goroutine,
// and outlive the heap.
//
// Release a heap when its goroutine is done with it; one that is dropped without
// is released when the collector finds it. A released heap still frees, but does
// not allocate: that returns [ErrReleased]. So does a heap of an allocator that
// was closed, whose blocks are gone, and the zero Heap, which has no allocator. A Heap
// must not be copied.
type Heap struct {
	_    noCopy
	e    engine.Heap // without a shard if it was released, or there was no memory for it
	a    *Allocator
	all  bool // there is no memory for a shard: it allocates from the allocator's
	err  error
	done runtime.Cleanup
}

// noCopy makes go vet report copies of what has a field of it.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// AcquireHeap returns a heap for the calling goroutine. If there is no memory for it, the
// heap's methods use the allocator's own shards. If there are more than 16 million, every
// call of the heap returns [ErrTooManyHeaps]. Any goroutine may call it.
func (a *Allocator) AcquireHeap() *Heap {
	for {
		l := a.open()
		e, err := l.NewHeap()
		switch err {
		case nil:
			h := &Heap{e: e, a: a}
			h.done = runtime.AddCleanup(h, func(e engine.Heap) { e.Life.Release(e.Shard) }, e)
			return h
		case engine.ErrClosed: // meanwhile
			runtime.Gosched()
		case engine.ErrTooManyHeaps:
			return &Heap{a: a, err: ErrTooManyHeaps}
		default:
			return &Heap{a: a, all: true}
		}
	}
}

// Release gives the heap's memory to the allocator, for the blocks that live on
// as for new ones. It may be called again, and from any goroutine that has the
// heap to itself.
func (h *Heap) Release() {
	h.all = false
	if s := h.e.Shard; s != nil {
		h.done.Stop()
		h.e.Shard = nil
		h.e.Life.Release(s)
	}
	runtime.KeepAlive(h)
}

// allocSlow is what the fast path of malloc has no block for.
func (h *Heap) allocSlow(call string, size, align int) (p unsafe.Pointer, clean bool, err error) {
	switch {
	case h.err != nil && size > 0:
		return nil, false, &SizeError{call, size, h.err}
	case h.all:
		return h.a.allocSlow(call, nil, size, align)
	}
	p, clean, err = h.a.allocSlow(call, &h.e, size, align)
	runtime.KeepAlive(h)
	return p, clean, err
}

// UnsafeAlignedMalloc is [Allocator.UnsafeAlignedMalloc] on this heap.
func (h *Heap) UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error) {
	_ = h.a // a nil h faults here
	checkAlign(align)
	p, _, err := h.allocSlow("Heap.UnsafeAlignedMalloc", size, align)
	return p, err
}

// UnsafeRealloc is [Allocator.UnsafeRealloc] on this heap.
func (h *Heap) UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	if h.a == nil && p != nil {
		return nil, freeError("Heap.UnsafeRealloc", uintptr(p), engine.NotOurs)
	}
	q, err := h.a.realloc("Heap.UnsafeRealloc", h, &h.e, p, size)
	runtime.KeepAlive(h)
	return q, err
}

// freeSlow is what the fast path of free leaves.
func (h *Heap) freeSlow(call string, p unsafe.Pointer) error {
	if h.a == nil && p != nil {
		return freeError(call, uintptr(p), engine.NotOurs)
	}
	err := h.a.freeSlow(call, &h.e, p)
	runtime.KeepAlive(h)
	return err
}

// Malloc is [Allocator.Malloc] on this heap.
func (h *Heap) Malloc(size int) ([]byte, error) {
	p, err := h.UnsafeMalloc(size)
	return bytesOf(p, size, as("Heap.Malloc", err))
}

// Calloc is [Allocator.Calloc] on this heap.
func (h *Heap) Calloc(size int) ([]byte, error) {
	p, err := h.UnsafeCalloc(size)
	return bytesOf(p, size, as("Heap.Calloc", err))
}

// Realloc is [Allocator.Realloc] on this heap.
func (h *Heap) Realloc(b []byte, size int) ([]byte, error) {
	p, err := h.UnsafeRealloc(pointerOf(b), size)
	return bytesOf(p, size, as("Heap.Realloc", err))
}

// Free is [Allocator.Free] on this heap.
func (h *Heap) Free(b []byte) error { return as("Heap.Free", h.UnsafeFree(pointerOf(b))) }

// Owns is [Allocator.Owns] of the heap's allocator.
func (h *Heap) Owns(p unsafe.Pointer) bool { return h.a != nil && h.a.Owns(p) }
