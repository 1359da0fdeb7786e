//go:build (aix || darwin || dragonfly || freebsd || netbsd || openbsd || solaris) && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noReserve: what these systems count as committed they refuse with an error,
// rather than by a fault later.
const noReserve = 0

// sysKeepsAddresses: the Go heap and the system's mappings share address space.
func sysKeepsAddresses() bool { return true }

// sysAdvise knows DontNeed, and DontDump where madvise does. What madvise calls
// DontNeed may keep the contents here.
func sysAdvise(p unsafe.Pointer, size int, a Advice) error {
	switch {
	case a == DontNeed:
		return renew(p, size, readWrite)
	case a == DontDump && dontDump != 0:
		return unix.Madvise(bytesAt(p, size), dontDump)
	}
	return errors.ErrUnsupported
}

func sysRemap(unsafe.Pointer, int, int, bool) (unsafe.Pointer, error) {
	return nil, errors.ErrUnsupported
}
