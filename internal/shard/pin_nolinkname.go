//go:build pymalloc_nolinkname

package shard

import (
	"runtime"
	"unsafe"

	"github.com/pyarena/pyarena/internal/grace"
)

// Enter begins a section and returns the token that Take and Exit want.
func Enter() int { return grace.Enter() }

// Take returns a shard that nobody else uses, near the slot that the goroutine's
// stack hashes to, or nil if that slot is empty, or the shard is TakeHard's to return.
// ok is false if all shards are taken.
func (v *View) Take(token int) (s *Shard, ok bool) { return v.take(token, int(v.n.Load())) }

// TakeHard is Take for allocators that the fast path is not for, see hard.go.
func (v *View) TakeHard(token int) (s *Shard, ok bool) { return v.take(token, int(v.hard.Load())) }

// take is Take among the first n slots.
func (v *View) take(token, n int) (s *Shard, ok bool) {
	if n == 0 {
		return nil, true
	}
	for i := range n {
		s := v.slot((slotIndex(token, n) + i) % n).Load()
		if s == nil {
			return nil, i == 0
		}
		if s.busy.CompareAndSwap(0, 1) {
			acquired(unsafe.Pointer(s))
			return s, true
		}
	}
	return nil, false
}

// Exit gives the shard that Take returned back, and ends the section.
func Exit(s *Shard, token int) {
	if s != nil {
		s.leave()
		s.busy.Store(0)
	}
	grace.Exit(token)
}

// slotsAtOpen is how many slots an allocator has: a goroutine that is preempted
// keeps its shard, so there are more than Ps.
func slotsAtOpen() int { return 4 * runtime.GOMAXPROCS(0) }

// slotsInUse returns how many of n slots are looked at: not all that a page
// holds, for the blocks that are free in one are not to be had in another.
func slotsInUse(n int) int { return min(n, slotsAtOpen()) }

// slotIndex returns the slot to begin at for a token.
func slotIndex(token, n int) int { return grace.Hash(token) % max(n, 1) }
