package pymalloc

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/internal/pool"
)

// eachHard runs f for hardened allocators and their heaps, with and without canaries and
// wiping. All is on one P, whose shard has at hand what was freed, for the janitor stays
// away.
func eachHard(t *testing.T, f func(t *testing.T, a *Allocator, m source)) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for n := range 8 {
		o := Options{Hardened: true, Canaries: n&1 != 0, WipeOnFree: n&2 != 0, RetainDelay: time.Hour}
		heap := n&4 != 0
		t.Run(fmt.Sprintf("canaries=%v/wipe=%v/heap=%v", o.Canaries, o.WipeOnFree, heap), func(t *testing.T) {
			a := newAllocator(t, o)
			if heap {
				h := a.AcquireHeap()
				defer h.Release()
				f(t, a, h)
			} else {
				f(t, a, a)
			}
		})
	}
}

// The first block of a fresh pool is any of those on its first page.
func TestHardFirst(t *testing.T) {
	high := 0
	for range 60 {
		a := newAllocator(t, Options{Hardened: true})
		p := mustMalloc(t, a, 16)
		if uintptr(p)%(16<<10) >= 32*16 {
			high++
		}
		mustFree(t, a, p)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if high < 12 { // half of them, about
		t.Errorf("of 60 pools %d had their first block beyond the first 32", high)
	}
}

// A block that was freed a moment ago is at hand for mallocs, and is freed for all that.
func TestHardAtHand(t *testing.T) {
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		var ps []unsafe.Pointer
		for range 40 {
			ps = append(ps, mustMalloc(t, m, 50))
		}
		usable := uint64(64)
		if a.opts.Canaries {
			usable = 56
			end := (*byte)(unsafe.Add(ps[10], usable))
			*end++
			if err := m.UnsafeFree(ps[10]); !errors.Is(err, ErrOverrun) {
				t.Errorf("a free of a block that was overrun returns %v", err)
			}
			*end--
		}
		if s := a.Stats(); s.LiveBlocks != 40 || s.InUseBytes != 40*usable {
			t.Errorf("%d blocks of %d bytes are live, want 40 of %d", s.LiveBlocks, s.InUseBytes, 40*usable)
		}
		for _, p := range ps[:20] {
			mustFree(t, m, p)
		}
		want := func(what string) {
			t.Helper()
			for _, p := range ps[:20] {
				if err := m.UnsafeFree(p); !errors.Is(err, ErrDoubleFree) {
					t.Errorf("%s: a second free returns %v", what, err)
				}
				if n := UnsafeUsableSize(p); n != 0 {
					t.Errorf("%s: the usable size is %d", what, n)
				}
			}
			if s := a.Stats(); s.LiveBlocks != 20 || s.InUseBytes != 20*usable {
				t.Errorf("%s: %d blocks of %d bytes are live, want 20 of %d", what, s.LiveBlocks, s.InUseBytes, 20*usable)
			}
		}
		want("freed")
		if err := a.Check(); err != nil {
			t.Error(err)
		}
		for _, p := range ps[20:] {
			mustFree(t, m, p)
		}
		if err := a.Trim(); err != nil {
			t.Error(err)
		}
		if s := a.Stats(); s.LiveBlocks != 0 || s.MappedBytes != 0 {
			t.Errorf("%d blocks are live and %d bytes mapped after Trim", s.LiveBlocks, s.MappedBytes)
		}
	})
}

// A block is cleared when it is freed, wherever it goes: the one that malloc took last, those
// at hand, the rest of them, and what others have freed. So it is without Hardened.
func TestWipeEverywhere(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for n, o := range []Options{{}, {Hardened: true}, {Canaries: true}} {
		o.WipeOnFree, o.RetainDelay = true, time.Hour
		a := newAllocator(t, o)
		h := a.AcquireHeap()
		defer h.Release()
		for _, from := range []source{a, h} {
			for _, to := range []source{a, h} {
				for _, size := range []int{10, 56, 1000, 20_000} {
					for range 3 {
						var ps []unsafe.Pointer
						for range 40 {
							p := mustMalloc(t, from, size)
							scribble(p, size)
							ps = append(ps, p)
							if len(ps)%3 == 0 { // one that was at hand
								mustFree(t, from, p)
								p = mustMalloc(t, from, size)
								scribble(p, size)
								mustFree(t, from, p)
								ps = ps[:len(ps)-1]
								requireWiped(t, n, p, size)
								ps = append(ps, mustMalloc(t, from, size))
							}
						}
						for _, p := range ps {
							mustFree(t, to, p)
							requireWiped(t, n, p, size)
						}
					}
				}
			}
		}
	}
}

