//go:build race

package pool

import (
	"sync/atomic"
	"unsafe"
)

// See relaxed.go.
func load(p *uint32) uint32     { return atomic.LoadUint32(p) }
func store(p *uint32, v uint32) { atomic.StoreUint32(p, v) }

func load64(p *uint64) uint64     { return atomic.LoadUint64(p) }
func store64(p *uint64, v uint64) { atomic.StoreUint64(p, v) }

func loadPtr(p *uintptr) uintptr     { return atomic.LoadUintptr(p) }
func storePtr(p *uintptr, v uintptr) { atomic.StoreUintptr(p, v) }

// freed writes the first word of block i as it is, atomically, as the frees of others
// claim it: a program that uses the block beside that has a race, two frees have none.
func (h *Header) freed(i uint32) {
	atomic.AddUint64((*uint64)(unsafe.Add(unsafe.Pointer(h), h.start2+i*h.size2)), 0)
}
