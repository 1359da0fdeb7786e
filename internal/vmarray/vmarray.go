// Package vmarray provides an array whose elements never move.
//
// The address range of the largest size is reserved once and committed piece
// by piece as the array grows, so that a reader which holds an index, or a
// pointer to an element, needs no lock while others grow the array. The tables
// that the allocator reads while pinned are built on it: pool links, arena
// bases, shards and their slots.
package vmarray

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// growBytes is the least that a growing array commits at once, in bytes.
const growBytes = 16 << 10

// Array is an array of at most [Array.Cap] elements of type T, which must hold
// no Go pointer. Elements are zero when first committed. The zero value is an
// empty array of no capacity; [Array.Init] gives it one.
//
// Grow and Release want a lock of the caller's; the rest may be called by any
// goroutine.
type Array[T any] struct {
	base      unsafe.Pointer
	cap       uint32
	len       atomic.Uint32  // elements committed; published after the memory
	committed atomic.Uintptr // bytes
}

// Init reserves address space for max elements, or for as many as the
// platform's limit on one table allows. It does nothing when done already.
func (a *Array[T]) Init(max int) error {
	if a.base != nil {
		return nil
	}
	size := int(unsafe.Sizeof(*new(T)))
	if max > maxBytes/size {
		max = maxBytes / size
	}
	base, err := osmem.Reserve(roundUp(max*size, osmem.PageSize()))
	if err != nil {
		return err
	}
	a.base, a.cap = base, uint32(max)
	return nil
}

// Cap returns the number of elements that address space is reserved for.
func (a *Array[T]) Cap() int { return int(a.cap) }

// Len returns the number of elements that may be touched.
func (a *Array[T]) Len() int { return int(a.len.Load()) }

// CommittedBytes returns the memory that the array has asked for.
func (a *Array[T]) CommittedBytes() uintptr { return a.committed.Load() }

// ReservedBytes returns the address space that the array takes.
func (a *Array[T]) ReservedBytes() int {
	return roundUp(int(a.cap)*int(unsafe.Sizeof(*new(T))), osmem.PageSize())
}

// Base returns the address of element 0.
func (a *Array[T]) Base() unsafe.Pointer { return a.base }

// At returns the element i, which must be below Len. It does not check.
func (a *Array[T]) At(i uint32) *T {
	return (*T)(unsafe.Add(a.base, uintptr(i)*unsafe.Sizeof(*new(T))))
}

// Grow makes elements below n usable.
func (a *Array[T]) Grow(n int) error {
	if n <= a.Len() {
		return nil
	}
	if n > int(a.cap) {
		return fmt.Errorf("vmarray: %d elements asked, the table holds at most %d", n, a.cap)
	}
	size := int(unsafe.Sizeof(*new(T)))
	have := int(a.committed.Load())
	want := min(max(roundUp(n*size, osmem.PageSize()), have+roundUp(growBytes, osmem.PageSize())), a.ReservedBytes())
	if err := osmem.Commit(unsafe.Add(a.base, have), want-have); err != nil {
		return err
	}
	a.committed.Store(uintptr(want))
	a.len.Store(uint32(min(want/size, int(a.cap))))
	return nil
}

// Release gives the memory and the address space back.
func (a *Array[T]) Release() error {
	if a.base == nil {
		return nil
	}
	if err := osmem.Release(a.base, a.ReservedBytes()); err != nil {
		return err
	}
	a.base, a.cap = nil, 0
	a.len.Store(0)
	a.committed.Store(0)
	return nil
}

func roundUp(n, to int) int { return (n + to - 1) &^ (to - 1) }
