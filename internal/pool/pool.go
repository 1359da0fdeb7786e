// Package pool is one pool: units of an arena cut into blocks of one size, with a bit for
// each block and a count in the header that stands outside the arena.
//
// # A free block
//
// It is in one of two places: its bit is set in its pool, or its address is in a magazine
// of a shard. A block that was ever handed out is sealed while it is free, in its first
// word. So, when nothing is under way,
//
//	blocks of a pool = allocated + bits set + in magazines + lost
//	Count            = bits set
//	Carved           > the index of each block that was ever handed out
//
// Lost is the number of blocks that were found written to after they were freed.
//
// # States of a pool
//
// A pool has no owner: any goroutine gives blocks back with two atomic instructions, an OR
// and an addition. One goroutine at a time has the pool in hand, and it alone may take
// blocks out and write the plain fields of the header.
//
//	state    count          where it is
//	used     above 0        on usedpools of its class, or in hand
//	full     0, or below    nowhere: the addition that makes the count positive takes it in hand
//	empty    blocks         used, and every block is in the pool: whoever has it in hand may retire it
//
//	transition      made by                         published by
//	full -> hand    Give that makes count positive  the addition
//	used -> hand    a pop from usedpools            the pop
//	hand -> used    a push on usedpools             the push
//	hand -> full    Take that leaves count <= 0     the subtraction
//	hand -> arena   Retire, if count == blocks      the arenas' lock
//	arena -> hand   Format                          the word of the header, stored last
//
// Take subtracts after it has taken, so the count may be below 0 for a moment, while blocks
// that it took come back. That all blocks are in the pool is read from the count and never
// from the bits: the count proves that no Give stands between its OR and its addition. After
// its addition Give reads nothing of the pool, unless it has it in hand then.
//
// Nothing here locks. Blocks' memory is touched by whoever holds the block, or its pool.
package pool

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Header is the header of a pool's first unit.
type Header = headers.Header

// Outcome says what a call found, from here up to the errors of the public API.
type Outcome uint8

// The outcomes. Of a pointer that is to be freed they say what it is.
const (
	OK      Outcome = iota // a live block
	Double                 // a block that is free already
	NotOurs                // no block of the allocator begins there
	Overrun                // a block that was written to beyond its end
)

// Error is an error that is made when the program is built, not when it starts.
type Error string

func (e Error) Error() string { return string(e) }

// Most is how many addresses a slow path moves at once.
const Most = 64

// Hand is what a slow path has in hand, in its own frame: addresses of sealed blocks.
type Hand struct {
	N int
	P [Most]uintptr
}

// Add adds a block. There must be room.
func (b *Hand) Add(p uintptr) {
	b.P[uint(b.N)%Most] = p
	b.N++
}

// Format makes a pool of units in hand, which are part of no pool. The pool is in hand after.
// Blocks have so many tail bytes, 0 or TailBytes.
func Format(h *Header, class uint8, s *sizeclass.Shape, tail int, life, home uint32) {
	h.Tail = uint8(tail)
	h.Inverse, h.Rotate = s.Inverse, s.Rotate
	h.Size, h.Blocks = s.Size, s.Blocks
	if s.Units == 1 {
		shift := color(h.Number, s)
		h.Start += uintptr(shift)
		h.Blocks = (headers.UnitBytes - shift) / s.Size
	}
	h.Carved.Store(0)
	h.Lost.Store(0)
	h.Count.Store(int32(h.Blocks))
	for i := range h.Bits {
		n := max(int(h.Blocks)-i*64, 0)
		h.Bits[i].Store(^uint64(0) >> (64 - min(n, 64))) // a shift by 64 gives 0
	}
	h.Store(headers.MakeWord(life, headers.Pool, class, 0).At(home))
}

// color returns how many bytes after the beginning of its unit the blocks of a pool begin, by
// the unit's number: else the first blocks of all pools would be in the same sets of the
// processor's caches (Bonwick, "The Slab Allocator", 1994). Blocks keep the alignment that their
// size gives them. It takes what a unit has left, or a sixteenth of it at most.
func color(number uint32, s *sizeclass.Shape) uint32 {
	step := max(64, s.Size&-s.Size)
	most := max(headers.UnitBytes-s.Blocks*s.Size, headers.UnitBytes/16)
	return number % (most/step + 1) * step
}

// Index returns the number of the block that begins at p, or one that is not below
// Blocks if none does. p is in the pool's units.
func Index(h *Header, p uintptr) uint32 {
	return sizeclass.Index(uint32(p-h.Start), h.Inverse, h.Rotate)
}

// IsBlock reports whether a block begins at p that was ever handed out. p is in the pool's
// units.
func IsBlock(h *Header, p uintptr) bool { return Index(h, p) < h.Carved.Load() }

// First returns the header of the pool that the unit of p is part of: h, or the one that
// so many units before it. w is the word of h.
func First(h *Header, w headers.Word) *Header { return h.Plus(-w.Back()) }

// Block returns the address of block i.
func Block(h *Header, i uint32) uintptr { return h.Start + uintptr(i)*uintptr(h.Size) }

// State returns what p, an address in the units of a pool, is. The caller is in a section
// of the pool's life, and saw the header live after the section began.
func State(h *Header, p uintptr) Outcome {
	switch {
	case Index(h, p) >= h.Carved.Load():
		return NotOurs
	case IsSealed(p):
		return Double
	}
	return OK
}

