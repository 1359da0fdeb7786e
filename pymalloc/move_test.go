package pymalloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/huge"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/osmem"
)

// moves skips the test where the system cannot move a mapping.
func moves(t *testing.T) {
	t.Helper()
	p, err := osmem.MapAligned(osmem.PageSize(), osmem.PageSize())
	if err != nil {
		t.Fatal(err)
	}
	q, err := osmem.Remap(p, osmem.PageSize(), 2*osmem.PageSize())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := osmem.Release(q, 2*osmem.PageSize()); err != nil {
		t.Fatal(err)
	}
}

// useUpKept takes all kept addresses that blocks of size bytes could come to lie at, for
// what lies there does not move. With the Go heap as backing all are kept.
func useUpKept(t *testing.T, size int) {
	t.Helper()
	a := newAllocator(t, Options{KeepAddresses: KeepNever})
	for !osmem.OnGoHeap && arena.IsKept(mustMalloc(t, a, size)) {
	}
}

// stuck refuses growth in place, which is the first of two Remaps in a row, so that
// blocks move.
func stuck() (restore func()) {
	var n atomic.Int64
	return osmem.SetFault(func(op osmem.Op, _ int) error {
		if op == osmem.OpRemap && n.Add(1)%2 == 1 {
			return osmem.ErrNoMemory
		}
		return nil
	})
}

// A huge block that has no room to grow is moved with its pages: its contents are
// there, its old address is nobody's, and no more is mapped than before and what it
// grew by, so that it may grow to the limit.
func TestHugeMoves(t *testing.T) {
	moves(t)
	const limit = 17 << 20
	a := newAllocator(t, Options{LimitBytes: limit, RetainBytes: -1, KeepAddresses: KeepNever})
	mustFree(t, a, mustMalloc(t, a, 64)) // an arena: 16 MiB are left
	size := 600_000
	useUpKept(t, size)
	defer stuck()()
	p := mustMalloc(t, a, size)
	stamp(p, size, 1)
	moved := 0
	for size < 10<<20 {
		next := size + size/2
		before := osmem.Calls()
		q, err := a.UnsafeRealloc(p, next)
		if err != nil {
			t.Fatal(err)
		}
		if made := osmem.Calls().Sub(before); made.Remap != 1 || made.Map > 1 || made.Release > 1 { // Prepare may give a leaf back
			t.Errorf("%d -> %d: %+v, want a Remap and at most a leaf of the map", size, next, made)
		}
		if err := checkStamp(q, size, 1); err != nil {
			t.Errorf("%d -> %d: %v", size, next, err)
		}
		if p != q { // the system may find room behind it
			moved++
			if e := headers.Lookup(uintptr(p)).Load(); e != 0 {
				t.Errorf("the header table has %#x for the old place", e)
			}
			if n, v := huge.Usable(p); n != 0 || v != pool.NotOurs {
				t.Errorf("the table has %d bytes, %d, for the old place", n, v)
			}
			if err := a.UnsafeFree(p); !errors.Is(err, ErrNotOwned) {
				t.Errorf("free of the old place: %v, want ErrNotOwned", err)
			}
		}
		if n := UnsafeUsableSize(q); n < next || n >= next+osmem.PageSize() || !a.Owns(q) {
			t.Errorf("usable size of %d: %d; owned: %t", next, n, a.Owns(q))
		}
		if s := a.Stats(); s.MappedBytes > limit || s.MappedBytes != s.Parts.Sum() || s.Huge.Blocks != 1 || s.Huge.Bytes != uint64(UnsafeUsableSize(q)) {
			t.Errorf("%d -> %d:\n%s", size, next, s)
		}
		p, size = q, next
		stamp(p, size, 1)
	}
	if moved == 0 {
		t.Error("it never moved")
	}
	if _, err := a.UnsafeRealloc(p, limit+1<<20); !errors.Is(err, ErrLimit) {
		t.Errorf("beyond the limit: %v, want ErrLimit", err)
	}
	if err := checkStamp(p, size, 1); err != nil {
		t.Error(err)
	}
	mustFree(t, a, p)
	requireEmpty(t, a)
	before := osmem.Calls()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if made := osmem.Calls().Sub(before); made.Release > 2 {
		t.Errorf("%d releases at Close, want those of the slots", made.Release)
	}
}

// What is free already, and large enough, is taken rather than new pages.
func TestHugeMovesToFree(t *testing.T) {
	moves(t)
	a := newAllocator(t, Options{RetainDelay: time.Hour, KeepAddresses: KeepNever})
	free, p := mustMalloc(t, a, 4<<20), mustMalloc(t, a, 2<<20)
	stamp(p, 2<<20, 1)
	mustFree(t, a, free)
	defer stuck()()
	q, err := a.UnsafeRealloc(p, 4<<20)
	if err != nil || q != free {
		t.Errorf("it is at %p, %v, want %p", q, err, free)
	}
	if err := checkStamp(q, 2<<20, 1); err != nil {
		t.Error(err)
	}
	mustFree(t, a, q)
	requireEmpty(t, a)
}

