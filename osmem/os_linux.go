//go:build linux && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noReserve: memory that is never touched does not count against the system's
// limit, where it overcommits.
const noReserve = unix.MAP_NORESERVE

// sysKeepsAddresses compares where the kernel maps with where the Go heap begins:
// at a random address below 1<<46 on amd64, below 1<<47 on other 64-bit systems
// (runtime/malloc.go, randHeapAddrBits), and grows upwards. Kernels with 47 bits
// for user space on amd64 and with 48 on arm64 map above that. Smaller address
// spaces, 32-bit ones and the legacy layout, which maps upwards from the lower
// half, do not keep the two apart.
var sysKeepsAddresses = sync.OnceValue(func() bool {
	heapEnd := uint64(1) << 47
	if runtime.GOARCH == "amd64" {
		heapEnd = 1 << 46
	}
	p, err := sysReserve(pageSize)
	if err != nil {
		return true
	}
	_ = sysRelease(p, pageSize) // refused, it is one page of address space
	return uint64(uintptr(p)) < heapEnd
})

var advices = [numAdvice]int{
	DontNeed:   unix.MADV_DONTNEED,
	HugePage:   unix.MADV_HUGEPAGE,
	NoHugePage: unix.MADV_NOHUGEPAGE,
	Collapse:   unix.MADV_COLLAPSE,
	DontDump:   unix.MADV_DONTDUMP,
}

func sysAdvise(p unsafe.Pointer, size int, a Advice) error {
	err := unix.Madvise(bytesAt(p, size), advices[a])
	switch {
	case err != unix.EINVAL:
		return err
	case a == DontNeed: // locked memory
		return renew(p, size, readWrite)
	default: // a kernel without it
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
}

func sysRemap(p unsafe.Pointer, oldSize, newSize int, move bool) (unsafe.Pointer, error) {
	flags := 0
	if move {
		flags = unix.MREMAP_MAYMOVE
	}
	return unix.MremapPtr(p, uintptr(oldSize), nil, uintptr(newSize), flags)
}
