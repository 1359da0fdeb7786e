package pin

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// atProcs runs a test with several numbers of Ps.
func atProcs(t *testing.T, f func(t *testing.T)) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprint("procs=", procs), func(t *testing.T) {
			runtime.GOMAXPROCS(procs)
			f(t)
		})
	}
}

// A record has a cache line of its own, and each token has one.
func TestRecords(t *testing.T) {
	if n := unsafe.Sizeof(padded{}); n != 64 {
		t.Errorf("a record takes %d bytes, want 64", n)
	}
	for _, token := range []int{0, 1, MaxPs - 1} {
		if r := record(token); r != &records[token].Record {
			t.Errorf("token %d has the record %p, want %p", token, r, &records[token])
		}
	}
	if record(MaxPs) != record(0) {
		t.Error("a token beyond the last has no record")
	}
}

func TestRecord(t *testing.T) {
	var r Record
	if !r.Over() {
		t.Error("the zero record is in a section")
	}
	for range 3 {
		r.Begin()
		if r.Over() {
			t.Error("a section is over that has just begun")
		}
		r.End()
		if !r.Over() {
			t.Error("a section is not over that has ended")
		}
		r.Await()
	}
}

// Enter gives a token that is marked until Exit. A goroutine that enters twice is on the same
// P still; where there is no pin the second section has a record of its own.
func TestEnter(t *testing.T) {
	atProcs(t, func(t *testing.T) {
		n := Slots()
		if n < runtime.GOMAXPROCS(0) {
			t.Errorf("%d tokens for %d Ps", n, runtime.GOMAXPROCS(0))
		}
		for range 200 {
			outer := Enter()
			marked := atomic.LoadUint32(&record(outer).busy)
			inner := Enter()
			both := atomic.LoadUint32(&record(inner).busy)
			Exit(inner)
			Exit(outer)
			if outer < 0 || outer >= n || inner < 0 || inner >= n {
				t.Fatalf("tokens %d and %d of %d", outer, inner, n)
			}
			if marked != 1 || both != 1 || !record(outer).Over() || !record(inner).Over() {
				t.Fatalf("tokens %d and %d are not marked in the section, or after it: %d, %d", outer, inner, marked, both)
			}
			if (outer == inner) != Pinned {
				t.Fatalf("token %d in a section with token %d, pinned: %t", inner, outer, Pinned)
			}
		}
		if in := inUse(); in < n {
			t.Errorf("%d records are waited for, and there are %d tokens", in, n)
		}
		Settle() // finds all clear
	})
}

