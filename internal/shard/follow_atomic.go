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
