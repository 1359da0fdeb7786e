//go:build !race && !pymalloc_nolinkname && (amd64 || 386 || s390x)

package shard

import "sync/atomic"

func (hp *Heap) begin()       { hp.busy = 1 }
func (hp *Heap) end()         { hp.busy = 0 }
func (hp *Heap) isBusy() bool { return atomic.LoadUint32(&hp.busy) != 0 }
