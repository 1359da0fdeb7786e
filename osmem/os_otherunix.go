//go:build (aix || darwin || dragonfly || freebsd || netbsd || openbsd || solaris) && !pymalloc_goheap

package osmem

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noReserve: these systems do not count untouched memory, or have no flag for it.
const noReserve = 0

// sysAdvise knows DontNeed. What madvise calls so may keep the contents on these
// systems; fresh memory over the old is zero on all of them.
func sysAdvise(p unsafe.Pointer, size int, a Advice) error {
	if a != DontNeed {
		return errors.ErrUnsupported
	}
	_, err := mmap(p, size, readWrite, unix.MAP_FIXED)
	return err
}

func sysRemap(unsafe.Pointer, int, int, bool) (unsafe.Pointer, error) {
	return nil, errors.ErrUnsupported
}
