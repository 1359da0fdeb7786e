package pool

import (
	"math/rand/v2"
	"unsafe"
)

// TailBytes is what a hardened block has behind its usable bytes: a word that
// tells whether something was written beyond them.
const TailBytes = 8

// tail is what the word says, but for the block's address, a multiple of 16, shifted so
// that it reaches the highest bit of neither end: these are neither 0 nor ASCII, which
// programs write most often where they should not.
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
	*(*uint64)(unsafe.Add(p, usable)) = tail ^ uint64(uintptr(p))<<4
}

// IsTail reports whether the word is what SetTail wrote.
func IsTail(p unsafe.Pointer, usable uintptr) bool {
	return *(*uint64)(unsafe.Add(p, usable)) == tail^uint64(uintptr(p))<<4
}

// Overrun reports whether the block at p, in use, was written to beyond its
// usable bytes.
func (h *Header) Overrun(p unsafe.Pointer) bool {
	return h.IsHard() && !IsTail(p, uintptr(h.size-TailBytes))
}

// Harden makes the pool, placed and not formatted yet, a hardened one.
func (h *Header) Harden() { h.hard = true }

// IsHard reports whether the pool is hardened.
func (h *Header) IsHard() bool { return h.hard }

// ownSeal is sealed without a link: what the owner's free seals with.
func ownSeal(p unsafe.Pointer) uint64 { return uint64(uintptr(p))<<32 ^ sealKey }

var sealKey = sealed(nil, 0)

// SealOf returns what the owner's free writes to the block at p, and whether the block may
// have a whole seal: then IsFreed tells.
func SealOf(p unsafe.Pointer) (seal uint64, freed bool) {
	seal = ownSeal(p)
	link := load64((*uint64)(p)) ^ seal // twice, if it is one
	return seal, uint32(link) == uint32(link>>32)
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
