package pymalloc

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

// freeSlow frees any block: of another shard, large, or none at all.
func (a *Allocator) freeSlow(call string, hp *engine.Heap, p unsafe.Pointer) error {
	if p == nil {
		return nil
	}
	outcome := engine.NotOurs
	if l := a.lifeOf(hp); l != nil {
		outcome = l.Free(usable(hp), p)
	}
	return freeError(call, uintptr(p), outcome)
}

// usable returns the heap, or nil if it was released: it still frees, on the shards of Ps.
func usable(hp *engine.Heap) *engine.Heap {
	if hp == nil || hp.Shard == nil {
		return nil
	}
	return hp
}

// lifeOf returns the life that a call is for, or nil.
func (a *Allocator) lifeOf(hp *engine.Heap) *engine.Life {
	if hp != nil && hp.Life != nil {
		return hp.Life
	}
	return a.life.Load()
}
