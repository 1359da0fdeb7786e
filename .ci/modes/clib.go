package main

// #include <stddef.h>
import "C"

import (
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// What C calls (c/host.c): the process-wide allocator, and the whole load. Any thread
// may call each.

//export ModesMalloc
func ModesMalloc(size C.size_t) unsafe.Pointer {
	p, err := pymalloc.Default().UnsafeMalloc(int(size))
	if err != nil {
		return nil
	}
	return p
}

//export ModesFree
func ModesFree(p unsafe.Pointer) C.int {
	if pymalloc.Default().UnsafeFree(p) != nil {
		return -1
	}
	return 0
}

// ModesLive returns the number of live blocks.
//
//export ModesLive
func ModesLive() C.size_t { return C.size_t(pymalloc.Default().Stats().LiveBlocks) }

//export ModesTrim
func ModesTrim() C.int {
	if pymalloc.Default().Trim() != nil {
		return -1
	}
	return 0
}

//export ModesLoad
func ModesLoad() { Load() }