// A block that was moved is used again as any other, once it is free, but for who
// asks for more alignment than it has.
func TestMovedIsReused(t *testing.T) {
	moves(t)
	a := newAllocator(t, Options{RetainDelay: time.Hour, KeepAddresses: KeepNever})
	defer stuck()()
	p, err := a.UnsafeRealloc(mustMalloc(t, a, 600_000), 900_000)
	if err != nil {
		t.Fatal(err)
	}
	mustFree(t, a, p)
	if err := a.UnsafeFree(p); !errors.Is(err, ErrDoubleFree) {
		t.Errorf("second free: %v, want ErrDoubleFree", err)
	}
	const align = 1 << 20
	q, err := a.UnsafeAlignedMalloc(900_000, align)
	if err != nil || uintptr(q)%align != 0 {
		t.Errorf("aligned to %d: %p, %v", align, q, err)
	}
	if r := mustMalloc(t, a, 900_000); r != p && uintptr(p)%align != 0 {
		t.Errorf("the next is at %p, not at %p", r, p)
	}
}

// No address that is to be kept is given back: not by an allocator that keeps them,
// and not by another that uses what was kept.
func TestKeptHugeStays(t *testing.T) {
	moves(t)
	const size = 3 << 20
	resize := func(keep KeepAddresses) {
		a := newAllocator(t, Options{KeepAddresses: keep, RetainBytes: -1})
		for _, next := range []int{size / 2, size + 1<<20} {
			p := mustMalloc(t, a, size)
			*(*int)(p) = 42
			restore := func() {}
			if next > size {
				restore = stuck()
			}
			before := osmem.Calls()
			q, err := a.UnsafeRealloc(p, next)
			restore()
			if err != nil {
				t.Fatal(err)
			}
			if made := osmem.Calls().Sub(before); made.Remap+made.Release != 0 {
				t.Errorf("keep=%d, %d bytes: addresses were given back: %+v", keep, next, made)
			}
			if *(*int)(q) != 42 {
				t.Errorf("it has %d, want 42", *(*int)(q))
			}
			mustFree(t, a, q)
		}
	}
	resize(KeepAlways)
	kept := new(Allocator).Stats().KeptAddressBytes
	resize(KeepNever)
	if n := new(Allocator).Stats().KeptAddressBytes; n < kept {
		t.Errorf("%d bytes of addresses are kept, before %d", n, kept)
	}
}

// Every operation of the system is refused at every n while a block grows: it is
// where it was, or where it should be, and its contents are there.
func TestMoveFaults(t *testing.T) {
	moves(t)
	const first = 600_000
	useUpKept(t, first)
	for _, burst := range []bool{false, true} {
		for n := 1; ; n++ {
			a := newAllocator(t, Options{RetainBytes: -1, KeepAddresses: KeepNever})
			size := first
			p := mustMalloc(t, a, size)
			stamp(p, size, uint64(n))
			calls, remaps := 0, 0
			restore := osmem.SetFault(func(op osmem.Op, _ int) error {
				if op == osmem.OpRemap {
					if remaps++; remaps%2 == 1 {
						return osmem.ErrNoMemory // in place
					}
				}
				if calls++; calls == n || burst && calls > n {
					return osmem.ErrNoMemory
				}
				return nil
			})
			for range 4 {
				remaps = 0
				q, err := a.UnsafeRealloc(p, 2*size)
				if err != nil && !errors.Is(err, ErrNoMemory) {
					t.Fatalf("n=%d: %v", n, err)
				}
				if err != nil {
					if u := UnsafeUsableSize(p); u < size || !a.Owns(p) {
						t.Errorf("n=%d: after a refusal it has %d bytes; owned: %t", n, u, a.Owns(p))
					}
					continue
				}
				if err := checkStamp(q, size, uint64(n)); err != nil {
					t.Fatalf("n=%d: %v", n, err)
				}
				p, size = q, 2*size
				stamp(p, size, uint64(n))
			}
			restore()
			if err := checkStamp(p, size, uint64(n)); err != nil {
				t.Errorf("n=%d: %v", n, err)
			}
			mustFree(t, a, p)
			requireEmpty(t, a)
			if calls < n {
				break // it was never reached
			}
		}
	}
}

