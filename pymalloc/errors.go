package pymalloc

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/internal/engine"
)

// Misuse. A free or a resize that returns one of these leaves its block as it was. A malloc
// that returns ErrCorrupted has taken the damaged block out of use; the next goes on.
var (
	// ErrNotOwned: no block of this allocator begins at the address.
	ErrNotOwned error = engine.Error("not a block of this allocator")
	// ErrDoubleFree: the block is free already.
	ErrDoubleFree error = engine.Error("block is free already")
	// ErrCorrupted: a program wrote to memory that it did not own, most often to a
	// block after it was freed.
	ErrCorrupted error = engine.Error("memory is corrupted")
	// ErrOverrun: the block was written to beyond its end. It is not freed, and
	// never handed out again. Only allocators with Canaries notice. It is an
	// ErrCorrupted too.
	ErrOverrun = fmt.Errorf("block was written to beyond its end: %w", ErrCorrupted)
	// ErrOptions: an option is out of range, or conflicts with another.
	ErrOptions error = engine.Error("invalid option")
	// ErrReleased: the heap was released, or its allocator closed.
	ErrReleased error = engine.Error("heap is released")
	// ErrTooManyHeaps: the allocator has as many heaps as it may: release those that are
	// not used any more.
	ErrTooManyHeaps = engine.ErrTooManyHeaps
)

// Refusals.
var (
	// ErrNoMemory: the operating system refuses memory, or the request is
	// larger than any address space. The cause is wrapped as well.
	ErrNoMemory error = engine.Error("out of memory")
	// ErrLimit: Options.LimitBytes is reached. It is an ErrNoMemory too.
	ErrLimit error = engine.Error("memory limit reached")
	// ErrTooManyMappings: nine tenths of the mappings that the system allows a process are
	// taken (vm.max_map_count on Linux). It comes with an ErrNoMemory.
	ErrTooManyMappings = engine.ErrMappings
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
		return fmt.Sprintf("pymalloc: %s: free block %#x is corrupted (written to after it was freed?): it is not handed out again", e.Call, e.Addr)
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

var errTooLarge error = engine.Error("larger than any address space")

// allocError makes an error of the engine that of a call. p is the block, if one is corrupted.
func allocError(call string, size int, p unsafe.Pointer, err error) error {
	switch {
	case err == engine.ErrCorrupted:
		return &PointerError{call, uintptr(p), ErrCorrupted}
	case errors.Is(err, engine.ErrLimit):
		err = ErrLimit
	}
	return &SizeError{call, size, err}
}

// freeError makes an outcome the error of a call.
//
//go:noinline
func freeError(call string, addr uintptr, v engine.Outcome) error {
	switch v {
	case engine.OK:
		return nil
	case engine.Double:
		return &PointerError{call, addr, ErrDoubleFree}
	case engine.Overrun:
		return &PointerError{call, addr, ErrOverrun}
	}
	return &PointerError{call, addr, ErrNotOwned}
}
