// Package pool is one pool: a stretch of units cut into blocks of one size
// class, with the header that tells which blocks are free and who may say so.
//
// # Which blocks are free
//
// A bitmap in the header has a bit per block, set when the block is free, be it
// that it was freed or that it was never handed out. Malloc takes the lowest bit
// of the current word, free sets the block's bit: neither reads the block. (A
// list through the blocks, as CPython's, costs a cache miss at free, where the
// block has to be read to see whether it is free already.) So nothing that a
// program writes to a free block can mislead the owner, a double free shows in
// one test, and low addresses are handed out first, which leaves the end of a
// pool untouched.
//
// Blocks that others have freed are linked through their first eight bytes, on
// the remote list, and after the owner has taken that, on the chain, until it
// sets their bits, a few at a time.
//
//	live = blocks - set bits + blocks in the owner's magazine
//	     = blocks in use + those + length of the chain + length of the remote list
//
// The second line is a bound, not an equation, where a program frees a block twice
// at the same moment: see "Double frees".
//
// # The ownership word
//
// One 64-bit atomic word holds who owns the pool and the blocks that others
// have freed onto it:
//
//	| post 2 | owner 24 | chain 1 | remote head 22 | remote length 15 |
//
// The chain bit is the owner's, and set while the chain has blocks, so that one
// comparison tells the fast path that the pool is its own and has neither chain
// nor remote list.
//
// Only the owner touches its part of the header; anybody who holds a block of the
// pool may push it onto the remote list by a CAS of the word, and touches the
// header no more after that. The owner takes the whole list with one CAS, so
// there is no ABA. Since owner and list are one word there is no moment at which
// a block can be pushed to an owner that has just left.
//
// Transitions of the owner, and who makes them:
//
//	Free      -> shard      who took the pool from an arena or a stack (store)
//	shard     -> Free       the shard, when no block is in use and nothing is posted
//	shard     -> Shared     the shard's drain; then the pool is pushed on usedpools
//	shard     -> Abandoned  the shard's drain, if the pool is full
//	Shared    -> shard      who popped the pool from usedpools
//	Abandoned -> shard      the first freer, with its own block
//	Abandoned -> Shared     the same, if it has no shard
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
// The link of a block on the remote list or the chain is sealed: its low half is
// the distance in bytes from the header to the next block, its high half that
// distance, the block's own address and a secret xored together, and another
// secret hides both. A block with a whole seal was freed (a double free shows); a
// link whose seal is broken was written to after the free, and is not followed.
// Random data looks sealed with a probability of 2^-54, since the distance must
// lie in the pool too; zeros and small integers never do. Malloc clears the eight
// bytes. A block that a shard keeps for the next malloc is sealed too.
//
// # Double frees
//
// A free that comes after another finds the block's bit, or its seal. Of two at the
// same moment by others than the owner one succeeds: a freer claims the block by a CAS
// of its first word, from what is no seal to the sealed link, before it may push it.
// The owner sets the bit, or keeps the block, without a look at the block, so it and
// another may both succeed within some nanoseconds. Then the block is on the remote
// list too, and its entry there is one too many:
//
//   - unchain sets the bit of a block whose seal is whole, whose bit is not set, and
//     which the shard does not keep: nobody has such a block, for who hands one out
//     clears its seal. It drops an entry whose bit is set, and one that is kept.
//   - if the block was handed out meanwhile, or sealed by its owner after it was pushed,
//     as one that is kept is, and any of a hardened pool, its link is gone. That is
//     reported as a write to a free block is, and the blocks linked behind it are lost.
//   - lengths count the entry as well, so they do not tell that a pool is empty: it is
//     given up when they add up, and every block has its bit set and is in no magazine,
//     or has a seal and is not kept.
//
// # Hardened pools
//
// The owner of a hardened pool takes blocks from it at random (Draw). All its free blocks
// are sealed, also those that the owner has freed, so that a write to one shows when it is
// handed out next; those that were never handed out may be zero instead. With canaries the
// last eight bytes of its blocks are the tail, which shows a write beyond the end when the
// block is freed.
package pool

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/sizeclass"
)