// requireWiped looks that the block has nothing but its seal.
func requireWiped(t *testing.T, n int, p unsafe.Pointer, size int) {
	t.Helper()
	for i, b := range unsafe.Slice((*byte)(p), size) {
		if b != 0 && i >= 8 {
			t.Fatalf("allocator %d: byte %d of the free block of %d is %#x", n, i, size, b)
		}
	}
}

// A block at hand that is written to is found by the next malloc, and no other is drawn for
// it: not one that is at hand below. So it is where blocks are wiped, without Hardened.
func TestWrittenAtHand(t *testing.T) {
	if !pin.Pinned {
		t.Skip("the goroutine may free on another shard, whose blocks are at hand nowhere")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for n, o := range []Options{{Hardened: true}, {Canaries: true}, {WipeOnFree: true}, {Canaries: true, WipeOnFree: true}} {
		o.RetainDelay = time.Hour
		a := newAllocator(t, o)
		h := a.AcquireHeap()
		defer h.Release()
		for _, m := range []source{a, h} {
			for _, depth := range []int{1, 2, 16} {
				if err := a.Trim(); err != nil { // so that no free finds the magazine full
					t.Fatal(err)
				}
				var ps []unsafe.Pointer
				for range depth {
					ps = append(ps, mustMalloc(t, m, 100))
				}
				for _, p := range ps {
					mustFree(t, m, p)
				}
				last := ps[depth-1] // kept or on top
				switch depth {
				case 1:
					mustFree(t, m, mustMalloc(t, m, 100)) // kept now, but where it is wiped
				case 16:
					defer mustFree(t, m, mustMalloc(t, m, 100))
					last = ps[depth-2] // on top of the rest
				}
				scribble(last, 8)
				if p, err := m.UnsafeMalloc(100); !errors.Is(err, ErrCorrupted) || p != nil {
					t.Fatalf("allocator %d: the block on top of %d was written to, the next is %p, %v", n, depth, p, err)
				}
				seen := map[unsafe.Pointer]bool{last: true} // out of use
				for range 50 {
					p := mustMalloc(t, m, 100)
					if seen[p] {
						t.Fatalf("allocator %d: block %p is handed out twice", n, p)
					}
					seen[p] = true
				}
				for p := range seen {
					if p != last {
						mustFree(t, m, p)
					}
				}
			}
		}
		if err := a.Check(); err != nil {
			t.Errorf("allocator %d: %v", n, err)
		}
	}
}

// A block that malloc took last, and that is freed while another is kept, is not taken for
// one in use later.
func TestLastForgotten(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for n, o := range []Options{{}, {Hardened: true}, {Canaries: true}, {Canaries: true, WipeOnFree: true}, {WipeOnFree: true}} {
		o.RetainDelay = time.Hour
		a := newAllocator(t, o)
		h := a.AcquireHeap()
		defer h.Release()
		for _, m := range []source{a, h} {
			const one, two = 40, 500
			for _, size := range []int{one, two} { // a block of each is at hand
				mustFree(t, m, mustMalloc(t, m, size))
			}
			mustFree(t, m, mustMalloc(t, m, one)) // kept
			q := mustMalloc(t, m, two)            // the last
			mustFree(t, m, q)
			p := mustMalloc(t, m, one) // none is kept
			if err := m.UnsafeFree(q); !errors.Is(err, ErrDoubleFree) {
				t.Errorf("allocator %d: a second free returns %v", n, err)
			}
			q, r := mustMalloc(t, m, two), mustMalloc(t, m, two)
			if q == r {
				t.Errorf("allocator %d: block %p is handed out twice", n, q)
			}
			for _, p := range []unsafe.Pointer{p, q, r} {
				mustFree(t, m, p)
			}
		}
	}
}

// Whichever way a block is handed out, it has its tail, and whichever way it is freed, that
// is looked at.
func TestCanaryEverywhere(t *testing.T) {
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		if !a.opts.Canaries {
			return
		}
		other := a.AcquireHeap()
		defer other.Release()
		look := func(what string, p unsafe.Pointer) {
			t.Helper()
			usable := UnsafeUsableSize(p)
			for _, at := range []int{usable, usable + 7} {
				for _, by := range []source{m, other, a} {
					end := (*byte)(unsafe.Add(p, at))
					*end++
					if err := by.UnsafeFree(p); !errors.Is(err, ErrOverrun) {
						t.Fatalf("%s: a free of the block of %d bytes, overrun, returns %v", what, usable, err)
					}
					*end--
				}
			}
		}
		for _, size := range []int{8, 50, 1000, 20_000, 32<<10 - 8, 32<<10 - 7, 100_000} {
			for _, by := range []source{m, other} { // who frees
				for range 2 {
					var ps []unsafe.Pointer
					for range 40 { // at hand, freed by others, fresh
						p := mustMalloc(t, m, size)
						look("malloc", p)
						ps = append(ps, p)
					}
					for i, p := range ps {
						mustFree(t, by, p)
						if i%8 == 0 {
							for range 2 { // the one that was taken last
								p = mustMalloc(t, m, size)
								look("the last", p)
								mustFree(t, m, p)
							}
						}
					}
				}
				p, err := m.UnsafeCalloc(size)
				if err != nil {
					t.Fatal(err)
				}
				look("calloc", p)
				if p, err = m.UnsafeRealloc(p, size+size/8); err != nil {
					t.Fatal(err)
				}
				look("grown", p)
				if p, err = m.UnsafeRealloc(p, size/3+1); err != nil {
					t.Fatal(err)
				}
				look("shrunk", p)
				mustFree(t, by, p)
				if p, err = m.UnsafeAlignedMalloc(size, 256); err != nil {
					t.Fatal(err)
				}
				look("aligned", p)
				mustFree(t, by, p)
				ps := make([]unsafe.Pointer, 40)
				if err := a.UnsafeMallocBatch(ps, size); err != nil {
					t.Fatal(err)
				}
				for _, p := range ps {
					look("batch", p)
				}
				if err := a.UnsafeFreeBatch(ps); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// What a program writes to blocks that are at hand, all over them, makes no block be
// handed out twice, and none that was written to.
func TestHardDamaged(t *testing.T) {
	if !pin.Pinned {
		t.Skip("the goroutine may free on another shard, whose blocks are at hand nowhere")
	}
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		const n = 100
		live := map[unsafe.Pointer]bool{}
		var ps []unsafe.Pointer
		for range n {
			ps = append(ps, mustMalloc(t, m, 56))
		}
		for _, p := range ps {
			mustFree(t, m, p)
		}
		bad := map[unsafe.Pointer]bool{}
		for i, p := range ps {
			if i%3 == 0 {
				scribble(p, 64)
				bad[p] = true
			}
		}
		found := len(bad)
		for range 2000 {
			p, err := m.UnsafeMalloc(56)
			if errors.Is(err, ErrCorrupted) {
				found--
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if bad[p] || live[p] {
				t.Fatalf("block %p is handed out, written to when it was free: %v, in use: %v", p, bad[p], live[p])
			}
			live[p] = true
		}
		if found != 0 {
			t.Errorf("%d of %d blocks that were written to were not found", found, len(bad))
		}
		for p := range live {
			mustFree(t, m, p)
		}
		if s := a.Stats(); s.LiveBlocks != uint64(len(bad)) {
			t.Errorf("%d blocks are live, want the %d that are lost", s.LiveBlocks, len(bad))
		}
		if err := a.Check(); err != nil {
			t.Error(err)
		}
	})
}

// A block that shrinks tells of damaged ones that it meets, and is as it was.
func TestHardShrinks(t *testing.T) {
	if !pin.Pinned {
		t.Skip("the goroutine may free on another shard, whose blocks are at hand nowhere")
	}
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		const n = 100
		var ps []unsafe.Pointer
		for range n {
			ps = append(ps, mustMalloc(t, m, 56))
		}
		for _, p := range ps {
			mustFree(t, m, p)
			scribble(p, 8)
		}
		found := 0
		for range 2000 {
			p := mustMalloc(t, m, 1000)
			*(*int)(p) = 42
			q, err := m.UnsafeRealloc(p, 56)
			switch {
			case errors.Is(err, ErrCorrupted):
				found++
				q = p
			case err != nil:
				t.Fatal(err)
			}
			if *(*int)(q) != 42 {
				t.Fatalf("the block has %d, want 42", *(*int)(q))
			}
			if q == p {
				mustFree(t, m, p)
			}
		}
		if found != n {
			t.Errorf("%d damaged blocks were told of, want %d", found, n)
		}
	})
}

// Check sees a write to a block that is at hand.
func TestHardCheck(t *testing.T) {
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		p := mustMalloc(t, m, 56)
		mustFree(t, m, p)
		if err := a.Check(); err != nil {
			t.Fatal(err)
		}
		for _, frees := range []int{1, 2} { // at the second it is kept, but where it is wiped
			for range frees {
				p = mustMalloc(t, m, 56) // the first of another shard
				mustFree(t, m, p)
			}
			scribble(p, 8)
			if err := a.Check(); !errors.Is(err, ErrCorrupted) {
				t.Errorf("Check() = %v after a write to a block that was freed %d times", err, frees)
			}
			pool.Seal(uintptr(p))
		}
	})
}