// Examine is State with a look at what stands after the block's usable bytes, where it has a
// tail.
func Examine(h *Header, p unsafe.Pointer) Outcome {
	out := State(h, uintptr(p))
	if t := h.Tail; out == OK && t > 0 && !IsTail(p, uintptr(h.Size)-uintptr(t)) {
		return Overrun
	}
	return out
}

// WasBlock reports whether a block of the given life began at p when the units of h, which
// are free now, were last in use.
func WasBlock(h *Header, p uintptr, life uint32) bool {
	return h.Last == life && Index(h, p) < h.Carved.Load()
}

// Take moves free blocks of the pool in hand to b, up to most of them, those with the
// lowest addresses, and seals those that were never handed out: not more of them than lie on
// ahead bytes, one at least. It returns how many, and how many of these are fresh. The count
// is not changed: that is [Left], with which the hand may end.
func Take(h *Header, b *Hand, most int, ahead uint32) (got, fresh int) {
	most = min(most, Most-b.N)
	carved := h.Carved.Load()
	limit := min(carved+max(1, ahead/max(h.Size, 1)), h.Blocks)
	was := carved
	for i := uint32(0); i*64 < limit && got < most; i++ {
		w := &h.Bits[i%uint32(len(h.Bits))]
		keep := w.Load()
		if limit < i*64+64 {
			keep &= 1<<(limit-i*64) - 1
		}
		if keep == 0 {
			continue
		}
		for n := bits.OnesCount64(keep) - (most - got); n > 0; n-- {
			keep &^= 1 << (63 - bits.LeadingZeros64(keep))
		}
		w.And(^keep) // nobody else clears bits: the pool is in hand
		for end := i*64 + 64 - uint32(bits.LeadingZeros64(keep)); carved < end; carved++ {
			Seal(Block(h, carved))
		}
		got += bits.OnesCount64(keep)
		for ; keep != 0; keep &= keep - 1 {
			b.Add(Block(h, i*64+uint32(bits.TrailingZeros64(keep))))
		}
	}
	if carved != was {
		h.Carved.Store(carved)
	}
	return got, int(carved - was)
}

// Left subtracts got blocks, which Take took, and reports whether the pool has more and is
// in hand still. Else the hand has ended. It returns what the count was.
func Left(h *Header, got int) (hand bool, was int32) {
	left := h.Count.Add(int32(-got))
	return left > 0, left + int32(got)
}

// Give gives blocks of one pool back: mask says which of word i of its bitmap. It returns
// how many of them were not there already. The count is not changed: that is [Gave].
func Give(h *Header, i uint32, mask uint64) int {
	old := h.Bits[i%uint32(len(h.Bits))].Or(mask)
	return bits.OnesCount64(mask &^ old)
}

// Gave adds the n blocks that Give gave, and reports whether that has made the count
// positive: the pool is in the caller's hand then. Else nothing of it may be read any more.
func Gave(h *Header, n int) (hand bool, count int32) {
	now := h.Count.Add(int32(n))
	return now > 0 && now-int32(n) <= 0, now
}

// Empty reports whether every block of the pool, which is in hand, is in it.
func Empty(h *Header) bool { return h.Count.Load() == int32(h.Blocks) }

// Consistent reports whether the header of a pool in hand may be what it is: others set bits, and
// add them to the count later.
func Consistent(h *Header) bool {
	count, set := h.Count.Load(), int32(0)
	for i := range h.Bits {
		set += int32(bits.OnesCount64(h.Bits[i].Load()))
	}
	return count <= set && set <= int32(h.Blocks) && h.Carved.Load() <= h.Blocks && h.Load().Kind() == headers.Pool
}

// Wipe clears the block at p, but for its seal.
//
//go:norace
func Wipe(p uintptr, size uint32) {
	if size > SealBytes {
		at := unsafe.Add(addr.Pointer(p), SealBytes)
		for i := range uintptr(size-SealBytes) / 8 { // not with a slice, whose length would be checked
			*(*uint64)(unsafe.Add(at, i*8)) = 0
		}
	}
}

// Each calls f for each allocated block, with its first word: exactly, when nothing is under
// way. The caller sees to it that the pool stays.
//
//go:norace
func Each(h *Header, f func(p unsafe.Pointer, first uint64)) {
	for i := range min(h.Carved.Load(), h.Blocks) {
		if p := Block(h, i); !IsSealed(p) && h.Bits[i/64%16].Load()>>(i%64)&1 == 0 {
			f(addr.Pointer(p), *word(p))
		}
	}
}

// Check returns the first fault of a pool. Nothing may be under way in it.
func Check(h *Header) error {
	set := 0
	for i := range h.Bits {
		set += bits.OnesCount64(h.Bits[i].Load())
	}
	if count := int(h.Count.Load()); set != count {
		return fmt.Errorf("pool at %#x: %d bits of free blocks are set, it counts %d", h.Start, set, count)
	}
	carved := h.Carved.Load()
	if carved > h.Blocks || int(h.Blocks) > 64*len(h.Bits) {
		return fmt.Errorf("pool at %#x: it has carved %d of %d blocks", h.Start, carved, h.Blocks)
	}
	for i := range h.Blocks {
		switch isSet := h.Bits[i/64%16].Load()>>(i%64)&1 == 1; {
		case isSet && i < carved && !IsSealed(Block(h, i)):
			return fmt.Errorf("block %#x, of %d bytes, was written to after it was freed", Block(h, i), h.Size)
		case !isSet && i >= carved:
			return fmt.Errorf("pool at %#x: block %d was taken and never carved", h.Start, i)
		}
	}
	return nil
}
