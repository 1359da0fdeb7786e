//go:build !pymalloc_nolinkname

package shard

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/grace"
)

// Enter pins the goroutine and returns the token that Take and Unpin want.
func Enter() int { return grace.Enter() }

// Take returns the shard of the P that the goroutine is pinned to, nil if it has
// none yet, or is TakeHard's to return. It always succeeds here.
func (v *View) Take(token int) (s *Shard, ok bool) { return v.take(token, v.n.Load()) }

// TakeHard is Take for allocators that the fast path is not for, see hard.go.
func (v *View) TakeHard(token int) (s *Shard, ok bool) { return v.take(token, v.hard.Load()) }

// take returns the shard of the P if it is one of n.
func (v *View) take(token int, n uint32) (s *Shard, ok bool) {
	if uint32(token) < n {
		slot := v.slot(token)
		slot.begin()
		if s = slot.Load(); s != nil {
			acquired(unsafe.Pointer(s))
		} else {
			slot.end()
		}
	}
	return s, true
}

// Exit ends the pinned section that Enter began, after Take returned s.
func Exit(s *Shard, token int) {
	if s != nil {
		s.leave()
	}
	grace.Exit(token)
}

// slotsAtOpen is how many slots an allocator has from its first use on.
func slotsAtOpen() int { return 64 }

// slotsInUse returns how many of n slots are looked at.
func slotsInUse(n int) int { return n }

// slotIndex returns the slot for a token.
func slotIndex(token, _ int) int { return token }
