//go:build cgo

package impl

// #include <stdlib.h>
import "C"

import (
	"errors"
	"unsafe"
)

// cMalloc is malloc of the C library through cgo.
type cMalloc struct{}

func newCMalloc(int) Impl { return cMalloc{} }

// CMalloc returns malloc through cgo, where this program was built with it.
func CMalloc() (Info, bool) { return Info{Name: "cgo-malloc", Align: 16, New: newCMalloc}, true }

func (cMalloc) Worker() Worker  { return cMallocWorker{} }
func (cMalloc) Mapped() uint64  { return 0 }
func (cMalloc) LiveBlocks() int { return -1 }
func (cMalloc) Calls() *Calls   { return nil }

type cMallocWorker struct{}

var errCMalloc = errors.New("malloc: no memory")

func cResult(p unsafe.Pointer) (unsafe.Pointer, error) {
	if p == nil {
		return nil, errCMalloc
	}
	return p, nil
}

func (cMallocWorker) Release() {}

func (cMallocWorker) Malloc(size int) (unsafe.Pointer, error) {
	return cResult(C.malloc(C.size_t(size)))
}

func (cMallocWorker) Calloc(size int) (unsafe.Pointer, error) {
	return cResult(C.calloc(1, C.size_t(size)))
}

func (cMallocWorker) AlignedMalloc(size, align int) (unsafe.Pointer, error) {
	if align <= 16 {
		return cResult(C.malloc(C.size_t(size)))
	}
	return cResult(C.aligned_alloc(C.size_t(align), C.size_t((size+align-1)&^(align-1))))
}

func (cMallocWorker) Realloc(p unsafe.Pointer, _, size int) (unsafe.Pointer, error) {
	return cResult(C.realloc(p, C.size_t(max(size, 1))))
}

func (cMallocWorker) Free(p unsafe.Pointer) error {
	C.free(p)
	return nil
}
