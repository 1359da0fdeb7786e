//go:build race || pymalloc_nolinkname || !(amd64 || 386 || s390x)

package shard

import "sync/atomic"

// The race detector wants to see the order, a grace period that stops no
// goroutine needs it, and so does a processor that reorders stores.
func (hp *Heap) begin()       { atomic.StoreUint32(&hp.busy, 1) }
func (hp *Heap) end()         { atomic.StoreUint32(&hp.busy, 0) }
func (hp *Heap) isBusy() bool { return atomic.LoadUint32(&hp.busy) != 0 }
