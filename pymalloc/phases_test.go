package pymalloc

import (
	"errors"
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// A heap that only allocates, of another class than before, does not hoard the
// pools that others have emptied.
func TestPhasesOfSizes(t *testing.T) {
	a := newAllocator(t, Options{RetainBytes: 1 << 20, RetainDelay: 10 * time.Millisecond})
	h := a.AcquireHeap()
	defer h.Release()
	const total = 32 << 20
	ps := make([]unsafe.Pointer, total/64)
	for i := range ps {
		ps[i] = mustMalloc(t, h, 64)
	}
	for _, p := range ps {
		mustFree(t, a, p)
	}
	ok := waitFor(func() bool {
		var qs [8]unsafe.Pointer
		for i := range qs {
			qs[i] = mustMalloc(t, h, 8192)
		}
		for _, q := range qs {
			mustFree(t, a, q)
		}
		return a.Stats().MappedBytes < total/4
	})
	if !ok {
		t.Errorf("%d bytes are mapped after %d were freed\n%v", a.Stats().MappedBytes, total, a.Stats())
	}
}

// The janitor comes again for a shard that was busy when it came.
func TestBusyThenIdle(t *testing.T) {
	a := newAllocator(t, Options{RetainBytes: 1 << 20, RetainDelay: 10 * time.Millisecond})
	h := a.AcquireHeap()
	defer h.Release()
	const total = 32 << 20
	ps := make([]unsafe.Pointer, total/64)
	for i := range ps {
		ps[i] = mustMalloc(t, h, 64)
	}
	for _, p := range ps {
		mustFree(t, a, p)
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for range 64 { // of the pools that it has, so that nothing new calls the janitor
			mustMalloc(t, h, 64)
		}
	}
	if !waitFor(func() bool { s := a.Stats(); return s.MappedBytes-s.InUseBytes < 8<<20 }) {
		t.Errorf("an idle allocator keeps its memory\n%v", a.Stats())
	}
}

// A shard that has only ever used its fast path is given back when idle.
func TestIdleWithoutSlowFrees(t *testing.T) {
	a := newAllocator(t, Options{RetainBytes: -1, RetainDelay: 10 * time.Millisecond})
	for size := 16; size <= 32<<10; size *= 2 {
		mustFree(t, a, mustMalloc(t, a, size))
	}
	if !waitFor(func() bool { return a.Stats().MappedBytes == 0 }) {
		t.Errorf("an idle allocator keeps its memory\n%v", a.Stats())
	}
}

// Memory that the system does not take back at the limit is used.
func TestLimitAndUnmapRefused(t *testing.T) {
	// The janitor stays away, or on a slow machine it comes before the refusals.
	a := newAllocator(t, Options{LimitBytes: 8 << 20, RetainDelay: time.Hour})
	const size = 7<<20 + 1<<19
	mustFree(t, a, mustMalloc(t, a, size))
	var refused int
	restore := osmem.SetFault(func(op osmem.Op, _ int) error {
		if op == osmem.OpRelease || op == osmem.OpDecommit {
			refused++
			return osmem.ErrNoMemory
		}
		return nil
	})
	if _, err := a.UnsafeMalloc(64); !errors.Is(err, ErrLimit) {
		t.Errorf("there is room for an arena: %v", err)
	}
	if refused == 0 {
		t.Error("nothing was to be given back: the test shows nothing")
	}
	mustFree(t, a, mustMalloc(t, a, size))
	restore()
	mustFree(t, a, mustMalloc(t, a, 64))
}

// The error of a call names that call.
func TestErrorsNameTheCall(t *testing.T) {
	a := newAllocator(t, Options{LimitBytes: 1 << 20})
	h := a.AcquireHeap()
	defer h.Release()
	p := mustMalloc(t, a, 64)
	stray := unsafe.Add(p, 8)
	for want, call := range map[string]func() error{
		"UnsafeMalloc":        func() error { _, err := a.UnsafeMalloc(math.MaxInt); return err },
		"UnsafeRealloc":       func() error { _, err := a.UnsafeRealloc(p, math.MaxInt); return err },
		"Heap.UnsafeRealloc":  func() error { _, err := h.UnsafeRealloc(p, math.MaxInt); return err },
		"UnsafeAlignedMalloc": func() error { _, err := a.UnsafeAlignedMalloc(math.MaxInt, 8); return err },
		"Realloc":             func() error { _, err := a.Realloc(nil, math.MaxInt); return err },
	} {
		var e *SizeError
		if err := call(); !errors.As(err, &e) || e.Call != want {
			t.Errorf("%s: the error is %v", want, err)
		}
	}
	for want, call := range map[string]func() error{
		"UnsafeFree":         func() error { return a.UnsafeFree(stray) },
		"Heap.UnsafeFree":    func() error { return h.UnsafeFree(stray) },
		"UnsafeRealloc":      func() error { _, err := a.UnsafeRealloc(stray, 0); return err },
		"Heap.UnsafeRealloc": func() error { _, err := h.UnsafeRealloc(stray, 10); return err },
	} {
		var e *PointerError
		if err := call(); !errors.As(err, &e) || e.Call != want {
			t.Errorf("%s: the error is %v", want, err)
		}
	}
}

// A released heap allocates nothing, of no size.
func TestReleasedHeap(t *testing.T) {
	a := newAllocator(t, Options{})
	h := a.AcquireHeap()
	p := mustMalloc(t, h, 64)
	h.Release()
	for _, size := range []int{1, 5000, 1 << 16, 1 << 21} {
		if _, err := h.UnsafeMalloc(size); !errors.Is(err, ErrReleased) {
			t.Errorf("UnsafeMalloc(%d) of a released heap: %v", size, err)
		}
		if _, err := h.UnsafeRealloc(p, size+100); !errors.Is(err, ErrReleased) {
			t.Errorf("UnsafeRealloc to %d of a released heap: %v", size, err)
		}
	}
	mustFree(t, h, p)
}

// lastOf allocates n blocks of size bytes on a new heap, which fill a pool's
// beginning: all but the first by the fast path, so that the last is remembered.
func lastOf(t *testing.T, n, size int) (a *Allocator, owner, other *Heap, ps []unsafe.Pointer) {
	t.Helper()
	a = newAllocator(t, Options{})
	owner, other = a.AcquireHeap(), a.AcquireHeap()
	t.Cleanup(owner.Release)
	t.Cleanup(other.Release)
	for range n {
		ps = append(ps, mustMalloc(t, owner, size))
	}
	return a, owner, other, ps
}

// refused fails the test if the block at p, which is free, can be freed again.
func refused(t *testing.T, src source, p unsafe.Pointer) {
	t.Helper()
	if err := src.UnsafeFree(p); !errors.Is(err, ErrDoubleFree) && !errors.Is(err, ErrNotOwned) {
		t.Errorf("a second free: %v", err)
	}
}

// perPool is how many blocks of 2048 bytes a pool has.
const perPool = 16 << 10 / 2048

// A block that was handed out last is free after others have freed it, whatever
// happens to its pool before its owner frees it again.
func TestLastBlock(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		_, owner, other, ps := lastOf(t, 3, 2048)
		mustFree(t, other, ps[2])
		refused(t, owner, ps[2])
		refused(t, other, ps[2])
	})
	t.Run("refilled", func(t *testing.T) {
		_, owner, other, ps := lastOf(t, perPool, 2048)
		mustFree(t, other, ps[0])
		mustFree(t, other, ps[perPool-1])
		p := mustMalloc(t, owner, 2048)
		for _, freed := range []unsafe.Pointer{ps[0], ps[perPool-1]} {
			if freed != p {
				refused(t, owner, freed)
			}
		}
	})
	t.Run("made quiet by another free", func(t *testing.T) {
		_, owner, other, ps := lastOf(t, 3, 2048)
		mustFree(t, other, ps[2])
		mustFree(t, owner, ps[0])
		refused(t, owner, ps[2])
	})
	t.Run("its pool is of another class", func(t *testing.T) {
		_, owner, other, ps := lastOf(t, perPool+3, 2048)
		// The full pool, the first one, comes back before that of the last block.
		mustFree(t, owner, ps[0])
		mustFree(t, owner, ps[1])
		// The one that is kept, by a way that does not remember it.
		if _, err := owner.UnsafeAlignedMalloc(2048, 32); err != nil {
			t.Fatal(err)
		}
		for _, p := range ps[perPool:] {
			mustFree(t, other, p)
		}
		for size := 16; size <= 8*16; size += 16 { // a sweep for each, and one gets the pool
			mustMalloc(t, owner, size)
		}
		refused(t, owner, ps[perPool+2])
	})
	t.Run("in the batch", func(t *testing.T) {
		a := newAllocator(t, Options{})
		p := mustMalloc(t, a, 2048)
		if err := a.UnsafeFreeBatch([]unsafe.Pointer{p}); err != nil {
			t.Fatal(err)
		}
		refused(t, a, p)
	})
}

