package pymalloc

import (
	"errors"
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

// UnsafeRealloc changes the size of the block at p to size bytes and returns its
// address, which may be another; the contents are kept up to the smaller size,
// what is added is not initialised. A nil p is UnsafeMalloc, size 0 is
// UnsafeFree. If it fails the old block is as it was.
//
// The block stays where it is when the size fits and more than three quarters of
// the block are used (CPython's rule), or when there is no memory for a smaller
// one. A block of more than half an arena is copied once to a mapping at least twice as
// large, if a free one is retained, and grows on into the rest of that. If there is none
// it grows where it is, if the addresses after it are free, and on Linux is moved with its pages,
// not copied, if there is no room. If it shrinks to no less than that, it stays, and what
// it gives up is retained after it, for it to grow into again, where [KeepAddresses] and
// the system allow that a part of a mapping be given back.
//
// A block that stays keeps the alignment that UnsafeAlignedMalloc gave it. A block that
// moves is aligned to 16 bytes, and to no more. To resize a block and keep a larger
// alignment, allocate a new one with UnsafeAlignedMalloc, copy, and free the old one.
func (a *Allocator) UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	return a.realloc("UnsafeRealloc", a, nil, p, size)
}

// mallocer is an Allocator or a Heap.
type mallocer interface {
	UnsafeMalloc(size int) (unsafe.Pointer, error)
	UnsafeFree(p unsafe.Pointer) error
}

// realloc is UnsafeRealloc on the allocator itself, where hp is nil, or on its
// heap: from is that.
func (a *Allocator) realloc(call string, from mallocer, hp *engine.Heap, p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	switch {
	case size < 0:
		panic("pymalloc: " + call + ": negative size")
	case p == nil:
		q, err := from.UnsafeMalloc(size)
		return q, as(call, err)
	case size == 0:
		return nil, as(call, from.UnsafeFree(p))
	}
	old, otherwise := a.sizeOf(hp, p)
	if old == 0 {
		return nil, freeError(call, uintptr(p), otherwise)
	}
	if size <= old && 4*uint64(size) > 3*uint64(old) {
		return p, nil
	}
	if engine.IsHuge(p) {
		if q := a.resizeHuge(hp, p, size); q != nil {
			return q, nil
		}
	}
	q, err := from.UnsafeMalloc(size)
	if err != nil {
		if size <= old && !errors.Is(err, ErrCorrupted) {
			return p, nil
		}
		return nil, as(call, err)
	}
	n := min(size, old)
	copy(unsafe.Slice((*byte)(q), n), unsafe.Slice((*byte)(p), n))
	if err := from.UnsafeFree(p); err != nil {
		_ = from.UnsafeFree(q) // p is no live block: nothing is to change
		return nil, as(call, err)
	}
	return q, nil
}

// sizeOf returns the usable size of this allocator's live block at p, or 0 and
// what a free would say.
func (a *Allocator) sizeOf(hp *engine.Heap, p unsafe.Pointer) (int, engine.Outcome) {
	l := a.lifeOf(hp)
	if l == nil {
		return 0, engine.NotOurs
	}
	return l.SizeOf(p)
}

// resizeHuge resizes a huge block without copying it, if it stays one; else it
// returns nil.
func (a *Allocator) resizeHuge(hp *engine.Heap, p unsafe.Pointer, size int) unsafe.Pointer {
	l := a.lifeOf(hp)
	if l == nil || size <= l.Arenas.RunMax() || size > maxSize {
		return nil
	}
	return l.Resize(p, size)
}

// as makes the error of a call that another call made that one's own.
func as(call string, err error) error {
	switch e := err.(type) {
	case *SizeError:
		e.Call = call
	case *PointerError:
		e.Call = call
	}
	return err
}
