package pymalloc

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

// UnsafeFree frees the block at p, which this allocator has returned, and which
// nobody touches any more. Freeing nil does nothing. The error is a
// [*PointerError]: nothing is freed and nothing damaged then.
//
// A double free is detected while the block has not been handed out again, and its arena is
// mapped. If two goroutines free the same block at the same moment, one succeeds; both may
// if one of them frees on the shard that the block's pool is at home in, and they come within
// nanoseconds. Mostly the malloc that would hand the block out then returns [ErrCorrupted].
//
//go:noinline
func (a *Allocator) UnsafeFree(p unsafe.Pointer) error {
	v := &a.view // as in UnsafeMalloc
	h := engine.Find(uintptr(p))
	token := engine.Pin()
	if s := v.Shard(token); s != nil {
		w := h.Load()
		for {
			if engine.Plainly(s, w) {
				if engine.IsBlock(h, uintptr(p)) && !engine.IsSealed(p) {
					m := engine.ClassOfPool(s, w)
					if at := engine.Room(m); at != 0 {
						engine.Push(m, p, at)
						engine.Unpin(token)
						return nil
					}
				}
				break
			}
			if w.Kind() != engine.Inner {
				break
			}
			h = engine.First(h, w)
			w = h.Load()
		}
		if out, done := engine.Keep(s, h, w, p); done {
			engine.Unpin(token)
			return freeError("UnsafeFree", uintptr(p), out)
		}
	}
	engine.Unpin(token)
	return a.freeSlow("UnsafeFree", nil, p)
}

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
