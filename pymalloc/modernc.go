package pymalloc

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/engine"
)

// The method set of modernc.org/memory: slices and addresses in place of
// pointers. A program that uses that package imports this one under its name,
//
//	import memory "github.com/pyarena/pyarena/pymalloc"
//
// and has to be changed where it reads the counters Allocs, Bytes and Mmaps, which
// are not here: Stats has LiveBlocks and MappedBytes, and Arenas.Current and
// Huge.Blocks for the mappings.

// bytesOf returns the block at p as a slice: length size, capacity the usable
// size, which is 0 by now if the allocator was closed meanwhile.
func bytesOf(p unsafe.Pointer, size int, err error) ([]byte, error) {
	if p == nil || err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), max(size, UnsafeUsableSize(p)))[:size], nil
}

// pointerOf returns the block that b was cut from the front of, or nil.
func pointerOf(b []byte) unsafe.Pointer {
	if cap(b) == 0 {
		return nil
	}
	return unsafe.Pointer(unsafe.SliceData(b))
}

// pointerAt returns the address p as a pointer, if it lies in memory of an
// allocator, or nil: the runtime does not bear every number in a pointer.
func pointerAt(p uintptr) unsafe.Pointer {
	if !engine.Knows(p) {
		return nil
	}
	return addr.Pointer(p)
}

// notOwned returns the error of a call with an address that is in no allocator's memory.
func (a *Allocator) notOwned(call string, p uintptr) error {
	_ = a.opts // a nil a faults here, as in every other call
	return &PointerError{call, p, ErrNotOwned}
}

// Malloc returns a block as a slice of length size, not initialised; its
// capacity is the usable size of the block. Malloc(0) returns nil, nil; a
// negative size panics. The caller frees it with Free. The slice may be resliced
// but must keep its start; an append beyond its capacity moves it to the Go heap.
func (a *Allocator) Malloc(size int) ([]byte, error) {
	p, err := a.UnsafeMalloc(size)
	return bytesOf(p, size, err)
}

// Calloc is Malloc for zeroed memory; bytes beyond size are not cleared.
func (a *Allocator) Calloc(size int) ([]byte, error) {
	p, err := a.UnsafeCalloc(size)
	return bytesOf(p, size, err)
}

// Realloc is [Allocator.UnsafeRealloc] for slices: a b of capacity 0 is Malloc,
// size 0 is Free.
func (a *Allocator) Realloc(b []byte, size int) ([]byte, error) {
	p, err := a.realloc("Realloc", a, nil, pointerOf(b), size)
	return bytesOf(p, size, err)
}

// Free frees the block that b was returned as. A b of capacity 0 does nothing.
func (a *Allocator) Free(b []byte) error { return a.UnsafeFree(pointerOf(b)) }

// UintptrMalloc is UnsafeMalloc with an address.
func (a *Allocator) UintptrMalloc(size int) (uintptr, error) {
	p, err := a.UnsafeMalloc(size)
	return uintptr(p), err
}

// UintptrCalloc is UnsafeCalloc with an address.
func (a *Allocator) UintptrCalloc(size int) (uintptr, error) {
	p, err := a.UnsafeCalloc(size)
	return uintptr(p), err
}

// UintptrRealloc is UnsafeRealloc with addresses.
func (a *Allocator) UintptrRealloc(p uintptr, size int) (uintptr, error) {
	at := pointerAt(p)
	if at == nil && p != 0 {
		return 0, a.notOwned("UintptrRealloc", p)
	}
	q, err := a.realloc("UintptrRealloc", a, nil, at, size)
	return uintptr(q), err
}

// UintptrFree is UnsafeFree with an address.
func (a *Allocator) UintptrFree(p uintptr) error {
	at := pointerAt(p)
	if at == nil && p != 0 {
		return a.notOwned("UintptrFree", p)
	}
	return a.UnsafeFree(at)
}

// UsableSize is [UnsafeUsableSize] of the block that begins at p.
func UsableSize(p *byte) int { return UnsafeUsableSize(unsafe.Pointer(p)) }

// UintptrUsableSize is [UnsafeUsableSize] with an address.
func UintptrUsableSize(p uintptr) int { return UnsafeUsableSize(pointerAt(p)) }