// No two sections have one token at the same time, and the race detector sees that they come
// one after the other.
func TestExclusive(t *testing.T) {
	const workers = 8
	rounds := 4000
	if testing.Short() {
		rounds = 1000
	}
	var owner [MaxPs]atomic.Int32
	var counts [MaxPs]int // by token, of its section
	total := 0
	atProcs(t, func(t *testing.T) {
		n := Slots()
		var wg sync.WaitGroup
		for w := range int32(workers) {
			wg.Go(func() {
				for i := range rounds {
					token := Enter()
					at := token & (MaxPs - 1)
					alone := owner[at].CompareAndSwap(0, w+1)
					counts[at]++
					alone = owner[at].CompareAndSwap(w+1, 0) && alone
					Exit(token)
					if !alone || token < 0 || token >= n {
						t.Errorf("token %d of %d, which somebody else has: %t", token, n, !alone)
						return
					}
					if i%16 == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		wg.Wait()
		total += workers * rounds
	})
	sum := 0
	for _, n := range counts {
		sum += n
	}
	if sum != total {
		t.Errorf("%d sections were counted, want %d", sum, total)
	}
}

// Await returns after the section that was under way, and what was done in it is seen.
func TestAwait(t *testing.T) {
	atProcs(t, func(t *testing.T) {
		for round := range 100 {
			var r Record
			done := false
			begun, awaited := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				r.Begin()
				close(begun)
				<-awaited // a Heap's section is not pinned
				for range round {
					runtime.Gosched()
				}
				done = true
				r.End()
			})
			<-begun
			if r.Over() {
				t.Fatal("a section is over that goes on")
			}
			close(awaited)
			r.Await()
			if !done || !r.Over() {
				t.Fatalf("round %d: Await has returned, and the section goes on", round)
			}
			wg.Wait()
		}
	})
}

// Yield lets others run on the same P, whichever time it is.
func TestYield(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, from := range []int{0, 60, 1 << 30} {
		var ran atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() { ran.Store(true) })
		n := from
		for ; n < from+100 && !ran.Load(); n++ {
			Yield(n)
		}
		if n == from+100 {
			t.Errorf("nobody else has run while Yield was called, from the time %d on", from)
		}
		Yield(from | 63) // naps, too
		wg.Wait()
	}
}

// slow reports whether a barrier is a stop of the world here, of which there are a hundred a
// second.
func slow() bool {
	before := stops.begun.Load()
	Barrier()
	return stops.begun.Load() != before
}

// After a barrier either the section is seen, or it sees what was hidden before: its plain store
// must not be late for both.
func TestBarrier(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	rounds := uint32(10_000)
	if testing.Short() {
		rounds = 1500
	}
	if slow() {
		rounds = 5
	}
	until := func(x *atomic.Uint32, round uint32) {
		for n := 1; x.Load() != round; n++ {
			if n%200 == 0 {
				Yield(63) // whoever it is may wait for this processor
			}
		}
	}
	pause := func(r *rand.Rand) (n uint64) {
		for range r.IntN(16) {
			n += r.Uint64()
		}
		return n
	}
	var r Record
	var hidden, begun, looked, ended atomic.Uint32 // the round
	seen := uint32(0)
	var wg sync.WaitGroup
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range rounds {
			until(&begun, i+1)
			pause(rng)
			r.Begin()
			seen = hidden.Load()
			until(&looked, i+1)
			r.End()
			ended.Store(i + 1)
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	late := 0
	for i := range rounds {
		begun.Store(i + 1)
		pause(rng)
		hidden.Store(i + 1)
		Barrier()
		isClear := atomic.LoadUint32(&r.busy) == 0
		looked.Store(i + 1)
		until(&ended, i+1)
		if isClear && seen != i+1 {
			late++
		}
	}
	wg.Wait()
	if late > 0 {
		t.Errorf("%d sections of %d were not seen, and did not see what was hidden from them", late, rounds)
	}
}

// thing is what sections use until it is hidden from them.
type thing struct {
	dead  atomic.Bool
	value int // cleared when nobody uses it any more
}

// protocol is how sections mark themselves, and how the other waits for them.
type protocol struct {
	name  string
	enter func(reader int) (token int)
	exit  func(reader, token int)
	wait  func()
	stops bool // of the world
}

// protocols returns those of sections of Ps, and of so many Heaps.
func protocols(heaps []Record) []protocol {
	await := func() {
		for i := range heaps {
			heaps[i].Await()
		}
	}
	ofP := protocol{"P", func(int) int { return Enter() }, func(_, token int) { Exit(token) }, Wait, slow()}
	ofHeap := protocol{"Heap", func(i int) int { heaps[i].Begin(); return 0 }, func(i, _ int) { heaps[i].End() }, func() { Barrier(); await() }, slow()}
	all := []protocol{ofP, ofHeap}
	ofP.name, ofP.wait, ofP.stops = "P/stop", func() { stop(); Settle() }, true
	ofHeap.name, ofHeap.wait, ofHeap.stops = "Heap/stop", func() { stop(); await() }, true
	return append(all, ofP, ofHeap)
}

// After a grace period no section uses what was hidden before it: readers look in each section
// at what is shown, while writers show something else, wait, and clear what was shown before.
func TestGrace(t *testing.T) {
	const readers, writers = 4, 2
	for _, p := range protocols(make([]Record, readers)) {
		t.Run(p.name, func(t *testing.T) {
			swaps := 60
			if !testing.Short() {
				swaps *= 10
			}
			if p.stops {
				swaps = 3
			}
			atProcs(t, func(t *testing.T) { grace(t, p, readers, writers, swaps) })
		})
	}
}

func grace(t *testing.T, p protocol, readers, writers, swaps int) {
	var shown atomic.Pointer[thing]
	shown.Store(&thing{value: 1})
	var begun, found atomic.Int64
	var stopped atomic.Bool
	var reading, writing sync.WaitGroup
	for reader := range readers {
		reading.Go(func() {
			r := rand.New(rand.NewPCG(uint64(reader), 1))
			for n := 0; !stopped.Load(); n++ {
				looks := r.IntN(100)
				bad := false
				token := p.enter(reader)
				x := shown.Load()
				for range looks {
					bad = bad || x.dead.Load()
				}
				bad = bad || x.value != 1
				p.exit(reader, token)
				if bad {
					found.Add(1)
				}
				if n == 0 {
					begun.Add(1)
				}
				if n%8 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	for range writers {
		writing.Go(func() {
			for begun.Load() < int64(readers) {
				runtime.Gosched()
			}
			for range swaps {
				old := shown.Swap(&thing{value: 1})
				p.wait()
				old.dead.Store(true)
				old.value = 0
			}
		})
	}
	writing.Wait()
	stopped.Store(true)
	reading.Wait()
	if n := found.Load(); n != 0 {
		t.Errorf("%d sections saw what was cleared after a grace period", n)
	}
}

// Wait does not return while a section goes on that had begun before.
func TestWait(t *testing.T) {
	atProcs(t, func(t *testing.T) {
		for round := range 20 {
			var begun, left atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() {
				token := Enter()
				begun.Store(true)
				for range 1000 * round {
					_ = left.Load()
				}
				left.Store(true)
				Exit(token)
			})
			for !begun.Load() {
				runtime.Gosched()
			}
			Wait()
			if !left.Load() {
				t.Fatalf("round %d: Wait has returned, and a section goes on", round)
			}
			wg.Wait()
		}
	})
}

// Wait looks at the record of each token.
func TestWaitAll(t *testing.T) {
	atProcs(t, func(t *testing.T) {
		for token := range Slots() {
			done := false
			record(token).Begin()
			var wg sync.WaitGroup
			wg.Go(func() {
				for range 10 {
					runtime.Gosched()
				}
				done = true
				record(token).End()
			})
			Wait()
			if !done {
				t.Errorf("Wait has returned, and a section with token %d of %d goes on", token, Slots())
			}
			wg.Wait()
		}
	})
}

// A stop of the world that stop waits for begins after the call, by whomever.
func TestStop(t *testing.T) {
	const workers, rounds = 8, 3
	begun := stops.begun.Load()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				before := stops.begun.Load()
				stop()
				if now := stops.begun.Load(); now <= before {
					t.Errorf("stop has returned after %d stops, and there were %d before it", now, before)
				}
			}
		})
	}
	wg.Wait()
	if n := stops.begun.Load() - begun; n < rounds || n > workers*rounds {
		t.Errorf("%d calls of %d goroutines have stopped the world %d times", workers*rounds, workers, n)
	}
	before := pauses()
	stop()
	if now := pauses(); readStops() && now <= before {
		t.Errorf("the runtime has counted %d pauses before a stop and %d after it", before, now)
	}
}

// In a bubble no grace period waits for the bubble's clock.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var r Record
		r.Begin()
		go r.End()
		r.Await()
		for range 3 {
			stop()
			Wait()
		}
		Yield(63)
		if took := time.Since(start); took != 0 {
			t.Errorf("grace periods took %v of the bubble's time", took)
		}
	})
	for range 2 {
		stop() // outside again
	}
}
