package main

// Microbenchmarks. Their names are impl=…/size=… so that benchstat can put
// allocators side by side:
//
//	go test -run xxx -bench . -count 6 | benchstat -col /impl -
//
// Where the time is not that of one malloc and one free, the benchmark's comment
// says what it is.

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"modernc.org/memory"

	"github.com/pyarena/pyarena/pymalloc"
)

// mallocer is an allocator as one goroutine uses it.
type mallocer interface {
	UnsafeMalloc(size int) (unsafe.Pointer, error)
	UnsafeFree(p unsafe.Pointer) error
}

// batcher is a mallocer of many blocks at once.
type batcher interface {
	UnsafeMallocBatch(ps []unsafe.Pointer, size int) error
	UnsafeFreeBatch(ps []unsafe.Pointer) error
}

// lockedModernc is modernc.org/memory for several goroutines.
type lockedModernc struct {
	mu sync.Mutex
	a  memory.Allocator
}

func (m *lockedModernc) UnsafeMalloc(size int) (unsafe.Pointer, error) {
	m.mu.Lock()
	p, err := m.a.UnsafeMalloc(size)
	m.mu.Unlock()
	return p, err
}

func (m *lockedModernc) UnsafeFree(p unsafe.Pointer) error {
	m.mu.Lock()
	err := m.a.UnsafeFree(p)
	m.mu.Unlock()
	return err
}

// goHeap is the Go heap; to free is to forget.
type goHeap struct{}

// sink keeps what the Go heap returns from staying on a stack.
var sink unsafe.Pointer

func (goHeap) UnsafeMalloc(size int) (unsafe.Pointer, error) {
	return unsafe.Pointer(unsafe.SliceData(make([]byte, size))), nil
}

func (goHeap) UnsafeFree(unsafe.Pointer) error { return nil }

// syncPool is a sync.Pool of blocks of one size on the Go heap.
type syncPool struct{ p sync.Pool }

func newSyncPool(size int) *syncPool {
	return &syncPool{sync.Pool{New: func() any { return unsafe.Pointer(unsafe.SliceData(make([]byte, size))) }}}
}

func (s *syncPool) UnsafeMalloc(int) (unsafe.Pointer, error) { return s.p.Get().(unsafe.Pointer), nil }

func (s *syncPool) UnsafeFree(p unsafe.Pointer) error {
	s.p.Put(p)
	return nil
}

// shared is an allocator that several goroutines use at once.
type shared struct {
	name  string
	each  func() mallocer // for one goroutine
	close func()
}

// newShared returns the named allocator: pymalloc, pymalloc-heap, modernc,
// modernc-mutex, goheap, or syncpool with blocks of size bytes.
func newShared(b *testing.B, name string, size int) shared {
	switch name {
	case "pymalloc":
		a := new(pymalloc.Allocator)
		return shared{name, func() mallocer { return a }, func() { check(b, a.Close()) }}
	case "pymalloc-heap":
		a := new(pymalloc.Allocator)
		return shared{name, func() mallocer { return a.AcquireHeap() }, func() { check(b, a.Close()) }}
	case "modernc":
		a := new(memory.Allocator)
		return shared{name, func() mallocer { return a }, func() { check(b, a.Close()) }}
	case "modernc-mutex":
		a := new(lockedModernc)
		return shared{name, func() mallocer { return a }, func() { check(b, a.a.Close()) }}
	case "goheap":
		return shared{name, func() mallocer { return goHeap{} }, func() {}}
	case "syncpool":
		p := newSyncPool(size)
		return shared{name, func() mallocer { return p }, func() {}}
	}
	b.Fatalf("no allocator is called %s", name)
	return shared{}
}

func check(tb testing.TB, err error) {
	if err != nil {
		tb.Helper()
		tb.Error(err)
	}
}

// release gives back a heap; other allocators need nothing.
func release(m mallocer) {
	if h, ok := m.(*pymalloc.Heap); ok {
		h.Release()
	}
}

