//go:build (aix || darwin || dragonfly || freebsd || netbsd || openbsd || solaris) && !pymalloc_goheap

package osmem

import (
	"errors"
	"unsafe"
)

// noReserve: what these systems count as committed they refuse with an error,
// rather than by a fault later.
const noReserve = 0

// sysKeepsAddresses: the Go heap and the system's mappings share address space.
func sysKeepsAddresses() bool { return true }

// sysAdvise knows DontNeed. What madvise calls so may keep the contents here.
func sysAdvise(p unsafe.Pointer, size int, a Advice) error {
	if a != DontNeed {
		return errors.ErrUnsupported
	}
	return renew(p, size, readWrite)
}

func sysRemap(unsafe.Pointer, int, int, bool) (unsafe.Pointer, error) {
	return nil, errors.ErrUnsupported
}
