// Package pool is one pool: a stretch of units cut into blocks of one size
// class, with the header that tells which blocks are free and who may say so.
//
// # Invariants
//
//	live + free blocks + untouched blocks = blocks     (owner's view)
//	live = blocks in use + length of the remote list
//
// # The ownership word
//
// One 64-bit atomic word holds who owns the pool and the blocks that others
// have freed onto it:
//
//	| owner 24 | post 2 | remote head 22 | remote length 16 |
//
// Only the owner touches the first line of the header; anybody who holds a
// block of the pool may push it onto the remote list by a CAS of the word, and
// touches the header no more after that. The owner takes the whole list with
// one CAS, so there is no ABA. Since owner and list are one word there is no
// moment at which a block can be pushed to an owner that has just left.
//
// Transitions of the owner, and who makes them:
//
//	Free      -> shard      who took the pool from an arena or a stack (store)
//	shard     -> Free       the shard, when live = 0 and nothing is posted
//	shard     -> Shared     the shard's drain; then the pool is pushed on usedpools
//	shard     -> Abandoned  the shard's drain, if the pool is full
//	Shared    -> shard      who popped the pool from usedpools
//	Abandoned -> shard      a freer, with its own block, once adoptAt are free
//
// Transitions of post, the notice that a full pool has free blocks again:
//
//	Quiet  -> Want    the owner, when the pool is full and leaves its list
//	Want   -> Posted  the first freer; it then posts the pool to the owner's inbox
//	Posted -> Quiet   the owner, when it takes the pool from its inbox
//
// A posted pool belongs to its inbox: only who takes it out may give it away.
//
// # The seal
//
// A free block's first eight bytes are its link: the low half is the distance
// in bytes from the header to the next free block, the high half is that
// distance, the block's own address and a secret xored together. A block with a
// whole seal is free (a double free shows at once); a free block whose seal is
// broken was written to after it was freed. Foreign data looks sealed with a
// probability of 2^-54 per free, since the distance must lie in the pool too.
// Allocation clears the eight bytes.
package pool

import (
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/sizeclass"
)

// HeaderBytes is the size of a header: two cache lines.
const HeaderBytes = 128

// Owners that are not shards.
const (
	Free       = 0 // in its arena, or empty and in hand
	Shared     = 1 // on usedpools[class], or about to be
	Abandoned  = 2 // full and nobody's
	Run        = 3 // not a pool: the head of a large run
	Inner      = 4 // not a pool: a unit after the first of a pool or run
	Hand       = 5 // in the hand of a trim
	FirstShard = 16
)

// Never is the value of trip that live never reaches.
const Never = ^uint32(0)

// Header is a pool's header. A distance is in bytes from the header.
type Header struct {
	// The owner's line. live and carved are read by statistics.
	free    uint32 // distance to the first free block, 0 if there is none
	live    uint32 // blocks handed out, those on the remote list among them
	trip    uint32 // the value of live at which a free has more to do
	carved  uint32 // blocks [0, carved) were handed out at least once
	start   uint32 // distance to block 0
	inverse uint32 // see sizeclass.Shape
	size    uint32 // bytes of a block
	blocks  uint32
	number  uint32 // of the pool, in the process
	class   uint8
	rotate  uint8
	listed  bool // in its shard's used list
	clean   bool // untouched blocks are zero
	Next    *Header
	Prev    *Header
	_       [64 - 40 - 2*unsafe.Sizeof(uintptr(0))]byte

	// The shared line.
	word    atomic.Uint64
	usable  uintptr // bytes of a large run's block
	adoptAt uint32  // remote length at which a freer adopts an abandoned pool
	first   uint32  // of an Inner unit: units back to the first
	units   uint32
	_       [4]byte
	// The shard's list of all the pools that it owns.
	OwnedNext *Header
	OwnedPrev *Header
	_         [40 - 3*unsafe.Sizeof(uintptr(0))]byte
}

