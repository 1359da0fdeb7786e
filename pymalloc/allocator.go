package pymalloc

import (
	"fmt"
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
type Allocator struct {
	view engine.View
	life atomic.Pointer[engine.Life] // nil before the first use and after Close
	mu   sync.Mutex                  // guards the opening and closing
	opts Options
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
	a.life.Store(l)
	return l
}

// Trim gives all memory back to the system that holds no live block: empty
// arenas are unmapped, and the pages of empty pools dropped. It takes shards
// away from busy Ps for a moment and stops the world, once or twice, for some 50 µs
// each, or for as long as a goroutine is copying or clearing a large slice.
// The error is the system's refusal to take memory; it stays mapped then, and
// is tried again.
func (a *Allocator) Trim() error {
	if l := a.life.Load(); l != nil {
		if err := l.Trim(); err != engine.ErrClosed {
			return err
		}
	}
	return nil
}

// Check looks for faults in the allocator's structure: in lists, bitmaps, counts
// and the links of freed blocks, which a program damages that writes to memory
// that it has freed or never owned. It looks at blocks that another P or another Heap than
// that of their malloc has freed, and, if the allocator is hardened, at those freed last; a
// write to any other free block it does not see. The error, of the first fault found, wraps
// [ErrCorrupted]. It costs what [Allocator.Trim] costs, and some 100 ns for each
// pool; other goroutines may go on meanwhile. It is for tests, and for finding
// out.
func (a *Allocator) Check() error {
	if l := a.life.Load(); l != nil {
		if err := l.Check(); err != nil {
			return fmt.Errorf("pymalloc: Check: %w: %w", ErrCorrupted, err)
		}
	}
	return nil
}

// Close unmaps everything, live blocks too, and leaves the allocator as unused:
// it may be used again. The caller sees to it that nobody touches blocks from
// before any more, nor is in a call that does, Calloc or Realloc; freeing one is
// refused with [ErrNotOwned], unless the address belongs to the next life by then.
// Its heaps are released. The error is that of Trim.
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.life.Swap(nil); l != nil {
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
