//go:build (aix || darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris) && !pymalloc_goheap

package osmem

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoMemory is the system's own error for want of memory, for fault hooks.
var ErrNoMemory error = syscall.ENOMEM

const readWrite = unix.PROT_READ | unix.PROT_WRITE

// mmap maps anonymous memory, at p if flags say so.
func mmap(p unsafe.Pointer, size, prot, flags int) (unsafe.Pointer, error) {
	return unix.MmapPtr(-1, 0, p, uintptr(size), prot, flags|unix.MAP_PRIVATE|unix.MAP_ANON|noReserve)
}

func munmap(p unsafe.Pointer, size int) error { return unix.MunmapPtr(p, uintptr(size)) }

func bytesAt(p unsafe.Pointer, size int) []byte { return unsafe.Slice((*byte)(p), size) }

func sysReserve(size int) (unsafe.Pointer, error) { return mmap(nil, size, unix.PROT_NONE, 0) }

// sysMapAligned takes what the system offers if it is aligned: systems that map
// downwards put neighbours together, so that most arenas adjoin the one before
// and share its mapping. Otherwise it maps more and trims both ends.
func sysMapAligned(size, align int, commit bool) (unsafe.Pointer, error) {
	prot := unix.PROT_NONE
	if commit {
		prot = readWrite
	}
	p, err := mmap(nil, size, prot, 0)
	if err != nil || uintptr(p)&uintptr(align-1) == 0 {
		return p, err
	}
	if err := munmap(p, size); err != nil {
		return nil, err // refused for want of mappings: the caller gets nothing, and size bytes of address space are lost
	}
	all := size + align - pageSize
	p, err = mmap(nil, all, prot, 0)
	if err != nil {
		return nil, err
	}
	head := int(-uintptr(p) & uintptr(align-1))
	q := unsafe.Add(p, head)
	if head > 0 {
		if err := munmap(p, head); err != nil {
			_ = munmap(p, all) // removes a whole mapping, and so is not refused
			return nil, err
		}
	}
	if tail := all - head - size; tail > 0 {
		if err := munmap(unsafe.Add(q, size), tail); err != nil {
			_ = munmap(q, size+tail)
			return nil, err
		}
	}
	return q, nil
}

func sysCommit(p unsafe.Pointer, size int) error {
	return unix.Mprotect(bytesAt(p, size), readWrite)
}

// sysDecommit maps fresh inaccessible memory over the region: every system gives
// the old pages back then, and a later commit finds zeros.
func sysDecommit(p unsafe.Pointer, size int) error {
	_, err := mmap(p, size, unix.PROT_NONE, unix.MAP_FIXED)
	return err
}

func sysRelease(p unsafe.Pointer, size int) error { return munmap(p, size) }

func sysProtect(p unsafe.Pointer, size int, a Access) error {
	return unix.Mprotect(bytesAt(p, size), [...]int{unix.PROT_NONE, unix.PROT_READ, readWrite}[a])
}