// The size of a header is HeaderBytes, for every size of pointer.
var _ [HeaderBytes]byte = [unsafe.Sizeof(Header{})]byte{}

// secret makes seals that a program cannot forge by accident.
var secret = rand.Uint32()

// Word is a value of the ownership word.
type Word uint64

const (
	lenBits  = 16
	headBits = 22
	postBits = 2

	headShift  = lenBits
	postShift  = headShift + headBits
	ownerShift = postShift + postBits

	maxLen = 1<<lenBits - 1
)

// States of post.
const (
	Quiet  = 0
	Want   = 1
	Posted = 2
)

// Owner returns the id of the owning shard, or one of the constants above.
func (w Word) Owner() uint32 { return uint32(w >> ownerShift) }

// Len returns the length of the remote list.
func (w Word) Len() uint32 { return uint32(w) & maxLen }

// Post returns the state of post.
func (w Word) Post() uint32 { return uint32(w>>postShift) & (1<<postBits - 1) }

// head returns the distance to the first block of the remote list, 0 if empty.
func (w Word) head() uint32 {
	return uint32(w>>headShift) & (1<<headBits - 1) * sizeclass.Alignment
}

func makeWord(owner, post, head, n uint32) Word {
	return Word(owner)<<ownerShift | Word(post)<<postShift |
		Word(head/sizeclass.Alignment)<<headShift | Word(n)
}

// --- the fast path: inlined, no calls ---

// Owner returns the owner at this moment. It is enough for a shard to know
// whether the pool is its own: nobody else makes it so or ends it.
func (h *Header) Owner() uint32 { return uint32(h.word.Load() >> ownerShift) }

// Pop takes the first free block, or returns nil if there is none or its seal
// is broken. Owner only.
func (h *Header) Pop() unsafe.Pointer {
	d := h.free
	if d == 0 {
		return nil
	}
	p := unsafe.Add(unsafe.Pointer(h), d)
	w := *(*uint64)(p)
	if !sealed(w, p) {
		return nil
	}
	h.free = uint32(w)
	*(*uint64)(p) = 0
	store(&h.live, h.live+1)
	return p
}

// Carve takes the first untouched block, or returns nil if there is none, or if
// there is a free block that Pop did not like. The block's
// first eight bytes are cleared, for they may hold the seal of a former life.
// Owner only.
func (h *Header) Carve() unsafe.Pointer {
	n := h.carved
	if n >= h.blocks || h.free != 0 {
		return nil
	}
	store(&h.carved, n+1)
	store(&h.live, h.live+1)
	p := unsafe.Add(unsafe.Pointer(h), h.start+n*h.size)
	*(*uint64)(p) = 0
	return p
}

// Holds reports whether a block that was handed out begins at p, an address in
// the pool.
func (h *Header) Holds(p unsafe.Pointer) bool {
	return sizeclass.Index(h.distance(p)-h.start, h.inverse, h.rotate) < load(&h.carved)
}

// IsSealed reports whether the block at p looks free.
func (h *Header) IsSealed(p unsafe.Pointer) bool { return sealed(*(*uint64)(p), p) }

// Push makes the allocated block at p the first free one. It reports whether
// live has come to trip, so that the owner has more to do. Owner only.
func (h *Header) Push(p unsafe.Pointer) (tripped bool) {
	seal(p, h.free)
	h.free = h.distance(p)
	live := h.live - 1
	store(&h.live, live)
	return live == h.trip
}

func (h *Header) distance(p unsafe.Pointer) uint32 {
	return uint32(uintptr(p) - uintptr(unsafe.Pointer(h)))
}

func sealed(w uint64, p unsafe.Pointer) bool {
	return uint32(w>>32)^uint32(w)^uint32(uintptr(p)) == secret
}

func seal(p unsafe.Pointer, link uint32) {
	*(*uint64)(p) = uint64(link^uint32(uintptr(p))^secret)<<32 | uint64(link)
}

