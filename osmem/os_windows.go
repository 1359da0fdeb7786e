//go:build windows && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/pyarena/pyarena/internal/addr"
)

// ErrNoMemory is the system's own error for want of memory, for fault hooks and
// tests.
var ErrNoMemory error = windows.ERROR_NOT_ENOUGH_MEMORY

const (
	granularity = 64 << 10 // bytes: every reservation begins at a multiple of it
	mapTries    = 64
)

// sysKeepsAddresses: the Go heap and the system's mappings share address space.
func sysKeepsAddresses() bool { return true }

// virtualAlloc has the address as a pointer: it is outside the Go heap.
func virtualAlloc(at unsafe.Pointer, size int, kind, access uint32) (unsafe.Pointer, error) {
	n, err := windows.VirtualAlloc(uintptr(at), uintptr(size), kind, access)
	return addr.Pointer(n), err
}

func virtualFree(p unsafe.Pointer) error {
	return windows.VirtualFree(uintptr(p), 0, windows.MEM_RELEASE)
}

func sysReserve(size int) (unsafe.Pointer, error) {
	return virtualAlloc(nil, size, windows.MEM_RESERVE, windows.PAGE_NOACCESS)
}

// sysMapAligned finds an aligned address in a larger reservation, gives that
// back, and asks for just this address. Another thread may be quicker, so it
// tries again.
func sysMapAligned(size, align int, commit bool) (p unsafe.Pointer, err error) {
	kind, access := uint32(windows.MEM_RESERVE), uint32(windows.PAGE_NOACCESS)
	if commit {
		kind, access = windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE
	}
	if align <= granularity {
		return virtualAlloc(nil, size, kind, access)
	}
	for range mapTries {
		p, err = virtualAlloc(nil, size+align-granularity, windows.MEM_RESERVE, windows.PAGE_NOACCESS)
		if err != nil {
			return nil, err
		}
		if err = virtualFree(p); err != nil {
			return nil, err
		}
		at := unsafe.Add(p, int(-uintptr(p)&uintptr(align-1)))
		p, err = virtualAlloc(at, size, kind, access)
		if err == nil || errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY) || errors.Is(err, windows.ERROR_COMMITMENT_LIMIT) {
			return p, err
		}
	}
	return nil, err
}

func sysCommit(p unsafe.Pointer, size int) error {
	_, err := virtualAlloc(p, size, windows.MEM_COMMIT, windows.PAGE_READWRITE)
	return err
}

func sysDecommit(p unsafe.Pointer, size int) error {
	return windows.VirtualFree(uintptr(p), uintptr(size), windows.MEM_DECOMMIT)
}

// sysRelease looks first whether the reservation at p ends with the region, for
// MEM_RELEASE frees all of it, whatever the size.
func sysRelease(p unsafe.Pointer, size int) error {
	end := unsafe.Add(p, size)
	if allocationBase(unsafe.Add(end, -pageSize)) != uintptr(p) || allocationBase(end) == uintptr(p) {
		return invalid("a part of a reservation cannot be released on Windows; decommit it, or release all of it")
	}
	return virtualFree(p)
}

// allocationBase returns where the reservation that p is in begins, or 0.
func allocationBase(p unsafe.Pointer) uintptr {
	var info windows.MemoryBasicInformation
	if windows.VirtualQuery(uintptr(p), &info, unsafe.Sizeof(info)) != nil {
		return 0
	}
	return info.AllocationBase
}

func sysProtect(p unsafe.Pointer, size int, a Access) error {
	var old uint32
	access := [numAccess]uint32{windows.PAGE_NOACCESS, windows.PAGE_READONLY, windows.PAGE_READWRITE}[a]
	return windows.VirtualProtect(uintptr(p), uintptr(size), access, &old)
}

// sysAdvise knows DontNeed. MEM_RESET is none, for it may keep the contents.
func sysAdvise(p unsafe.Pointer, size int, a Advice) error {
	if a != DontNeed {
		return errors.ErrUnsupported
	}
	if err := sysDecommit(p, size); err != nil {
		return err
	}
	return sysCommit(p, size)
}

func sysRemap(unsafe.Pointer, int, int, bool) (unsafe.Pointer, error) {
	return nil, errors.ErrUnsupported
}

// OnGoHeap is whether the Go heap stands in for the system.
const OnGoHeap = false

func sysLock(p unsafe.Pointer, size int) error {
	return windows.VirtualLock(uintptr(p), uintptr(size))
}

func sysUnlock(p unsafe.Pointer, size int) error {
	return windows.VirtualUnlock(uintptr(p), uintptr(size))
}
