package osmem

import (
	"os"
	"unsafe"
)

// Access is what [Protect] allows.
type Access uint8

// The kinds of access. To touch a region beyond them faults, except with the Go
// heap as backing.
const (
	NoAccess Access = iota
	ReadOnly
	ReadWrite
	numAccess
)

// Advice is what [Advise] tells the system about committed memory.
type Advice uint8

// The kinds of advice. Every system knows DontNeed; DontDump is known on Linux,
// FreeBSD and DragonFly; of those here only Linux knows the others.
const (
	// DontNeed drops the contents, which read as zero from now on, and gives the
	// memory back; the region stays committed.
	DontNeed Advice = iota
	// HugePage asks for transparent huge pages.
	HugePage
	// NoHugePage asks for none.
	NoHugePage
	// Collapse makes huge pages of what is resident, now.
	Collapse
	// DontDump keeps the region out of core dumps.
	DontDump
	numAdvice
)

var pageSize = os.Getpagesize()

// PageSize returns the size of the system's pages in bytes, a power of two. Any
// goroutine may call it.
func PageSize() int { return pageSize }

// KeepsAddresses reports whether the Go heap may later grow into addresses that
// [Release] gave back. There a stale pointer into them would crash the
// collector, and whoever cannot rule one out should decommit and keep the range
// instead. Any goroutine may call it.
func KeepsAddresses() bool { return sysKeepsAddresses() }

// Reserve takes size bytes of address space from released to reserved, at a
// multiple of the page size. They are inaccessible and take no memory; with the
// Go heap as backing they are plain zeroed memory. The caller releases them. The
// address is nil beside an error. Any goroutine may call it.
func Reserve(size int) (unsafe.Pointer, error) {
	return obtain(OpReserve, size, pageSize, sysReserve)
}

// MapAligned takes size bytes from released to committed, at a multiple of align
// bytes, a power of two, and of the page size. They are zero. The caller
// releases them. The address is nil beside an error. Any goroutine may call it.
func MapAligned(size, align int) (unsafe.Pointer, error) {
	return obtain(OpMap, size, align, func(size int) (unsafe.Pointer, error) {
		return sysMapAligned(size, max(align, pageSize), true)
	})
}

// MapAlignedReserved takes size bytes from released to reserved, at a multiple of
// align bytes, a power of two, and of the page size. The caller releases them. The
// address is nil beside an error. Any goroutine may call it.
func MapAlignedReserved(size, align int) (unsafe.Pointer, error) {
	return obtain(OpReserve, size, align, func(size int) (unsafe.Pointer, error) {
		return sysMapAligned(size, max(align, pageSize), false)
	})
}

// Commit takes size bytes at p, a multiple of the page size, from reserved to
// committed: readable, writable and zero. Any goroutine may call it.
func Commit(p unsafe.Pointer, size int) error {
	return change(OpCommit, p, size, func(size int) error { return sysCommit(p, size) })
}

// Decommit takes size bytes at p, a multiple of the page size, from committed to
// reserved: the contents are gone, the memory is the system's again, and to touch
// them faults. Any goroutine may call it.
func Decommit(p unsafe.Pointer, size int) error {
	return change(OpDecommit, p, size, func(size int) error { return sysDecommit(p, size) })
}

// TryDecommit is Decommit for callers that try again and again what was refused: the
// error is the cause that an [*Error] would wrap, and a refusal by the system allocates
// nothing. Any goroutine may call it.
func TryDecommit(p unsafe.Pointer, size int) error {
	_, err := try(OpDecommit, p, size, func(size int) error { return sysDecommit(p, size) })
	return err
}

// Release takes size bytes at p, a multiple of the page size, from reserved or
// committed to released. A part of a region may be released, except on Windows:
// there it must be all of it, and a part is refused.
//
// A system may refuse to cut a hole for want of mappings ([ErrNoMemory] on
// Linux); the region stays as it was then. Any goroutine may call it.
func Release(p unsafe.Pointer, size int) error {
	return change(OpRelease, p, size, func(size int) error { return sysRelease(p, size) })
}

// TryRelease is Release for callers that try again and again what was refused: the
// error is the cause that an [*Error] would wrap, and a refusal by the system allocates
// nothing. Any goroutine may call it.
func TryRelease(p unsafe.Pointer, size int) error {
	_, err := try(OpRelease, p, size, func(size int) error { return sysRelease(p, size) })
	return err
}