// A block that was written to while it was at hand is never handed out, whatever comes
// between: Check, which tells of it each time, and Trim, which gives back what is free. The
// next malloc that meets it tells of it, once.
func TestHardDrained(t *testing.T) {
	if !pin.Pinned {
		t.Skip("the goroutine may free on another shard, whose blocks are at hand nowhere")
	}
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		for _, n := range []int{1, 2, 17, 40} { // freed: the first is kept, and the last beyond those at hand
			for _, live := range []int{0, 1} { // others of their pool
				for _, value := range []uint64{0, 0x4141_4141_4141_4141 &^ (1 << 32)} {
					for _, check := range []bool{false, true} {
						var ps, keep []unsafe.Pointer
						for range n {
							ps = append(ps, mustMalloc(t, m, 56))
						}
						for range live {
							keep = append(keep, mustMalloc(t, m, 56))
						}
						for _, p := range ps {
							mustFree(t, m, p)
						}
						if n == 1 {
							ps[0] = mustMalloc(t, m, 56)
							mustFree(t, m, ps[0])
						}
						bad := ps[0]
						*(*uint64)(bad) = value
						name := fmt.Sprintf("%d freed, %d live, %#x written, Check %v", n, live, value, check)
						for range 2 {
							if check {
								if err := a.Check(); !errors.Is(err, ErrCorrupted) {
									t.Errorf("%s: Check() = %v", name, err)
								}
							} else if err := a.Trim(); err != nil {
								t.Error(err)
							}
						}
						found := 0
						for range 600 { // more than a pool has
							p, err := m.UnsafeMalloc(56)
							switch {
							case errors.Is(err, ErrCorrupted):
								found++
							case err != nil:
								t.Fatal(err)
							case p == bad:
								t.Fatalf("%s: the block is handed out", name)
							default:
								keep = append(keep, p)
							}
						}
						if found != 1 {
							t.Errorf("%s: mallocs told of it %d times", name, found)
						}
						if err := a.Check(); err != nil {
							t.Errorf("%s: when malloc has told, Check() = %v", name, err)
						}
						for _, p := range keep {
							mustFree(t, m, p)
						}
						if err := a.Trim(); err != nil {
							t.Error(err)
						}
					}
				}
			}
		}
	})
}