// HeaderBytes is the size of a header: four cache lines.
const HeaderBytes = 256

// MaxBlocks is the largest number of blocks of a pool.
const MaxBlocks = 1024

// Owners that are not shards.
const (
	Free       = 0 // in its arena, or empty and in hand
	Shared     = 1 // on usedpools[class], or about to be
	Abandoned  = 2 // full and nobody's
	Run        = 3 // not a pool: the head of a large run
	Inner      = 4 // not a pool: a unit after the first of a pool or run
	Hand       = 5 // in the hand of a trim
	Nobody     = 6 // never an owner: who frees without a shard
	FirstShard = 16
)

// Never is the value of trip that live never reaches.
const Never = ^uint32(0)

// Header is a pool's header. A distance is in bytes from the header.
type Header struct {
	// The shared line: the ownership word, and what is fixed while the pool has
	// an owner.
	word    atomic.Uint64
	start   uint32 // distance to block 0
	inverse uint32 // see sizeclass.Shape
	blocks  uint32
	size    uint32 // bytes of a block
	rotate  uint8
	class   uint8
	listed  bool   // in its shard's used list; the owner's
	clean   bool   // blocks from carved on are zero; the owner's
	number  uint32 // of the pool, in the process
	units   uint32
	first   uint32 // of an Inner unit: units back to the first
	pick    uint8  // the word of a hardened pool that blocks come from; the owner's
	hard    bool   // hardened
	tail    uint8  // bytes behind a block's usable ones
	broken  bool   // blocks may have brokenWord; the owner's
	_       uint64
	usable  uintptr // bytes of a large run's block; 0 in an arena's header
	_       [8 - unsafe.Sizeof(uintptr(0))]byte

	// The owner's part.
	live     uint32 // read by statistics
	trip     uint32 // the value of live at which a free has more to do
	chain    uint32 // distance to the first block of the chain, 0 if empty
	chainLen uint32 // read by statistics
	size2    uint32 // size and start again, so that malloc stays in this line
	start2   uint32
	cur      int32  // offset from free, in bytes, of the word that malloc takes from
	carved   uint32 // blocks [0, carved) were handed out at least once
	Next     *Header
	Prev     *Header
	_        [16 - 2*unsafe.Sizeof(uintptr(0))]byte
	free     [MaxBlocks / 64]uint64 // bit i: block i is free

	// The shard's list of all the pools that it owns.
	_         [16 - 2*unsafe.Sizeof(uintptr(0))]byte
	OwnedNext *Header
	OwnedPrev *Header
}

// The size of a header is HeaderBytes, for every size of pointer.
var _ [HeaderBytes]byte = [unsafe.Sizeof(Header{})]byte{}

// secret makes seals that a program cannot forge by accident, and mask hides the
// links in them. The secret is odd, addresses, links and the mask are even: the
// high half of a seal is odd, so a zero word is none, nor is a small integer.
var (
	secret = rand.Uint32() | 1
	mask   = rand.Uint64() &^ (1<<32 | 1)
)

// Word is a value of the ownership word.
type Word uint64

const (
	lenBits   = 15
	headBits  = 22
	ownerBits = 24
	postBits  = 2

	headShift  = lenBits
	chainShift = headShift + headBits
	ownerShift = chainShift + 1
	postShift  = ownerShift + ownerBits
	chained    = 1 << chainShift

	maxLen = 1<<lenBits - 1
)

// States of post.
const (
	Quiet  = 0
	Want   = 1
	Posted = 2
)

// Owner returns the id of the owning shard, or one of the constants above.
func (w Word) Owner() uint32 { return uint32(w>>ownerShift) & (1<<ownerBits - 1) }

// Len returns the length of the remote list.
func (w Word) Len() uint32 { return uint32(w) & maxLen }

// Post returns the state of post.
func (w Word) Post() uint32 { return uint32(w >> postShift) }

// head returns the distance to the first block of the remote list, 0 if empty.
func (w Word) head() uint32 {
	return uint32(w>>headShift) & (1<<headBits - 1) * sizeclass.Alignment
}