// Blocks that the owner has collected, and not looked at yet, are free.
func TestFreeOnTheChain(t *testing.T) {
	const n = 16 << 10 / 64
	_, owner, other, ps := lastOf(t, n, 64)
	for _, p := range ps[:n-1] {
		mustFree(t, other, p)
	}
	first := mustMalloc(t, owner, 64)
	for _, p := range ps[:n-1] {
		if p != first {
			refused(t, owner, p)
		}
	}
}

// Huge mappings keep their addresses where that is asked for, whole or in parts.
func TestKeptHuge(t *testing.T) {
	const size = 3 << 20
	kept := func() uint64 { return new(Allocator).Stats().KeptAddressBytes }
	use := func(o Options, size int) (p unsafe.Pointer) {
		a := newAllocator(t, o)
		p = mustMalloc(t, a, size)
		for i, b := range unsafe.Slice((*byte)(p), size) {
			if b != 0 {
				t.Fatalf("byte %d of a fresh mapping is %#x", i, b)
			}
		}
		stamp(p, size, 1)
		mustFree(t, a, p)
		if err := a.Trim(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	// Larger than what other tests have left.
	first := use(Options{KeepAddresses: KeepAlways}, 16*size)
	if kept() < 16*size {
		t.Fatalf("%d bytes of addresses are kept, want %d", kept(), 16*size)
	}
	if p := use(Options{KeepAddresses: KeepAlways}, 16*size); p != first {
		t.Errorf("the next one is at %p, not at %p", p, first)
	}
	most := kept()
	use(Options{KeepAddresses: KeepNever}, 15*size)
	if kept() != most {
		t.Errorf("%d bytes of addresses are kept after a part was used, before %d", kept(), most)
	}
}

// A huge block that shrinks gives no addresses back that are to be kept.
func TestKeptHugeShrinks(t *testing.T) {
	a := newAllocator(t, Options{KeepAddresses: KeepAlways})
	p := mustMalloc(t, a, 8<<20)
	*(*int)(p) = 42
	before := osmem.Calls()
	q, err := a.UnsafeRealloc(p, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	if calls := osmem.Calls().Sub(before); calls.Remap+calls.Release != 0 {
		t.Errorf("addresses were given back: %+v", calls)
	}
	if *(*int)(q) != 42 {
		t.Errorf("it has %d, want 42", *(*int)(q))
	}
	mustFree(t, a, q)
}

// Nor does one of an allocator that keeps none, if its addresses were kept by another.
func TestKeptHugeShrinksElsewhere(t *testing.T) {
	give := func(o Options, sizes ...int) uint64 {
		a := newAllocator(t, o)
		p := mustMalloc(t, a, sizes[0])
		for _, size := range sizes[1:] {
			var err error
			if p, err = a.UnsafeRealloc(p, size); err != nil {
				t.Fatal(err)
			}
		}
		mustFree(t, a, p)
		if err := a.Trim(); err != nil {
			t.Fatal(err)
		}
		return a.Stats().KeptAddressBytes
	}
	kept := give(Options{KeepAddresses: KeepAlways}, 64<<20) // larger than what other tests have left
	if n := give(Options{KeepAddresses: KeepNever}, 63<<20, 2<<20); n < kept {
		t.Errorf("%d bytes of addresses are kept, before %d", n, kept)
	}
}
