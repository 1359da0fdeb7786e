package pool

import (
	"math/bits"
	"math/rand/v2"
	"unsafe"
)

// hardWord is the offset from free, in bytes, of the word that is always zero.
const hardWord = int32(unsafe.Offsetof(Header{}.zero)) - int32(unsafe.Offsetof(Header{}.free))

// TailBytes is what a hardened block has behind its usable bytes: a word that
// tells whether something was written beyond them.
const TailBytes = 8

// tail is what the word says, but for the block's address. Neither end of it is
// 0, which programs write most often where they should not.
var tail = rand.Uint64() | 1<<63 | 1<<7

// Tail returns the bytes behind a block's usable ones, 0 unless hardened.
func (h *Header) Tail() int {
	if h.IsHard() {
		return TailBytes
	}
	return 0
}

// SetTail writes the word behind the usable bytes of the block at p.
func SetTail(p unsafe.Pointer, usable uintptr) {
	*(*uint64)(unsafe.Add(p, usable)) = tail ^ uint64(uintptr(p)>>4)<<8
}

// IsTail reports whether the word is what SetTail wrote.
func IsTail(p unsafe.Pointer, usable uintptr) bool {
	return *(*uint64)(unsafe.Add(p, usable)) == tail^uint64(uintptr(p)>>4)<<8
}

// Overrun reports whether the block at p, in use, was written to beyond its
// usable bytes.
func (h *Header) Overrun(p unsafe.Pointer) bool {
	return h.IsHard() && !IsTail(p, uintptr(h.size-TailBytes))
}

// Harden makes the pool, placed and not formatted yet, a hardened one.
func (h *Header) Harden() { h.cur, h.hard = hardWord, true }

// IsHard reports whether the pool is hardened.
func (h *Header) IsHard() bool { return h.hard }

// PopRandom takes a free block that the random number r chooses, and tells
// whether it is known to be zero: one of those of a word of the bitmap, until the
// word has none left; then r chooses another word. p is nil if no bit is set, or
// if the block was written to after it was freed: that is returned as broken, and
// stays where it is. Owner only, hardened pools only.
//
//go:nosplit
func (h *Header) PopRandom(r uint64) (p unsafe.Pointer, zero bool, broken unsafe.Pointer) {
	b := h.bits(uint32(h.pick) * 64)
	if *b == 0 {
		if !h.pickWord(uint32(r >> 32)) {
			return nil, false, nil
		}
		b = h.bits(uint32(h.pick) * 64)
	}
	n := min(64, h.blocks-uint32(h.pick)*64) // of the word's bits that are blocks
	turn := int(r >> 32 * uint64(n) >> 32)
	bit := uint32(bits.TrailingZeros64(bits.RotateLeft64(*b, -turn))+turn) & 63
	i := uint32(h.pick)*64 + bit
	p = unsafe.Add(unsafe.Pointer(h), h.start2+i*h.size2)
	if first := *(*uint64)(p); first != 0 {
		if _, whole := unseal(first, p); !whole {
			return nil, false, p
		}
	}
	SetTail(p, uintptr(h.size2-TailBytes))
	store64(b, *b&^(1<<bit))
	store(&h.live, h.live+1)
	if i >= h.carved {
		zero = h.clean
		h.carved = i + 1
	}
	return p, zero, nil
}

// pickWord picks a word of the bitmap that has free blocks, the next from one
// that r chooses on, and reports whether there is one.
//
//go:nosplit
func (h *Header) pickWord(r uint32) bool {
	words := (h.blocks + 63) / 64
	at := uint32(uint64(r) * uint64(words) >> 32)
	for range words {
		if *h.bits(at * 64) != 0 {
			h.pick = uint8(at)
			return true
		}
		if at++; at == words {
			at = 0
		}
	}
	return false
}

// Lose takes the free block at p out of use: it counts as live for ever. Owner
// only.
//
//go:nosplit
func (h *Header) Lose(p unsafe.Pointer) {
	i := h.Index(p)
	b := h.bits(i)
	h.carved = max(h.carved, i+1)
	SetTail(p, uintptr(h.size-TailBytes))
	store64(b, *b&^(1<<(i&63)))
	store(&h.live, h.live+1)
}

// sealAll seals all blocks, which are free.
//
//go:nosplit
func (h *Header) sealAll() {
	for i := range h.blocks {
		Seal(unsafe.Add(unsafe.Pointer(h), h.start+i*h.size))
	}
}

// Wipe clears the usable bytes of the block at p, in use.
//
//go:nosplit
func (h *Header) Wipe(p unsafe.Pointer) { h.wipe(p, 0) }

// wipe clears a block's usable bytes from p on, which is off bytes into it. It takes
// no slice of them: that may panic.
//
//go:nosplit
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
