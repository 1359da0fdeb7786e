// Package workload is programs that do little but allocate: those that the
// allocators of the field are measured by (mimalloc-bench and what it gathers),
// written anew from what they do.
//
// benchmarks/c/workload.c is the same programs in C. Both draw from the same
// generator in the same order, so that they ask for the same blocks; the counts
// and sums of a [Result] are equal, whatever the allocator and the language.
package workload

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/offheap"
)

// Workload is one program.
type Workload struct {
	Name  string
	About string
	// Threads tells how many threads it wants: 0 for any number, 1 for one
	// alone, 2 for at least two.
	Threads int
	run     func(r *run)
}

// All returns the workloads, by name.
func All() []Workload {
	all := []Workload{
		{"alloc-test", "slots that fill and empty, by a Pareto law; up to 1 KiB", 0, allocTest},
		{"larson", "random replacement of 8 to 999 bytes; each thread leaves its blocks to a successor", 0, larson},
		{"mstress", "rounds of fresh threads that swap blocks; some large", 0, mstress},
		{"pair", "malloc and free of 64 bytes, again and again", 1, pair},
		{"batch", "256 blocks of 16 to 512 bytes, freed out of order", 1, batchOf256},
		{"rptest", "8 to 16,000 bytes, aligned; batches sent to the next thread", 0, rptest},
		{"sh6bench", "a ring of blocks; windows freed first to last, and last to first", 0, sh6bench},
		{"sh8bench", "a histogram of sizes up to 168,524; small blocks that all threads free", 0, sh8bench},
		{"xmalloc-test", "producers and consumers of batches of 4,096 blocks", 2, xmallocTest},
		{"cache-scratch", "objects of one byte, handed out by another thread, written in a loop", 0, cacheScratch},
		{"cache-thrash", "objects of one byte, written in a loop", 0, cacheThrash},
		{"glibc-simple", "25 to 1,600 blocks of 16, 32 or 64 bytes; half freed FIFO, half LIFO", 1, glibcSimple},
		{"glibc-thread", "1,024 slots of 4 to 32,768 bytes, small ones mostly", 0, glibcThread},
		{"malloc-large", "20 live buffers of 5 to 25 MiB, replaced", 1, mallocLarge},
		{mleakName, "rounds of threads that swap blocks with 1,000 shared slots", 0, mleak},
	}
	slices.SortFunc(all, func(a, b Workload) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Result is what a run did. All but the time is the same for every allocator.
type Result struct {
	Elapsed time.Duration `json:"elapsed_ns"`
	Mallocs uint64        `json:"mallocs"`
	Bytes   uint64        `json:"bytes"` // asked for
	Sum     uint64        `json:"sum"`   // of what was read from blocks
}

// Run runs the workload on a new allocator, by that many threads. scale is how
// long, in percent of some tenths of a second. Blocks are held where the collector does not look,
// unless they are its own.
func (w Workload) Run(info impl.Info, threads, scale int) (Result, error) {
	switch {
	case threads < 1 || scale < 1:
		return Result{}, fmt.Errorf("%s: %d threads and scale %d, want at least 1 of each", w.Name, threads, scale)
	case w.Threads == 1 && threads != 1, w.Threads == 2 && threads < 2:
		return Result{}, fmt.Errorf("%s: not for %d threads", w.Name, threads)
	}
	// One goroutine at a time for one thread, but for mleak.
	goroutines := threads
	if w.Name == mleakName {
		goroutines = mleakThreads
	}
	r := &run{info: info, impl: info.New(goroutines), threads: threads, scale: scale}
	begun := time.Now()
	w.run(r)
	r.result.Elapsed = time.Since(begun)
	r.result.Mallocs, r.result.Bytes, r.result.Sum = r.mallocs.Load(), r.bytes.Load(), r.sum.Load()
	return r.result, errors.Join(r.errs...)
}

// run is what the threads of one run share.
type run struct {
	info    impl.Info
	impl    impl.Impl
	threads int
	scale   int

	mallocs, bytes, sum atomic.Uint64

	mu     sync.Mutex
	errs   []error
	spare  map[int][][]unsafe.Pointer // tables, by length
	result Result
}

// steps returns how often something is done that is done n times at scale 100.
func (r *run) steps(n int) int { return max(n*r.scale/100, 1) }

// share returns a thread's share of the steps, at least one.
func (r *run) share(n int) int { return max(r.steps(n)/r.threads, 1) }

// pointers returns a table of n pointers, all nil.
func (r *run) pointers(n int) []unsafe.Pointer {
	if r.info.GoHeap {
		return make([]unsafe.Pointer, n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.spare[n]; len(s) > 0 {
		r.spare[n] = s[:len(s)-1]
		return s[len(s)-1]
	}
	table, err := offheap.Slice[unsafe.Pointer](n)
	if err != nil {
		panic(err) // the harness has no memory
	}
	return table
}

// release takes back what pointers returned, for another thread.
func (r *run) release(table []unsafe.Pointer) {
	clear(table)
	if r.info.GoHeap {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spare == nil {
		r.spare = map[int][][]unsafe.Pointer{}
	}
	r.spare[len(table)] = append(r.spare[len(table)], table)
}

// shared is a table that threads swap blocks with.
type shared []unsafe.Pointer

func (s shared) swap(i int, p unsafe.Pointer) unsafe.Pointer { return atomic.SwapPointer(&s[i], p) }

// each runs f in as many threads at once, numbered from 0.
func (r *run) each(threads int, f func(t *thread)) {
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() { r.thread(i, f) })
	}
	wg.Wait()
}

// thread runs f as one thread, with a worker and a generator of its own.
func (r *run) thread(id int, f func(t *thread)) {
	w := r.impl.Worker()
	t := &thread{run: r, id: id, w: w, m: impl.Direct(w), rand: rand(id)}
	f(t)
	t.w.Release()
	r.mallocs.Add(t.mallocs)
	r.bytes.Add(t.bytes)
	r.sum.Add(t.sum)
	if t.err != nil {
		r.mu.Lock()
		r.errs = append(r.errs, fmt.Errorf("thread %d: %w", id, t.err))
		r.mu.Unlock()
	}
}

// thread is one thread of a run.
type thread struct {
	*run
	id int
	w  impl.Worker
	m  impl.Mallocer // of w
	rand
	mallocs, bytes, sum uint64
	err                 error // the first
}

func (t *thread) failed(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *thread) malloc(size int) unsafe.Pointer {
	p, err := t.m.UnsafeMalloc(size)
	return t.got(p, size, err)
}

func (t *thread) calloc(size int) unsafe.Pointer {
	p, err := t.w.Calloc(size)
	return t.got(p, size, err)
}

func (t *thread) alignedMalloc(size, align int) unsafe.Pointer {
	p, err := t.w.AlignedMalloc(size, align)
	return t.got(p, size, err)
}

func (t *thread) got(p unsafe.Pointer, size int, err error) unsafe.Pointer {
	t.mallocs++
	t.bytes += uint64(size)
	if err != nil {
		panic(err) // no program of these goes on without memory
	}
	return p
}

func (t *thread) free(p unsafe.Pointer) {
	if err := t.m.UnsafeFree(p); err != nil {
		t.failed(err)
	}
}

// drop frees what the slot has, if anything, and leaves it empty.
func (t *thread) drop(slot *unsafe.Pointer) {
	if *slot != nil {
		t.free(*slot)
		*slot = nil
	}
}

// fill sets all bytes of a block, by words, and large ones by copying: there is
// no memset in Go.
func fill(p unsafe.Pointer, size int, value byte) {
	b := unsafe.Slice((*byte)(p), size)
	word := uint64(value) * 0x0101010101010101
	head := min(size, 128)
	i := 0
	for ; i+8 <= head; i += 8 {
		*(*uint64)(unsafe.Add(p, i)) = word
	}
	for ; i < head; i++ {
		b[i] = value
	}
	for n := head; n < size; n *= 2 {
		copy(b[n:], b[:n])
	}
}

// sumWords returns the sum of the whole words of a block.
func sumWords(p unsafe.Pointer, size int) (sum uint64) {
	for _, w := range unsafe.Slice((*uint64)(p), size/8) {
		sum += w
	}
	return sum
}

// touch writes the first byte of every page of a block.
func touch(p unsafe.Pointer, size int) {
	for i := 0; i < size; i += 4096 {
		*(*byte)(unsafe.Add(p, i)) = byte(size)
	}
}

// rand is a SplitMix64 generator (Steele, Lea and Flood, "Fast Splittable
// Pseudorandom Number Generators", 2014).
type rand uint64

func (r *rand) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number below n, at most 1<<32.
func (r *rand) below(n int) int { return int(uint64(uint32(r.next())) * uint64(n) >> 32) }
