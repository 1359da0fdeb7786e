package pymalloc

import (
	"runtime"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/shard"
	"github.com/pyarena/pyarena/internal/sizeclass"
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
	h    *shard.Heap // nil if there was no memory for it
	fast *shard.Heap // h, if it is not IsHard
	hard *shard.Heap // h, if it is
	a    *Allocator
	done runtime.Cleanup
}

// noCopy makes go vet report copies of what has a field of it.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// AcquireHeap returns a heap for the calling goroutine. If there is no memory
// for it, the heap's methods use the allocator's own shards.
func (a *Allocator) AcquireHeap() *Heap {
	for {
		t, err := a.open()
		if err != nil {
			return &Heap{a: a}
		}
		hp, err := t.NewHeap()
		if err == nil {
			h := &Heap{h: hp, a: a}
			if hp.IsHard() {
				h.hard = hp
			} else {
				h.fast = hp
			}
			h.done = runtime.AddCleanup(h, (*shard.Heap).Release, hp)
			return h
		}
		if a.table.Load() == t {
			return &Heap{a: a}
		}
	}
}

// Release gives the heap's memory to the allocator, for the blocks that live on
// as for new ones. It may be called again, and from any goroutine that has the
// heap to itself.
func (h *Heap) Release() {
	if h.h != nil {
		h.done.Stop()
		h.h.Release()
	}
	runtime.KeepAlive(h)
}

// allocSlow is what the fast path of malloc has no block for.
func (h *Heap) allocSlow(call string, size, align int) (p unsafe.Pointer, clean bool, err error) {
	if h.a == nil && size > 0 {
		return nil, false, ErrReleased // the zero Heap
	}
	return h.a.allocSlow(call, h.h, size, align)
}

// UnsafeMalloc is [Allocator.UnsafeMalloc] on this heap.
//
//go:noinline
func (h *Heap) UnsafeMalloc(size int) (unsafe.Pointer, error) {
	if hp := h.fast; uint(size)-1 < sizeclass.Max && hp != nil {
		c := sizeclass.Of(size)
		s := hp.Begin()
		if s != nil {
			if s.HasHot(c) {
				p := s.TakeHot()
				pool.Unseal(p)
				hp.End()
				runtime.KeepAlive(h)
				return p, nil
			}
			if m := s.Magazine(c); !m.IsEmpty() {
				p := m.Pop()
				s.Remember(p)
				pool.Unseal(p)
				hp.End()
				runtime.KeepAlive(h)
				return p, nil
			}
			if p := s.Used(c).Pop(); p != nil {
				pool.Unseal(p)
				hp.End()
				runtime.KeepAlive(h)
				return p, nil
			}
		}
		hp.End()
	}
	if hp := h.hard; hp != nil && size > 0 {
		if s := hp.Begin(); s != nil {
			p := s.TakeHard(size)
			if p == nil {
				p, _ = s.DrawHard(size)
			}
			if p != nil {
				pool.Unseal(p)
				hp.End()
				runtime.KeepAlive(h)
				return p, nil
			}
		}
		hp.End()
	}
	p, _, err := h.allocSlow("Heap.UnsafeMalloc", size, 1)
	runtime.KeepAlive(h)
	return p, err
}

// UnsafeCalloc is [Allocator.UnsafeCalloc] on this heap.
//
//go:noinline
func (h *Heap) UnsafeCalloc(size int) (unsafe.Pointer, error) {
	if hp := h.h; uint(size)-1 < sizeclass.Max && hp != nil {
		c := sizeclass.Of(size)
		s := hp.Begin()
		if s != nil {
			var p unsafe.Pointer
			clean := false
			if h.hard != nil {
				if p = s.TakeHard(size); p == nil {
					p, clean = s.DrawHard(size)
				}
			} else if s.HasHot(c) {
				p = s.TakeHot()
			} else if m := s.Magazine(c); !m.IsEmpty() {
				p = m.Pop()
			} else {
				p, clean = s.Used(c).PopZero()
			}
			if p != nil {
				pool.Unseal(p)
				hp.End()
				runtime.KeepAlive(h)
				if !clean {
					zero(p, size)
				}
				return p, nil
			}
		}
		hp.End()
	}
	p, clean, err := h.allocSlow("Heap.UnsafeCalloc", size, 1)
	if !clean && p != nil {
		zero(p, size)
	}
	runtime.KeepAlive(h)
	return p, err
}

// UnsafeAlignedMalloc is [Allocator.UnsafeAlignedMalloc] on this heap.
func (h *Heap) UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error) {
	checkAlign(align)
	if align <= sizeclass.Alignment && size >= 0 {
		p, err := h.UnsafeMalloc(size) // every block is aligned to that
		return p, as("Heap.UnsafeAlignedMalloc", err)
	}
	p, _, err := h.allocSlow("Heap.UnsafeAlignedMalloc", size, align)
	runtime.KeepAlive(h)
	return p, err
}

// UnsafeRealloc is [Allocator.UnsafeRealloc] on this heap.
func (h *Heap) UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	if h.a == nil && p != nil {
		return nil, freeError("Heap.UnsafeRealloc", uintptr(p), shard.NotOurs)
	}
	q, err := h.a.realloc("Heap.UnsafeRealloc", h, h.h, p, size)
	runtime.KeepAlive(h)
	return q, err
}

// UnsafeFree is [Allocator.UnsafeFree] on this heap. The block may be any of the
// allocator's.
//
//go:noinline
func (h *Heap) UnsafeFree(p unsafe.Pointer) error {
	if hp := h.fast; hp != nil {
		s := hp.Begin()
		if s != nil {
			if s.WasLast(p) {
				if b := hp.HeaderOf(p); s.KeepsNone() && s.OwnsQuiet(b) {
					s.Keep(b, p)
					hp.End()
					runtime.KeepAlive(h)
					return nil
				}
				s.Forget()
			}
			if hp.IsMine(p) && !s.Keeps(p) {
				b := hp.HeaderOf(p)
				for {
					if s.OwnsQuiet(b) {
						i := b.Index(p)
						if !b.IsInUse(i) {
							break
						}
						if m := s.Magazine(b.Class()); m.HasRoom() {
							b.PushTo(m, i, p)
						} else if b.Push(i) {
							hp.Trip(s, b, i)
							runtime.KeepAlive(h)
							return nil
						}
						hp.End()
						runtime.KeepAlive(h)
						return nil
					}
					if !b.IsInner() {
						break
					}
					b = b.Outer()
				}
			}
		}
		hp.End()
	}
	if hp := h.hard; hp != nil {
		if s := hp.Begin(); s != nil && s.FreeHard(&hp.View, p) {
			hp.End()
			runtime.KeepAlive(h)
			return nil
		}
		hp.End()
	}
	if h.a == nil && p != nil {
		return freeError("Heap.UnsafeFree", uintptr(p), shard.NotOurs)
	}
	err := h.a.freeSlow("Heap.UnsafeFree", h.h, p)
	runtime.KeepAlive(h)
	return err
}