// makeWord returns the word of a pool without remote list and chain.
func makeWord(owner, post uint32) Word { return Word(post)<<postShift | Word(owner)<<ownerShift }

// with returns the word with another owner and post.
func (w Word) with(owner, post uint32) Word {
	return w&(1<<ownerShift-1) | makeWord(owner, post)
}

// withRemote returns the word with another remote list.
func (w Word) withRemote(head, n uint32) Word {
	return w>>chainShift<<chainShift | Word(head/sizeclass.Alignment)<<headShift | Word(n)
}

// --- the fast path: inlined, no calls ---

// OwnerWord is what the word of a quiet pool of the given shard is but for its
// post, see IsQuiet.
func OwnerWord(shard uint32) uint64 { return uint64(makeWord(shard, 0)) << postBits }

// IsQuiet reports whether the shard with that owner word owns the pool, and no
// block of it is on the remote list or the chain. For its own shard's user the
// answer is exact as to the owner: nobody else makes the shard the owner, or
// ends it.
func (h *Header) IsQuiet(ownerWord uint64) bool { return h.word.Load()<<postBits == ownerWord }

// bits returns the bitmap's word that block i, below MaxBlocks, is in.
func (h *Header) bits(i uint32) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(&h.free), uintptr(i/64)*8))
}

// Pop takes the lowest free block of the current word, or returns nil if it has
// none. Owner only.
func (h *Header) Pop() unsafe.Pointer {
	w := (*uint64)(unsafe.Add(unsafe.Pointer(&h.free), h.cur))
	if *w == 0 {
		return nil
	}
	i := uint32(h.cur)*8 + uint32(bits.TrailingZeros64(*w))
	store64(w, *w&(*w-1))
	store(&h.live, h.live+1)
	if i >= h.carved {
		h.carved = i + 1
	}
	return unsafe.Add(unsafe.Pointer(h), h.start2+i*h.size2)
}

// Index returns the number of the block that begins at p, an address in the
// pool; a number that is not below Blocks if none does.
//
//go:norace
func (h *Header) Index(p unsafe.Pointer) uint32 {
	return sizeclass.Index(h.distance(p)-h.start, h.inverse, h.rotate)
}

// IsInUse reports whether there is a block i and it is not free in the bitmap.
func (h *Header) IsInUse(i uint32) bool {
	return i < load(&h.blocks) && load64(h.bits(i))>>(i&63)&1 == 0
}

// Push frees block i, which is in use. It reports whether live has come to trip,
// so that the owner has more to do. Owner only.
func (h *Header) Push(i uint32) (tripped bool) {
	h.freed(i)
	w := h.bits(i)
	store64(w, *w|1<<(i&63))
	store(&h.live, h.live-1)
	return h.live == h.trip
}

// Seal marks the block at p, which is kept for the next malloc without being
// free in the bitmap, so that StateOf knows it.
func Seal(p unsafe.Pointer) { setWord(p, ownSeal(p)) }

// word reads eight bytes of a block that are a seal, a link or a tail, or the program's
// where a free looks whether they are. The race detector is not shown that: a free that is
// refused would be told of a race in here, for the block may be somebody else's by now.
//
//go:norace
func word(p unsafe.Pointer) uint64 { return *(*uint64)(p) }

// setWord writes them. The race detector is shown that, as it is shown the claim of a
// remote free: a program that uses a block while it is freed, or afterwards, is told so.
// What frees and mallocs do to a block one after the other is no race to it.
func setWord(p unsafe.Pointer, w uint64) { store64((*uint64)(p), w) }

// Unseal clears the mark of the block at p. Whoever hands a block out does so: it
// may have been on a remote list once.
func Unseal(p unsafe.Pointer) { setWord(p, 0) }

func (h *Header) distance(p unsafe.Pointer) uint32 {
	return uint32(uintptr(p) - uintptr(unsafe.Pointer(h)))
}

// unseal returns the link in a word read from the block at p, and whether its
// seal is whole.
func unseal(w uint64, p unsafe.Pointer) (link uint32, whole bool) {
	w ^= mask
	return uint32(w), uint32(w>>32)^uint32(w)^uint32(uintptr(p)) == secret
}

