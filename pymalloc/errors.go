package pymalloc

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/shard"
)

// Misuse. A free or a resize that returns one of these leaves its block as it was. A malloc
// that returns ErrCorrupted has taken the damaged block out of use, with those that a list
// had after it.
var (
	// ErrNotOwned: no block of this allocator begins at the address.
	ErrNotOwned = errors.New("not a block of this allocator")
	// ErrDoubleFree: the block is free already.
	ErrDoubleFree = errors.New("block is free already")
	// ErrCorrupted: memory was written to by who did not own it: most often a
	// block after it was freed.
	ErrCorrupted = errors.New("memory is corrupted")
	// ErrOverrun: the block was written to beyond its end. It is not freed, and
	// never handed out again. Only allocators with Canaries notice. It is an
	// ErrCorrupted too.
	ErrOverrun = fmt.Errorf("block was written to beyond its end: %w", ErrCorrupted)
	// ErrOptions: an option is out of range, or conflicts with another.
	ErrOptions = errors.New("invalid option")
	// ErrReleased: the heap was released, or its allocator closed.
	ErrReleased = errors.New("heap is released")
)

// Refusals.
var (
	// ErrNoMemory: the operating system refuses memory, or the request is
	// larger than any address space. The cause is wrapped as well.
	ErrNoMemory = errors.New("out of memory")
	// ErrLimit: Options.LimitBytes is reached. It is an ErrNoMemory too.
	ErrLimit = errors.New("memory limit reached")
)

// PointerError is the misuse of a pointer: which call, which address, what is
// wrong. It wraps [ErrNotOwned], [ErrDoubleFree], [ErrOverrun] or [ErrCorrupted].
type PointerError struct {
	Call string  // such as "UnsafeFree"
	Addr uintptr // of the block
	Err  error
}

func (e *PointerError) Error() string {
	if e.Err == ErrCorrupted {
		return fmt.Sprintf("pymalloc: %s: free list is corrupted at block %#x (written after free?): it and the blocks listed after it are lost", e.Call, e.Addr)
	}
	hint := ""
	switch e.Err {
	case ErrNotOwned:
		hint = ": free only what this allocator returned, unchanged and once"
	case ErrDoubleFree:
		hint = ": free a block once"
	case ErrOverrun:
		hint = ": write no more than its usable size; it stays allocated"
	}
	return fmt.Sprintf("pymalloc: %s(%#x): %v%s", e.Call, e.Addr, e.Err, hint)
}

// Unwrap returns the sentinel.
func (e *PointerError) Unwrap() error { return e.Err }

// SizeError is a request that could not be served. It wraps [ErrNoMemory], and
// [ErrLimit] or the system's cause.
type SizeError struct {
	Call string
	Size int // bytes asked for
	Err  error
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("pymalloc: %s(%d): no memory for %s: %v", e.Call, e.Size, humanize.IBytes(uint64(e.Size)), e.Err)
}

// Unwrap returns ErrNoMemory and the cause.
func (e *SizeError) Unwrap() []error { return []error{ErrNoMemory, e.Err} }

var errTooLarge = errors.New("larger than any address space")

// allocError makes an error of the machinery that of a call.
func allocError(call string, size int, err error) error {
	if broken := (*shard.BrokenError)(nil); errors.As(err, &broken) {
		return &PointerError{call, broken.Block, ErrCorrupted}
	}
	if errors.Is(err, arena.ErrLimit) {
		err = ErrLimit
	}
	return &SizeError{call, size, err}
}

// freeError makes a verdict the error of a call.
//
//go:noinline
func freeError(call string, addr uintptr, v shard.Verdict) error {
	switch v {
	case shard.Freed:
		return nil
	case shard.Double:
		return &PointerError{call, addr, ErrDoubleFree}
	case shard.Overrun:
		return &PointerError{call, addr, ErrOverrun}
	}
	return &PointerError{call, addr, ErrNotOwned}
}
