//go:build linux && amd64 && !race && !pymalloc_nolinkname

package shard

import "unsafe"

// follows tells whether shards follow goroutines.
const follows = true

func (slot *Slot) begin() { slot.sections++ }
func (slot *Slot) end()   { slot.sections++ }

func (s *Shard) leave() {
	released(unsafe.Pointer(s))
	(*Slot)(s.slot).sections++
}
