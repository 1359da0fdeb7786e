package pymalloc

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/osmem"
)

func mustMalloc(t testing.TB, src source, size int) unsafe.Pointer {
	t.Helper()
	p, err := src.UnsafeMalloc(size)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustFree(t testing.TB, src source, p unsafe.Pointer) {
	t.Helper()
	if err := src.UnsafeFree(p); err != nil {
		t.Fatal(err)
	}
}

func newAllocator(t testing.TB, o Options) *Allocator {
	t.Helper()
	a, err := NewAllocator(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// fill allocates about total bytes in blocks of mixed sizes.
func fill(t testing.TB, src source, total int) (ps []unsafe.Pointer) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for n := 0; n < total; {
		size := stressSize(r)
		ps = append(ps, mustMalloc(t, src, size))
		n += size
	}
	return ps
}

func TestTrimUnmapsAll(t *testing.T) {
	a := newAllocator(t, Options{})
	ps := fill(t, a, 64<<20)
	if s := a.Stats(); s.MappedBytes < 64<<20 || s.LiveBlocks != uint64(len(ps)) {
		t.Errorf("mapped %d, live %d; want at least %d, %d", s.MappedBytes, s.LiveBlocks, 64<<20, len(ps))
	}
	for _, p := range ps {
		mustFree(t, a, p)
	}
	requireEmpty(t, a)
}

// freedBy frees ps from other goroutines than the one that allocated them, on
// other Ps.
func freedBy(t *testing.T, a *Allocator, ps []unsafe.Pointer, goroutines int) {
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			runtime.LockOSThread()
			for j := i; j < len(ps); j += goroutines {
				if err := a.UnsafeFree(ps[j]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestTrimAfterForeignFrees(t *testing.T) {
	a := newAllocator(t, Options{})
	for range 3 {
		ps := fill(t, a, 16<<20)
		freedBy(t, a, ps, 4)
		requireEmpty(t, a)
	}
}

// waitFor polls until ok, for as long as a busy machine may take.
func waitFor(ok func() bool) bool {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// An idle allocator gives back on its own what it may not retain, and then the rest.
func TestIdleGivesBack(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		a := newAllocator(t, Options{RetainBytes: 4 << 20, RetainDelay: 300 * time.Millisecond})
		ps := fill(t, a, 32<<20)
		if foreign {
			freedBy(t, a, ps, 4)
		} else {
			for _, p := range ps {
				mustFree(t, a, p)
			}
		}
		if !waitFor(func() bool { return a.Stats().MappedBytes <= 4<<20 }) {
			t.Errorf("foreign=%v: %d bytes still mapped, more than RetainBytes", foreign, a.Stats().MappedBytes)
		}
		if !waitFor(func() bool { return a.Stats().MappedBytes == 0 }) {
			t.Errorf("foreign=%v: %d bytes still mapped\n%s", foreign, a.Stats().MappedBytes, a.Stats())
		}
	}
}

// A loop across the edge of an arena maps and unmaps next to nothing.
func TestNoThrashing(t *testing.T) {
	a := newAllocator(t, Options{})
	var ps []unsafe.Pointer
	for a.Stats().Arenas.Current < 2 {
		ps = append(ps, mustMalloc(t, a, 2048))
	}
	mustFree(t, a, ps[len(ps)-1])
	ps = ps[:len(ps)-1]
	rounds := 1_000_000
	if testing.Short() {
		rounds = 100_000
	}
	before := osmem.Calls()
	var edge [32]unsafe.Pointer
	for i := range rounds / len(edge) {
		for j := range edge {
			edge[j] = mustMalloc(t, a, 2048)
		}
		for j := range edge {
			mustFree(t, a, edge[(j*7+i)%len(edge)])
		}
	}
	made := osmem.Calls().Sub(before)
	if n := made.Map + made.Release; n >= 100 {
		t.Errorf("%d calls of mmap and munmap, want fewer than 100", n)
	}
	for _, p := range ps {
		mustFree(t, a, p)
	}
}

func TestBadFree(t *testing.T) {
	var a, other Allocator
	defer a.Close()
	defer other.Close()
	small, medium, run, huge := mustMalloc(t, &a, 64), mustMalloc(t, &a, 20_000), mustMalloc(t, &a, 100_000), mustMalloc(t, &a, 3<<20)
	var local int
	onHeap := new([64]byte)
	bad := []struct {
		name string
		p    unsafe.Pointer
	}{
		{"stack", unsafe.Pointer(&local)},
		{"Go heap", unsafe.Pointer(onHeap)},
		{"middle of a small block", unsafe.Add(small, 16)},
		{"odd address", unsafe.Add(small, 1)},
		{"middle of a medium block", unsafe.Add(medium, 16<<10)},
		{"untouched block", unsafe.Add(small, 64*100)},
		{"middle of a run", unsafe.Add(run, 16)},
		{"second unit of a run", unsafe.Add(run, 16<<10)},
		{"middle of a huge block", unsafe.Add(huge, 4096)},
		{"second arena step of a huge block", unsafe.Add(huge, 1<<20)},
		{"a block of another allocator", mustMalloc(t, &other, 64)},
		{"a huge block of another allocator", mustMalloc(t, &other, 3<<20)},
	}
	h := a.AcquireHeap()
	defer h.Release()
	before := a.Stats()
	for _, c := range bad {
		for name, src := range map[string]source{"Allocator": &a, "Heap": h} {
			err := src.UnsafeFree(c.p)
			if pe := (*PointerError)(nil); !errors.Is(err, ErrNotOwned) || !errors.As(err, &pe) || pe.Addr != uintptr(c.p) {
				t.Errorf("%s.UnsafeFree(%s) = %v, want ErrNotOwned", name, c.name, err)
			}
			if q, err := src.UnsafeRealloc(c.p, 100); !errors.Is(err, ErrNotOwned) || q != nil {
				t.Errorf("%s.UnsafeRealloc(%s) = %v, %v, want ErrNotOwned", name, c.name, q, err)
			}
		}
		if err := a.UnsafeFreeBatch([]unsafe.Pointer{nil, c.p}); !errors.Is(err, ErrNotOwned) {
			t.Errorf("UnsafeFreeBatch(%s) = %v, want ErrNotOwned", c.name, err)
		}
	}
	for _, p := range []uintptr{1, 16, 4095, 1 << 30, ^uintptr(15), ^uintptr(0), uintptr(small) + 8} {
		if err := a.UintptrFree(p); !errors.Is(err, ErrNotOwned) {
			t.Errorf("UintptrFree(%#x) = %v, want ErrNotOwned", p, err)
		}
		if _, err := a.UintptrRealloc(p, 9); !errors.Is(err, ErrNotOwned) {
			t.Errorf("UintptrRealloc(%#x) = %v, want ErrNotOwned", p, err)
		}
		if n := UintptrUsableSize(p); n != 0 {
			t.Errorf("UintptrUsableSize(%#x) = %d, want 0", p, n)
		}
	}
	if after := a.Stats(); after.LiveBlocks != before.LiveBlocks || after.InUseBytes != before.InUseBytes {
		t.Errorf("bad frees changed the statistics: %v, then %v", before, after)
	}
	for _, p := range []unsafe.Pointer{nil, small, medium, run, huge} {
		if err := a.UnsafeFree(p); err != nil {
			t.Errorf("UnsafeFree(%p) = %v", p, err)
		}
	}
	runtime.KeepAlive(onHeap)
	h.Release()
	requireEmpty(t, &a)
}

// An address whose arena is gone is nobody's.
func TestFreeAfterUnmap(t *testing.T) {
	var a Allocator
	p, huge := mustMalloc(t, &a, 64), mustMalloc(t, &a, 3<<20)
	mustFree(t, &a, p)
	mustFree(t, &a, huge)
	requireEmpty(t, &a)
	for _, p := range []unsafe.Pointer{p, huge} {
		if err := a.UnsafeFree(p); !errors.Is(err, ErrNotOwned) {
			t.Errorf("UnsafeFree of an unmapped block = %v, want ErrNotOwned", err)
		}
		if n := UnsafeUsableSize(p); n != 0 {
			t.Errorf("usable size of an unmapped block = %d, want 0", n)
		}
		if a.Owns(p) {
			t.Errorf("Owns(%p) after unmap", p)
		}
	}
}

// A block whose pool was given up, and is in its arena, is free for all that: one of several
// units too, also where others have freed its blocks.
func TestDoubleFreeGivenUp(t *testing.T) {
	for _, o := range []Options{{}, {Hardened: true}, {Canaries: true}, {WipeOnFree: true}} {
		o.RetainDelay = time.Hour // what was unmapped is nobody's
		for _, size := range []int{64, 5000, 20_000, 32 << 10} {
			a := newAllocator(t, o)
			h, other := a.AcquireHeap(), a.AcquireHeap()
			for _, by := range []source{h, other} {
				var ps []unsafe.Pointer
				for range 100 {
					ps = append(ps, mustMalloc(t, h, size))
				}
				for _, p := range ps {
					mustFree(t, by, p)
				}
				if err := a.Check(); err != nil { // it drains the shards, and gives nothing to the system
					t.Error(err)
				}
				if s := a.Stats(); s.LiveBlocks != 0 {
					t.Fatalf("%d blocks are live", s.LiveBlocks)
				}
				for i, p := range ps {
					if err := h.UnsafeFree(p); !errors.Is(err, ErrDoubleFree) {
						t.Fatalf("block %d of %d bytes, freed by its owner: %v, is freed again: %v", i, size, by == source(h), err)
					}
				}
			}
			h.Release()
			other.Release()
		}
	}
}

func TestDoubleFree(t *testing.T) {
	for _, o := range []Options{{}, {Hardened: true}, {Canaries: true}, {WipeOnFree: true}} {
		testDoubleFree(t, o)
	}
}

func testDoubleFree(t *testing.T, o Options) {
	o.RetainDelay = time.Hour // what was unmapped is nobody's
	for _, size := range []int{1, 16, 64, 500, 2048, 5000, 32768, 100_000, 3 << 20} {
		a := newAllocator(t, o)
		h := a.AcquireHeap()
		sources := []source{a, h}
		frees := []func(unsafe.Pointer) error{a.UnsafeFree, h.UnsafeFree, func(p unsafe.Pointer) error {
			return a.UnsafeFreeBatch([]unsafe.Pointer{p})
		}}
		// The owner frees twice; somebody else does; both do. With other frees
		// between, and without.
		for first := range frees {
			for second := range frees {
				for _, between := range []int{0, 1, 5} {
					live := map[unsafe.Pointer]bool{}
					p := mustMalloc(t, sources[0], size)
					var others []unsafe.Pointer
					for range between {
						others = append(others, mustMalloc(t, sources[0], size))
					}
					if err := frees[first](p); err != nil {
						t.Errorf("size %d: free %d: %v", size, first, err)
					}
					for _, o := range others {
						mustFree(t, sources[0], o)
					}
					if err := frees[second](p); !errors.Is(err, ErrDoubleFree) {
						t.Errorf("size %d, first %d, second %d, between %d: %v, want ErrDoubleFree", size, first, second, between, err)
					}
					if _, err := sources[second%2].UnsafeRealloc(p, size+1); !errors.Is(err, ErrDoubleFree) {
						t.Errorf("size %d: realloc of a free block: %v, want ErrDoubleFree", size, err)
					}
					for i := range 50 {
						p := mustMalloc(t, sources[i%2], size)
						if live[p] {
							t.Fatalf("size %d: %p was handed out twice", size, p)
						}
						live[p] = true
					}
					for p := range live {
						mustFree(t, a, p)
					}
				}
			}
		}
		h.Release()
		requireEmpty(t, a)
		a.Close()
	}
}

// What a program writes to free blocks never makes the allocator fail otherwise
// than with ErrCorrupted, or hand a block out twice.
func TestUseAfterFree(t *testing.T) {
	a := newAllocator(t, Options{})
	h := a.AcquireHeap()
	defer h.Release()
	live := map[unsafe.Pointer]bool{}
	var ps []unsafe.Pointer
	for range 2000 {
		ps = append(ps, mustMalloc(t, h, 48))
	}
	corrupted := 0
	for round := range 5 {
		for _, p := range ps[:1000] {
			if round%2 == 0 {
				mustFree(t, a, p) // remote: linked through the block
			} else {
				mustFree(t, h, p)
			}
		}
		for i, p := range ps[:1000] {
			if i%7 == 0 {
				*(*uint64)(p) = 0x4141414141414141
			}
		}
		clear(live)
		for _, p := range ps[1000:] {
			live[p] = true
		}
		for i := range 1000 {
			p, err := h.UnsafeMalloc(48)
			for errors.Is(err, ErrCorrupted) {
				corrupted++
				p, err = h.UnsafeMalloc(48)
			}
			if err != nil || live[p] {
				t.Fatalf("round %d: %p, %v; live: %v", round, p, err, live[p])
			}
			live[p] = true
			ps[i] = p
		}
	}
	if corrupted == 0 {
		t.Error("writes to blocks of a remote list were not noticed")
	}
}

// A block that is kept for the next malloc is none to reallocate, whatever was
// written to it.
func TestReallocAfterFree(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the shard that keeps it is ours
	a := newAllocator(t, Options{})
	h := a.AcquireHeap()
	defer h.Release()
	for _, src := range []source{h, a} {
		p := mustMalloc(t, src, 64)
		for range 3 { // to its pool's magazine, then it is kept
			mustFree(t, src, p)
			p = mustMalloc(t, src, 64)
		}
		mustFree(t, src, p)
		if q, err := src.UnsafeRealloc(p, 60); !errors.Is(err, ErrDoubleFree) && pin.Pinned {
			t.Errorf("%T: %p, %v, want ErrDoubleFree", src, q, err)
		}
	}
}

// TestFreeTogether: of two goroutines that free a block at the same moment, neither
// of them its pool's owner, one succeeds, and the other is told that it is free.
func TestFreeTogether(t *testing.T) {
	for _, size := range []int{64, 20_000, 40_000, 200_000, 700_000} {
		a := newAllocator(t, Options{})
		owner := a.AcquireHeap()
		for range 2000 {
			p := mustMalloc(t, owner, size)
			var errs [2]error
			var wg sync.WaitGroup
			var ready atomic.Int32
			for i := range errs {
				wg.Go(func() {
					for ready.Add(1); ready.Load() < 2; {
						runtime.Gosched()
					}
					errs[i] = a.UnsafeFree(p)
				})
			}
			wg.Wait()
			if errs[0] != nil {
				errs[0], errs[1] = errs[1], errs[0]
			}
			if errs[0] != nil || !errors.Is(errs[1], ErrDoubleFree) {
				t.Fatalf("%d bytes: %v and %v, want nil and ErrDoubleFree", size, errs[0], errs[1])
			}
		}
		owner.Release()
	}
}

func TestBadSizes(t *testing.T) {
	var a Allocator
	h := a.AcquireHeap()
	defer a.Close()
	maxInt := int(^uint(0) >> 1)
	for _, size := range []int{maxInt, maxInt - 1, maxInt - 4096, maxInt - 1<<20} {
		for _, f := range []func(int) (unsafe.Pointer, error){
			a.UnsafeMalloc, a.UnsafeCalloc, h.UnsafeMalloc, h.UnsafeCalloc,
			func(n int) (unsafe.Pointer, error) { return a.UnsafeAlignedMalloc(n, 1<<20) },
			func(n int) (unsafe.Pointer, error) { return a.UnsafeRealloc(nil, n) },
		} {
			p, err := f(size)
			if se := (*SizeError)(nil); p != nil || !errors.Is(err, ErrNoMemory) || !errors.As(err, &se) || se.Size != size {
				t.Errorf("size %d: %v, %v; want ErrNoMemory", size, p, err)
			}
		}
	}
	for name, f := range map[string]func(){
		"UnsafeMalloc":        func() { _, _ = a.UnsafeMalloc(-1) },
		"UnsafeCalloc":        func() { _, _ = a.UnsafeCalloc(-1) },
		"Malloc":              func() { _, _ = a.Malloc(-5) },
		"UintptrMalloc":       func() { _, _ = a.UintptrMalloc(-maxInt) },
		"UnsafeRealloc":       func() { _, _ = a.UnsafeRealloc(nil, -1) },
		"Heap.UnsafeMalloc":   func() { _, _ = h.UnsafeMalloc(-1) },
		"UnsafeAlignedMalloc": func() { _, _ = a.UnsafeAlignedMalloc(16, 24) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a negative size or bad alignment did not panic", name)
				}
			}()
			f()
		}()
	}
	for _, src := range []source{&a, h} {
		if p, err := src.UnsafeMalloc(0); p != nil || err != nil {
			t.Errorf("UnsafeMalloc(0) = %v, %v; want nil, nil", p, err)
		}
	}
	if err := a.UnsafeMallocBatch(make([]unsafe.Pointer, 3), maxInt); !errors.Is(err, ErrNoMemory) {
		t.Errorf("UnsafeMallocBatch(MaxInt) = %v", err)
	}
}

func TestLimit(t *testing.T) {
	const limit = 8 << 20
	a := newAllocator(t, Options{LimitBytes: limit})
	for _, size := range []int{64, 5000, 100_000, 600_000} {
		var ps []unsafe.Pointer
		for {
			p, err := a.UnsafeMalloc(size)
			if err != nil {
				if !errors.Is(err, ErrLimit) || !errors.Is(err, ErrNoMemory) {
					t.Fatalf("size %d: %v, want ErrLimit", size, err)
				}
				break
			}
			ps = append(ps, p)
			if s := a.Stats(); len(ps)%1000 == 0 && s.MappedBytes > limit {
				t.Fatalf("%d bytes mapped, limit %d", s.MappedBytes, limit)
			}
		}
		if got := len(ps) * size; got < limit/2 {
			t.Errorf("size %d: only %d bytes below a limit of %d", size, got, limit)
		}
		for _, p := range ps {
			mustFree(t, a, p)
		}
		// The next size finds the memory again, without Trim.
	}
	requireEmpty(t, a)
}

func TestClose(t *testing.T) {
	var a Allocator
	h := a.AcquireHeap()
	ps := fill(t, &a, 8<<20)
	ps = append(ps, mustMalloc(t, h, 64))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if err := a.UnsafeFree(p); !errors.Is(err, ErrNotOwned) {
			t.Fatalf("free of a block from before Close: %v, want ErrNotOwned", err)
		}
	}
	if _, err := h.UnsafeMalloc(8); !errors.Is(err, ErrReleased) {
		t.Errorf("malloc on a heap of a closed allocator: %v, want ErrReleased", err)
	}
	if err := h.UnsafeFree(ps[0]); !errors.Is(err, ErrNotOwned) {
		t.Errorf("free on a heap of a closed allocator: %v, want ErrNotOwned", err)
	}
	h.Release()
	if s := a.Stats(); s.MappedBytes != 0 || s.LiveBlocks != 0 {
		t.Errorf("after Close: %d bytes, %d blocks", s.MappedBytes, s.LiveBlocks)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	p := mustMalloc(t, &a, 64) // usable again
	mustFree(t, &a, p)
	requireEmpty(t, &a)
	a.Close()
}

func TestHeapRelease(t *testing.T) {
	a := newAllocator(t, Options{})
	h := a.AcquireHeap()
	ps := fill(t, h, 4<<20)
	h.Release()
	h.Release()
	if _, err := h.UnsafeMalloc(8); !errors.Is(err, ErrReleased) {
		t.Errorf("malloc on a released heap: %v, want ErrReleased", err)
	}
	mustFree(t, h, ps[0])
	for _, p := range ps[1:] { // the blocks outlive the heap
		mustFree(t, a, p)
	}
	requireEmpty(t, a)
}

// A heap that is dropped is recovered by the collector.
func TestHeapDropped(t *testing.T) {
	a := newAllocator(t, Options{})
	for range 50 {
		func() {
			h := a.AcquireHeap()
			mustFree(t, h, mustMalloc(t, h, 64))
		}()
	}
	if !waitFor(func() bool {
		runtime.GC()
		return a.life.Load().HeapCount() == 0
	}) {
		t.Errorf("%d heaps were not released", a.life.Load().HeapCount())
	}
	requireEmpty(t, a)
}

func TestSynctest(t *testing.T) {
	var outside Allocator
	defer outside.Close()
	synctest.Test(t, func(t *testing.T) {
		var a Allocator
		for _, src := range []*Allocator{&a, &outside, Default()} {
			ps := fill(t, src, 4<<20)
			for _, p := range ps {
				mustFree(t, src, p)
			}
			time.Sleep(10 * time.Second) // of the bubble
			if err := src.Trim(); err != nil {
				t.Error(err)
			}
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	ps := fill(t, &outside, 4<<20)
	for _, p := range ps {
		mustFree(t, &outside, p)
	}
	runtime.GC()
	if !waitFor(func() bool { return outside.Stats().MappedBytes == 0 }) {
		t.Errorf("%d bytes stay mapped after use in a bubble", outside.Stats().MappedBytes)
	}
}

func TestRealloc(t *testing.T) {
	var a Allocator
	defer a.Close()
	h := a.AcquireHeap()
	sizes := []int{1, 15, 16, 17, 100, 512, 513, 1024, 5000, 32768, 32769, 100_000, 524_288, 524_289, 2 << 20, 5 << 20}
	for _, src := range []source{&a, h} {
		for _, from := range sizes {
			for _, to := range sizes {
				p := mustMalloc(t, src, from)
				stamp(p, from, 99)
				q, err := src.UnsafeRealloc(p, to)
				if err != nil {
					t.Fatal(err)
				}
				if err := checkStamp(q, min(from, to), 99); err != nil {
					t.Errorf("realloc %d -> %d: %v", from, to, err)
				}
				if n := UnsafeUsableSize(q); n < to {
					t.Errorf("realloc %d -> %d: usable %d", from, to, n)
				}
				stamp(q, to, 7)
				mustFree(t, src, q)
			}
		}
		p, err := src.UnsafeRealloc(nil, 64)
		if err != nil || p == nil {
			t.Fatal(p, err)
		}
		if q, err := src.UnsafeRealloc(p, 60); q != p || err != nil {
			t.Errorf("realloc to a size that fits and uses more than 3/4 moved")
		}
		if q, err := src.UnsafeRealloc(p, 0); q != nil || err != nil {
			t.Errorf("realloc to 0 = %v, %v", q, err)
		}
	}
	h.Release()
	requireEmpty(t, &a)
}

// A block that stays keeps its alignment, and one that moves is aligned to 16 bytes.
func TestReallocAligned(t *testing.T) {
	const align = 4096
	for _, o := range []Options{{}, {Canaries: true}} {
		a := newAllocator(t, o)
		h := a.AcquireHeap()
		for _, src := range []source{a, h} {
			stayed, moved := 0, 0
			for _, size := range []int{100, 20_000, 100_000, 3 << 20} {
				for _, to := range []int{50, 110, 20_100, 100_100, 1 << 20, 3<<20 + 100, 9 << 20} {
					p, err := src.UnsafeAlignedMalloc(size, align)
					if err != nil {
						t.Fatal(err)
					}
					usable := UnsafeUsableSize(p)
					stamp(p, usable, 5)
					q, err := src.UnsafeRealloc(p, to)
					if err != nil {
						t.Fatal(err)
					}
					least := uintptr(16)
					if q == p {
						least = align
						stayed++
					} else {
						moved++
						if to <= usable && 4*to > 3*usable {
							t.Errorf("realloc %d -> %d: the block moves, of whose %d bytes more than 3/4 are used", size, to, usable)
						}
					}
					if uintptr(q)%least != 0 {
						t.Errorf("realloc %d -> %d: block %p, which was %p, is not aligned to %d", size, to, q, p, least)
					}
					if err := checkStamp(q, min(to, usable), 5); err != nil {
						t.Errorf("realloc %d -> %d: %v", size, to, err)
					}
					mustFree(t, src, q)
				}
			}
			if stayed == 0 || moved == 0 {
				t.Errorf("%d blocks stayed and %d moved, want some of both", stayed, moved)
			}
		}
		h.Release()
	}
}

// Rounding: never more than the size classes promise.
func TestUsableSize(t *testing.T) {
	a := newAllocator(t, Options{})
	for _, arena := range []int{256 << 10, 512 << 10, 1 << 20, 16 << 20} {
		b := newAllocator(t, Options{ArenaBytes: arena})
		for size := 1; size < 3<<20; size += 1 + size/50 {
			p := mustMalloc(t, b, size)
			n := UnsafeUsableSize(p)
			limit := size + 15
			switch {
			case size > 1024:
				limit = max(size+size/8, size+osmem.PageSize()-1)
			case size > 512:
				limit = size + size/4
			}
			if n < size || n > limit {
				t.Errorf("arena %d: usable size of %d is %d", arena, size, n)
			}
			if uintptr(p)%16 != 0 {
				t.Errorf("%p is not aligned", p)
			}
			stamp(p, n, 5) // all of it is ours
			mustFree(t, b, p)
		}
	}
	for align := 1; align <= 8<<20; align *= 2 {
		for _, size := range []int{1, 24, 100, 1000, 5000, 33_000, 600_000} {
			p, err := a.UnsafeAlignedMalloc(size, align)
			if err != nil || uintptr(p)%uintptr(align) != 0 || UnsafeUsableSize(p) < size {
				t.Errorf("UnsafeAlignedMalloc(%d, %d) = %p, %v", size, align, p, err)
			}
			stamp(p, size, 5)
			mustFree(t, a, p)
		}
	}
	requireEmpty(t, a)
}

func TestBatch(t *testing.T) {
	var a Allocator
	defer a.Close()
	for _, size := range []int{16, 64, 2000, 20_000, 100_000} {
		ps := make([]unsafe.Pointer, 1000)
		if err := a.UnsafeMallocBatch(ps, size); err != nil {
			t.Fatal(err)
		}
		seen := map[unsafe.Pointer]bool{}
		for i, p := range ps {
			if p == nil || seen[p] {
				t.Fatalf("size %d: block %d is %p", size, i, p)
			}
			seen[p] = true
			stamp(p, size, uint64(i))
		}
		for i, p := range ps {
			if err := checkStamp(p, size, uint64(i)); err != nil {
				t.Fatal(err)
			}
		}
		double := []unsafe.Pointer{ps[0], ps[1], ps[0], nil, ps[2]}
		if err := a.UnsafeFreeBatch(double); !errors.Is(err, ErrDoubleFree) {
			t.Errorf("size %d: batch with a block twice: %v", size, err)
		}
		if err := a.UnsafeFreeBatch(ps[3:]); err != nil {
			t.Error(err)
		}
		requireEmpty(t, &a)
	}
}

// Nothing waits for the collector.
func TestWithoutCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	a := newAllocator(t, Options{RetainDelay: 100 * time.Millisecond})
	freedBy(t, a, fill(t, a, 16<<20), 3)
	if !waitFor(func() bool { return a.Stats().MappedBytes == 0 }) {
		t.Errorf("%d bytes stay mapped with GOGC=off\n%s", a.Stats().MappedBytes, a.Stats())
	}
}

// A released heap still frees, and without a shard: pools whose last block is freed
// so are not forgotten, be they full or in the hand of a trim.
func TestFreeWithoutShard(t *testing.T) {
	a := newAllocator(t, Options{})
	for round := range 20 {
		h := a.AcquireHeap()
		ps := fill(t, h, 2<<20)
		h.Release()
		done := make(chan error)
		go func() {
			var err error
			for range round {
				err = errors.Join(err, a.Trim())
			}
			done <- err
		}()
		for _, p := range ps {
			mustFree(t, h, p)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		requireEmpty(t, a)
	}
}

// Statistics are exact while shards are drained: what they have at hand is not live.
func TestStatsBesideTrim(t *testing.T) {
	a := newAllocator(t, Options{})
	var ps [16]unsafe.Pointer
	live := mustMalloc(t, a, 64)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if err := a.Trim(); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2000 {
		for i := range ps {
			ps[i] = mustMalloc(t, a, 64)
		}
		for _, p := range ps {
			mustFree(t, a, p)
		}
		if n := a.Stats().LiveBlocks; n != 1 {
			t.Errorf("%d blocks are live, want 1", n)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	mustFree(t, a, live)
}
