package pymalloc

import (
	"errors"
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

// batchPinned bounds the blocks that one pinned section handles.
const batchPinned = 32

// UnsafeMallocBatch fills ps with blocks of size bytes each, as UnsafeMalloc returns them, for
// less than as many calls cost. If one fails, ps keeps the blocks before it, which are the
// caller's to use or to free, the rest of ps is nil, and the error is UnsafeMalloc's.
func (a *Allocator) UnsafeMallocBatch(ps []unsafe.Pointer, size int) error {
	_ = a.opts // a nil a faults here
	if size < 0 {
		panic("pymalloc: UnsafeMallocBatch: negative size")
	}
	for done := 0; done < len(ps); {
		if uint(size)-1 < engine.SmallMax {
			done += a.mallocPinned(ps[done:min(done+batchPinned, len(ps))], engine.ClassOf(size))
			if done == len(ps) {
				break
			}
		}
		p, err := a.UnsafeMalloc(size) // one that needs more than to be popped
		if err != nil {
			clear(ps[done:])
			return as("UnsafeMallocBatch", err)
		}
		ps[done] = p
		done++
	}
	return nil
}

// mallocPinned pops blocks of class c from the P's shard, and returns how many there were.
//
//go:noinline
func (a *Allocator) mallocPinned(ps []unsafe.Pointer, c uint8) (n int) {
	token := engine.Pin()
	if s := a.view.Shard(token); s != nil && s.Plain() {
		m := s.Of(c)
		for n = range ps {
			p := engine.Peek(m)
			if !engine.IsSealed(p) {
				engine.Unpin(token)
				return n
			}
			engine.Pop(m, p)
			ps[n] = p
		}
		n = len(ps)
	}
	engine.Unpin(token)
	return n
}

// UnsafeFreeBatch frees all blocks of ps, for less than as many calls of
// UnsafeFree cost, and sets ps to nil. Nil elements are skipped. Bad pointers do
// not stop it; the error joins those of UnsafeFree.
func (a *Allocator) UnsafeFreeBatch(ps []unsafe.Pointer) error {
	_ = a.opts // a nil a faults here
	var errs []error
	for done := 0; done < len(ps); {
		done += a.freePinned(ps[done:min(done+batchPinned, len(ps))])
		if done == len(ps) {
			break
		}
		if err := a.UnsafeFree(ps[done]); err != nil { // one that needs more than a push
			errs = append(errs, as("UnsafeFreeBatch", err))
		}
		done++
	}
	clear(ps)
	return errors.Join(errs...)
}

// freePinned pushes blocks at home in the P's shard, and returns how many it could before one
// that needs more.
//
//go:noinline
func (a *Allocator) freePinned(ps []unsafe.Pointer) (n int) {
	token := engine.Pin()
	if s := a.view.Shard(token); s != nil {
		for _, p := range ps {
			h := engine.Find(uintptr(p))
			w := h.Load()
			if w.Kind() == engine.Inner {
				h = engine.First(h, w)
				w = h.Load()
			}
			if !engine.Plainly(s, w) || !engine.IsBlock(h, uintptr(p)) || engine.IsSealed(p) {
				break
			}
			m := engine.ClassOfPool(s, w)
			at := engine.Room(m)
			if at == 0 {
				break
			}
			engine.Push(m, p, at)
			n++
		}
	}
	engine.Unpin(token)
	return n
}

// freeEach frees all blocks of ps one after the other.
func freeEach(from mallocer, call string, ps []unsafe.Pointer) error {
	var errs []error
	for _, p := range ps {
		if err := from.UnsafeFree(p); err != nil {
			errs = append(errs, as(call, err))
		}
	}
	clear(ps)
	return errors.Join(errs...)
}
