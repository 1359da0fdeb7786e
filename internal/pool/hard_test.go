package pool_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// newHard is a hardened pool with canaries, owned by me; dirty says that its memory was used.
func newHard(t testing.TB, size int, dirty bool) *pool.Header {
	t.Helper()
	return newHardTail(t, size, pool.TailBytes, dirty)
}

func newHardTail(t testing.TB, size, tail int, dirty bool) *pool.Header {
	t.Helper()
	f, c := newFake(t, 4<<10, 60), sizeclass.Of(size)
	h := f.place(f.headerUnits, int(f.shapes[c].Units), !dirty)
	if dirty {
		for i := range h.Units() * 4 << 10 / 8 {
			*(*uint64)(unsafe.Add(h.Start(), i*8)) = rand.Uint64() &^ (1 << 32) // the high half is even: no seal
		}
	}
	h.Harden(tail)
	h.Format(c, &f.shapes[c])
	h.Own(me)
	return h
}

// hard is a magazine of a hardened shard on its places, and what the shard does with it.
type hard struct {
	testing.TB
	m pool.Magazine
	r pool.Random
}

func newHardMagazine(t testing.TB, size int, seed uint64) *hard {
	d := &hard{TB: t, r: pool.Random(seed)}
	d.m.Init(newPlaces(pool.MagazineBlocks(size) + 1))
	return d
}

// malloc takes a block; whole is false if it was damaged.
func (d *hard) malloc(h *pool.Header) (p unsafe.Pointer, whole bool) {
	d.Helper()
	if d.m.IsEmpty() {
		if q, broken := h.Draw(&d.r, false); broken != nil {
			if q != nil || !h.IsFreed(broken) && h.IsInUse(h.Index(broken)) {
				d.Fatalf("%p is drawn, and %p said to be broken", q, broken)
			}
			if q, lost := h.Draw(&d.r, true); q != nil || lost != broken {
				d.Fatalf("%p is drawn, or %p lost, want %p", q, lost, broken)
			}
			return broken, false
		} else if p = q; p == nil {
			return nil, true
		}
	} else if p = d.m.Pop(); !pool.HasOwnSeal(p) {
		return p, false
	}
	if h.Overrun(p) {
		d.Fatalf("block %p has no tail", p)
	}
	pool.Unseal(p)
	return p, true
}

// free frees a block as its owner, into the magazine if there is room.
func (d *hard) free(h *pool.Header, p unsafe.Pointer) {
	d.Helper()
	i := h.Index(p)
	if !h.IsInUse(i) || h.Overrun(p) {
		d.Fatalf("block %p, in use, is free: %v, overrun: %v", p, !h.IsInUse(i), h.Overrun(p))
	}
	pool.Seal(p)
	if d.m.HasRoom() {
		h.PushTo(&d.m, i, p)
	} else {
		h.Push(i)
	}
}

// drop gives what is in the magazine to the pool.
func (d *hard) drop(h *pool.Header) {
	d.m.Blocks(func(unsafe.Pointer) { h.Return() })
	d.m.Clear()
}

// scribble writes n bytes, of no value that is a seal.
func scribble(p unsafe.Pointer, n int) {
	for i := range n {
		*(*byte)(unsafe.Add(p, i)) = 0xa4
	}
}

// TestDraw hands out every block of hardened pools of all classes, once, in no order, and
// again after they were freed.
func TestDraw(t *testing.T) {
	for c := range uint8(sizeclass.Count) {
		for n := range 4 {
			h, d := newHardTail(t, sizeclass.Size(c), n&1*pool.TailBytes, n&2 != 0), newHardMagazine(t, sizeclass.Size(c), rand.Uint64())
			if !h.IsHard() {
				t.Fatal("the pool is not hardened")
			}
			var first []uint32
			for round := range 2 {
				var order []uint32
				for range h.Blocks() {
					p, whole := d.malloc(h)
					if p == nil || !whole {
						t.Fatalf("class %d: block %d of %d is %p, whole: %v", c, len(order)+1, h.Blocks(), p, whole)
					}
					order = append(order, h.Index(p))
					scribble(p, h.Size()-h.Tail())
				}
				if p, _ := d.malloc(h); p != nil || d.m.Len() != 0 || h.Live() != h.Blocks() {
					t.Fatalf("class %d: a pool without blocks hands out %p", c, p)
				}
				if err := h.Check(); err != nil {
					t.Fatal(err)
				}
				for i, n := range slices.Sorted(slices.Values(order)) {
					if uint32(i) != n {
						t.Fatalf("class %d: block %d was handed out in the place of %d", c, n, i)
					}
				}
				if n := h.Blocks(); n > 20 && (slices.IsSorted(order) || round == 1 && slices.Equal(order, first)) {
					t.Errorf("class %d: %d blocks came in a known order", c, n)
				}
				first = order
				for i := range h.Blocks() {
					d.free(h, unsafe.Add(h.Start(), int(i)*h.Size()))
				}
			}
		}
	}
}