// eachImpl runs a benchmark for each named allocator. labels follows the name.
func eachImpl(b *testing.B, names []string, size int, labels string, f func(b *testing.B, s shared)) {
	for _, name := range names {
		b.Run("impl="+name+"/"+labels, func(b *testing.B) {
			s := newShared(b, name, size)
			defer s.close()
			b.ReportAllocs()
			f(b, s)
		})
	}
}

// xorshift is a random number generator that costs a nanosecond.
type xorshift uint64

func (x *xorshift) next() uint64 {
	*x ^= *x << 13
	*x ^= *x >> 7
	*x ^= *x << 17
	return uint64(*x)
}

// below returns a number in [0, n).
func (x *xorshift) below(n int) int { return int(x.next() >> 33 % uint64(n)) }

var (
	allNames    = []string{"pymalloc", "pymalloc-heap", "modernc", "modernc-mutex", "goheap"}
	sharedNames = []string{"pymalloc", "pymalloc-heap", "modernc-mutex", "goheap"}
)

// nothing is two calls that store a word each: what no allocator is faster than.
type nothing struct {
	mallocs int
	freed   unsafe.Pointer
}

//go:noinline
func (n *nothing) UnsafeMalloc(int) (unsafe.Pointer, error) {
	n.mallocs++
	return n.freed, nil
}

//go:noinline
func (n *nothing) UnsafeFree(p unsafe.Pointer) error {
	n.freed = p
	return nil
}

// Pair is malloc and free of one block, the same again and again. The three
// allocators are called directly, the others through an interface.
func BenchmarkPair(b *testing.B) {
	for _, size := range []int{16, 64, 256, 1024, 8192} {
		labels := fmt.Sprintf("size=%d", size)
		eachImpl(b, append(allNames[:len(allNames):len(allNames)], "syncpool"), size, labels,
			func(b *testing.B, s shared) {
				m := s.each()
				defer release(m)
				pairs(b, m, size)
			})
		b.Run("impl=nothing/"+labels, func(b *testing.B) {
			m := new(nothing)
			for b.Loop() {
				p, _ := m.UnsafeMalloc(size)
				_ = m.UnsafeFree(p)
			}
		})
	}
}

func pairs(b *testing.B, m mallocer, size int) {
	switch m := m.(type) {
	case *pymalloc.Allocator:
		for b.Loop() {
			p, _ := m.UnsafeMalloc(size)
			_ = m.UnsafeFree(p)
		}
	case *pymalloc.Heap:
		for b.Loop() {
			p, _ := m.UnsafeMalloc(size)
			_ = m.UnsafeFree(p)
		}
	case *memory.Allocator:
		for b.Loop() {
			p, _ := m.UnsafeMalloc(size)
			_ = m.UnsafeFree(p)
		}
	case goHeap:
		for b.Loop() {
			sink, _ = m.UnsafeMalloc(size)
		}
		sink = nil
	default:
		for b.Loop() {
			p, _ := m.UnsafeMalloc(size)
			_ = m.UnsafeFree(p)
		}
	}
}

// A batch is allocated in order and freed in another order, the same every time.
const (
	batchLen = 256
	minSize  = 16
	maxSize  = 512
)

type batch struct {
	sizes [batchLen]int
	order [batchLen]uint8 // of freeing
	ps    [batchLen]unsafe.Pointer
}

func newBatch() *batch {
	b, x := new(batch), xorshift(1)
	for i := range b.sizes {
		b.sizes[i] = minSize + x.below(maxSize-minSize+1)
		b.order[i] = uint8(i)
	}
	for i := len(b.order) - 1; i > 0; i-- {
		j := x.below(i + 1)
		b.order[i], b.order[j] = b.order[j], b.order[i]
	}
	return b
}

// run allocates and frees the batch once.
func (b *batch) run(m mallocer) {
	for i := range b.ps {
		b.ps[i], _ = m.UnsafeMalloc(b.sizes[i])
	}
	for _, i := range b.order {
		_ = m.UnsafeFree(b.ps[i])
		b.ps[i] = nil
	}
}

