package pymalloc

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/shard"
)

// UnsafeFree frees the block at p, which this allocator has returned, and which
// nobody touches any more. Freeing nil does nothing. The error is a
// [*PointerError]: nothing is freed and nothing damaged then.
//
// A double free is detected while the block has not been handed out again, and
// its arena is mapped. If two goroutines free the same block at the same
// moment, one succeeds; both may if one is the pool's owner and they come within some
// nanoseconds. The block is not handed out twice because of that.
//
//go:noinline
func (a *Allocator) UnsafeFree(p unsafe.Pointer) error {
	view := &a.view // as in UnsafeMalloc
	token := shard.Enter()
	s, _ := view.Take(token)
	if s != nil {
		if s.WasLast(p) {
			if h := view.HeaderOf(p); s.KeepsNone() && s.OwnsQuiet(h) {
				s.Keep(h, p)
				shard.Exit(s, token)
				return nil
			}
			s.Forget()
		}
		if view.IsMine(p) && !s.Keeps(p) {
			h := view.HeaderOf(p)
			for {
				if s.OwnsQuiet(h) {
					i := h.Index(p)
					if !h.IsInUse(i) {
						break
					}
					if m := s.Magazine(h.Class()); m.HasRoom() {
						h.PushTo(m, i, p)
					} else if h.Push(i) {
						view.Table().Trip(nil, s, h, i, token)
						return nil
					}
					shard.Exit(s, token)
					return nil
				}
				if !h.IsInner() {
					break
				}
				h = h.Outer()
			}
		}
	} else if s, _ = view.TakeHard(token); s != nil && s.FreeHard(view, p) {
		shard.Exit(s, token)
		return nil
	}
	if s != nil && view.IsMine(p) {
		if v := view.Table().FreeEntered(nil, s, p, token); v != shard.Freed {
			return freeError("UnsafeFree", uintptr(p), v)
		}
		return nil
	}
	shard.Exit(s, token)
	return a.freeSlow("UnsafeFree", nil, p)
}

// freeSlow frees any block: of another shard, large, or none at all.
func (a *Allocator) freeSlow(call string, hp *shard.Heap, p unsafe.Pointer) error {
	if p == nil {
		return nil
	}
	verdict := shard.NotOurs
	if hp != nil {
		verdict = hp.Table().Free(hp, p)
	} else if t := a.table.Load(); t != nil {
		verdict = t.Free(nil, p)
	}
	return freeError(call, uintptr(p), verdict)
}