// What is drawn is any of its blocks as likely as any other, first and later.
func TestDrawRandom(t *testing.T) {
	h := newHard(t, 64, true)
	const draws = 2000
	n := int(h.Blocks())
	for at := range 2 {
		count := make([]int, n)
		for range n * draws / 10 {
			d := newHardMagazine(t, 64, rand.Uint64())
			var p unsafe.Pointer
			for range at + 1 {
				p, _ = d.malloc(h)
			}
			count[h.Index(p)]++
			d.drop(h)
			for i := range h.Blocks() {
				if h.IsInUse(i) {
					h.Push(i)
					pool.Seal(unsafe.Add(h.Start(), int(i)*h.Size()))
				}
			}
		}
		for i, c := range count { // five standard deviations
			if c < draws/10-75 || c > draws/10+75 {
				t.Errorf("block %d came as number %d in %d of %d times, one of %d", i, at, c, n*draws/10, n)
			}
		}
	}
}

// The words of the bitmap come in no order: any is the first, and any the second.
func TestDrawWord(t *testing.T) {
	f, c := newFake(t, 16<<10, 60), sizeclass.Of(16)
	var seen [2][16]bool
	for range 800 {
		h := f.place(f.headerUnits, 1, true)
		h.Harden(0)
		h.Format(c, &f.shapes[c])
		h.Own(me)
		r := pool.Random(rand.Uint64())
		h.DrawWord(&r)
		for n := range 65 {
			p, _ := h.Draw(&r, false)
			seen[n/64][h.Index(p)/64] = true
		}
	}
	for n, words := range seen {
		for w, is := range words {
			if !is {
				t.Errorf("word %d of %d was never number %d", w, len(words), n)
			}
		}
	}
}

