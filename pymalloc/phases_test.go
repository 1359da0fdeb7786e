package pymalloc

import (
	"errors"
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// What lies in front of an arena's first pool is nobody's block, whatever the
// bitmaps there say at the moment.
func TestBadFreeOfHeaders(t *testing.T) {
	for arena := 256 << 10; arena <= 64<<20; arena *= 2 {
		a := newAllocator(t, Options{ArenaBytes: arena})
		var live []unsafe.Pointer
		for n := 0; n < arena+arena/2; n += 48 << 10 { // runs, for bitmaps with holes
			p := mustMalloc(t, a, 48<<10)
			if n/(48<<10)%3 == 0 {
				mustFree(t, a, p)
				continue
			}
			live = append(live, p)
		}
		a.Trim() // the dirty bits too
		before := a.Stats().InUseBytes
		base := unsafe.Add(live[0], -int(uintptr(live[0])&uintptr(arena-1)))
		for off := 0; off < arena/64; off += 80 {
			p := unsafe.Add(base, off)
			if err := a.UnsafeFree(p); !errors.Is(err, ErrNotOwned) {
				t.Fatalf("arena of %d: free at offset %d: %v, want ErrNotOwned", arena, off, err)
			}
			if n := UnsafeUsableSize(p); n != 0 {
				t.Fatalf("arena of %d: usable size at offset %d: %d", arena, off, n)
			}
		}
		if after := a.Stats().InUseBytes; after != before {
			t.Errorf("arena of %d: %d bytes in use, were %d", arena, after, before)
		}
		for _, p := range live {
			mustFree(t, a, p)
		}
	}
}

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
	ok := waitFor(10*time.Second, func() bool {
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
	for _, p := range fill(t, h, total) {
		mustFree(t, a, p)
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		mustMalloc(t, h, 8192)
	}
	if !waitFor(10*time.Second, func() bool { s := a.Stats(); return s.MappedBytes-s.InUseBytes < 8<<20 }) {
		t.Errorf("an idle allocator keeps its memory\n%v", a.Stats())
	}
}

// A shard that has only ever used its fast path is given back when idle.
func TestIdleWithoutSlowFrees(t *testing.T) {
	a := newAllocator(t, Options{RetainBytes: -1, RetainDelay: 10 * time.Millisecond})
	for size := 16; size <= 32<<10; size *= 2 {
		mustFree(t, a, mustMalloc(t, a, size))
	}
	if !waitFor(10*time.Second, func() bool { return a.Stats().MappedBytes == 0 }) {
		t.Errorf("an idle allocator keeps its memory\n%v", a.Stats())
	}
}

// A hole that is there is found before the limit is reported, be it in the last
// arena that one would look at.
func TestLimitWithHoles(t *testing.T) {
	const run = 48 << 10
	a := newAllocator(t, Options{LimitBytes: 48 << 20})
	var ps []unsafe.Pointer
	for {
		p, err := a.UnsafeMalloc(run)
		if err != nil {
			break
		}
		ps = append(ps, p)
	}
	last := uintptr(ps[len(ps)-1]) &^ (1<<20 - 1)
	for i, p := range ps {
		if i%2 == 0 || uintptr(p)&^(1<<20-1) == last {
			mustFree(t, a, p)
		}
	}
	for _, size := range []int{64 << 10, 256 << 10, 20_000} {
		mustFree(t, a, mustMalloc(t, a, size))
	}
}

// Memory that the system does not take back at the limit is used.
func TestLimitAndUnmapRefused(t *testing.T) {
	a := newAllocator(t, Options{LimitBytes: 8 << 20})
	h := a.AcquireHeap()
	defer h.Release()
	var ps []unsafe.Pointer
	for range 600 {
		ps = append(ps, mustMalloc(t, h, 1024))
	}
	for len(ps) < 1200 {
		ps = append(ps, mustMalloc(t, h, 10_000))
	}
	for _, p := range ps {
		mustFree(t, h, p)
	}
	defer osmem.SetFault(func(op osmem.Op, _ int) error {
		if op == osmem.OpRelease || op == osmem.OpMap {
			return osmem.ErrNoMemory
		}
		return nil
	})()
	mustFree(t, a, mustMalloc(t, a, 8192))
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

// A block that was handed out last, freed by others, and freed by all again, is
// free once: whether its pool is looked at in between or not.
func TestLastBlock(t *testing.T) {
	for _, size := range []int{16, 64, 512, 5000} {
		a := newAllocator(t, Options{})
		owner, other := a.AcquireHeap(), a.AcquireHeap()
		for range 1000 {
			p := mustMalloc(t, owner, size)
			mustFree(t, other, p)
			for _, src := range []source{owner, other, a} {
				if err := src.UnsafeFree(p); !errors.Is(err, ErrDoubleFree) {
					t.Fatalf("size %d: second free: %v, want ErrDoubleFree", size, err)
				}
			}
			q := mustMalloc(t, owner, size)
			if q == p {
				t.Fatalf("size %d: handed out from the remote list without a refill", size)
			}
			mustFree(t, owner, q)
			if err := owner.UnsafeFree(q); !errors.Is(err, ErrDoubleFree) {
				t.Fatalf("size %d: second free: %v, want ErrDoubleFree", size, err)
			}
			seen := map[unsafe.Pointer]bool{}
			for range 40 {
				p := mustMalloc(t, owner, size)
				if seen[p] {
					t.Fatalf("size %d: %p was handed out twice", size, p)
				}
				seen[p] = true
			}
			for p := range seen {
				mustFree(t, owner, p)
			}
		}
		owner.Release()
		other.Release()
		requireEmpty(t, a)
	}
}
