//go:build (darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris) && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// renew maps fresh memory over the region, in one step: all these systems give
// the old pages back then, locked ones too, and no longer count them as
// committed.
func renew(p unsafe.Pointer, size, prot int) error {
	_, err := mmap(p, size, prot, unix.MAP_FIXED)
	return err
}