// sealed returns the word of the block at p with a link.
func sealed(p unsafe.Pointer, link uint32) uint64 {
	return (uint64(link^uint32(uintptr(p))^secret)<<32 | uint64(link)) ^ mask
}

// --- reading ---

// Size returns the bytes of a block.
func (h *Header) Size() int { return int(load(&h.size)) }

// Class returns the size class.
func (h *Header) Class() uint8 { return h.class }

// Owner returns the owner at this moment.
func (h *Header) Owner() uint32 { return h.Word().Owner() }

// Number returns the pool's number in the process.
func (h *Header) Number() uint32 { return h.number }

// IsInner reports whether the unit is an inner one, or was one when it was free last.
func (h *Header) IsInner() bool { return h.Owner() == Inner }

// Outer returns the header of the pool or run that an Inner unit is part of, or was: then
// it may be an Inner unit too.
func (h *Header) Outer() *Header {
	return (*Header)(unsafe.Add(unsafe.Pointer(h), -int(load(&h.first))*HeaderBytes))
}

// Units returns how many units the pool or run takes.
func (h *Header) Units() int { return int(h.units) }

// Word returns the ownership word at this moment.
func (h *Header) Word() Word { return Word(h.word.Load()) }

// Listed reports whether the pool is in its owner's used list. Owner only.
func (h *Header) Listed() bool { return h.listed }

// PopZero is Pop, and tells whether the block is known to be zero. Owner only.
func (h *Header) PopZero() (p unsafe.Pointer, zero bool) {
	carved := h.carved
	p = h.Pop()
	return p, h.clean && h.carved > carved
}

// Live returns the blocks that are not free in the owner's bitmap.
func (h *Header) Live() uint32 { return load(&h.live) }

// InUse returns the blocks in use: exactly, when nothing is under way and no block
// was freed twice at the same moment.
func (h *Header) InUse() uint32 {
	live, out := load(&h.live), load(&h.chainLen)+h.Word().Len()
	return min(live-min(live, out), h.Blocks())
}

// Blocks returns the capacity of the pool.
func (h *Header) Blocks() uint32 { return load(&h.blocks) }

// HasBlock reports whether a block can be handed out without collecting.
// Owner only.
func (h *Header) HasBlock() bool { return h.live < h.blocks || h.chain != 0 }

// EachInUse calls f for the blocks in use, with their first eight bytes: exactly, when
// nothing is under way. units is the bytes of the pool's units. Anybody may call it while
// the arena stays; a pool that becomes one of another class meanwhile is looked at in vain.
//
//go:norace
func (h *Header) EachInUse(units int, f func(p unsafe.Pointer, first uint64)) {
	n, size, start := h.Blocks(), uint32(h.Size()), h.start
	if size == 0 || uint64(n)*uint64(size) > uint64(units) {
		return
	}
	for from := uint32(0); from < n; from += 64 {
		for left := ^load64(h.bits(from)); left != 0; left &= left - 1 {
			i := from + uint32(bits.TrailingZeros64(left))
			if i >= n {
				break
			}
			p := unsafe.Add(unsafe.Pointer(h), start+i*size)
			first := word(p)
			link, whole := unseal(first, p)
			if whole && (link == 0 || (link-start)%size == 0 && (link-start)/size < n) {
				continue // freed, or kept
			}
			f(p, first)
		}
	}
}

// inPool reports whether link, read from a block, is 0 or that of a block.
//
//go:norace
func (h *Header) inPool(link uint32) bool {
	return link == 0 || sizeclass.Index(link-h.start, h.inverse, h.rotate) < h.blocks
}

// State is what a block is.
type State uint8

// The states of a block.
const (
	Foreign State = iota // no block begins there, or one never handed out
	InUse
	Freed
)

// StateOf returns the state of the block at p, an address in the pool. It looks
// at the block, and so costs a cache miss. The answer is exact for who holds the
// block, and for the owner.
func (h *Header) StateOf(p unsafe.Pointer) State {
	state := h.StateInBits(p)
	if state == InUse && h.IsFreed(p) {
		return Freed
	}
	return state
}

