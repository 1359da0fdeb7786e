package pymalloc

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

// Allocator allocates and frees blocks of memory outside the Go heap. Its zero
// value is ready for use; it must not be copied after. Any goroutine may call
// its methods at any time, and may free what another has allocated.
//
// Blocks are aligned to 16 bytes and must not hold Go pointers: the collector
// does not look at them. The caller owns a block until it is freed.
//
// Close gives an allocator's memory back. One that the collector finds dropped, without Close,
// gives back what holds no live block; the rest stays mapped, for the program may
// have the addresses, and [Stats] counts it as dropped.
type Allocator struct {
	view    engine.View
	life    atomic.Pointer[engine.Life] // nil before the first use and after Close
	mu      sync.Mutex                  // guards the opening and closing
	dropped runtime.Cleanup             // for an allocator that is not closed
	opts    Options
}

// NewAllocator returns an allocator with options.
func NewAllocator(o Options) (*Allocator, error) {
	o.Hardened = o.Hardened || o.Canaries
	if _, err := o.config(); err != nil {
		return nil, err
	}
	return &Allocator{opts: o}, nil
}

var defaultAllocator Allocator

// Default returns the process-wide allocator.
func Default() *Allocator { return &defaultAllocator }

// open returns the allocator's life, begun if need be.
func (a *Allocator) open() *engine.Life {
	if l := a.life.Load(); l != nil {
		return l
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.life.Load(); l != nil {
		return l
	}
	conf, err := a.opts.config()
	if err != nil {
		panic(err) // NewAllocator has seen the options
	}
	l := engine.Open(conf, &a.view)
	a.dropped = runtime.AddCleanup(a, func(l *engine.Life) { go l.Drop() }, l)
	a.life.Store(l)
	return l
}

// Trim gives all memory back to the system that holds no live block: empty
// arenas are unmapped, and the pages of empty pools dropped. Any goroutine may call it at any
// time. It waits for no other call: a Heap that was descheduled in the middle of one keeps its
// free blocks, and the arenas that empty meanwhile, for the janitor, which comes within
// seconds. The error is the system's refusal to take memory; it stays mapped then, and is
// tried again.
func (a *Allocator) Trim() error {
	if l := a.life.Load(); l != nil {
		if err := l.Trim(); err != engine.ErrClosed {
			return err
		}
	}
	engine.Funeral()
	return nil
}

// Check looks for faults in the allocator's structure, bitmaps, counts and lists, and for free
// blocks whose first eight bytes were written to. The error, of the first fault found, wraps
// [ErrCorrupted]. It costs what [Allocator.Trim] costs, and some nanoseconds for each free
// block; other goroutines may go on meanwhile, but what they are in the middle of is not looked
// at. It is for tests, and for finding out.
func (a *Allocator) Check() error {
	if l := a.life.Load(); l != nil {
		if err := l.Check(); err != nil {
			return fmt.Errorf("pymalloc: Check: %w: %w", ErrCorrupted, err)
		}
	}
	return nil
}

// Close unmaps everything, live blocks too, and leaves the allocator as unused:
// it may be used again. When it returns, no call reaches what was there; the pages are
// unmapped soon after, before the next Trim of any allocator returns at the latest. The caller
// sees to it that nobody touches blocks from before any more, nor is in a call that does,
// Calloc or Realloc; freeing one is refused with [ErrNotOwned], unless the address belongs to
// the next life by then. Its heaps are released. The error is always nil: what the system
// refuses to take is tried again, and counted in [Stats].
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.life.Swap(nil); l != nil {
		a.dropped.Stop()
		l.Close(&a.view)
	}
	return nil
}

// Owns reports whether p lies in memory of this allocator: in one of its pools or large runs,
// with a live block or without, or at the beginning of one of its blocks of more than half an
// arena.
func (a *Allocator) Owns(p unsafe.Pointer) bool {
	l := a.life.Load()
	return l != nil && l.Owns(p)
}

// UnsafeUsableSize returns the size in bytes of the block at p, of any
// allocator: at least what was asked for. It returns 0 for nil and for pointers
// that no allocator knows.
func UnsafeUsableSize(p unsafe.Pointer) int {
	return engine.UsableSize(p)
}
