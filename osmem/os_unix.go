//go:build (aix || darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris) && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

import (
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoMemory is the system's own error for want of memory, or of mappings, for
// fault hooks and tests.
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
// downwards put neighbours together, so most arenas adjoin the one before and
// share its mapping. Otherwise it maps more and trims both ends.
func sysMapAligned(size, align int, commit bool) (unsafe.Pointer, error) {
	if err := leftovers.unmap(); err != nil {
		return nil, err
	}
	prot := unix.PROT_NONE
	if commit {
		prot = readWrite
	}
	p, err := mmap(nil, size, prot, 0)
	if err != nil || uintptr(p)&uintptr(align-1) == 0 {
		return p, err
	}
	if err := leftovers.add(p, size); err != nil {
		return nil, err
	}
	all := size + align - pageSize
	p, err = mmap(nil, all, prot, 0)
	if err != nil {
		return nil, err
	}
	head := int(-uintptr(p) & uintptr(align-1))
	tail := all - head - size
	if tail > 0 {
		if err := leftovers.add(unsafe.Add(p, head+size), tail); err != nil {
			_ = leftovers.add(p, head+size)
			return nil, err
		}
	}
	if head > 0 {
		if err := leftovers.add(p, head); err != nil {
			_ = leftovers.add(unsafe.Add(p, head), size)
			return nil, err
		}
	}
	return unsafe.Add(p, head), nil
}

// leftovers unmaps what sysMapAligned does not want, and remembers what the
// system refuses to unmap: the kernel merges neighbours, so that even untouched
// memory may be the middle of a mapping, which at the limit of mappings cannot be
// split. Nothing more is mapped until all of it is gone, so it stays small.
var leftovers leftoverList

type leftoverList struct {
	n    atomic.Int32 // len(list), read without the lock
	mu   sync.Mutex
	list [][]byte // never touched
}

// add unmaps a range, or keeps it for later and says why.
func (l *leftoverList) add(p unsafe.Pointer, size int) error {
	err := munmap(p, size)
	if err != nil {
		l.mu.Lock()
		l.list = append(l.list, bytesAt(p, size))
		l.n.Store(int32(len(l.list)))
		l.mu.Unlock()
	}
	return err
}

// unmap unmaps what was kept.
func (l *leftoverList) unmap() error {
	if l.n.Load() == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := len(l.list); n > 0; n-- {
		b := l.list[n-1]
		if err := munmap(unsafe.Pointer(unsafe.SliceData(b)), len(b)); err != nil {
			return err
		}
		l.list = l.list[:n-1]
		l.n.Store(int32(n - 1))
	}
	return nil
}

func sysCommit(p unsafe.Pointer, size int) error { return unix.Mprotect(bytesAt(p, size), readWrite) }

func sysDecommit(p unsafe.Pointer, size int) error { return renew(p, size, unix.PROT_NONE) }

func sysRelease(p unsafe.Pointer, size int) error { return munmap(p, size) }

func sysProtect(p unsafe.Pointer, size int, a Access) error {
	return unix.Mprotect(bytesAt(p, size), [numAccess]int{unix.PROT_NONE, unix.PROT_READ, readWrite}[a])
}

func sysLock(p unsafe.Pointer, size int) error { return unix.Mlock(bytesAt(p, size)) }

func sysUnlock(p unsafe.Pointer, size int) error { return unix.Munlock(bytesAt(p, size)) }

// OnGoHeap is whether the Go heap stands in for the system.
const OnGoHeap = false