// StateInBits is StateOf as the bitmap has it: blocks that others have freed, and
// one that the shard keeps, may be in use there.
//
//go:norace
func (h *Header) StateInBits(p unsafe.Pointer) State {
	i := h.Index(p)
	switch {
	case i >= h.Blocks():
		return Foreign
	case h.IsInUse(i):
		return InUse
	case i >= h.carved:
		return Foreign
	}
	return Freed
}

// IsFreed reports whether the block that begins at p has a whole seal.
func (h *Header) IsFreed(p unsafe.Pointer) bool { return h.isSeal(word(p), p) }

// isSeal reports whether a word read from the block at p is a whole seal.
func (h *Header) isSeal(w uint64, p unsafe.Pointer) bool {
	link, whole := unseal(w, p)
	return whole && h.inPool(link)
}

// WasBlock reports whether a block that is free by now began at p: the pool is
// Free, and has not been formatted since.
//
//go:norace
func (h *Header) WasBlock(p unsafe.Pointer) bool {
	return h.Index(p) < h.carved || h.usable != 0 && h.Start() == p
}

// --- the owner's slower steps ---

// Place prepares the header of a pool or run of units units that an arena hands
// out. Its owner is Free.
func (h *Header) Place(number, start uint32, units int, clean bool) {
	h.word.Store(uint64(makeWord(Free, 0)))
	h.number, h.start, h.start2, h.units, h.clean, h.usable = number, start, start, uint32(units), clean, 0
	h.trip, h.listed, h.Next = Never, false, nil
	h.cur, h.hard, h.tail, h.broken = 0, false, 0, false
	store(&h.blocks, 0)
	store(&h.carved, 0)
	h.empty()
}

// empty makes all blocks free. Those that were handed out once stay known as such.
func (h *Header) empty() {
	for i := range uint32(len(h.free)) {
		n := h.blocks - min(h.blocks, i*64)
		store64(&h.free[i], ^uint64(0)>>(64-min(n, 64)))
	}
	h.SetCurrent(0)
	h.chain = 0
	store(&h.chainLen, 0)
	store(&h.live, 0)
}

// PlaceInner makes the header that of the i-th unit, i >= 1, of a pool or run.
func (h *Header) PlaceInner(i int) {
	store(&h.first, uint32(i))
	h.word.Store(uint64(makeWord(Inner, 0)))
}

// PlaceRun makes the header, placed before, that of a large run whose block has
// usable bytes.
func (h *Header) PlaceRun(usable uintptr) {
	h.usable = usable
	h.word.Store(uint64(makeWord(Run, 0)))
}

// Unplace marks the unit free.
func (h *Header) Unplace() {
	h.word.Store(uint64(makeWord(Free, 0)))
}

// Usable returns the bytes of a large run's block.
func (h *Header) Usable() uintptr { return h.usable }

// Start returns the address of the pool's or run's first byte.
func (h *Header) Start() unsafe.Pointer { return unsafe.Add(unsafe.Pointer(h), h.start) }

// Format makes the empty pool one of class c. A pool that was of this class is
// ready already. The caller holds the pool.
func (h *Header) Format(c uint8, s *sizeclass.Shape) {
	if h.blocks != 0 {
		if h.class == c {
			return
		}
		h.clean = h.clean && h.carved == 0
	}
	h.class, h.rotate = c, s.Rotate
	h.inverse, h.size2 = s.Inverse, s.Size
	store(&h.size, s.Size)
	store(&h.blocks, s.Blocks)
	store(&h.carved, 0)
	h.empty()
	if h.IsHard() && !h.clean {
		h.sealAll()
	}
}

// Own makes the empty pool in hand the shard's.
func (h *Header) Own(shard uint32) {
	h.word.Store(uint64(makeWord(shard, Quiet)))
}

