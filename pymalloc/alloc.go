package pymalloc

import (
	"runtime"
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

// The fast path of malloc. A call of UnsafeMalloc that finds a block in the P's shard calls
// nothing but procPin and procUnpin, has no bounds check and no write barrier
// (TestFastPathCode reads the assembly). It is not inlined, so that its prologue, where
// preemption happens, runs unpinned.

// UnsafeMalloc returns a block of size bytes, not initialised. The caller frees
// it with UnsafeFree. Size 0 returns nil; a negative size panics. The error is a
// [*SizeError], or a [*PointerError] with [ErrCorrupted] if a block was written
// to after it was freed.
//
//go:noinline
func (a *Allocator) UnsafeMalloc(size int) (unsafe.Pointer, error) {
	if v := &a.view; uint(size)-1 < engine.SmallMax { // a nil a faults here, where that can be recovered
		c := engine.ClassOf(size)
		token := engine.Pin()
		if s := v.Shard(token); s != nil {
			if engine.Plain(s) {
				m := s.Of(c)
				if p := engine.Peek(m); engine.IsSealed(p) {
					engine.Pop(m, p)
					engine.Unpin(token)
					return p, nil
				}
			} else if p := engine.Get(s, size); p != nil {
				engine.Unpin(token)
				return p, nil
			}
		}
		engine.Unpin(token)
	}
	p, _, err := a.allocSlow("UnsafeMalloc", nil, size, 1)
	return p, err
}

// UnsafeCalloc is UnsafeMalloc for zeroed memory.
//
//go:noinline
func (a *Allocator) UnsafeCalloc(size int) (unsafe.Pointer, error) {
	if v := &a.view; uint(size)-1 < engine.SmallMax { // as in UnsafeMalloc
		c := engine.ClassOf(size)
		token := engine.Pin()
		if s := v.Shard(token); s != nil {
			if engine.Plain(s) {
				m := s.Of(c)
				if p := engine.Peek(m); engine.IsSealed(p) {
					engine.Pop(m, p)
					engine.Unpin(token)
					zero(p, size)
					return p, nil
				}
			} else if p := engine.Get(s, size); p != nil {
				engine.Unpin(token)
				zero(p, size)
				return p, nil
			}
		}
		engine.Unpin(token)
	}
	return a.callocSlow("UnsafeCalloc", nil, size)
}

// UnsafeAlignedMalloc is UnsafeMalloc for a block at a multiple of align bytes,
// a power of two. Other alignments panic, as negative sizes do. A block that
// [Allocator.UnsafeRealloc] moves loses an alignment above 16.
func (a *Allocator) UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error) {
	_ = a.opts // a nil a faults here
	checkAlign(align)
	p, _, err := a.allocSlow("UnsafeAlignedMalloc", nil, size, align)
	return p, err
}

func checkAlign(align int) {
	if align <= 0 || align&(align-1) != 0 {
		panic("pymalloc: alignment must be a power of two")
	}
}

// zero clears size bytes.
func zero(p unsafe.Pointer, size int) { clear(unsafe.Slice((*byte)(p), size)) }

// callocSlow is allocSlow for zeroed memory.
func (a *Allocator) callocSlow(call string, hp *engine.Heap, size int) (unsafe.Pointer, error) {
	p, clean, err := a.allocSlow(call, hp, size, 1)
	if !clean && p != nil {
		zero(p, size)
	}
	return p, err
}

// allocSlow serves every request: those that the fast path has no block for, the
// large and the aligned ones. hp is nil for the shard of the P. clean tells that
// the block is known to be zero.
func (a *Allocator) allocSlow(call string, hp *engine.Heap, size, align int) (p unsafe.Pointer, clean bool, err error) {
	if size < 0 {
		panic("pymalloc: " + call + ": negative size")
	}
	if size == 0 {
		return nil, false, nil
	}
	for {
		var l *engine.Life
		switch {
		case hp == nil:
			l = a.open()
		case hp.Shard == nil:
			return nil, false, ErrReleased
		default:
			l = hp.Life
		}
		if c, ok := engine.AlignedClass(min(size, maxSize)+l.Tail(), align); ok {
			p, clean, err = l.Malloc(hp, c)
		} else {
			p, clean, err = allocLarge(l, size, align)
		}
		switch {
		case err == nil:
			return p, clean, nil
		case err == engine.ErrClosed && hp == nil:
			runtime.Gosched() // closed meanwhile: begin the next life
		case err == engine.ErrClosed:
			return nil, false, ErrReleased
		default:
			return nil, false, allocError(call, size, p, err)
		}
	}
}

// maxSize bounds requests so that no rounding overflows.
const maxSize = 1<<min(47, 8*unsafe.Sizeof(uintptr(0))-1) - 1<<27

// allocLarge serves requests that have no size class.
func allocLarge(l *engine.Life, size, align int) (p unsafe.Pointer, clean bool, err error) {
	if size > maxSize || align > maxSize {
		return nil, false, errTooLarge
	}
	return l.MallocLarge(size, align)
}
