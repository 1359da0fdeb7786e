//go:build pymalloc_goheap || !(aix || darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris || windows)

package osmem

import (
	"errors"
	"slices"
	"sync"
	"unsafe"
)

// ErrNoMemory stands for a system's own error for want of memory, for fault hooks.
var ErrNoMemory = errors.New("out of memory")

const keepsAddresses = false

// regions keeps the slices alive that regions are cut from, by address. A slice
// is dropped when all of its region has been released.
var regions struct {
	sync.Mutex
	list []region // sorted by address
}

type region struct {
	addr uintptr
	size int
	left int // bytes not released yet
	mem  []byte
}

func sysReserve(size int) (unsafe.Pointer, error) { return sysMapAligned(size, pageSize, false) }

func sysMapAligned(size, align int, _ bool) (unsafe.Pointer, error) {
	mem := make([]byte, size+align)
	head := int(-uintptr(unsafe.Pointer(&mem[0])) & uintptr(align-1))
	p := unsafe.Pointer(&mem[head])
	regions.Lock()
	defer regions.Unlock()
	i, _ := find(uintptr(p))
	regions.list = slices.Insert(regions.list, i, region{uintptr(p), size, size, mem})
	return p, nil
}

// find returns the index of the region that begins at addr, or where one would
// be inserted. The caller holds the lock.
func find(addr uintptr) (int, bool) {
	return slices.BinarySearchFunc(regions.list, addr, func(r region, addr uintptr) int {
		switch {
		case r.addr < addr:
			return -1
		case r.addr > addr:
			return 1
		}
		return 0
	})
}

func sysRelease(p unsafe.Pointer, size int) error {
	regions.Lock()
	defer regions.Unlock()
	i, exact := find(uintptr(p))
	if !exact {
		i--
	}
	if i < 0 || uintptr(p) >= regions.list[i].addr+uintptr(regions.list[i].size) {
		return errors.New("no region begins there")
	}
	r := &regions.list[i]
	if r.left -= size; r.left <= 0 {
		regions.list = slices.Delete(regions.list, i, i+1)
	}
	return nil
}

func wipe(p unsafe.Pointer, size int) error {
	clear(unsafe.Slice((*byte)(p), size))
	return nil
}

// Memory is zero when it is committed, for Decommit clears it.
func sysCommit(unsafe.Pointer, int) error          { return nil }
func sysDecommit(p unsafe.Pointer, size int) error { return wipe(p, size) }
func sysProtect(unsafe.Pointer, int, Access) error { return nil }

func sysAdvise(p unsafe.Pointer, size int, a Advice) error {
	if a != DontNeed {
		return errors.ErrUnsupported
	}
	return wipe(p, size)
}

func sysRemap(unsafe.Pointer, int, int, bool) (unsafe.Pointer, error) {
	return nil, errors.ErrUnsupported
}