// Retire ends the ownership of a pool without blocks in use. It reports false if
// there are some, if it must wait, for the pool is posted, or if a block is still to be
// found broken (see Break). hot is the block that the shard keeps, or 0. Owner only.
func (h *Header) Retire(hot uintptr) bool {
	w := Word(h.word.Load())
	if w.Len()+h.chainLen < h.live || w.Post() == Posted || h.broken && h.brokenBlock() != nil || h.live != 0 && !h.allFreed(hot) ||
		!h.word.CompareAndSwap(uint64(w), uint64(makeWord(Free, 0))) {
		return false
	}
	if h.live != 0 { // the links are not worth a walk
		h.empty()
	}
	h.chain = 0
	store(&h.chainLen, 0)
	return true
}

// allFreed reports whether the blocks whose bits are not set are all sealed, none
// of them is hot, and they are all that count as live: a magazine has none. It reads
// them in order, which costs much less than to follow links.
func (h *Header) allFreed(hot uintptr) bool {
	n := uint32(0)
	for from := uint32(0); from < h.blocks; from += 64 {
		for left := ^*h.bits(from); left != 0; left &= left - 1 {
			i := from + uint32(bits.TrailingZeros64(left))
			if i >= h.blocks {
				break
			}
			p := unsafe.Add(unsafe.Pointer(h), h.start2+i*h.size2)
			if !h.IsFreed(p) || uintptr(p) == hot {
				return false
			}
			n++
		}
	}
	return n == h.live
}

// Refill makes the current word of the bitmap one that has free blocks, and
// reports whether there is one. It collects the remote list if need be, and
// sets the bits of a bounded number of blocks of the chain. broken is a block
// that was written to after it was freed, if there is one: it and those linked
// after it are lost, they count as live for ever. hot is the block that the shard
// keeps, or 0. Owner only.
func (h *Header) Refill(hot uintptr) (ok bool, broken unsafe.Pointer) {
	if h.live == h.blocks {
		if h.chain == 0 && !h.Collect() {
			return false, nil
		}
		broken = h.unchain(hot, true)
	}
	for i := uint32(0); i < h.blocks; i += 64 {
		if *h.bits(i) != 0 {
			h.SetCurrent(i)
			return true, broken
		}
	}
	return false, broken
}

// chainStep is how many blocks of the chain one step sets the bits of.
const chainStep = 32

// Quieten collects the remote list of a pool that has blocks anyway, and sets
// the bits of a bounded number of blocks, so that the owner's frees find the
// pool quiet again. hot is the block that the shard keeps, or 0. Owner only.
func (h *Header) Quieten(hot uintptr) {
	if h.chain != 0 || h.Collect() {
		h.unchain(hot, false)
	}
}

// unchain sets the bits of some blocks of the chain, but of those that are free
// already (see "Double frees"). It drops a chain that is broken only if it may report
// it.
func (h *Header) unchain(hot uintptr, report bool) (broken unsafe.Pointer) {
	for n := 0; n < chainStep && h.chain != 0; n++ {
		p := unsafe.Add(unsafe.Pointer(h), h.chain)
		seal := word(p)
		link, _ := unseal(seal, p)
		i := h.Index(p)
		if i >= h.blocks || !h.isSeal(seal, p) || (link != 0) != (h.chainLen > 1) {
			if !report {
				return nil
			}
			h.chain = 0
			store(&h.chainLen, 0)
			h.unchained()
			return p
		}
		h.chain = link
		store(&h.chainLen, h.chainLen-1)
		b := h.bits(i)
		if bit := uint64(1) << (i & 63); *b&bit == 0 && uintptr(p) != hot {
			store64(b, *b|bit)
			store(&h.live, h.live-1)
		}
	}
	if h.chain == 0 {
		h.unchained()
	}
	return nil
}

// unchained notes in the word that the chain is empty.
func (h *Header) unchained() {
	for {
		w := h.word.Load()
		if h.word.CompareAndSwap(w, w&^chained) {
			return
		}
	}
}

// Collect makes the remote list the chain, which is empty, and reports whether
// there was one. Owner only.
func (h *Header) Collect() bool {
	for {
		w := Word(h.word.Load())
		if w.Len() == 0 {
			return false
		}
		if h.word.CompareAndSwap(uint64(w), uint64(w.withRemote(0, 0)|chained)) {
			h.chain = w.head()
			store(&h.chainLen, w.Len())
			return true
		}
	}
}