// TestWriteAfterFree writes to a free block, in the magazine or the pool: it is found
// when it would be handed out, and is out of use then.
func TestWriteAfterFree(t *testing.T) {
	for _, value := range []uint64{0, 1, ^uint64(0), 0x4141_4141_4141_4141 &^ (1 << 32)} {
		for _, nth := range []int{0, 7, 15, 16, 50} { // the first 16 are in the magazine
			dirty := value == 0 && nth >= 16 // else it may have been so from the begin
			h, d := newHard(t, 64, dirty), newHardMagazine(t, 64, rand.Uint64())
			var all []unsafe.Pointer
			for p, _ := d.malloc(h); p != nil; p, _ = d.malloc(h) {
				all = append(all, p)
			}
			for _, p := range all {
				d.free(h, p)
			}
			bad, n := all[nth], 0
			*(*uint64)(bad) = value
			for {
				p, whole := d.malloc(h)
				if p == nil {
					break
				}
				if whole != (p != bad) {
					t.Fatalf("value %#x: block %p is whole: %v, %p was written to", value, p, whole, bad)
				}
				n++
			}
			if n != len(all) || int(h.Live()) != len(all) {
				t.Errorf("value %#x: %d of %d blocks, %d live", value, n, len(all), h.Live())
			}
			if err := h.Check(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDrawModel does random operations of a hardened pool's owner and of others, and
// of a program that misuses freed blocks, and looks at every block.
func TestDrawModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for _, size := range []int{16, 48, 256, 1024, 1152, 8 << 10} {
		h, d := newHard(t, size, rng.IntN(2) == 0), newHardMagazine(t, size, rng.Uint64())
		live := map[unsafe.Pointer]byte{}
		freed, lost := map[unsafe.Pointer]bool{}, map[unsafe.Pointer]bool{} // by the owner; damaged meanwhile
		whole := func(p unsafe.Pointer) []byte { return unsafe.Slice((*byte)(p), h.Size()-h.Tail()) }
		pick := func(from map[unsafe.Pointer]byte) (p unsafe.Pointer) {
			for p = range from {
				break
			}
			if p != nil && bytes.Count(whole(p), []byte{from[p]}) != len(whole(p)) {
				t.Fatalf("block %p was written to while in use", p)
			}
			return p
		}
		damaged := unsafe.Pointer(nil)
		for step := range 12_000 {
			filling := step/300%2 == 0
			switch op := rng.IntN(20); {
			case op < 8 && filling || op < 4:
				p, ok := d.malloc(h)
				if p == nil {
					if _, broken := h.Refill(0); broken != nil {
						t.Fatalf("block %p is said to be broken", broken)
					}
					break
				}
				if _, is := live[p]; is || lost[p] || ok != (p != damaged) {
					t.Fatalf("block %p is handed out: in use: %v, lost: %v, whole: %v", p, is, lost[p], ok)
				}
				delete(freed, p)
				if !ok {
					lost[p], damaged = true, nil
					break
				}
				b := byte(rng.IntN(255) + 1)
				copy(whole(p), bytes.Repeat([]byte{b}, len(whole(p))))
				live[p] = b
			case op < 15:
				if p := pick(live); p != nil {
					d.free(h, p)
					delete(live, p)
					freed[p] = true
				}
			case op < 17:
				if p := pick(live); p != nil {
					if did, _, _ := h.PushRemote(p, other, true, false); did != pool.Pushed && did != pool.Post {
						t.Fatalf("a push by others had outcome %d", did)
					}
					delete(live, p)
				}
			case op == 17:
				h.Quieten(0)
			case op == 18 && damaged == nil && step%40 == 0: // a write after free
				for p := range freed {
					if h.StateOf(p) == pool.Freed {
						damaged = p
						*(*uint64)(p) = 0x4141_4141_4141_4141 &^ (1 << 32)
						break
					}
				}
			case op == 19: // a second free, of a block that may be damaged
				for p := range freed {
					if h.StateOf(p) != pool.Freed || h.IsInUse(h.Index(p)) {
						t.Fatalf("block %p, which is free, has state %d", p, h.StateOf(p))
					}
					break
				}
			}
			if n := int(h.InUse()); n != len(live)+len(lost)+d.m.Len() {
				t.Fatalf("%d blocks in use, want %d, %d lost and %d at hand", n, len(live), len(lost), d.m.Len())
			}
		}
		seen := map[unsafe.Pointer]bool{}
		d.m.Blocks(func(p unsafe.Pointer) {
			if _, is := live[p]; is || seen[p] || h.StateInBits(p) != pool.Freed {
				t.Fatalf("block %p is at hand: twice: %v, in use: %v", p, seen[p], is)
			}
			seen[p] = true
			h.Return()
		})
		d.m.Clear()
		if err := h.Check(); err != nil {
			t.Fatal(err)
		}
		if len(lost) == 0 && size < 1024 {
			t.Errorf("%d bytes: no write after free was found", size)
		}
	}
}

// TestTail writes a byte beyond the end of a block of every class, at either end
// of the tail.
func TestTail(t *testing.T) {
	for c := range uint8(sizeclass.Count) {
		h := newHard(t, sizeclass.Size(c), true)
		d := newHardMagazine(t, sizeclass.Size(c), 1)
		p, _ := d.malloc(h)
		d.drop(h)
		for _, at := range []int{h.Size() - h.Tail(), h.Size() - 1} {
			if h.Overrun(p) || h.Check() != nil {
				t.Fatalf("class %d: a new block is overrun: %v", c, h.Check())
			}
			b := (*byte)(unsafe.Add(p, at))
			kept := *b
			if kept < 0x80 {
				t.Errorf("class %d: byte %d of %d is %#x, which a program may well write there", c, at, h.Size(), kept)
			}
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
