package pool

import (
	"math/bits"
	"math/rand/v2"
	"unsafe"
)

// TailBytes is what a block with a canary has behind its usable bytes: a word that tells
// whether something was written beyond them.
const TailBytes = 8

// tail is what the word says, but for the block's address, a multiple of 16, shifted so
// that it reaches the highest bit of neither end: these are neither 0 nor ASCII, which
// programs write most often where they should not.
var tail = rand.Uint64() | 1<<63 | 1<<7

// Tail returns the bytes behind a block's usable ones: 0 or TailBytes.
func (h *Header) Tail() int { return int(h.tail) }

// SetTail writes the word behind the usable bytes of the block at p.
func SetTail(p unsafe.Pointer, usable uintptr) {
	setWord(unsafe.Add(p, usable), tail^uint64(uintptr(p))<<4)
}

// IsTail reports whether the word is what SetTail wrote.
func IsTail(p unsafe.Pointer, usable uintptr) bool {
	return word(unsafe.Add(p, usable)) == tail^uint64(uintptr(p))<<4
}

// Overrun reports whether the block at p, in use, was written to beyond its
// usable bytes.
//
//go:norace
func (h *Header) Overrun(p unsafe.Pointer) bool {
	return h.tail != 0 && !IsTail(p, uintptr(h.size-TailBytes))
}

// Harden makes the pool, placed and not formatted yet, a hardened one, whose blocks have
// tail bytes behind their usable ones, 0 or TailBytes.
func (h *Header) Harden(tail int) { h.hard, h.tail = true, uint8(tail) }

// IsHard reports whether the pool is hardened.
func (h *Header) IsHard() bool { return h.hard }

// ownSeal is sealed without a link: what the owner's free seals with.
func ownSeal(p unsafe.Pointer) uint64 { return uint64(uintptr(p))<<32 ^ sealKey }

var sealKey = sealed(nil, 0)

// HasOwnSeal reports whether the block at p is as Seal left it.
func HasOwnSeal(p unsafe.Pointer) bool { return word(p) == ownSeal(p) }

// Break notes that the block at p, which was at hand and is to be the pool's again, was
// written to after it was freed. Its first word is no seal from now on, nor zero, as that
// of a fresh block may be, and the pool is kept, so that Draw finds the block. Owner only,
// hardened pools only.
func (h *Header) Break(p unsafe.Pointer) {
	setWord(p, brokenWord)
	h.broken = true
}

// brokenWord is no seal: the high half of a seal is odd.
const brokenWord = 1

// brokenBlock returns a free block that Break was called for and that was not found since,
// or nil. Owner only.
func (h *Header) brokenBlock() unsafe.Pointer {
	for i := range h.blocks {
		p := unsafe.Add(unsafe.Pointer(h), h.start+i*h.size)
		if !h.IsInUse(i) && word(p) == brokenWord {
			return p
		}
	}
	h.broken = false
	return nil
}

// Draw takes a free block, drawn at random from a word of the bitmap, and from another
// word, that is drawn, once that has none left. It returns nil if the pool has no block, or
// one that was written to after it was freed: then broken tells which, and takes it out of
// use if it is lost. Owner only, hardened pools only.
func (h *Header) Draw(r *Random, lose bool) (p, broken unsafe.Pointer) {
	w := h.bits(uint32(h.pick) * 64)
	if *w == 0 {
		if w = h.DrawWord(r); w == nil {
			return nil, nil
		}
	}
	first, x := uint32(h.pick)*64, *r
	n := uint64(min(64, h.blocks-first)) // of the word's bits that are blocks
	turn := int(uint64(x.Next()>>32) * n >> 32)
	i := uint32(bits.TrailingZeros64(bits.RotateLeft64(*w, -turn))+turn) & 63
	p = unsafe.Add(unsafe.Pointer(h), h.start2+(first+i)*h.size2)
	// A store, for a load from a page that was never touched would map the system's page of
	// zeros there, and the store to come map another in its place, on all processors.
	setWord(unsafe.Add(p, 8), 0)
	whole := HasOwnSeal(p) || h.wasFree(p)
	if !whole && !lose {
		return nil, p
	}
	*r = x
	store64(w, *w&^(1<<i))
	store(&h.live, h.live+1)
	h.carved = h.blocks
	if h.tail != 0 {
		SetTail(p, uintptr(h.size2-TailBytes))
	}
	if !whole {
		return nil, p
	}
	return p, nil
}

// wasFree reports whether the free block at p, which has no seal of its owner's, was not
// written to: others have freed it, or it was never handed out.
func (h *Header) wasFree(p unsafe.Pointer) bool {
	first := word(p)
	return first == 0 && h.clean || h.isSeal(first, p)
}

// DrawWord makes the word of the bitmap that blocks are drawn from the next with some,
// from one on that is drawn, and returns it; nil if there is none. Owner only.
func (h *Header) DrawWord(r *Random) *uint64 {
	words := (h.blocks + 63) / 64
	at := uint32(uint64(r.Next()>>32) * uint64(words) >> 32)
	for range words {
		if w := h.bits(at * 64); *w != 0 {
			h.pick = uint8(at)
			return w
		}
		if at++; at == words {
			at = 0
		}
	}
	return nil
}

// Random is a state of a linear generator, of which the high bits are the random ones. It
// is fast, not cryptographic.
type Random uint64

// Next returns the next state. A factor of 31 bits fits into the instruction.
func (r *Random) Next() Random {
	*r = *r*0x5bd1e995 + 0x3c6ef35f
	return *r
}

// sealAll seals all blocks, which are free.
func (h *Header) sealAll() {
	for i := range h.blocks {
		Seal(unsafe.Add(unsafe.Pointer(h), h.start+i*h.size))
	}
}

// Wipe clears the usable bytes of the block at p, in use.
func (h *Header) Wipe(p unsafe.Pointer) { h.wipe(p, 0) }

// wipe clears a block's usable bytes from p on, which is off bytes into it. It takes
// no slice of them: that may panic. The race detector is not shown it, for two frees of
// one block, the later of which is stale, have no order; it is shown the seal beside it.
//
//go:norace
func (h *Header) wipe(p unsafe.Pointer, off uint32) {
	left := h.size - uint32(h.Tail()) - off
	for ; left >= 64; left -= 64 {
		*(*[64]byte)(p) = [64]byte{}
		p = unsafe.Add(p, 64)
	}
	for ; left != 0; left -= 8 {
		*(*uint64)(p) = 0
		p = unsafe.Add(p, 8)
	}
}
