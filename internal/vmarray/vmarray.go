// Package vmarray provides arrays whose elements never move, so that a reader which
// holds an index, or a pointer to an element, needs no lock while others grow the
// array. The tables that the allocator reads while pinned are built on it: links of
// pools, bases of arenas, slots of shards.
//
// A [Segment] is a range of addresses, reserved at once and committed piece by piece
// as it grows. An [Array] is a row of segments, each of which is reserved when the
// array grows into it: a table takes addresses for what it holds, and one segment
// more at most.
//
//	Array     directory: [ segment 0 | segment 1 | 0 | 0 | … | 0 ]
//	                           |           |
//	                           v           v
//	Segment              [ committed ] [ committed | reserved ]
//
// Grow and Release want a lock of the caller's; the rest may be called by any
// goroutine.
package vmarray

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/osmem"
)

const (
	// segmentBytes is the most address space that a segment takes.
	segmentBytes = 1 << 20
	// maxSegments is how many segments an array has at most.
	maxSegments = 256
	// growBytes is the least that a growing segment commits at once, in bytes.
	growBytes = 16 << 10
)

// Segment is a row of elements of type T, which must hold no Go pointer, in 1 MiB
// of addresses. Elements are zero when first committed. The zero value is empty and
// takes no addresses.
type Segment[T any] struct {
	base      atomic.Uintptr // 0: nothing is reserved
	len       atomic.Uint32  // elements committed; published after the memory
	committed atomic.Uintptr // bytes
}

// Cap returns the most elements that a segment holds.
func (s *Segment[T]) Cap() int { return segmentBytes / int(unsafe.Sizeof(*new(T))) }

// Len returns the number of elements that may be touched.
func (s *Segment[T]) Len() int { return int(s.len.Load()) }

// CommittedBytes returns the memory that the segment has asked for.
func (s *Segment[T]) CommittedBytes() int { return int(s.committed.Load()) }

// ReservedBytes returns the address space that the segment takes.
func (s *Segment[T]) ReservedBytes() int {
	if s.base.Load() == 0 {
		return 0
	}
	return segmentBytes
}

// Base returns the address of element 0, or nil where nothing is reserved.
func (s *Segment[T]) Base() unsafe.Pointer { return addr.Pointer(s.base.Load()) }

// Grow makes elements below n usable.
func (s *Segment[T]) Grow(n int) error {
	if n <= s.Len() {
		return nil
	}
	if n > s.Cap() {
		return tooMany(n, s.Cap())
	}
	if s.base.Load() == 0 {
		base, err := osmem.Reserve(segmentBytes)
		if err != nil {
			return err
		}
		s.base.Store(uintptr(base))
	}
	size := int(unsafe.Sizeof(*new(T)))
	have := s.CommittedBytes()
	want := min(max(roundUp(n*size), have+roundUp(growBytes)), segmentBytes)
	if err := osmem.Commit(unsafe.Add(s.Base(), have), want-have); err != nil {
		return err
	}
	s.committed.Store(uintptr(want))
	s.len.Store(uint32(min(want/size, s.Cap())))
	return nil
}

// Release gives the memory and the address space back.
func (s *Segment[T]) Release() error {
	if s.base.Load() == 0 {
		return nil
	}
	if err := osmem.Release(s.Base(), segmentBytes); err != nil {
		return err
	}
	s.base.Store(0)
	s.len.Store(0)
	s.committed.Store(0)
	return nil
}

// Array is a row of elements of type T, which must hold no Go pointer, in segments
// that are never given back. Elements are zero when first committed. The zero value
// is empty and takes no addresses.
type Array[T any] struct {
	directory [maxSegments]atomic.Uintptr // where segments begin; published before len
	len       atomic.Uint32               // elements committed; published after the memory
	last      *Segment[T]                 // that grows
	committed atomic.Int64                // bytes
	reserved  atomic.Int64                // bytes
}

// Cap returns the most elements that an array holds.
func (a *Array[T]) Cap() int { return maxSegments * (segmentBytes / int(unsafe.Sizeof(*new(T)))) }

// Len returns the number of elements that may be touched.
func (a *Array[T]) Len() int { return int(a.len.Load()) }

// CommittedBytes returns the memory that the array has asked for.
func (a *Array[T]) CommittedBytes() int { return int(a.committed.Load()) }

// ReservedBytes returns the address space that the array takes.
func (a *Array[T]) ReservedBytes() int { return int(a.reserved.Load()) }

// At returns the element i, which must be below Len. It does not check. Where the
// size of an element is a power of two it is a shift, a mask and two loads.
func (a *Array[T]) At(i uint32) *T {
	per := uint32(segmentBytes / unsafe.Sizeof(*new(T)))
	base := addr.Pointer(a.directory[i/per%maxSegments].Load())
	return (*T)(unsafe.Add(base, uintptr(i%per)*unsafe.Sizeof(*new(T))))
}

// Grow makes elements below n usable. What a refusal leaves is there for the next call.
func (a *Array[T]) Grow(n int) error {
	if n > a.Cap() {
		return tooMany(n, a.Cap())
	}
	for have := a.Len(); have < n; have = a.Len() {
		if a.last == nil || a.last.Len() == a.last.Cap() {
			a.last = new(Segment[T])
		}
		s := a.last
		first := have - s.Len()
		committed, reserved := s.CommittedBytes(), s.ReservedBytes()
		err := s.Grow(min(n-first, s.Cap()))
		a.committed.Add(int64(s.CommittedBytes() - committed))
		a.reserved.Add(int64(s.ReservedBytes() - reserved))
		if err != nil {
			return err
		}
		a.directory[first/s.Cap()].Store(uintptr(s.Base()))
		a.len.Store(uint32(first + s.Len()))
	}
	return nil
}

func tooMany(n, most int) error {
	return fmt.Errorf("%d elements asked, a table of these holds at most %d", n, most)
}

// roundUp returns n bytes in whole pages.
func roundUp(n int) int { return (n + osmem.PageSize() - 1) &^ (osmem.PageSize() - 1) }
