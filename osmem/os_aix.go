//go:build aix && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// renew clears the region: AIX maps nothing over what is mapped, and does not say
// that memory it need not keep reads as zero.
func renew(p unsafe.Pointer, size, prot int) error {
	b := bytesAt(p, size)
	if err := unix.Mprotect(b, readWrite); err != nil {
		return err
	}
	clear(b)
	_ = unix.Madvise(b, unix.MADV_DONTNEED) // zero or gone, it reads as zero
	return unix.Mprotect(b, prot)
}
