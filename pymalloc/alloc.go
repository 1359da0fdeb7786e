package pymalloc

import (
	"runtime"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/shard"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// The fast path of malloc. A call of UnsafeMalloc that finds a block in the
// P's shard calls nothing but procPin and procUnpin, has no bounds check and no
// write barrier (TestFastPathCode reads the assembly). It is not inlined, so that
// its prologue, where preemption happens, runs unpinned.

// UnsafeMalloc returns a block of size bytes, not initialised. The caller frees
// it with UnsafeFree. Size 0 returns nil; a negative size panics. The error is a
// [*SizeError], or a [*PointerError] with [ErrCorrupted] if a block was written
// to after it was freed.
//
//go:noinline
func (a *Allocator) UnsafeMalloc(size int) (unsafe.Pointer, error) {
	if uint(size)-1 < sizeclass.Max {
		v := &a.view // a nil a faults here, where that can be recovered
		token := shard.Enter()
		s, _ := v.Take(token)
		if s != nil {
			c := sizeclass.Of(size)
			if s.HasHot(c) {
				p := s.TakeHot()
				pool.Unseal(p)
				shard.Exit(s, token)
				return p, nil
			}
			if m := s.Magazine(c); !m.IsEmpty() {
				p := m.Pop()
				s.Remember(p)
				pool.Unseal(p)
				shard.Exit(s, token)
				return p, nil
			}
			if p := s.Used(c).Pop(); p != nil {
				pool.Unseal(p)
				shard.Exit(s, token)
				return p, nil
			}
		} else if s, _ = v.TakeHard(token); s != nil {
			p := s.TakeHard(size)
			if p == nil {
				p, _ = s.DrawHard(size)
			}
			if p != nil {
				pool.Unseal(p)
				shard.Exit(s, token)
				return p, nil
			}
		}
		shard.Exit(s, token)
	}
	p, _, err := a.allocSlow("UnsafeMalloc", nil, size, 1)
	return p, err
}

// UnsafeCalloc is UnsafeMalloc for zeroed memory.
//
//go:noinline
func (a *Allocator) UnsafeCalloc(size int) (unsafe.Pointer, error) {
	if uint(size)-1 < sizeclass.Max {
		c := sizeclass.Of(size)
		v := &a.view // as in UnsafeMalloc
		token := shard.Enter()
		var p unsafe.Pointer
		clean := false
		s, _ := v.Take(token)
		if s != nil {
			if s.HasHot(c) {
				p = s.TakeHot()
			} else if m := s.Magazine(c); !m.IsEmpty() {
				p = m.Pop()
			} else {
				p, clean = s.Used(c).PopZero()
			}
		} else if s, _ = v.TakeHard(token); s != nil {
			if p = s.TakeHard(size); p == nil {
				p, clean = s.DrawHard(size)
			}
		}
		if p != nil {
			pool.Unseal(p)
			shard.Exit(s, token)
			if !clean {
				zero(p, size)
			}
			return p, nil
		}
		shard.Exit(s, token)
	}
	p, clean, err := a.allocSlow("UnsafeCalloc", nil, size, 1)
	if !clean && p != nil {
		zero(p, size)
	}
	return p, err
}

// UnsafeAlignedMalloc is UnsafeMalloc for a block at a multiple of align bytes,
// a power of two. Other alignments panic, as negative sizes do. A block that
// [Allocator.UnsafeRealloc] moves loses an alignment above 16.
func (a *Allocator) UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error) {
	checkAlign(align)
	if align <= sizeclass.Alignment && size >= 0 {
		p, err := a.UnsafeMalloc(size) // every block is aligned to that
		return p, as("UnsafeAlignedMalloc", err)
	}
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

// allocSlow serves every request: those that the fast path has no block for, the
// large and the aligned ones. hp is nil for the shard of the P. clean tells that
// the block is known to be zero.
func (a *Allocator) allocSlow(call string, hp *shard.Heap, size, align int) (p unsafe.Pointer, clean bool, err error) {
	if size < 0 {
		panic("pymalloc: " + call + ": negative size")
	}
	if size == 0 {
		return nil, false, nil
	}
	for {
		t := (*shard.Table)(nil)
		if hp != nil {
			if t = hp.Table(); hp.Released() {
				return nil, false, ErrReleased
			}
		} else if t, err = a.open(); err != nil {
			return nil, false, allocError(call, size, err)
		}
		if c, ok := sizeclass.Aligned(min(size, maxSize)+t.Tail(), align); ok {
			p, clean, err = t.Alloc(hp, c)
		} else {
			p, clean, err = allocLarge(t, size, align)
		}
		switch {
		case err == nil:
			return p, clean, nil
		case err == arena.ErrClosed && hp == nil:
			runtime.Gosched() // closed meanwhile: begin the next life
		case err == arena.ErrClosed:
			return nil, false, ErrReleased
		default:
			return nil, false, allocError(call, size, err)
		}
	}
}

// maxSize bounds requests so that no rounding overflows.
const maxSize = 1<<min(47, 8*unsafe.Sizeof(uintptr(0))-1) - 1<<27

// allocLarge serves requests that have no size class.
func allocLarge(t *shard.Table, size, align int) (p unsafe.Pointer, clean bool, err error) {
	if size > maxSize || align > maxSize {
		return nil, false, errTooLarge
	}
	return t.AllocLarge(size, align)
}
