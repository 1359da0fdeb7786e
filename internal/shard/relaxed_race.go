//go:build race

package shard

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// See relaxed.go.
func load(p *uint32) uint32     { return atomic.LoadUint32(p) }
func store(p *uint32, v uint32) { atomic.StoreUint32(p, v) }

func acquired(p unsafe.Pointer) { runtime.RaceAcquire(p) }
func released(p unsafe.Pointer) { runtime.RaceReleaseMerge(p) }
