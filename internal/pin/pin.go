// Package pin provides pinned sections, and grace periods: the moment at which all
// sections that were under way have ended.
//
// Between [Enter] and [Exit] a goroutine is pinned: it stays on its P, so it alone uses what
// belongs to that P. A section is marked in a [Record] while it is under way. A call on a Heap
// is a section too, with a record in the Heap's shard and without the pin.
//
// # What may happen in a section
//
// Nothing that blocks, allocates on the Go heap, panics or calls the operating system, and no
// other section, for the record would be clear when that ends. A section is a handful of loads
// and stores, for whoever stops the world waits until it has ended. A call inside looks whether
// the goroutine is to be preempted: that request is dropped then, and comes again 100 µs later.
// So the fast paths call nothing while they are pinned, but in modes that few use, and the slow
// paths work outside.
//
// # Grace periods
//
// Sections mark themselves with plain stores, which other processors see late. Whoever has
// hidden something from sections that begin now, and wants to know when those that may have
// seen it are over, passes a [Barrier], and then waits until each record was seen clear:
//
//	section                         the other
//	mark the record                 hide it
//	look for it, use it             barrier: all stores before are visible
//	clear the record                the record is clear
//
// A section is so short, and so soon over for one that finds that the thing is hidden, that a
// few looks at the record of a busy P or Heap see it clear. One that was descheduled in the
// middle may take long: so nobody waits for a Heap's but Close.
//
// On Linux the barrier is membarrier(2), on Windows FlushProcessWriteBuffers, some microseconds.
// Elsewhere, and where Linux does not let us, it is a stop of the world, some 50 µs, or as long
// as a goroutine copies or clears a large slice, which cannot be stopped meanwhile: the callers
// share stops, a hundred a second at most.
//
// With the build tag pymalloc_nolinkname there is no procPin: a section takes a record that
// nobody else uses, near where its stack hashes to, and holds it with a compare-and-swap.
// The number of the record is its P then.
package pin

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/race"
)

// MaxPs is how many Ps, and records of them, there may be.
const MaxPs = 1 << 12

// Record marks the sections of a P, or of a Heap, of which there is one at a time.
type Record struct{ busy uint32 }

// ordered tells that the processor makes stores visible in program order, and that no store
// is seen before an earlier load is done: a plain store will do for a record.
const ordered = !race.Enabled && (runtime.GOARCH == "amd64" || runtime.GOARCH == "386" || runtime.GOARCH == "s390x")

// Begin begins a section. What it is to see hidden is read after, atomically.
func (r *Record) Begin() {
	if ordered {
		r.busy = 1
	} else {
		race.Acquire(unsafe.Pointer(r)) // sections of one record come one after the other
		atomic.StoreUint32(&r.busy, 1)
	}
}

// End ends it.
func (r *Record) End() {
	if ordered {
		r.busy = 0
	} else {
		race.Release(unsafe.Pointer(r))
		atomic.StoreUint32(&r.busy, 0)
	}
}

// Over reports whether the section that was under way when a barrier was passed is over. It
// looks for a microsecond or so: one that was descheduled in the middle takes longer, and
// waiting for it is waiting for the scheduler.
func (r *Record) Over() bool {
	for range looks {
		if atomic.LoadUint32(&r.busy) == 0 {
			race.Acquire(unsafe.Pointer(r))
			return true
		}
	}
	return false
}

// looks is how often a record is looked at in a row: a section takes nanoseconds.
const looks = 200

// Await returns when the section that was under way when a barrier was passed is over.
func (r *Record) Await() {
	for n := 0; !r.Over(); n++ {
		Yield(n)
	}
}

// Yield lets others run, for the n-th time in a row. It does not sleep by Go's clock, which
// stands still in a synctest bubble.
func Yield(n int) {
	runtime.Gosched()
	if n%64 == 63 {
		nap()
	}
}

// padded is a record in a cache line of its own.
type padded struct {
	Record
	_ [64 - unsafe.Sizeof(Record{})]byte
}

var records [MaxPs]padded

func record(token int) *Record { return &records[token&(MaxPs-1)].Record }

// Wait returns after a grace period of the sections of Ps. It must not be called in a
// section. Any goroutine may call it.
func Wait() {
	Barrier()
	Settle()
}

// Settle is Wait after a barrier that the caller has passed.
func Settle() {
	for i := range inUse() {
		record(i).Await()
	}
}

var stops struct {
	sync.Mutex
	begun atomic.Uint64
	stats runtime.MemStats // not on the stack, and too large to be made anew
}

// stop stops the world, or lets another do it that has not begun yet.
func stop() {
	asked := stops.begun.Load()
	stops.Lock()
	defer stops.Unlock()
	if stops.begun.Load() > asked+1 {
		return // one has begun and ended since
	}
	restful()
	stops.begun.Add(1)
	if readStops() {
		runtime.ReadMemStats(&stops.stats)
	} else {
		runtime.GC()
	}
}
