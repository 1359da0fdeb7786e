// Package shard is the private heaps of an allocator: one per P, and one per
// goroutine that asks for its own.
//
// # Who may touch a shard
//
// A shard is used by one goroutine at a time: the one that is pinned on the P
// whose slot the shard is in, or the one that owns the heap. Only its inbox may
// be pushed to by others. To take a shard from a P its slot is emptied; after a
// grace period, or a barrier and the end of the section under way, nobody uses the
// shard any more, and it is drained: its pools are shared, abandoned or given back. A
// slot is filled again, lazily, by the next goroutine that finds it empty.
//
// # Where a block comes from
//
//	fast path   the block that malloc took last, if it was freed since; the top
//	            of the class's magazine; a free block of the first pool of
//	            used[class]
//	Refill      the pool's remote list; the next pool of the list; pools from
//	            the inbox; the shared usedpools[class]; the shard's empty pools;
//	            the shared freepools                             (pinned)
//	Provide     a pool from an arena that has room, or from a new one (not pinned)
//
// # Where a block goes
//
//	fast path   the magazine of its class, or, if that is full, its pool, if the
//	            shard owns that
//	Trip        the pool was full: to the front of used[class], as in CPython;
//	            or it is empty: to the shard's empties, to freepools beyond
//	            that, or to the arena
//	FreeRemote  the pool's remote list, and the notice of a full pool to its
//	            owner's inbox; an abandoned pool is adopted
//
// Shards of hardened allocators, and of those that wipe, have a path of their own: see
// TakeHard and FreeHard.
package shard

import (
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/internal/tagstack"
)

const (
	// maxEmpties bounds the empty pools of one unit that a shard keeps.
	maxEmpties = 16
	// maxKept bounds, in bytes, the pools of several units that a shard keeps
	// at the front of their lists while they are empty.
	maxKept = 512 << 10
	// maxFreepools is the length of the shared freepools beyond which empty
	// pools go to the arenas.
	maxFreepools = 64
	// stepsPinned bounds the pools that one pinned section looks at.
	stepsPinned = 8
	// blocksPinned bounds the blocks that one pinned section looks at, but for those of
	// the last pool.
	blocksPinned = 256
)

// Shard is a private heap, on cache lines of its own.
type Shard struct {
	private
	_      [128 - unsafe.Sizeof(private{})%64]byte
	inbox  tagstack.Stack // full pools that have free blocks again, from anyone
	busy   atomic.Uint32  // taken; only where sections are not pinned
	_      [52]byte
	places [placesMax]pool.Cached // of the magazines
}

// placesMax is how many places the magazines have, each one more than blocks, and some for
// whole cache lines.
const placesMax = 720

// private is what the shard's user alone touches; the janitor reads events,
// nowned and nempty.
type private struct {
	used      [sizeclass.Count]*pool.Header // first usable pool; &none where there is none
	hot       hot
	magazines [sizeclass.Count]pool.Magazine // free blocks at hand

	word    uint64 // pool.OwnerWord of id
	id      uint32 // owner id of its pools
	events  uint32 // slow steps so far, so that the janitor sees who is idle
	nowned  uint32
	nempty  uint32
	kept    uint32 // bytes of pools that may stay at the front while empty
	pending uint32 // chain taken from the inbox, not looked at yet
	owned   *pool.Header
	empties *pool.Header
	outbox  *pool.Header // empty pools on their way to the arenas
	swept   *pool.Header // next pool of owned to look at for remote frees

	slot    unsafe.Pointer // to the Slot of the P whose shard it is; nil for a heap's
	foreign foreign
	hard    bool        // of a hardened allocator
	wipe    bool        // clear blocks that are freed
	seals   bool        // either: what is at hand is sealed
	tail    uint8       // bytes behind a block's usable ones
	random  pool.Random // for hardened pools

	none pool.Header // a pool without blocks
}

// Used returns the first pool of class c, below sizeclass.Count. It is never
// nil. The class is not checked: a panic while pinned would end the process.
func (s *Shard) Used(c uint8) *pool.Header { return *s.front(c) }

func (s *Shard) front(c uint8) **pool.Header {
	return (**pool.Header)(unsafe.Add(unsafe.Pointer(&s.used), uintptr(c)*unsafe.Sizeof(uintptr(0))))
}

// hot is the block that malloc has taken from a magazine last, and, if that was freed
// next, the block that is kept for the next malloc of its class: it counts as in use, and
// is sealed meanwhile. So a program that allocates a block and frees it, again and again,
// touches no bitmap, and its frees need not look the block up.
type hot struct {
	last  uintptr // address of the block taken last, if it is known to be in use, or 0
	block uintptr // of the block that is kept here, if class is not noClass
	class uint32
}

