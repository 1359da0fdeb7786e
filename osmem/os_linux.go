//go:build linux && !pymalloc_goheap

package osmem

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noReserve: memory that is never touched does not count against the system's
// commit limit, where it overcommits.
const noReserve = unix.MAP_NORESERVE

func sysAdvise(p unsafe.Pointer, size int, a Advice) error {
	err := unix.Madvise(bytesAt(p, size), [...]int{
		unix.MADV_DONTNEED, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_COLLAPSE, unix.MADV_DONTDUMP,
	}[a])
	if err == unix.EINVAL && a != DontNeed {
		return errors.Join(errors.ErrUnsupported, err) // a kernel without it
	}
	return err
}

func sysRemap(p unsafe.Pointer, oldSize, newSize int, move bool) (unsafe.Pointer, error) {
	flags := 0
	if move {
		flags = unix.MREMAP_MAYMOVE
	}
	return unix.MremapPtr(p, uintptr(oldSize), nil, uintptr(newSize), flags)
}
