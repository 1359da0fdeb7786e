//go:build race

package unsafeobj

import (
	"sync/atomic"
	"unsafe"
)

// See object_relaxed.go.
func (h *header) begin(v header) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(h)), *(*uint64)(unsafe.Pointer(&v)))
}

func (h *header) bury() { atomic.StoreInt32(&h.refs, 0) }
