package pymalloc

import (
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/engine"
)

// collectUntil collects garbage until done.
func collectUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 20 s: not %s", what)
		}
		runtime.GC()
	}
}

// dropOne uses an allocator as use does and drops it. It returns its life.
func dropOne(t *testing.T, use func(a *Allocator)) *engine.Life {
	a, err := NewAllocator(Options{})
	if err != nil {
		t.Fatal(err)
	}
	use(a)
	return a.life.Load()
}

// An allocator that is dropped without Close gives back what holds no live block, and never
// what does.
func TestDropped(t *testing.T) {
	t.Run("nothing lives", func(t *testing.T) {
		before := new(Allocator).Stats()
		l := dropOne(t, func(a *Allocator) {
			h := a.AcquireHeap()
			for _, size := range []int{16, 3000, 100_000, 3 << 20} {
				mustFree(t, a, mustMalloc(t, a, size))
				mustFree(t, a, mustMalloc(t, h, size))
			}
		})
		collectUntil(t, "given back", func() bool { return l.Budget.Mapped() == 0 })
		if s := new(Allocator).Stats(); s.DroppedAllocators != before.DroppedAllocators {
			t.Errorf("%d dropped allocators with live blocks, were %d", s.DroppedAllocators, before.DroppedAllocators)
		}
	})
	t.Run("blocks live", func(t *testing.T) {
		before := new(Allocator).Stats()
		var small, run, huge []byte
		l := dropOne(t, func(a *Allocator) {
			var idle []unsafe.Pointer
			for range 3000 {
				idle = append(idle, mustMalloc(t, a, 4000))
			}
			for _, b := range []struct {
				to   *[]byte
				size int
			}{{&small, 64}, {&run, 100_000}, {&huge, 3 << 20}} {
				*b.to = unsafe.Slice((*byte)(mustMalloc(t, a, b.size)), b.size)
				for i := range *b.to {
					(*b.to)[i] = 0x5A
				}
			}
			for _, p := range idle {
				mustFree(t, a, p)
			}
		})
		var s Stats
		collectUntil(t, "counted as dropped", func() bool {
			s = new(Allocator).Stats()
			return s.DroppedAllocators == before.DroppedAllocators+1
		})
		if n := s.DroppedBytes - before.DroppedBytes; n != l.Budget.Mapped() || n < 4<<20 || n > 8<<20 {
			t.Errorf("%d bytes are counted as dropped, %d are mapped, of 3 MiB, an arena, and one for what lives between 12 MB that are free", n, l.Budget.Mapped())
		}
		for _, b := range [][]byte{small, run, huge} {
			for i, x := range b {
				if x != 0x5A {
					t.Fatalf("byte %d of %d of a live block is %#x", i, len(b), x)
				}
			}
		}
	})
	t.Run("closed", func(t *testing.T) {
		a := newAllocator(t, Options{})
		mustMalloc(t, a, 64)
		l := a.life.Load()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := new(Allocator).Trim(); err != nil {
			t.Fatal(err)
		}
		if mapped := l.Budget.Mapped(); mapped != 0 {
			t.Errorf("%d bytes are mapped after Close, and a Trim", mapped)
		}
	})
}
