package shard

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/grace"
	"github.com/pyarena/pyarena/internal/pool"
)

// Heap is a shard for one goroutine, used without pinning.
//
// A trim may take the shard away: it empties the heap's slot, and after a barrier, or
// a grace period, at which a goroutine in the middle of a call may have been stopped,
// waits until the heap is not busy. Where stores are seen in program order the
// busy mark needs no atomic instruction: the barrier or the stop-the-world of the
// grace period makes it visible, and its end is not seen before what was done under it.
type Heap struct {
	View
	shard    atomic.Pointer[Shard]
	busy     uint32
	released atomic.Bool
}

// Released reports whether Release was called.
func (hp *Heap) Released() bool { return hp.released.Load() }

// NewHeap returns a heap of the allocator.
func (t *Table) NewHeap() (*Heap, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return nil, arena.ErrClosed
	}
	hp := &Heap{}
	hp.entry, hp.slots, hp.mask, hp.table = t.view.entry, t.view.slots, t.view.mask, t
	hp.unitLog = t.view.unitLog
	s, err := t.newShard()
	if err != nil {
		return nil, err
	}
	hp.shard.Store(s)
	t.heaps[hp] = struct{}{}
	return hp, nil
}

// Begin marks the heap busy and returns its shard, nil if it was taken away.
func (hp *Heap) Begin() *Shard {
	hp.begin()
	return hp.shard.Load()
}

// End ends what Begin began.
func (hp *Heap) End() { hp.end() }

// Trip finishes a free of block i whose push has tripped, and what Begin began.
func (hp *Heap) Trip(s *Shard, h *pool.Header, i uint32) {
	token := grace.Enter()
	hp.table.Trip(hp, s, h, i, token)
}

// await returns once the heap was seen not busy, after a grace period or barrier.
func (hp *Heap) await() { poll(func() bool { return !hp.isBusy() }) }

// poll returns once done reports true, which is expected soon.
func poll(done func() bool) {
	for n := 0; !done(); n++ {
		if n < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// Release gives the heap's shard back. The heap is not used by its goroutine any
// more. It may be called again.
func (hp *Heap) Release() {
	t := hp.table
	hp.released.Store(true)
	t.trimming.Lock()
	defer t.trimming.Unlock()
	t.mu.Lock()
	delete(t.heaps, hp)
	s := hp.shard.Swap(nil)
	closed := t.closed.Load()
	t.mu.Unlock()
	if s != nil && !closed {
		acquired(unsafe.Pointer(s))
		t.drain(s)
		t.arm()
	}
}

// HeapCount returns the number of heaps that were not released. It is for tests.
func (t *Table) HeapCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.heaps)
}
