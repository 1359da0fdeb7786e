package shard

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Allocators whose every malloc or free has more to do, the hardened ones and those that
// wipe, have a path of their own, calls beside the fast path of the others, which finds
// no slot of theirs in the view (see View.hard) and so has nothing to pay for them.

// isHard reports whether the allocator takes that path.
func (c *Config) isHard() bool { return c.Wipe || c.Geometry.Hardened() }

// IsHard reports whether the heap takes that path.
func (hp *Heap) IsHard() bool { return hp.table.conf.isHard() }

// TakeHard takes a block for size bytes, above 0, of a hardened shard, if there is one
// at hand that was freed by its owner; else it returns nil. It calls nothing, for the
// time that takes.
//
//go:nosplit
func (s *Shard) TakeHard(size int) unsafe.Pointer {
	if uint(size) > sizeclass.Max-pool.TailBytes {
		return nil
	}
	// The class is looked up: a branch would be mispredicted where sizes are at random.
	m := s.Shuffled(sizeclass.Of(size + pool.TailBytes))
	if !m.HasChoice() {
		return nil
	}
	p := m.Top()
	if p != nil {
		m.Pop(p)
	}
	return p
}

// DealHard is TakeHard with what the first pool has, and tells whether the block is known
// to be zero; nil if there is none, or one that was written to since it was freed, for the
// slow path to report.
//
//go:nosplit
func (s *Shard) DealHard(size int) (p unsafe.Pointer, zero bool) {
	if !s.hard {
		if uint(size) > sizeclass.Max {
			return nil, false
		}
		return s.Used(sizeclass.Of(size)).PopZero()
	}
	if uint(size) > sizeclass.Max-pool.TailBytes {
		return nil, false
	}
	c := sizeclass.Of(size + pool.TailBytes)
	m := s.Shuffled(c)
	if !m.HasChoice() {
		if h := s.Used(c); h.IsHard() {
			h.Deal(m, &s.random)
		}
		if !m.HasChoice() {
			return nil, false
		}
	}
	p, whole, zero := m.Examine()
	if !whole {
		return nil, false
	}
	m.Pop(p)
	return p, zero
}

// FreeHard frees the block at p, whose unit's header is h, if the shard is hardened and
// does not wipe, owns the pool, which is quiet, and the push does not trip: else it does
// nothing, and reports false. It calls nothing, for the time that takes.
//
//go:nosplit
func (s *Shard) FreeHard(h *pool.Header, p unsafe.Pointer) bool {
	h = s.ownQuiet(h)
	if h == nil || s.wipe {
		return false
	}
	i := h.Index(p)
	if !h.IsInUse(i) {
		return false
	}
	m := s.Shuffled(h.Class())
	seal, freed := pool.SealOf(p)
	if freed || m.IsOverrun(p) {
		return false
	}
	if m.HasRoom() {
		m.Put(p, h.SetBit(i, p), s.random.Next())
	} else {
		if h.Live()-1 == h.Trip() {
			return false
		}
		h.Push(i)
	}
	*(*uint64)(p) = seal
	return true
}

// FreeWipe is FreeHard where blocks that are freed are cleared.
//
//go:nosplit
func (s *Shard) FreeWipe(h *pool.Header, p unsafe.Pointer) bool {
	h = s.ownQuiet(h)
	if h == nil || !s.wipe {
		return false
	}
	i := h.Index(p)
	if !h.IsInUse(i) || h.IsFreed(p) || h.Overrun(p) {
		return false
	}
	m := s.Shuffled(h.Class())
	room := m.HasRoom() // never unless hardened
	if !room && h.Live()-1 == h.Trip() {
		return false
	}
	h.Wipe(p)
	if h.IsHard() {
		pool.Seal(p)
	}
	if room {
		m.Put(p, h.SetBit(i, p), s.random.Next())
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
