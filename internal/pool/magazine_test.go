package pool_test

import (
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// allPlaces keeps the places of magazines, which hold no Go pointer to them, alive, and off
// the stack, where they would be moved.
var allPlaces [][]pool.Cached

func newPlaces(n int) []pool.Cached {
	allPlaces = append(allPlaces, make([]pool.Cached, n))
	return allPlaces[len(allPlaces)-1]
}

// A magazine is a stack, and its blocks are free for all but the pool's counts.
func TestMagazine(t *testing.T) {
	for _, size := range []int{16, 512, 528, 2048, 9000, sizeclass.Max} {
		h := newFake(t, 16<<10, 63).take(sizeclass.Of(size))
		n := min(pool.MagazineBlocks(h.Size()), int(h.Blocks())-1)
		var m pool.Magazine
		m.Init(newPlaces(n + 1))
		var in []unsafe.Pointer
		for range n {
			in = append(in, alloc(t, h))
		}
		live := alloc(t, h) // stays in use
		for i, p := range in {
			if !m.HasRoom() {
				t.Fatalf("%d bytes: no room for block %d of %d", size, i, n)
			}
			h.PushTo(&m, h.Index(p), p)
			if s := h.StateOf(p); s != pool.Freed {
				t.Errorf("%d bytes: a block in the magazine has state %d", size, s)
			}
		}
		if m.HasRoom() || m.Len() != n || h.Live() != uint32(n+1) {
			t.Errorf("%d bytes: %d of %d blocks, room %v, and %d live", size, m.Len(), n, m.HasRoom(), h.Live())
		}
		at := n
		m.Blocks(func(p unsafe.Pointer) {
			if at--; p != in[at] {
				t.Errorf("%d bytes: block %d is %p, want %p", size, at, p, in[at])
			}
		})
		if s := h.StateOf(live); s != pool.InUse {
			t.Errorf("%d bytes: a block beside has state %d", size, s)
		}
		for i := n - 1; i >= 0; i-- {
			if p := m.Pop(); p != in[i] || h.StateOf(p) != pool.InUse {
				t.Errorf("%d bytes: Pop returns %p in state %d, want %p in use", size, p, h.StateOf(p), in[i])
			}
		}
		if !m.IsEmpty() || m.Len() != 0 {
			t.Errorf("%d bytes: %d blocks are left", size, m.Len())
		}
		for _, p := range in {
			h.PushTo(&m, h.Index(p), p)
		}
		m.Blocks(func(unsafe.Pointer) { h.Return() })
		m.Clear()
		if h.Live() != 1 || !m.IsEmpty() {
			t.Errorf("%d bytes: %d live, want 1, after the magazine was emptied", size, h.Live())
		}
		if err := h.Check(); err != nil {
			t.Error(err)
		}
	}
}

// A pool with blocks in a magazine is not given up, even if the lengths of its lists add
// up because a block was freed twice.
func TestRetireMagazine(t *testing.T) {
	h := newPool(t, 64)
	var m pool.Magazine
	m.Init(newPlaces(2))
	p, q := alloc(t, h), alloc(t, h)
	h.PushRemote(q, other, true, false)
	h.Push(h.Index(q)) // the owner's, at the same moment
	h.PushTo(&m, h.Index(p), p)
	if h.Retire(0) {
		t.Fatal("a pool is given up that has a block in a magazine")
	}
	if m.Pop() != p {
		t.Error("the block is not in the magazine any more")
	}
}