// Batch is malloc and free of one block of 16 to 512 bytes, one of a batch of 256
// that is freed out of order.
func BenchmarkBatch(b *testing.B) {
	eachImpl(b, allNames, 0, "size=16-512", func(b *testing.B, s shared) {
		m := s.each()
		defer release(m)
		w := newBatch()
		for n := 0; n < b.N; n += batchLen {
			w.run(m)
		}
	})
}

// Replace is free of a random one of 50,000 live blocks and malloc in its place.
func BenchmarkReplace(b *testing.B) {
	const blocks = 50_000
	for _, size := range []int{16, 64, 256} {
		eachImpl(b, allNames, 0, fmt.Sprintf("size=%d", size), func(b *testing.B, s shared) {
			m := s.each()
			defer release(m)
			live := make([]unsafe.Pointer, blocks)
			for i := range live {
				live[i], _ = m.UnsafeMalloc(size)
			}
			x := xorshift(1)
			for b.Loop() {
				slot := &live[x.below(blocks)]
				_ = m.UnsafeFree(*slot)
				*slot, _ = m.UnsafeMalloc(size)
			}
			for _, p := range live {
				check(b, m.UnsafeFree(p))
			}
		})
	}
}

// grower is a mallocer whose blocks can grow.
type grower interface {
	mallocer
	UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error)
}

// Grow is a buffer that grows from 64 to 128 KiB to 4 to 8 MiB, by factors of 2 or 5/4,
// each page written once, and is freed. Its sizes are never the same again.
func BenchmarkGrow(b *testing.B) {
	for _, by := range []struct {
		name string
		more func(size int) int
	}{
		{"2", func(size int) int { return size }},
		{"1.25", func(size int) int { return size / 4 }},
	} {
		eachImpl(b, []string{"pymalloc", "pymalloc-heap", "modernc"}, 0, "size=8M/by="+by.name, func(b *testing.B, s shared) {
			m := s.each().(grower)
			defer release(m)
			x := xorshift(1)
			bytes := 0
			for b.Loop() {
				size, end := 64<<10+x.below(64<<10), 4<<20+x.below(4<<20)
				p, _ := m.UnsafeMalloc(size)
				for written := 0; ; size = min(size+by.more(size), end) {
					p, _ = m.UnsafeRealloc(p, size)
					for ; written < size; written += 4096 {
						*(*byte)(unsafe.Add(p, written)) = 1
					}
					if size == end {
						break
					}
				}
				_ = m.UnsafeFree(p)
				bytes += size
			}
			b.SetBytes(int64(bytes / b.N))
		})
	}
}

// Channel is one block from malloc in one goroutine through a channel to free in
// another. Each block sent alone, or 64 at a time.
func BenchmarkChannel(b *testing.B) {
	const size = 64
	names := []string{"pymalloc", "modernc-mutex", "goheap"}
	eachImpl(b, names, size, "size=64/send=1", func(b *testing.B, s shared) {
		inPairs(b, func(blocks int) {
			c := make(chan unsafe.Pointer, 1024)
			go func() {
				defer close(c)
				for m := s.each(); blocks > 0; blocks-- {
					p, _ := m.UnsafeMalloc(size)
					c <- p
				}
			}()
			m := s.each()
			for p := range c {
				check(b, m.UnsafeFree(p))
			}
		})
	})
	eachImpl(b, names, size, "size=64/send=64", func(b *testing.B, s shared) {
		inPairs(b, func(blocks int) {
			type parcel [64]unsafe.Pointer
			c, back := make(chan *parcel, 16), make(chan *parcel, 18)
			for range cap(back) {
				back <- new(parcel)
			}
			go func() {
				defer close(c)
				for m := s.each(); blocks > 0; blocks -= 64 {
					ps := <-back
					fill(m, ps[:], size)
					c <- ps
				}
			}()
			m := s.each()
			for ps := range c {
				check(b, drain(m, ps[:]))
				back <- ps
			}
		})
	})
}

// inPairs runs a producer and a consumer for every two CPUs. pair is told how
// many blocks are its share, and returns when they are through.
func inPairs(b *testing.B, pair func(blocks int)) {
	var all sync.WaitGroup
	n := max(1, runtime.GOMAXPROCS(0)/2)
	for i := range n {
		all.Go(func() { pair((b.N + i) / n) })
	}
	all.Wait()
}

