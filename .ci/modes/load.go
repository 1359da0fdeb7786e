package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

// Load runs everything once. Any goroutine, thread or host may call it, several at
// once too. It panics if something is wrong.
func Load() {
	var a pymalloc.Allocator
	for range 2 { // the allocator is used again after its Close
		blocks(&a)
		heaps(&a)
		values(&a)
		check(a.Trim())
		check(a.Check())
		if s := a.Stats(); s.LiveBlocks != 0 {
			panic(fmt.Sprintf("%d blocks are live after all were freed", s.LiveBlocks))
		}
		left := newBlock(must(a.UnsafeMalloc(100)), 100, 1) // Close takes it
		left.verify()
		check(a.Close())
	}
	space(false, 1)
	space(true, 4)
}

// A block is filled with bytes that follow from its seed.
type block struct {
	p    unsafe.Pointer
	size int
	seed byte
}

func newBlock(p unsafe.Pointer, size int, seed byte) block {
	b := block{p, size, seed}
	for i, bytes := 0, b.bytes(); i < len(bytes); i++ {
		bytes[i] = seed + byte(i)
	}
	return b
}

func (b block) bytes() []byte { return unsafe.Slice((*byte)(b.p), b.size) }

func (b block) verify() {
	for i, have := range b.bytes() {
		if want := b.seed + byte(i); have != want {
			panic(fmt.Sprintf("byte %d of a block of %d at %p is %d, want %d", i, b.size, b.p, have, want))
		}
	}
}

// size returns a number of bytes: mostly a small block, at times a large run or a
// huge mapping.
func size(r *rand.Rand) int {
	switch n := r.IntN(1000); {
	case n < 900:
		return 1 + r.IntN(512)
	case n < 990:
		return 1 + r.IntN(16<<10)
	case n < 999:
		return 1 + r.IntN(128<<10)
	default:
		return 1<<20 + r.IntN(64<<10)
	}
}

// blocks passes blocks from goroutines that allocate to goroutines that free, while
// another one calls Trim and the collector.
func blocks(a *pymalloc.Allocator) {
	const workers, each = 3, 3000
	passed := make(chan block, 500)
	var makers, freers, beside sync.WaitGroup
	for w := range workers {
		makers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range each {
				n := size(r)
				b := newBlock(must(a.UnsafeMalloc(n)), n, byte(i))
				if i%3 == 0 { // freed where it was allocated
					b.verify()
					check(a.UnsafeFree(b.p))
					continue
				}
				passed <- b
			}
		})
		freers.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(w)))
			for b := range passed {
				b.verify()
				if r.IntN(8) == 0 {
					n := size(r)
					b.p = must(a.UnsafeRealloc(b.p, n))
					b.size = min(b.size, n)
					b.verify()
				}
				check(a.UnsafeFree(b.p))
			}
		})
	}
	done := make(chan struct{})
	beside.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				check(a.Trim())
				runtime.GC()
			}
		}
	})
	makers.Wait()
	close(passed)
	freers.Wait()
	close(done)
	beside.Wait()
}

// heaps fills a Heap in each of some goroutines, frees half of the blocks there, and
// the other half in another goroutine after the Heap was released.
func heaps(a *pymalloc.Allocator) {
	var all sync.WaitGroup
	for w := range 3 {
		left := make(chan []block)
		all.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(w)))
			h := a.AcquireHeap()
			var kept []block
			for i := range 2000 {
				n := 1 + r.IntN(2000)
				kept = append(kept, newBlock(must(h.UnsafeMalloc(n)), n, byte(i)))
				if i%2 == 1 {
					at := r.IntN(len(kept))
					kept[at].verify()
					check(h.UnsafeFree(kept[at].p))
					kept[at] = kept[len(kept)-1]
					kept = kept[:len(kept)-1]
				}
			}
			h.Release()
			left <- kept
		})
		all.Go(func() {
			for _, b := range <-left {
				b.verify()
				check(a.UnsafeFree(b.p))
			}
		})
	}
	all.Wait()
}

// session is a typed value with strings of its own.
type session struct {
	id   int
	name unsafeobj.Str
	tags unsafeobj.Slice[unsafeobj.Str]
}

// values makes typed values in one goroutine and frees them in another.
func values(a *pymalloc.Allocator) {
	passed := make(chan *session, 100)
	var all sync.WaitGroup
	all.Go(func() {
		defer close(passed)
		for i := range 500 {
			s := must(unsafeobj.New[session](a))
			s.id, s.name = i, must(unsafeobj.NewStr(a, fmt.Sprint("session ", i)))
			check(s.tags.Append(a, must(unsafeobj.NewStr(a, fmt.Sprint("tag ", i)))))
			passed <- s
		}
	})
	all.Go(func() {
		for s := range passed {
			tag := &s.tags.View()[0]
			same(s.name.String(), fmt.Sprint("session ", s.id))
			same(tag.String(), fmt.Sprint("tag ", s.id))
			check(tag.Free(a))
			check(s.tags.Free(a))
			check(s.name.Free(a))
			check(unsafeobj.Free(a, s))
		}
	})
	all.Wait()
}

// space makes objects in a Space, by some goroutines if it is shared, and has it
// collect the cycles among them.
func space(shared bool, workers int) {
	s := must(unsafeobj.NewSpace(unsafeobj.SpaceOptions{Shared: shared}))
	together := must(s.Dict())
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() { objects(s, together.Get(), w) })
	}
	all.Wait()
	same(together.Get().Len(), workers)
	together.Release()
	must(s.Collect(2))
	check(s.Trim())
	same(len(s.Stats().Objects), 0)
	check(s.Close())
}

func objects(s *unsafeobj.Space, together unsafeobj.Dict, worker int) {
	const n = 400
	text := func(i int) string { return fmt.Sprintf("item %d of worker %d", i, worker) }
	list := must(s.List())
	for i := range n {
		number, str := must(s.Int(int64(1000*worker+i)<<20)), must(s.String(text(i)))
		pair := must(s.Tuple(number.Object(), str.Object()))
		check(list.Get().Append(pair.Object()))
		pair.Release()
		number.Release()
		str.Release()
		// Two lists that hold each other: only the collector frees them.
		one := must(s.List(list.Object()))
		other := must(s.List(one.Object()))
		check(one.Get().Append(other.Object()))
		one.Release()
		other.Release()
		if i%100 == 0 {
			must(s.Collect(i / 100 % 3))
			runtime.GC()
		}
	}
	for i := range n {
		item := must(list.Get().Get(i))
		pair := must(unsafeobj.As[unsafeobj.Tuple](item.Object()))
		number, fits := must(unsafeobj.As[unsafeobj.Int](must(pair.Get(0)))).Int64()
		same(fits, true)
		same(number, int64(1000*worker+i)<<20)
		same(must(unsafeobj.As[unsafeobj.String](must(pair.Get(1)))).Value(), text(i))
		item.Release()
	}
	check(together.SetString(fmt.Sprint(worker), list.Object()))
	list.Release()
}

func same[T comparable](have, want T) {
	if have != want {
		panic(fmt.Sprintf("got %v, want %v", have, want))
	}
}