// A block that is whole again by the time that its pool is given up is no reason to keep
// the pool.
func TestHardMended(t *testing.T) {
	if !pin.Pinned {
		t.Skip("the goroutine may free on another shard, whose blocks are at hand nowhere")
	}
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		p := mustMalloc(t, m, 56)
		mustFree(t, m, p)
		scribble(p, 8)
		if err := a.Check(); !errors.Is(err, ErrCorrupted) {
			t.Fatalf("Check() = %v after a write to a free block", err)
		}
		pool.Seal(uintptr(p))
		if err := a.Trim(); err != nil {
			t.Error(err)
		}
		if s := a.Stats(); s.MappedBytes != 0 {
			t.Errorf("%d bytes stay mapped", s.MappedBytes)
		}
	})
}

// TestHardModel allocates and frees at random, and looks that no two blocks are one, that
// none changes, and that the counts are right all the time.
func TestHardModel(t *testing.T) {
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		type block struct {
			p    unsafe.Pointer
			size int
			b    byte
		}
		rng := rand.New(rand.NewPCG(3, 4))
		content := func(b block) []byte { return unsafe.Slice((*byte)(b.p), b.size) }
		var live []block
		starts := map[unsafe.Pointer]bool{}
		bytesLive := uint64(0)
		for step := range 30_000 {
			if full := step / 500 % 4; rng.IntN(8) < 2+2*min(full, 2) {
				size := 1 + rng.IntN(40<<rng.IntN(10))
				p := mustMalloc(t, m, size)
				b := block{p, size, byte(rng.IntN(256))}
				if starts[p] {
					t.Fatalf("block %p is handed out twice", p)
				}
				starts[p] = true
				copy(content(b), bytes.Repeat([]byte{b.b}, size))
				live = append(live, b)
				bytesLive += uint64(UnsafeUsableSize(p))
			} else if len(live) > 0 {
				i := rng.IntN(len(live))
				b := live[i]
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
				if bytes.Count(content(b), []byte{b.b}) != b.size {
					t.Fatalf("block %p was written to while in use", b.p)
				}
				bytesLive -= uint64(UnsafeUsableSize(b.p))
				delete(starts, b.p)
				mustFree(t, m, b.p)
			}
			if step%1000 == 0 {
				if s := a.Stats(); s.LiveBlocks != uint64(len(live)) || s.InUseBytes != bytesLive {
					t.Fatalf("%d blocks of %d bytes are live, want %d of %d", s.LiveBlocks, s.InUseBytes, len(live), bytesLive)
				}
			}
			if step%5000 == 0 {
				if err := a.Check(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, b := range live {
			mustFree(t, m, b.p)
		}
		requireEmpty(t, a)
	})
}

// Pools that were full, and are empty, are found again.
func TestHardReuse(t *testing.T) {
	eachHard(t, func(t *testing.T, a *Allocator, m source) {
		mapped := uint64(0)
		for round := range 8 {
			var ps []unsafe.Pointer
			for range 2000 {
				ps = append(ps, mustMalloc(t, m, 200))
			}
			if now := a.Stats().MappedBytes; round == 0 {
				mapped = now
			} else if now > mapped {
				t.Fatalf("%d bytes are mapped for the same blocks, %d were before", now, mapped)
			}
			for _, p := range ps {
				mustFree(t, m, p)
			}
		}
	})
}

// At the limit the blocks that are at hand are handed out too, however few.
func TestHardLimit(t *testing.T) {
	for _, size := range []int{56, 1000, 5000} {
		a := newAllocator(t, Options{Canaries: true, LimitBytes: 1 << 20})
		var ps []unsafe.Pointer
		for {
			p, err := a.UnsafeMalloc(size)
			if errors.Is(err, ErrLimit) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			ps = append(ps, p)
		}
		if s := a.Stats(); len(ps)*size < 1<<19 || s.LiveBlocks != uint64(len(ps)) {
			t.Errorf("%d blocks of %d bytes fit into 1 MiB, %d are live", len(ps), size, s.LiveBlocks)
		}
		for range 5 {
			n := 0
			for i := 0; i < len(ps); i += 2 {
				mustFree(t, a, ps[i])
				n++
			}
			for i := 0; i < len(ps); i += 2 {
				p, err := a.UnsafeMalloc(size)
				if err != nil {
					t.Fatalf("%d of %d blocks of %d bytes that were freed are handed out: %v", i/2, n, size, err)
				}
				ps[i] = p
			}
			if p, err := a.UnsafeMalloc(size); !errors.Is(err, ErrLimit) {
				t.Fatalf("%d bytes: one more block than there is room for is %p, %v", size, p, err)
			}
		}
	}
}

// A shard that was a hardened allocator's may be another's later, and the other way round.
func TestHardAndNot(t *testing.T) {
	for n := range 6 {
		a := newAllocator(t, Options{Hardened: n%3 == 1, Canaries: n%3 == 2})
		for range 3 {
			seen := map[unsafe.Pointer]bool{}
			var ps []unsafe.Pointer
			for range 300 {
				p := mustMalloc(t, a, 8+8*(len(ps)%20))
				if seen[p] {
					t.Fatalf("block %p is handed out twice", p)
				}
				seen[p] = true
				ps = append(ps, p)
			}
			for _, p := range ps {
				mustFree(t, a, p)
			}
			requireEmpty(t, a) // drains the shards
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// scribble writes n bytes where the program should not.
func scribble(p unsafe.Pointer, n int) {
	for i := range n {
		*(*byte)(unsafe.Add(p, i)) = 0x41
	}
}
