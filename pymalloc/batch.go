package pymalloc

import (
	"errors"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/shard"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// batchPinned bounds the blocks that one pinned section handles.
const batchPinned = 32

// UnsafeMallocBatch fills ps with blocks of size bytes each, as UnsafeMalloc
// returns them, for less than as many calls cost. If one fails, those before it
// are freed, ps is all nil, and the error is UnsafeMalloc's.
func (a *Allocator) UnsafeMallocBatch(ps []unsafe.Pointer, size int) error {
	if size < 0 {
		panic("pymalloc: UnsafeMallocBatch: negative size")
	}
	for done := 0; done < len(ps); {
		if uint(size)-1 < sizeclass.Max {
			done += a.mallocPinned(ps[done:min(done+batchPinned, len(ps))], sizeclass.Of(size))
			if done == len(ps) {
				break
			}
		}
		// One that needs more than to be taken; all of them on a hardened allocator.
		p, err := a.UnsafeMalloc(size)
		if err != nil {
			err = errors.Join(as("UnsafeMallocBatch", err), a.UnsafeFreeBatch(ps[:done]))
			clear(ps)
			return err
		}
		ps[done] = p
		done++
	}
	return nil
}

// mallocPinned takes blocks of class c from the P's shard, and returns how many there were.
//
//go:noinline
func (a *Allocator) mallocPinned(ps []unsafe.Pointer, c uint8) (n int) {
	v := &a.view // as in UnsafeMalloc
	token := shard.Enter()
	s, _ := v.Take(token)
	if s != nil {
		for n = range ps {
			var p unsafe.Pointer
			if m := s.Magazine(c); !m.IsEmpty() {
				p = m.Pop()
			} else {
				p = s.Used(c).Pop()
			}
			if p == nil {
				shard.Exit(s, token)
				return n
			}
			pool.Unseal(p)
			ps[n] = p
		}
		n = len(ps)
	}
	shard.Exit(s, token)
	return n
}

// UnsafeFreeBatch frees all blocks of ps, for less than as many calls of
// UnsafeFree cost, and sets ps to nil. Nil elements are skipped. Bad pointers do
// not stop it; the error joins those of UnsafeFree.
func (a *Allocator) UnsafeFreeBatch(ps []unsafe.Pointer) error {
	var errs []error
	for done := 0; done < len(ps); {
		done += a.freePinned(ps[done:min(done+batchPinned, len(ps))])
		if done == len(ps) {
			break
		}
		// One that needs more than a push.
		if err := a.UnsafeFree(ps[done]); err != nil {
			errs = append(errs, err)
		}
		done++
	}
	clear(ps)
	return errors.Join(errs...)
}

// freePinned pushes blocks of the P's shard, and returns how many it could
// before one that needs more.
//
//go:noinline
func (a *Allocator) freePinned(ps []unsafe.Pointer) int {
	v := &a.view // as in UnsafeMalloc
	token := shard.Enter()
	s, _ := v.Take(token)
	if s == nil {
		shard.Exit(s, token)
		return 0
	}
	s.Forget()
	for n, p := range ps {
		if !v.IsMine(p) {
			shard.Exit(s, token)
			return n
		}
		h := v.HeaderOf(p)
		if !s.OwnsQuiet(h) && h.IsInner() {
			h = h.Outer()
		}
		if !s.OwnsQuiet(h) {
			shard.Exit(s, token)
			return n
		}
		i := h.Index(p)
		if s.Keeps(p) || !h.IsInUse(i) {
			shard.Exit(s, token)
			return n
		}
		if m := s.Magazine(h.Class()); m.HasRoom() {
			h.PushTo(m, i, p)
		} else if h.Push(i) {
			v.Table().Trip(nil, s, h, i, token)
			return n + 1
		}
	}
	shard.Exit(s, token)
	return len(ps)
}