// fill allocates all of ps, in one call where there is one for it.
func fill(m mallocer, ps []unsafe.Pointer, size int) {
	if m, ok := m.(batcher); ok {
		_ = m.UnsafeMallocBatch(ps, size)
		return
	}
	for i := range ps {
		ps[i], _ = m.UnsafeMalloc(size)
	}
}

func drain(m mallocer, ps []unsafe.Pointer) (err error) {
	if m, ok := m.(batcher); ok {
		return m.UnsafeFreeBatch(ps)
	}
	for i, p := range ps {
		if e := m.UnsafeFree(p); e != nil {
			err = e
		}
		ps[i] = nil
	}
	return err
}

// ParallelPair is pairs of 64 bytes by one goroutine and by two that share
// nothing but the allocator. The time is that of all goroutines for one pair of
// any: with two CPUs and no contention, two goroutines take half of what one
// takes.
func BenchmarkParallelPair(b *testing.B) {
	for _, goroutines := range []int{1, 2} {
		eachImpl(b, sharedNames, 64, fmt.Sprintf("size=64/goroutines=%d", goroutines), func(b *testing.B, s shared) {
			together(b, goroutines, func(n int) {
				m := s.each()
				defer release(m)
				for range n {
					p, _ := m.UnsafeMalloc(64)
					_ = m.UnsafeFree(p)
				}
			})
		})
	}
}

// ParallelBatch is ParallelPair with the work of Batch; the time is that of one
// block.
func BenchmarkParallelBatch(b *testing.B) {
	for _, goroutines := range []int{1, 2} {
		eachImpl(b, sharedNames, 0, fmt.Sprintf("size=16-512/goroutines=%d", goroutines), func(b *testing.B, s shared) {
			together(b, goroutines, func(n int) {
				m := s.each()
				defer release(m)
				for w := newBatch(); n > 0; n -= batchLen {
					w.run(m)
				}
			})
		})
	}
}

// Parallel is ParallelPair with as many goroutines as -cpu says.
func BenchmarkParallel(b *testing.B) {
	eachImpl(b, sharedNames, 64, "size=64", func(b *testing.B, s shared) {
		b.RunParallel(func(pb *testing.PB) {
			m := s.each()
			defer release(m)
			for pb.Next() {
				p, _ := m.UnsafeMalloc(64)
				_ = m.UnsafeFree(p)
			}
		})
	})
}

// together shares out b.N among goroutines.
func together(b *testing.B, goroutines int, f func(n int)) {
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() { f((b.N + i) / goroutines) })
	}
	all.Wait()
}

// StopTheWorld is how long runtime.ReadMemStats takes, which stops the world,
// beside as many goroutines as there are CPUs that do nothing but malloc and free.
// impl=arithmetic is what it takes beside goroutines that compute; the allocators
// are to be as good. Between two calls lie 100 µs, so ns/op means nothing here.
func BenchmarkStopTheWorld(b *testing.B) {
	b.Run("impl=arithmetic/load=none", func(b *testing.B) {
		stopTheWorld(b, func(stop *atomic.Bool) {
			for x := xorshift(1); !stop.Load(); {
				for range 1024 {
					x.next()
				}
				arithmetic.Store(uint64(x))
			}
		})
	})
	for _, name := range sharedNames[:2] {
		b.Run("impl="+name+"/load=pairs", func(b *testing.B) {
			s := newShared(b, name, 64)
			defer s.close()
			stopTheWorld(b, func(stop *atomic.Bool) {
				m := s.each()
				defer release(m)
				for !stop.Load() {
					for range 512 {
						p, _ := m.UnsafeMalloc(64)
						_ = m.UnsafeFree(p)
					}
				}
			})
		})
		b.Run("impl="+name+"/load=batches", func(b *testing.B) {
			s := newShared(b, name, 0)
			defer s.close()
			stopTheWorld(b, func(stop *atomic.Bool) {
				m := s.each()
				defer release(m)
				for w := newBatch(); !stop.Load(); {
					w.run(m)
				}
			})
		})
		b.Run("impl="+name+"/load=passed", func(b *testing.B) { // frees of blocks of others
			s := newShared(b, name, 64)
			defer s.close()
			var slots [1024]atomic.Pointer[byte]
			stopTheWorld(b, func(stop *atomic.Bool) {
				m := s.each()
				defer release(m)
				for x := xorshift(1); !stop.Load(); {
					p, _ := m.UnsafeMalloc(64)
					if q := slots[x.below(len(slots))].Swap((*byte)(p)); q != nil {
						_ = m.UnsafeFree(unsafe.Pointer(q))
					}
				}
			})
		})
	}
}

