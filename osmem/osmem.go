package osmem

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"unsafe"
)

// Op is an operation on the system's memory.
type Op uint8

// The operations.
const (
	OpReserve Op = iota
	OpCommit
	OpDecommit
	OpRelease
	OpMap
	OpProtect
	OpAdvise
	OpRemap
	numOps
)

var opNames = [numOps]string{"reserve", "commit", "decommit", "release", "map", "protect", "advise", "remap"}

// String returns the operation's name.
func (op Op) String() string {
	if op < numOps {
		return opNames[op]
	}
	return fmt.Sprintf("Op(%d)", uint8(op))
}

// ErrInvalid is the cause of an error for arguments that no system is asked
// about: a nil or unaligned address, a size that is not positive or too large.
var ErrInvalid = errors.New("invalid argument")

// Error is a refusal.
type Error struct {
	Op   Op
	Addr uintptr // 0 where the system was to choose
	Size int     // bytes
	Err  error   // the system's cause, or ErrInvalid with the reason
}

func (e *Error) Error() string {
	if e.Addr != 0 {
		return fmt.Sprintf("osmem: %s %d bytes at %#x: %v", e.Op, e.Size, e.Addr, e.Err)
	}
	return fmt.Sprintf("osmem: %s %d bytes: %v", e.Op, e.Size, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Access is what [Protect] allows.
type Access uint8

// The kinds of access.
const (
	NoAccess Access = iota
	ReadOnly
	ReadWrite
)

// Advice is what [Advise] tells the system about committed memory.
type Advice uint8

// The kinds of advice.
const (
	// DontNeed drops the contents, which read as zero from now on, and gives
	// the memory back. Every system knows it.
	DontNeed Advice = iota
	// HugePage asks for transparent huge pages, NoHugePage for none.
	HugePage
	NoHugePage
	// Collapse makes huge pages of what is resident, now.
	Collapse
	// DontDump keeps the region out of core dumps.
	DontDump
)

// Counts is how often each operation has succeeded since the process began.
type Counts struct {
	Reserve, Commit, Decommit, Release, Map, Protect, Advise, Remap uint64
}

// Sub returns the operations between an earlier count and c.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{
		c.Reserve - earlier.Reserve, c.Commit - earlier.Commit,
		c.Decommit - earlier.Decommit, c.Release - earlier.Release,
		c.Map - earlier.Map, c.Protect - earlier.Protect,
		c.Advise - earlier.Advise, c.Remap - earlier.Remap,
	}
}

var (
	pageSize = os.Getpagesize()
	calls    [numOps]atomic.Uint64
	fault    atomic.Pointer[func(Op, int) error]
)

// PageSize returns the size of a page in bytes, a power of two.
func PageSize() int { return pageSize }

// Calls returns how often each operation has succeeded so far.
func Calls() Counts {
	return Counts{
		calls[OpReserve].Load(), calls[OpCommit].Load(),
		calls[OpDecommit].Load(), calls[OpRelease].Load(),
		calls[OpMap].Load(), calls[OpProtect].Load(),
		calls[OpAdvise].Load(), calls[OpRemap].Load(),
	}
}

// SetFault makes every operation ask f first, with its size in bytes; an error
// that f returns becomes the cause of the operation's failure, and the system is
// not asked. It is for tests. restore puts the former function back.
func SetFault(f func(op Op, size int) error) (restore func()) {
	var next *func(Op, int) error
	if f != nil {
		next = &f
	}
	old := fault.Swap(next)
	return func() { fault.Store(old) }
}

// Reserve reserves address space that is inaccessible and takes no memory.
func Reserve(size int) (unsafe.Pointer, error) {
	return obtain(OpReserve, size, pageSize, sysReserve)
}

// MapAligned returns committed, zeroed memory at a multiple of align, a power of
// two.
func MapAligned(size, align int) (unsafe.Pointer, error) {
	return obtain(OpMap, size, align, func(size int) (unsafe.Pointer, error) {
		return sysMapAligned(size, max(align, pageSize), true)
	})
}

// MapAlignedReserved reserves address space at a multiple of align, a power of
// two.
func MapAlignedReserved(size, align int) (unsafe.Pointer, error) {
	return obtain(OpReserve, size, align, func(size int) (unsafe.Pointer, error) {
		return sysMapAligned(size, max(align, pageSize), false)
	})
}

