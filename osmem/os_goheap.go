//go:build pymalloc_goheap || (race && !pymalloc_mmap) || !(aix || darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris || windows)

package osmem

import (
	"cmp"
	"errors"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"unsafe"
)

// ErrNoMemory stands for a system's own error for want of memory, for fault
// hooks and tests.
var ErrNoMemory = errors.New("out of memory")

// maxBytes bounds one region, for the Go heap panics or ends the process where a
// system would refuse: 16 GiB, and 1 GiB where address space ends at 4 GiB.
func maxBytes() int {
	if bits.UintSize == 32 || runtime.GOARCH == "wasm" {
		return 1 << 30
	}
	return 1 << (bits.UintSize/2 + 2)
}

// regions holds what is not released, sorted by address; no two overlap. Each
// part of a region keeps all its memory alive, so that memory is the garbage
// collector's again when all parts have been released.
var regions struct {
	sync.Mutex
	list []region
}

type region struct {
	addr uintptr
	size int    // bytes
	mem  []byte // contains the region
}

func sysKeepsAddresses() bool { return true }

// OnGoHeap is whether the Go heap stands in for the system.
const OnGoHeap = true

func sysReserve(size int) (unsafe.Pointer, error) { return sysMapAligned(size, pageSize, false) }

func sysMapAligned(size, align int, _ bool) (unsafe.Pointer, error) {
	if align > maxBytes() || size > maxBytes()-align {
		return nil, ErrNoMemory
	}
	mem := make([]byte, size+align)
	head := int(-uintptr(unsafe.Pointer(&mem[0])) & uintptr(align-1))
	p := unsafe.Pointer(&mem[head])
	regions.Lock()
	defer regions.Unlock()
	regions.list = slices.Insert(regions.list, after(uintptr(p)), region{uintptr(p), size, mem})
	return p, nil
}

// after returns the index of the first region that begins beyond addr. The
// caller holds the lock.
func after(addr uintptr) int {
	i, _ := slices.BinarySearchFunc(regions.list, addr, func(r region, addr uintptr) int {
		if r.addr == addr {
			return -1
		}
		return cmp.Compare(r.addr, addr)
	})
	return i
}

// find returns the index of the region that has size bytes at p. The caller
// holds the lock.
func find(p unsafe.Pointer, size int) (int, error) {
	i := after(uintptr(p)) - 1
	if i < 0 || uintptr(p)+uintptr(size) > regions.list[i].addr+uintptr(regions.list[i].size) {
		return 0, invalid("the range is not part of a region; pass what Reserve or MapAligned returned and was not released")
	}
	return i, nil
}

func sysRelease(p unsafe.Pointer, size int) error {
	regions.Lock()
	defer regions.Unlock()
	i, err := find(p, size)
	if err != nil {
		return err
	}
	r := regions.list[i]
	var rest []region
	if before := int(uintptr(p) - r.addr); before > 0 {
		rest = append(rest, region{r.addr, before, r.mem})
	}
	if end := uintptr(p) + uintptr(size); end < r.addr+uintptr(r.size) {
		rest = append(rest, region{end, int(r.addr + uintptr(r.size) - end), r.mem})
	}
	regions.list = slices.Replace(regions.list, i, i+1, rest...)
	return nil
}

func exists(p unsafe.Pointer, size int) error {
	regions.Lock()
	defer regions.Unlock()
	_, err := find(p, size)
	return err
}

func wipe(p unsafe.Pointer, size int) error {
	err := exists(p, size)
	if err == nil {
		clear(unsafe.Slice((*byte)(p), size))
	}
	return err
}

// sysCommit finds zeros: new memory is zero, and sysDecommit clears it.
func sysCommit(p unsafe.Pointer, size int) error { return exists(p, size) }

func sysDecommit(p unsafe.Pointer, size int) error { return wipe(p, size) }

func sysProtect(p unsafe.Pointer, size int, _ Access) error { return exists(p, size) }

func sysAdvise(p unsafe.Pointer, size int, a Advice) error {
	if a != DontNeed {
		return errors.ErrUnsupported
	}
	return wipe(p, size)
}

// sysLock does not lock: the Go heap's memory is not ours to.
func sysLock(unsafe.Pointer, int) error { return errors.ErrUnsupported }

func sysUnlock(unsafe.Pointer, int) error { return errors.ErrUnsupported }

func sysRemap(unsafe.Pointer, int, int, bool) (unsafe.Pointer, error) {
	return nil, errors.ErrUnsupported
}