// Protect sets what is allowed with size committed bytes at p, a multiple of the
// page size; they keep their contents. Any goroutine may call it.
func Protect(p unsafe.Pointer, size int, a Access) error {
	if a >= numAccess {
		return &Error{OpProtect, uintptr(p), size, invalid("access %d is unknown; use NoAccess, ReadOnly or ReadWrite", a)}
	}
	return change(OpProtect, p, size, func(size int) error { return sysProtect(p, size, a) })
}

// Advise tells the system about size committed bytes at p, a multiple of the page
// size, that are readable and writable. Advice that the system does not know is
// refused with [errors.ErrUnsupported].
//
// Windows may refuse DontNeed between dropping the memory and committing it
// anew, when others have taken the last of it; the region is reserved then. Any
// goroutine may call it.
func Advise(p unsafe.Pointer, size int, a Advice) error {
	if a >= numAdvice {
		return &Error{OpAdvise, uintptr(p), size, invalid("advice %d is unknown; use DontNeed or another constant of type Advice", a)}
	}
	return change(OpAdvise, p, size, func(size int) error { return sysAdvise(p, size, a) })
}

// Lock keeps size committed bytes at p, a multiple of the page size, in physical
// memory: they are not written to swap. Systems bound how much a process may lock
// (RLIMIT_MEMLOCK on Unix, the working set on Windows) and refuse more. Advise
// with DontNeed, Decommit and Release end it, as [Unlock] does. It does not nest.
// With the Go heap as backing it is refused with [errors.ErrUnsupported]. Any
// goroutine may call it.
func Lock(p unsafe.Pointer, size int) error {
	return change(OpLock, p, size, func(size int) error { return sysLock(p, size) })
}

// Unlock ends what [Lock] began, for size committed bytes at p, a multiple of the
// page size. Any goroutine may call it.
func Unlock(p unsafe.Pointer, size int) error {
	return change(OpUnlock, p, size, func(size int) error { return sysUnlock(p, size) })
}

// Grow makes oldSize committed bytes at p, a multiple of the page size, newSize
// bytes without moving them. They may also shrink. What is added is zero. Only
// Linux can; elsewhere it is refused with [errors.ErrUnsupported]. Any goroutine
// may call it.
func Grow(p unsafe.Pointer, oldSize, newSize int) error {
	_, err := remap(p, oldSize, newSize, false)
	return err
}

// Remap makes oldSize committed bytes at p, a multiple of the page size, newSize
// bytes, moves them if it must, and returns where they are; the old place is
// released then. What is added is zero. The new place is a multiple of the page
// size, of no more. Only Linux can; elsewhere it is refused with
// [errors.ErrUnsupported]. Beside an error the address is nil, and the region is
// where and as it was. Any goroutine may call it.
func Remap(p unsafe.Pointer, oldSize, newSize int) (unsafe.Pointer, error) {
	return remap(p, oldSize, newSize, true)
}

// obtain takes a region out of released.
func obtain(op Op, size, align int, do func(size int) (unsafe.Pointer, error)) (p unsafe.Pointer, err error) {
	size, err = wholePages(size)
	if err == nil {
		err = checkAlign(size, align)
	}
	if err != nil {
		return nil, &Error{op, 0, size, err}
	}
	err = perform(op, size, func() error {
		p, err = do(size)
		return err
	})
	if err != nil { // a system may return an address of its own beside it
		return nil, &Error{op, 0, size, err}
	}
	return p, nil
}

// change takes a region from any other state.
func change(op Op, p unsafe.Pointer, size int, do func(size int) error) error {
	size, err := try(op, p, size, do)
	if err != nil {
		return &Error{op, uintptr(p), size, err}
	}
	return nil
}

// try is change that returns the size in whole pages and the cause of a refusal alone.
func try(op Op, p unsafe.Pointer, size int, do func(size int) error) (whole int, err error) {
	size, err = wholePages(size)
	if err == nil {
		err = checkRegion(p, size)
	}
	if err == nil {
		err = perform(op, size, func() error { return do(size) })
	}
	return size, err
}

func remap(p unsafe.Pointer, oldSize, newSize int, move bool) (q unsafe.Pointer, err error) {
	oldSize, err = wholePages(oldSize)
	if err == nil {
		err = checkRegion(p, oldSize)
	}
	if err != nil {
		return nil, &Error{OpRemap, uintptr(p), oldSize, err}
	}
	newSize, err = wholePages(newSize)
	if err != nil {
		return nil, &Error{OpRemap, uintptr(p), newSize, err}
	}
	err = perform(OpRemap, newSize, func() error {
		q, err = sysRemap(p, oldSize, newSize, move)
		return err
	})
	if err != nil {
		return nil, &Error{OpRemap, uintptr(p), newSize, err}
	}
	return q, nil
}
