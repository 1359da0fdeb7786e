package shard

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Allocators whose every malloc or free has more to do, the hardened ones and those that
// wipe, have a path of their own, calls beside the fast path of the others, which finds
// no slot of theirs in the view (see View.hard) and so has nothing to pay for them. All
// blocks that their shards have at hand are sealed, and have their tails.

// isHard reports whether the allocator takes that path.
func (c *Config) isHard() bool { return c.Wipe || c.Geometry.Hardened() }

// IsHard reports whether the heap takes that path.
func (hp *Heap) IsHard() bool { return hp.table.conf.isHard() }

// TakeHard takes a block for size bytes, above 0, if there is one at hand that was not
// written to since it was freed; else it returns nil. It calls nothing, for the time
// that takes.
func (s *Shard) TakeHard(size int) unsafe.Pointer {
	size += int(s.tail)
	if uint(size) > sizeclass.Max {
		return nil
	}
	c := sizeclass.Of(size)
	if s.HasHot(c) {
		if !pool.HasOwnSeal(s.HotBlock()) {
			return nil
		}
		return s.TakeHot()
	}
	m := s.Magazine(c)
	p := m.Top()
	if p == nil || !pool.HasOwnSeal(p) {
		return nil
	}
	s.Remember(p)
	return m.Pop()
}

// DrawHard is TakeHard with what the first pool has, and tells whether the block is known
// to be zero. What was written to since it was freed it leaves to the slow path.
func (s *Shard) DrawHard(size int) (p unsafe.Pointer, zero bool) {
	size += int(s.tail)
	if uint(size) > sizeclass.Max {
		return nil, false
	}
	c := sizeclass.Of(size)
	if s.HasHot(c) || !s.Magazine(c).IsEmpty() {
		return nil, false
	}
	if !s.hard {
		return s.Used(c).PopZero()
	}
	p, _ = s.Used(c).Draw(&s.random, false)
	return p, false
}

// FreeHard frees the block at p, if it is in an arena of the view's allocator, the shard
// owns the pool, which is quiet, the block was not overrun, and the push does not trip:
// else it does nothing, and reports false.
func (s *Shard) FreeHard(v *View, p unsafe.Pointer) bool {
	if s.WasLast(p) {
		if h := v.HeaderOf(p); s.KeepsNone() && s.OwnsQuiet(h) && !h.Overrun(p) && !s.wipe {
			s.Keep(h, p)
			return true
		}
		s.Forget()
	}
	if !v.IsMine(p) || s.Keeps(p) {
		return false
	}
	h := s.ownQuiet(v.HeaderOf(p))
	if h == nil {
		return false
	}
	i := h.Index(p)
	if !h.IsInUse(i) || h.Overrun(p) {
		return false
	}
	m := s.Magazine(h.Class())
	if !m.HasRoom() && h.Live()-1 == h.Trip() {
		return false
	}
	if s.wipe {
		h.Wipe(p)
	}
	pool.Seal(p)
	if m.HasRoom() {
		h.PushTo(m, i, p)
	} else {
		h.Push(i)
	}
	return true
}

// ownQuiet returns the header of the pool or run that the unit of h is part of, if the
// shard OwnsQuiet it, or nil.
func (s *Shard) ownQuiet(h *pool.Header) *pool.Header {
	for !s.OwnsQuiet(h) {
		if !h.IsInner() {
			return nil
		}
		h = h.Outer()
	}
	return h
}