var arithmetic atomic.Uint64

// stopTheWorld measures beside goroutines that run load until stop.
func stopTheWorld(b *testing.B, load func(stop *atomic.Bool)) {
	b.ReportAllocs()
	var all sync.WaitGroup
	var stop atomic.Bool
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() { load(&stop) })
	}
	time.Sleep(time.Millisecond)
	var stats runtime.MemStats
	took := make([]time.Duration, 0, 1<<16)
	for b.Loop() {
		for from := time.Now(); time.Since(from) < 100*time.Microsecond; {
		}
		from := time.Now()
		runtime.ReadMemStats(&stats)
		if t := time.Since(from); len(took) < cap(took) {
			took = append(took, t)
		}
	}
	stop.Store(true)
	all.Wait()
	slices.Sort(took)
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50-µs", 0.50}, {"p99-µs", 0.99}, {"max-µs", 1}} {
		t := took[int(q.at*float64(len(took)-1))]
		b.ReportMetric(float64(t)/1e3, q.name)
	}
}

// Limit is a request at a limit of 64 MiB. load=refused: one that is refused, again
// and again. load=evict: one of 16 to 32,783 bytes, mostly small, by one of two
// goroutines, that frees random blocks of its own until there is room.
func BenchmarkLimit(b *testing.B) {
	full := func(b *testing.B, size func() int) (a *pymalloc.Allocator, live []unsafe.Pointer) {
		a, err := pymalloc.NewAllocator(pymalloc.Options{LimitBytes: 64 << 20})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := a.Close(); err != nil {
				b.Error(err)
			}
		})
		for {
			p, err := a.UnsafeMalloc(size())
			if err != nil {
				return a, live
			}
			live = append(live, p)
		}
	}
	b.Run("impl=pymalloc/load=refused", func(b *testing.B) {
		a, _ := full(b, func() int { return 64 })
		for b.Loop() {
			if p, err := a.UnsafeMalloc(4096); err == nil {
				b.Fatalf("%p was not refused", p)
			}
		}
	})
	b.Run("impl=pymalloc/load=evict", func(b *testing.B) {
		x := xorshift(1)
		a, live := full(b, func() int { return mostlySmall(&x) })
		frees := new(atomic.Int64)
		work := func(x xorshift, live []unsafe.Pointer, n int) {
			for range n {
				size := mostlySmall(&x)
				p, err := a.UnsafeMalloc(size)
				for ; err != nil && len(live) > 0; p, err = a.UnsafeMalloc(size) {
					i, last := x.below(len(live)), len(live)-1
					_ = a.UnsafeFree(live[i])
					live[i] = live[last]
					live = live[:last]
					frees.Add(1)
				}
				live = append(live, p)
			}
		}
		half := len(live) / 2
		b.ResetTimer()
		var all sync.WaitGroup
		all.Go(func() { work(1, live[:half:half], b.N/2) })
		all.Go(func() { work(2, live[half:], b.N-b.N/2) })
		all.Wait()
		b.ReportMetric(float64(frees.Load())/float64(b.N), "frees/op")
	})
}

// mostlySmall draws a size of 16 to 32,783 bytes, one of eight powers of two as the
// most, each as often.
func mostlySmall(x *xorshift) int {
	r := x.next()
	return 16 + int(r&(32<<10-1)>>(r>>32%8))
}
