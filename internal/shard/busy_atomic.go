//go:build race || pymalloc_nolinkname

package shard

import "sync/atomic"

// The race detector wants to see the order, and a grace period that stops no
// goroutine needs it.
func (hp *Heap) begin()       { atomic.StoreUint32(&hp.busy, 1) }
func (hp *Heap) end()         { atomic.StoreUint32(&hp.busy, 0) }
func (hp *Heap) isBusy() bool { return atomic.LoadUint32(&hp.busy) != 0 }
