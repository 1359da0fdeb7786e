package pool_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// newHard is a hardened pool, owned by me; dirty says that its memory was used.
func newHard(t testing.TB, size int, dirty bool) *pool.Header {
	t.Helper()
	f, c := newFake(t, 4<<10, 60), sizeclass.Of(size)
	h := f.place(f.headerUnits, int(f.shapes[c].Units), !dirty)
	if dirty {
		for i := range h.Units() * 4 << 10 / 8 {
			*(*uint64)(unsafe.Add(h.Start(), i*8)) = rand.Uint64() &^ (1 << 32) // the high half is even: no seal
		}
	}
	h.Harden()
	h.Format(c, &f.shapes[c])
	h.Own(me)
	return h
}

func popRandom(t testing.TB, h *pool.Header) unsafe.Pointer {
	t.Helper()
	p, _, broken := h.PopRandom(rand.Uint64())
	if broken != nil {
		t.Fatalf("the block %p is said to be broken", broken)
	}
	if p != nil {
		pool.Unseal(p)
	}
	return p
}

// scribble writes n bytes, of no value that is a seal.
func scribble(p unsafe.Pointer, n int) {
	for i := range n {
		*(*byte)(unsafe.Add(p, i)) = 0xa4
	}
}

func freeHard(h *pool.Header, p unsafe.Pointer) {
	pool.Seal(p)
	h.Push(h.Index(p))
}

// TestPopRandom hands out every block of hardened pools of all classes, once,
// in no order, and again after they were freed.
func TestPopRandom(t *testing.T) {
	for c := range uint8(sizeclass.Count) {
		for _, dirty := range []bool{false, true} {
			h := newHard(t, sizeclass.Size(c), dirty)
			if !h.IsHard() || h.Pop() != nil {
				t.Fatal("Pop finds a block of a hardened pool")
			}
			var first []uint32
			for round := range 2 {
				var order []uint32
				for p := popRandom(t, h); p != nil; p = popRandom(t, h) {
					order = append(order, h.Index(p))
					scribble(p, h.Size()-h.Tail())
				}
				if err := h.Check(); err != nil {
					t.Fatal(err)
				}
				sorted := slices.Sorted(slices.Values(order))
				for i, n := range sorted {
					if uint32(i) != n {
						t.Fatalf("class %d: block %d was handed out in the place of %d", c, n, i)
					}
				}
				if len(sorted) != int(h.Blocks()) {
					t.Fatalf("class %d: %d of %d blocks", c, len(sorted), h.Blocks())
				}
				if n := h.Blocks(); n > 20 && (slices.IsSorted(order) || round == 1 && slices.Equal(order, first)) {
					t.Errorf("class %d: %d blocks came in a known order", c, n)
				}
				first = order
				for i := range h.Blocks() {
					freeHard(h, unsafe.Add(h.Start(), int(i)*h.Size()))
				}
			}
		}
	}
}

// TestWriteAfterFree writes to a free block: it is found when it would be handed
// out, and can be taken out of use.
func TestWriteAfterFree(t *testing.T) {
	for _, value := range []uint64{1, ^uint64(0), 0x4141_4141_4141_4141 &^ (1 << 32)} {
		h := newHard(t, 64, false)
		var all []unsafe.Pointer
		for p := popRandom(t, h); p != nil; p = popRandom(t, h) {
			all = append(all, p)
		}
		for _, p := range all {
			freeHard(h, p)
		}
		bad := all[7]
		*(*uint64)(bad) = value
		n := 0
		for {
			p, _, broken := h.PopRandom(rand.Uint64())
			if broken != nil {
				if broken != bad {
					t.Fatalf("block %p is said to be broken, %p is", broken, bad)
				}
				h.Lose(broken)
				bad = nil
				continue
			}
			if p == nil {
				break
			}
			pool.Unseal(p)
			n++
		}
		if bad != nil || n != len(all)-1 || int(h.Live()) != len(all) {
			t.Errorf("value %#x: broken block found: %v; %d of %d blocks handed out, %d live", value, bad == nil, n, len(all)-1, h.Live())
		}
		if err := h.Check(); err != nil {
			t.Error(err)
		}
	}
}

// TestTail writes a byte beyond the end of a block of every class, at either end
// of the tail.
func TestTail(t *testing.T) {
	for c := range uint8(sizeclass.Count) {
		h := newHard(t, sizeclass.Size(c), true)
		p := popRandom(t, h)
		for _, at := range []int{h.Size() - h.Tail(), h.Size() - 1} {
			if h.Overrun(p) || h.Check() != nil {
				t.Fatalf("class %d: a new block is overrun: %v", c, h.Check())
			}
			b := (*byte)(unsafe.Add(p, at))
			kept := *b
			for _, value := range []byte{0, kept + 1} {
				if *b = value; !h.Overrun(p) || h.Check() == nil {
					t.Errorf("class %d: byte %d of %d is %#x instead of %#x, and nobody sees it", c, at, h.Size(), value, kept)
				}
			}
			*b = kept
		}
	}
}

func TestWipe(t *testing.T) {
	for c := range uint8(sizeclass.Count) {
		h := newPool(t, sizeclass.Size(c))
		all := allocAll(t, h)
		p := all[len(all)/2]
		for _, q := range all {
			scribble(q, h.Size())
		}
		h.Wipe(p)
		for _, q := range all {
			want := byte(0xa4)
			if q == p {
				want = 0
			}
			for i := range h.Size() {
				if b := *(*byte)(unsafe.Add(q, i)); b != want {
					t.Fatalf("class %d: byte %d is %#x, want %#x", c, i, b, want)
				}
			}
		}
	}
}
