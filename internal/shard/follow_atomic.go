//go:build linux && race && !pymalloc_nolinkname

package shard

import (
	"sync/atomic"
	"unsafe"
)

// The race detector wants to see the order.
const follows = true

func (slot *Slot) begin() { atomic.AddUint32(&slot.sections, 1) }
func (slot *Slot) end()   { atomic.AddUint32(&slot.sections, 1) }

func (s *Shard) leave() {
	slot := s.ofP()
	released(unsafe.Pointer(s))
	slot.end()
}

func (slot *Slot) isBusy() bool { return atomic.LoadUint32(&slot.sections)%2 == 1 }

func (s *Shard) sections() uint32 {
	if slot := s.ofP(); slot != nil {
		return atomic.LoadUint32(&slot.sections)
	}
	return 0
}
