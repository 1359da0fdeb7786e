package pool

import (
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/race"
)

// SealBytes is the size of a seal: the first word of a free block, on every platform.
const SealBytes = 8

// key is the process's secret. It finds accidents, not attackers: who can read one free
// block can forge a seal, and gains nothing that way, for no pointer is followed.
var key = rand.Uint64() | 1

func sealOf(p uintptr) uint64 { return key ^ uint64(p) }

func word(p uintptr) *uint64 { return (*uint64)(addr.Pointer(p)) }

// IsSealed reports whether the block at p bears its seal: it is free, and nobody has
// written to its first word since. By chance an allocated block seems to once in 2^64.
//
//go:norace
//go:nocheckptr
func IsSealed(p uintptr) bool { return *word(p) == sealOf(p) }

// Seal seals the block at p, which is free from now on.
//
//go:norace
//go:nocheckptr
func Seal(p uintptr) { *word(p) = sealOf(p) }

// Unseal clears the seal of the block at p, which is handed out.
//
//go:norace
//go:nocheckptr
func Unseal(p uintptr) { *word(p) = 0 }

// IsSealedAt is IsSealed for a pointer: one step less to inline, for the fast paths.
//
//go:norace
//go:nocheckptr
func IsSealedAt(p unsafe.Pointer) bool { return *(*uint64)(p) == key^uint64(uintptr(p)) }

// SealAt is Seal for a pointer.
//
//go:norace
//go:nocheckptr
func SealAt(p unsafe.Pointer) { *(*uint64)(p) = key ^ uint64(uintptr(p)) }

// UnsealAt is Unseal for a pointer.
//
//go:norace
//go:nocheckptr
func UnsealAt(p unsafe.Pointer) { *(*uint64)(p) = 0 }

// SealOnce seals the block at p, and reports whether it was not sealed before. When
// several call it at once, one of them is told so.
//
//go:norace
//go:nocheckptr
func SealOnce(p uintptr) bool { return atomic.SwapUint64(word(p), sealOf(p)) != sealOf(p) }

// Freed tells the race detector that the block at p is freed, and [Taken] that it is handed
// out to somebody else. It writes the first word as it is, atomically, as the frees of others
// seal it: a program that uses the block beside that has a race, two frees have none.
func Freed(p uintptr) {
	if race.Enabled {
		atomic.AddUint64(word(p), 0)
		race.Release(addr.Pointer(p))
	}
}

// Taken is the other side of [Freed].
func Taken(p uintptr) {
	if race.Enabled {
		race.Acquire(addr.Pointer(p))
	}
}

// TailBytes is what a block with a canary has after its usable bytes: a word that tells
// whether something was written beyond them.
const TailBytes = 8

// tail is what the word says, but for the block's address, a multiple of 16, shifted so
// that it reaches the highest bit of neither end: these are neither 0 nor ASCII, which
// programs write most often where they should not.
var tail = rand.Uint64() | 1<<63 | 1<<7

// SetTail writes the word after the usable bytes of the block at p.
//
//go:norace
func SetTail(p unsafe.Pointer, usable uintptr) {
	*(*uint64)(unsafe.Add(p, usable)) = tail ^ uint64(uintptr(p))<<4
}

// IsTail reports whether the word is what SetTail wrote.
//
//go:norace
func IsTail(p unsafe.Pointer, usable uintptr) bool {
	return *(*uint64)(unsafe.Add(p, usable)) == tail^uint64(uintptr(p))<<4
}