// A block that shrinks, and grows after others, keeps its contents, whatever is refused at
// whatever n, and all goes back.
func TestSpareFaults(t *testing.T) {
	useUpKept(t, 150_000)
	for _, burst := range []bool{false, true} {
		for n := 1; ; n++ {
			a := newAllocator(t, Options{ArenaBytes: 256 << 10, RetainBytes: 2 << 20, KeepAddresses: KeepNever})
			var calls atomic.Int64
			restore := osmem.SetFault(func(osmem.Op, int) error {
				if c := int(calls.Add(1)); c == n || burst && c > n {
					return osmem.ErrNoMemory
				}
				return nil
			})
			var p unsafe.Pointer
			size, seed := 0, uint64(0)
			for _, next := range []int{1 << 20, 0, 150_000, 300_000, 500_000, -1, 750_000, 280_000, 500_000, -1, 1_500_000, 280_000, 2 << 20} {
				if next < 0 {
					_ = a.Trim() // may report a refusal
					continue
				}
				q, err := a.UnsafeRealloc(p, next)
				if err != nil && !errors.Is(err, ErrNoMemory) {
					t.Fatalf("n=%d: %d -> %d: %v", n, size, next, err)
				}
				if err == nil {
					if next > 0 {
						if err := checkStamp(q, min(size, next), seed); err != nil {
							t.Fatalf("n=%d: %d -> %d: %v", n, size, next, err)
						}
						seed++ // what is retained has another
						stamp(q, next, seed)
					}
					p, size = q, next
				}
				if s := a.Stats(); s.MappedBytes != s.Parts.Sum() || p != nil && s.Huge.Bytes != uint64(UnsafeUsableSize(p)) {
					t.Errorf("n=%d: %d:\n%s", n, next, s)
				}
			}
			restore()
			if size > 0 {
				if err := checkStamp(p, size, seed); err != nil {
					t.Errorf("n=%d: %v", n, err)
				}
				mustFree(t, a, p)
			}
			requireEmpty(t, a)
			if int(calls.Load()) < n {
				break // it was never reached
			}
		}
	}
}

// What a block has given up by shrinking goes back by itself, or when others need it, and
// the block stays.
func TestSpareGoesBack(t *testing.T) {
	if runtime.GOOS == "windows" || osmem.OnGoHeap {
		t.Skip("a block that shrinks is copied here")
	}
	useUpKept(t, 1<<20)
	const limit = 16 << 20
	shrunk := func() (*Allocator, unsafe.Pointer) {
		a := newAllocator(t, Options{LimitBytes: limit, RetainDelay: 50 * time.Millisecond, KeepAddresses: KeepNever})
		p := mustMalloc(t, a, 12<<20)
		stamp(p, 1<<20, 1)
		q, err := a.UnsafeRealloc(p, 1<<20)
		if err != nil || q != p {
			t.Fatalf("it shrinks to %p, %v, not where it is", q, err)
		}
		return a, p
	}
	for name, back := range map[string]func(a *Allocator){
		"by itself": func(a *Allocator) {
			if !waitFor(func() bool { return a.Stats().MappedBytes <= 1<<20 }) {
				t.Errorf("after a while:\n%s", a.Stats())
			}
		},
		"at the limit": func(a *Allocator) { mustFree(t, a, mustMalloc(t, a, 14<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			a, p := shrunk()
			back(a)
			if err := checkStamp(p, 1<<20, 1); err != nil {
				t.Error(err)
			}
			mustFree(t, a, p)
			requireEmpty(t, a)
		})
	}
}

// Blocks that grow by moving and shrink beside others, small mappings among them, and
// Trims, all at once: none takes another's place in the header table.
func TestMovesTogether(t *testing.T) {
	moves(t)
	defer stuck()()
	var wg sync.WaitGroup
	for w := range uint64(4) {
		a := newAllocator(t, Options{ArenaBytes: 256 << 10, RetainBytes: 1 << 20, KeepAddresses: KeepNever})
		wg.Go(func() {
			if err := moveSome(a, rand.New(rand.NewPCG(w, 1))); err != nil {
				t.Error(err)
			}
		})
		if w%2 == 0 {
			wg.Go(func() { // a second one on the same allocator
				if err := moveSome(a, rand.New(rand.NewPCG(w, 2))); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

func moveSome(a *Allocator, r *rand.Rand) error {
	var live []block
	for n := range 100 {
		if n%32 == 31 {
			if err := a.Trim(); err != nil {
				return err
			}
		}
		switch i := r.IntN(len(live) + 1); {
		case i == len(live) || len(live) < 8:
			b := block{size: 132_000 + r.IntN(300_000), seed: r.Uint64()}
			var err error
			if b.p, err = a.UnsafeMalloc(b.size); err != nil {
				return err
			}
			stamp(b.p, b.size, b.seed)
			live = append(live, b)
		case len(live) < 24 && live[i].size < 2<<20:
			b := &live[i]
			size := b.size/2 + r.IntN(b.size*3/2)
			p, err := a.UnsafeRealloc(b.p, size)
			if err == nil {
				err = checkStamp(p, min(size, b.size), b.seed)
			}
			if u := UnsafeUsableSize(p); err == nil && (u < size || !a.Owns(p)) {
				err = fmt.Errorf("realloc(%d) has %d bytes; owned: %t", size, u, a.Owns(p))
			}
			if err != nil {
				return err
			}
			b.p, b.size = p, size
			stamp(b.p, b.size, b.seed)
		default:
			b := live[i]
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
			if err := errors.Join(checkStamp(b.p, b.size, b.seed), a.UnsafeFree(b.p)); err != nil {
				return err
			}
		}
	}
	for _, b := range live {
		if err := errors.Join(checkStamp(b.p, b.size, b.seed), a.UnsafeFree(b.p)); err != nil {
			return err
		}
	}
	return nil
}