// --- reading ---

// Size returns the bytes of a block.
func (h *Header) Size() int { return int(load(&h.size)) }

// Class returns the size class.
func (h *Header) Class() uint8 { return h.class }

// Number returns the pool's number in the process.
func (h *Header) Number() uint32 { return h.number }

// Outer returns the header of the pool or run that an Inner unit is part of.
func (h *Header) Outer() *Header {
	return (*Header)(unsafe.Add(unsafe.Pointer(h), -int(h.first)*HeaderBytes))
}

// Units returns how many units the pool or run takes.
func (h *Header) Units() int { return int(h.units) }

// Word returns the ownership word at this moment.
func (h *Header) Word() Word { return Word(h.word.Load()) }

// Listed reports whether the pool is in its owner's used list. Owner only.
func (h *Header) Listed() bool { return h.listed }

// Clean reports whether untouched blocks are known to be zero. Owner only.
func (h *Header) Clean() bool { return h.clean }

// Live returns the blocks handed out, in the owner's view: blocks freed by
// others count until they are collected.
func (h *Header) Live() uint32 { return load(&h.live) }

// Blocks returns the capacity of the pool.
func (h *Header) Blocks() uint32 { return load(&h.blocks) }

// Carved returns how many blocks were ever handed out.
func (h *Header) Carved() uint32 { return load(&h.carved) }

// HasBlock reports whether a block can be handed out without collecting.
// Owner only.
func (h *Header) HasBlock() bool { return h.free != 0 || h.carved < h.blocks }

// InPool reports whether link, read from a free block, is 0 or lies in the pool.
func (h *Header) inPool(link uint32) bool {
	return link == 0 || sizeclass.Index(link-h.start, h.inverse, h.rotate) < h.blocks
}

// WasBlock reports whether a block that is free by now began at p: the pool is
// Free, and has not been formatted since.
func (h *Header) WasBlock(p unsafe.Pointer) bool {
	return h.Holds(p) || h.usable != 0 && h.Start() == p
}

// LooksFree reports whether the block at p carries the seal of a free block of
// this pool.
func (h *Header) LooksFree(p unsafe.Pointer) bool {
	w := *(*uint64)(p)
	return sealed(w, p) && h.inPool(uint32(w))
}

// Broken reports whether the first free block was written to after it was
// freed: its seal is broken. Owner only.
//
//go:nosplit
func (h *Header) Broken() bool {
	if h.free == 0 {
		return false
	}
	p := unsafe.Add(unsafe.Pointer(h), h.free)
	w := *(*uint64)(p)
	return !sealed(w, p) || !h.inPool(uint32(w))
}

// DropFree forgets the free list, whose links cannot be trusted, and returns the
// block that it began with. Its blocks are lost: live never comes to 0 again,
// so the pool stays until the allocator is closed. Owner only.
//
//go:nosplit
func (h *Header) DropFree() unsafe.Pointer {
	p := unsafe.Add(unsafe.Pointer(h), h.free)
	h.free = 0
	store(&h.live, h.live|lost)
	return p
}

// lost is set in live of a pool that has lost blocks.
const lost = 1 << 31

// LiveBlocks returns live without the mark of a pool that has lost blocks.
func (h *Header) LiveBlocks() uint32 { return min(load(&h.live)&^lost, load(&h.blocks)) }

// --- the owner's slower steps ---

// Place prepares the header of a pool or run of units units that an arena hands
// out. Its owner is Free.
func (h *Header) Place(number, start uint32, units int, clean bool) {
	h.word.Store(uint64(makeWord(Free, 0, 0, 0)))
	h.number, h.start, h.units, h.clean, h.usable = number, start, uint32(units), clean, 0
	h.free, h.trip, h.listed = 0, Never, false
	store(&h.live, 0)
	store(&h.carved, 0)
	store(&h.blocks, 0)
}