const noClass = 255

// HasHot reports whether a block of class c is kept.
func (s *Shard) HasHot(c uint8) bool { return s.hot.class == uint32(c) }

// HotBlock returns the block that is kept, where HasHot.
func (s *Shard) HotBlock() unsafe.Pointer { return addr.Pointer(s.hot.block) }

// TakeHot returns the block that is kept, and keeps it no more.
func (s *Shard) TakeHot() unsafe.Pointer {
	store(&s.hot.class, noClass)
	return s.HotBlock()
}

// Remember notes that malloc has taken the block at p from a magazine.
func (s *Shard) Remember(p unsafe.Pointer) { s.hot.last = uintptr(p) }

// WasLast reports whether malloc has taken the block at p last, and nothing has happened
// to it since that the shard knows of. Never of nil, nor of any pointer but a block's:
// the header of what was last is read without a look at the arena map.
func (s *Shard) WasLast(p unsafe.Pointer) bool { return s.hot.last == uintptr(p) && p != nil }

// KeepsNone reports whether no block is kept.
func (s *Shard) KeepsNone() bool { return s.hot.class == noClass }

// Keep keeps the block at p, of the pool h, which WasLast, where the shard KeepsNone and
// OwnsQuiet the pool: it is known to be in use then.
func (s *Shard) Keep(h *pool.Header, p unsafe.Pointer) {
	s.hot.block = uintptr(p)
	store(&s.hot.class, uint32(h.Class()))
	pool.Seal(p)
}

// Keeps reports whether TakeHot would return the block at p.
func (s *Shard) Keeps(p unsafe.Pointer) bool {
	return s.hot.block == uintptr(p) && s.hot.class != noClass
}

// Forget ends what WasLast knows: the block may be free, or in a pool that is not the
// shard's any more.
func (s *Shard) Forget() { s.hot.last = 0 }

// Magazine returns that of class c, below sizeclass.Count.
func (s *Shard) Magazine(c uint8) *pool.Magazine {
	return (*pool.Magazine)(unsafe.Add(unsafe.Pointer(&s.magazines), uintptr(c)*unsafe.Sizeof(pool.Magazine{})))
}

// empty gives the blocks that are at hand to their pools. A hardened pool learns which of
// them were written to meanwhile.
func (s *Shard) empty(g *arena.Geometry) {
	poolOf := func(p unsafe.Pointer) *pool.Header {
		h := g.PoolOf(p)
		if s.hard && !pool.HasOwnSeal(p) {
			h.Break(p)
		}
		return h
	}
	if s.hot.class != noClass {
		p := s.TakeHot()
		h := poolOf(p)
		h.Push(h.Index(p))
	}
	s.Forget()
	back := func(p unsafe.Pointer) { poolOf(p).Return() }
	for c := range uint8(sizeclass.Count) {
		m := s.Magazine(c)
		m.Blocks(back)
		m.Clear()
	}
}

// take takes a block of class c, one that is at hand or of the first pool, and tells
// whether it is known to be zero but for its first word. broken is one that was written to
// after it was freed: it is out of use now.
func (s *Shard) take(c uint8) (p unsafe.Pointer, zero bool, broken unsafe.Pointer) {
	switch m := s.Magazine(c); {
	case s.HasHot(c):
		p = s.TakeHot()
	case !m.IsEmpty():
		p = m.Pop()
	case s.hard:
		p, broken = s.Used(c).Draw(&s.random, true)
		return p, false, broken
	default:
		p, zero = s.Used(c).PopZero()
		return p, zero, nil
	}
	if s.seals && !pool.HasOwnSeal(p) { // it counts as live for ever
		if s.tail > 0 && c < sizeclass.Count { // it is, for the compiler
			pool.SetTail(p, uintptr(sizeclass.Size(c)-pool.TailBytes))
		}
		return nil, false, p
	}
	return p, false, nil
}

// OwnsQuiet reports whether the pool is the shard's, and quiet: see
// [pool.Header.IsQuiet].
func (s *Shard) OwnsQuiet(h *pool.Header) bool { return h.IsQuiet(s.word) }

// reset makes the shard an empty one. The first place is that below the first of magazines
// that have no more.
func (s *Shard) reset() {
	s.random = pool.Random(rand.Uint64())
	for c := range s.used {
		s.used[c] = &s.none
	}
	s.hot = hot{class: noClass}
	left := s.places[:]
	for c := range uint8(sizeclass.Count) {
		n := pool.MagazineBlocks(sizeclass.Size(c)) + 1
		s.Magazine(c).Init(left[:n])
		left = left[n:]
	}
}

