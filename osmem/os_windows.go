//go:build windows && !pymalloc_goheap

package osmem

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/windows"
)

// ErrNoMemory is the system's own error for want of memory, for fault hooks.
var ErrNoMemory error = windows.ERROR_NOT_ENOUGH_MEMORY

// alloc is VirtualAlloc with an address as a pointer: it is outside the Go heap.
func alloc(at unsafe.Pointer, size int, kind, access uint32) (p unsafe.Pointer, err error) {
	addr, err := windows.VirtualAlloc(uintptr(at), uintptr(size), kind, access)
	return *(*unsafe.Pointer)(unsafe.Pointer(&addr)), err
}

func sysReserve(size int) (unsafe.Pointer, error) {
	return alloc(nil, size, windows.MEM_RESERVE, windows.PAGE_NOACCESS)
}

// sysMapAligned finds an aligned address in a larger reservation, gives that
// back, and asks for just this address. Another thread may be quicker, so it
// tries again.
func sysMapAligned(size, align int, commit bool) (p unsafe.Pointer, err error) {
	kind, access := uint32(windows.MEM_RESERVE), uint32(windows.PAGE_NOACCESS)
	if commit {
		kind, access = windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE
	}
	for range 64 {
		p, err = alloc(nil, size+align, windows.MEM_RESERVE, windows.PAGE_NOACCESS)
		if err != nil {
			return nil, err
		}
		if err = sysRelease(p, size); err != nil {
			return nil, err
		}
		at := unsafe.Add(p, int(-uintptr(p)&uintptr(align-1)))
		if p, err = alloc(at, size, kind, access); err == nil {
			return p, nil
		}
	}
	return nil, err
}

func sysCommit(p unsafe.Pointer, size int) error {
	_, err := alloc(p, size, windows.MEM_COMMIT, windows.PAGE_READWRITE)
	return err
}

func sysDecommit(p unsafe.Pointer, size int) error {
	return windows.VirtualFree(uintptr(p), uintptr(size), windows.MEM_DECOMMIT)
}

func sysRelease(p unsafe.Pointer, _ int) error {
	return windows.VirtualFree(uintptr(p), 0, windows.MEM_RELEASE)
}

func sysProtect(p unsafe.Pointer, size int, a Access) error {
	var old uint32
	access := [...]uint32{windows.PAGE_NOACCESS, windows.PAGE_READONLY, windows.PAGE_READWRITE}[a]
	return windows.VirtualProtect(uintptr(p), uintptr(size), access, &old)
}

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