// PlaceInner makes the header that of the i-th unit, i >= 1, of a pool or run.
func (h *Header) PlaceInner(i int) {
	h.first = uint32(i)
	h.word.Store(uint64(makeWord(Inner, 0, 0, 0)))
}

// PlaceRun makes the header, placed before, that of a large run whose block has
// usable bytes.
func (h *Header) PlaceRun(usable uintptr) {
	h.usable = usable
	h.word.Store(uint64(makeWord(Run, 0, 0, 0)))
}

// Unplace marks the unit free.
func (h *Header) Unplace() { h.word.Store(uint64(makeWord(Free, 0, 0, 0))) }

// Usable returns the bytes of a large run's block.
func (h *Header) Usable() uintptr { return h.usable }

// Start returns the address of the pool's or run's first byte.
func (h *Header) Start() unsafe.Pointer { return unsafe.Add(unsafe.Pointer(h), h.start) }

// Format makes the empty pool one of class c, with all blocks untouched. A pool
// that was of this class keeps its free list. The caller holds the pool.
//
//go:nosplit
func (h *Header) Format(c uint8, s *sizeclass.Shape) {
	if h.blocks != 0 {
		if h.class == c {
			return
		}
		// What the former class has handed out was written to.
		h.clean = h.clean && h.carved == 0
	}
	h.class, h.rotate = c, s.Rotate
	h.inverse = s.Inverse
	store(&h.size, s.Size)
	store(&h.blocks, s.Blocks)
	h.adoptAt = max(s.Blocks/8, 1)
	h.free = 0
	store(&h.live, 0)
	store(&h.carved, 0)
}

// Own makes the empty pool in hand the shard's.
//
//go:nosplit
func (h *Header) Own(shard uint32) {
	h.word.Store(uint64(makeWord(shard, Quiet, 0, 0)))
}

// Retire ends the ownership of a pool without live blocks. It reports false if
// that must wait, for the pool is posted, or if there are live blocks. Owner only.
//
//go:nosplit
func (h *Header) Retire() bool {
	w := Word(h.word.Load())
	live := h.live
	if w.Len() != live || w.Post() == Posted ||
		!h.word.CompareAndSwap(uint64(w), uint64(makeWord(Free, 0, 0, 0))) {
		return false
	}
	if live != 0 {
		// The remote list is not worth a walk: begin again.
		h.free, h.clean = 0, false
		store(&h.carved, 0)
		store(&h.live, 0)
	}
	return true
}

// Collect makes the remote list the free list, which is empty, and reports
// whether there was one. Owner only. A remote list longer than live tells of
// blocks freed twice by two goroutines at once: the surplus is in the list
// twice, and the seal stops it from being handed out twice.
//
//go:nosplit
func (h *Header) Collect() bool {
	for {
		w := Word(h.word.Load())
		if w.Len() == 0 {
			return false
		}
		if h.word.CompareAndSwap(uint64(w), uint64(makeWord(w.Owner(), w.Post(), 0, 0))) {
			h.free = w.head()
			h.settle(w.Len())
			return true
		}
	}
}

// settle takes n blocks off live.
//
//go:nosplit
func (h *Header) settle(n uint32) {
	live := h.live
	if n > live&^lost {
		n = live &^ lost
		live |= lost
	}
	store(&h.live, live-n)
}

// Fill marks the pool, which has no block to hand out, as full: it leaves the
// used list, and the first remote free is to be posted. It reports false if the
// remote list has blocks after all. Owner only.
//
//go:nosplit
func (h *Header) Fill() bool {
	for {
		w := Word(h.word.Load())
		switch {
		case w.Len() != 0:
			return false
		case w.Post() != Quiet:
			return true // wanted or posted since it was full before
		case h.word.CompareAndSwap(uint64(w), uint64(makeWord(w.Owner(), Want, 0, 0))):
			return true
		}
	}
}