// Fill marks the pool, which has no block to hand out, as full: it leaves the
// used list, and the first remote free is to be posted. It reports false if the
// remote list has blocks after all. Owner only.
func (h *Header) Fill() bool {
	for {
		w := Word(h.word.Load())
		switch {
		case w.Len() != 0:
			return false
		case w.Post() != Quiet:
			return true // wanted or posted since it was full before
		case h.word.CompareAndSwap(uint64(w), uint64(w.with(w.Owner(), Want))):
			return true
		}
	}
}

// Unpost ends the post of a pool that was taken from its owner's inbox. Owner only.
func (h *Header) Unpost() {
	for {
		w := Word(h.word.Load())
		n := w.with(w.Owner(), Quiet)
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
		if h.word.CompareAndSwap(uint64(w), uint64(w.with(Shared, Quiet))) {
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
		h.word.CompareAndSwap(uint64(w), uint64(makeWord(Abandoned, Quiet)))
}

// Take makes the shared pool, which the caller has popped from usedpools, the
// caller's. Its remote list stays.
func (h *Header) Take(owner uint32) {
	for {
		w := Word(h.word.Load())
		if h.word.CompareAndSwap(uint64(w), uint64(w.with(owner, Quiet))) {
			return
		}
	}
}

// SetCurrent makes malloc take from the bitmap's word that block i is in. Owner
// only.
func (h *Header) SetCurrent(i uint32) { h.cur = int32(i / 64 * 8) }

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
	Refused   Outcome = iota // not a pool with live blocks: nothing done
	Double                   // the block is free already: nothing done
	Mine                     // the caller owns the pool: nothing done
	Pushed                   // done
	Post                     // done; the caller must post the pool to its owner's inbox
	Adopted                  // done; the pool is the caller's now
	Unclaimed                // done; the pool is Shared now, the caller must push it on usedpools
)

// PushRemote frees the allocated block at p onto a pool that another owns. me
// is the caller's shard, owner the one to post to. Only a caller with mayAdopt
// becomes the owner of an abandoned pool; for another it becomes Shared. With wipe
// the block is cleared.
//
//go:norace
func (h *Header) PushRemote(p unsafe.Pointer, me uint32, mayAdopt, wipe bool) (did Outcome, number, owner uint32) {
	d := h.distance(p)
	number = h.number
	first := (*uint64)(p)
	data := word(p) // the program's
	is := data
	if h.isSeal(data, p) {
		return Double, number, h.Owner()
	}
	for {
		w := Word(h.word.Load())
		owner = w.Owner()
		did = Pushed
		switch {
		case owner == me:
			did = Mine
		case owner == Free || owner == Run || owner == Inner || w.Len() == maxLen:
			did = Refused
		}
		if did != Pushed {
			if is != data { // the block was freed twice, and with the rest of its pool
				atomic.CompareAndSwapUint64(first, is, data)
				did = Pushed
			}
			return did, number, owner
		}
		// The first time this claims the block; the CAS of the word publishes the link.
		link := sealed(p, w.head())
		if !atomic.CompareAndSwapUint64(first, is, link) {
			if is == data {
				did = Double
			} // else an entry too many has freed it, and it may be somebody's by now
			return did, number, owner
		}
		if wipe && is == data {
			h.wipe(unsafe.Add(p, 8), 8)
		}
		is = link
		n := w.Len() + 1
		if owner == Abandoned {
			// Somebody has to take the pool, which is full but for this block.
			if !mayAdopt {
				if h.word.CompareAndSwap(uint64(w), uint64(w.with(Shared, Quiet).withRemote(d, n))) {
					return Unclaimed, number, owner
				}
				continue
			}
			if h.word.CompareAndSwap(uint64(w), uint64(makeWord(me, Quiet)|chained)) {
				h.chain = d
				store(&h.chainLen, n)
				return Adopted, number, owner
			}
			continue
		}
		post := w.Post()
		if post == Want {
			post, did = Posted, Post
		}
		if h.word.CompareAndSwap(uint64(w), uint64(w.with(owner, post).withRemote(d, n))) {
			return did, number, owner
		}
	}
}