// Commit makes reserved memory readable, writable and zero.
func Commit(p unsafe.Pointer, size int) error {
	return change(OpCommit, p, size, sysCommit)
}

// Decommit makes committed memory reserved: its contents are gone and its memory
// is given back.
func Decommit(p unsafe.Pointer, size int) error {
	return change(OpDecommit, p, size, sysDecommit)
}

// Release gives address space back, reserved or committed. On Windows it must be
// a whole region as it was obtained; elsewhere a part will do.
func Release(p unsafe.Pointer, size int) error {
	return change(OpRelease, p, size, sysRelease)
}

// Protect changes the access to committed memory.
func Protect(p unsafe.Pointer, size int, a Access) error {
	return change(OpProtect, p, size, func(p unsafe.Pointer, size int) error { return sysProtect(p, size, a) })
}

// Advise tells the system about committed memory. Advice that the system does
// not know fails with errors.ErrUnsupported.
func Advise(p unsafe.Pointer, size int, a Advice) error {
	return change(OpAdvise, p, size, func(p unsafe.Pointer, size int) error { return sysAdvise(p, size, a) })
}

// Grow changes the size of committed memory in place, or fails and leaves it as
// it was. Only Linux can; elsewhere it fails with errors.ErrUnsupported.
func Grow(p unsafe.Pointer, oldSize, newSize int) error {
	_, err := remap(p, oldSize, newSize, false)
	return err
}

// Remap changes the size of committed memory, and its address if it must. Only
// Linux can; elsewhere it fails with errors.ErrUnsupported.
func Remap(p unsafe.Pointer, oldSize, newSize int) (unsafe.Pointer, error) {
	return remap(p, oldSize, newSize, true)
}

func remap(p unsafe.Pointer, oldSize, newSize int, move bool) (q unsafe.Pointer, err error) {
	oldSize, reason := checkSize(oldSize)
	if reason != nil {
		return nil, &Error{OpRemap, uintptr(p), oldSize, reason}
	}
	err = change(OpRemap, p, newSize, func(p unsafe.Pointer, newSize int) error {
		q, err = sysRemap(p, oldSize, newSize, move)
		return err
	})
	return q, err
}

// KeepsAddresses reports whether the Go heap may grow into addresses that were
// given back, so that whoever may still hold pointers there should decommit
// rather than release.
func KeepsAddresses() bool { return keepsAddresses }

// checkSize rounds size up to whole pages.
func checkSize(size int) (int, error) {
	switch {
	case size <= 0:
		return size, fmt.Errorf("%w: the size must be positive", ErrInvalid)
	case size > math.MaxInt-pageSize:
		return size, fmt.Errorf("%w: the size is larger than any address space", ErrInvalid)
	}
	return (size + pageSize - 1) &^ (pageSize - 1), nil
}

// obtain checks the arguments of an operation that returns a region, asks the
// fault hook, and counts.
func obtain(op Op, size, align int, do func(int) (unsafe.Pointer, error)) (unsafe.Pointer, error) {
	size, err := checkSize(size)
	switch {
	case err != nil:
	case align <= 0 || align&(align-1) != 0:
		err = fmt.Errorf("%w: the alignment %d is not a power of two", ErrInvalid, align)
	case size > math.MaxInt-align:
		err = fmt.Errorf("%w: size and alignment %d are larger than any address space", ErrInvalid, align)
	default:
		err = asked(op, size)
	}
	var p unsafe.Pointer
	if err == nil {
		p, err = do(size)
	}
	if err != nil {
		return nil, &Error{op, 0, size, err}
	}
	calls[op].Add(1)
	return p, nil
}

// change does the same for an operation on a region.
func change(op Op, p unsafe.Pointer, size int, do func(unsafe.Pointer, int) error) error {
	size, err := checkSize(size)
	switch {
	case err != nil:
	case p == nil:
		err = fmt.Errorf("%w: the address is nil", ErrInvalid)
	case uintptr(p)&uintptr(pageSize-1) != 0:
		err = fmt.Errorf("%w: the address is not a multiple of the page size %d", ErrInvalid, pageSize)
	default:
		err = asked(op, size)
	}
	if err == nil {
		err = do(p, size)
	}
	if err != nil {
		return &Error{op, uintptr(p), size, err}
	}
	calls[op].Add(1)
	return nil
}

// asked asks the fault hook.
func asked(op Op, size int) error {
	if f := fault.Load(); f != nil {
		return (*f)(op, size)
	}
	return nil
}