// Unpost ends the post of a pool that was taken from its owner's inbox. Owner only.
//
//go:nosplit
func (h *Header) Unpost() {
	for {
		w := Word(h.word.Load())
		n := makeWord(w.Owner(), Quiet, w.head(), w.Len())
		if h.word.CompareAndSwap(uint64(w), uint64(n)) {
			return
		}
	}
}

// Share passes the pool from its owner to Shared. It reports false, and does
// nothing, if the pool is posted. Owner only; it touches the header no more
// when true.
func (h *Header) Share() bool {
	for {
		w := Word(h.word.Load())
		if w.Post() == Posted {
			return false
		}
		if h.word.CompareAndSwap(uint64(w), uint64(makeWord(Shared, Quiet, w.head(), w.Len()))) {
			return true
		}
	}
}

// Abandon passes the full pool from its owner to Abandoned. It reports false,
// and does nothing, if the pool is posted or has blocks on its remote list: an
// abandoned pool must have a free to come that adopts it. Owner only; it
// touches the header no more when true.
func (h *Header) Abandon() bool {
	w := Word(h.word.Load())
	return w.Post() != Posted && w.Len() == 0 &&
		h.word.CompareAndSwap(uint64(w), uint64(makeWord(Abandoned, Quiet, 0, 0)))
}

// Take makes the shared pool, which the caller has popped from usedpools, the
// caller's. Its remote list stays.
//
//go:nosplit
func (h *Header) Take(owner uint32) {
	for {
		w := Word(h.word.Load())
		if h.word.CompareAndSwap(uint64(w), uint64(makeWord(owner, Quiet, w.head(), w.Len()))) {
			return
		}
	}
}

// SetListed notes whether the pool is in its owner's used list. Owner only.
func (h *Header) SetListed(listed bool) { h.listed = listed }

// SetTrip sets the value of live at which a free trips. Owner only.
func (h *Header) SetTrip(trip uint32) { h.trip = trip }

// Trip returns what SetTrip set.
func (h *Header) Trip() uint32 { return h.trip }

// Bytes returns the bytes of all blocks.
func (h *Header) Bytes() uint32 { return h.size * h.blocks }

// Outcome is what PushRemote did, and so what is left to do.
type Outcome uint8

// The outcomes of PushRemote.
const (
	Refused Outcome = iota // not a pool with live blocks: nothing done
	Mine                   // the caller owns the pool: nothing done
	Pushed                 // done
	Post                   // done; the caller must post the pool to its owner's inbox
	Adopted                // done; the pool is the caller's now
)

// PushRemote frees the allocated block at p onto a pool that another owns. me
// is the caller's shard, owner the one to post to. Only a caller with mayAdopt
// becomes the owner of an abandoned pool.
//
//go:nosplit
func (h *Header) PushRemote(p unsafe.Pointer, me uint32, mayAdopt bool) (did Outcome, number, owner uint32) {
	d := h.distance(p)
	number, adoptAt := h.number, h.adoptAt
	for {
		w := Word(h.word.Load())
		owner = w.Owner()
		switch {
		case owner == me:
			return Mine, number, owner
		case owner == Free || owner == Run || owner == Inner || w.Len() == maxLen:
			return Refused, number, owner
		}
		seal(p, w.head()) // published by the CAS
		n := w.Len() + 1
		if owner == Abandoned && n >= adoptAt && mayAdopt {
			if h.word.CompareAndSwap(uint64(w), uint64(makeWord(me, Quiet, 0, 0))) {
				h.free = d // an abandoned pool had no free block
				h.settle(n)
				return Adopted, number, owner
			}
			continue
		}
		post := w.Post()
		did = Pushed
		if post == Want {
			post, did = Posted, Post
		}
		if h.word.CompareAndSwap(uint64(w), uint64(makeWord(owner, post, d, n))) {
			return did, number, owner
		}
	}
}
