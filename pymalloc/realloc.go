package pymalloc

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/addrmap"
	"github.com/pyarena/pyarena/internal/shard"
)

// UnsafeRealloc changes the size of the block at p to size bytes and returns its
// address, which may be another; the contents are kept up to the smaller size,
// what is added is not initialised. A nil p is UnsafeMalloc, size 0 is
// UnsafeFree. If it fails the old block is as it was.
//
// The block stays where it is when the size fits and more than three quarters of
// the block are used (CPython's rule), or when there is no memory for a smaller
// one.
func (a *Allocator) UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	return a.realloc("UnsafeRealloc", nil, p, size)
}

func (a *Allocator) realloc(call string, hp *shard.Heap, p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	switch {
	case size < 0:
		panic("pymalloc: " + call + ": negative size")
	case p == nil:
		q, _, err := a.allocFor(call, hp, size)
		return q, err
	case size == 0:
		return nil, a.freeFor(call, hp, p)
	}
	old := a.sizeOf(hp, p)
	if old == 0 {
		return nil, freeError(call, uintptr(p), shard.NotOurs)
	}
	if size <= old && 4*uint64(size) > 3*uint64(old) {
		return p, nil
	}
	if addrmap.Load(uintptr(p)).Kind() == addrmap.Huge && a.growHuge(hp, p, size) {
		return p, nil
	}
	q, _, err := a.allocFor(call, hp, size)
	if err != nil {
		if size <= old {
			return p, nil
		}
		return nil, err
	}
	n := min(size, old)
	copy(unsafe.Slice((*byte)(q), n), unsafe.Slice((*byte)(p), n))
	if err := a.freeFor(call, hp, p); err != nil {
		_ = a.freeFor(call, hp, q) // p is no live block: nothing is to change
		return nil, err
	}
	return q, nil
}

// tableOf returns the table that a call is for, or nil.
func (a *Allocator) tableOf(hp *shard.Heap) *shard.Table {
	if hp != nil {
		return hp.Table()
	}
	return a.table.Load()
}

// sizeOf returns the usable size of this allocator's live block at p, or 0.
func (a *Allocator) sizeOf(hp *shard.Heap, p unsafe.Pointer) int {
	t := a.tableOf(hp)
	if t == nil {
		return 0
	}
	return t.SizeOf(p)
}

// growHuge resizes a huge block in place, if it stays one.
func (a *Allocator) growHuge(hp *shard.Heap, p unsafe.Pointer, size int) bool {
	t := a.tableOf(hp)
	return t != nil && size > t.Arenas.RunMax() && size <= maxSize && t.Large.Grow(p, size)
}

func (a *Allocator) allocFor(call string, hp *shard.Heap, size int) (unsafe.Pointer, bool, error) {
	if hp != nil {
		return a.allocSlow(call, hp, size, 1)
	}
	p, err := a.UnsafeMalloc(size)
	return p, false, err
}

func (a *Allocator) freeFor(call string, hp *shard.Heap, p unsafe.Pointer) error {
	if hp != nil {
		return a.freeSlow(call, hp, p)
	}
	return a.UnsafeFree(p)
}