// acquire enters the pool, which is the shard's now, into its lists.
func (s *Shard) acquire(h *pool.Header) {
	h.OwnedPrev, h.OwnedNext = nil, s.owned
	if s.owned != nil {
		s.owned.OwnedPrev = h
	}
	s.owned = h
	store(&s.nowned, s.nowned+1)
	if s.hard {
		h.DrawWord(&s.random)
	}
	s.list(h)
}

// release takes the pool, which is in no used list, out of the shard's lists.
func (s *Shard) release(h *pool.Header) {
	if s.swept == h {
		s.swept = h.OwnedNext
	}
	if h.OwnedPrev != nil {
		h.OwnedPrev.OwnedNext = h.OwnedNext
	} else {
		s.owned = h.OwnedNext
	}
	if h.OwnedNext != nil {
		h.OwnedNext.OwnedPrev = h.OwnedPrev
	}
	store(&s.nowned, s.nowned-1)
}

// list puts the pool at the front of its used list. A front that is full leaves
// the list for it: when blocks are replaced at random, most pools being full, the
// pool of the block that was freed last is all that malloc wants to see.
func (s *Shard) list(h *pool.Header) {
	c := h.Class()
	old := s.Used(c)
	*s.front(c) = h
	h.SetListed(true)
	h.Prev = nil
	if old == &s.none {
		h.Next = old
		s.enterFront(h)
		return
	}
	s.leaveFront(old)
	if !old.HasBlock() && old.Fill() {
		h.Next = old.Next
		if h.Next != &s.none {
			h.Next.Prev = h
		}
		old.SetListed(false)
		old.SetTrip(old.Live() - 1)
		s.enterFront(h)
		return
	}
	h.Next = old
	old.Prev = h
	s.enterFront(h)
	if old.Live() == 0 {
		s.retire(old)
	}
}

// unlist takes the pool out of its used list.
func (s *Shard) unlist(h *pool.Header) {
	if h.Prev != nil {
		h.Prev.Next = h.Next
	} else {
		s.leaveFront(h)
		*s.front(h.Class()) = h.Next
		if h.Next != &s.none {
			s.enterFront(h.Next)
		}
	}
	if h.Next != &s.none {
		h.Next.Prev = h.Prev
	}
	h.SetListed(false)
}

// enterFront lets the pool that becomes the first of its list stay when it is
// empty, for it is likely to be used next. Of the pools of several units only as
// many may stay as maxKept allows.
func (s *Shard) enterFront(h *pool.Header) {
	h.SetTrip(pool.Never)
	if h.Units() > 1 {
		if s.kept+h.Bytes() > maxKept {
			h.SetTrip(0)
			return
		}
		s.kept += h.Bytes()
	}
}

// leaveFront ends the privilege of the first pool.
func (s *Shard) leaveFront(h *pool.Header) {
	if h.Units() > 1 && h.Trip() == pool.Never {
		s.kept -= h.Bytes()
	}
	h.SetTrip(0)
}

// hotBlock returns the address of the block that is kept for TakeHot, or 0.
func (s *Shard) hotBlock() uintptr {
	if s.hot.class == noClass {
		return 0
	}
	return s.hot.block
}

// retire gives up a pool if it has no block in use, and reports whether. A pool
// that is posted stays until it comes out of the inbox.
func (s *Shard) retire(h *pool.Header) bool {
	if !h.Retire(s.hotBlock()) {
		return false
	}
	s.Forget()
	if h.Listed() {
		s.unlist(h)
	}
	s.release(h)
	if h.Units() == 1 {
		h.Next, s.empties = s.empties, h
		store(&s.nempty, s.nempty+1)
	} else {
		h.Next, s.outbox = s.outbox, h
	}
	return true
}

// settle puts a pool that came out of the inbox where it belongs.
func (s *Shard) settle(h *pool.Header) {
	if h.Listed() {
		if h.Trip() != pool.Never {
			s.retire(h)
		}
		return
	}
	for !h.HasBlock() && !h.Collect() {
		if h.Fill() {
			return // full again: its blocks were reused before the notice came
		}
	}
	if !s.retire(h) {
		s.list(h)
	}
}

// popEmpty takes an empty pool of one unit.
func (s *Shard) popEmpty() *pool.Header {
	h := s.empties
	if h != nil {
		s.empties = h.Next
		store(&s.nempty, s.nempty-1)
	}
	return h
}

// Shards stand in an array and share no cache line.
var _ [unsafe.Sizeof(Shard{}) % 64]struct{} = [0]struct{}{}
