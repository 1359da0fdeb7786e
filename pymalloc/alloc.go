package pymalloc

import (
	"runtime"
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

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
