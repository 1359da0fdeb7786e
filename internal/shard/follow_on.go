//go:build linux && amd64 && !race && !pymalloc_nolinkname

package shard

import (
	"sync/atomic"
	"unsafe"
)

// follows tells whether shards follow goroutines.
const follows = true

func (slot *Slot) begin() { slot.sections++ }
func (slot *Slot) end()   { slot.sections++ }

func (s *Shard) leave() {
	released(unsafe.Pointer(s))
	(*Slot)(s.slot).sections++
}

// isBusy reports whether the P is in a section, after a barrier that came after
// the slot was emptied.
func (slot *Slot) isBusy() bool { return atomic.LoadUint32(&slot.sections)%2 == 1 }

// sections returns how many sections the shard's P has begun and ended, or 0
// while it has none.
//
//go:nosplit
func (s *Shard) sections() uint32 {
	if slot := s.ofP(); slot != nil {
		return atomic.LoadUint32(&slot.sections)
	}
	return 0
}
