package pymalloc

import (
	"testing"
	"unsafe"
)

func TestSmoke(t *testing.T) {
	var a Allocator
	for _, n := range []int{1, 16, 64, 500, 1000, 3000, 32768, 40000, 300000, 600000, 5 << 20} {
		var ps []unsafe.Pointer
		for i := 0; i < 50; i++ {
			p, err := a.UnsafeMalloc(n)
			if err != nil {
				t.Fatal(err)
			}
			b := unsafe.Slice((*byte)(p), n)
			for j := range b {
				b[j] = byte(i)
			}
			ps = append(ps, p)
		}
		for i, p := range ps {
			b := unsafe.Slice((*byte)(p), n)
			for j := range b {
				if b[j] != byte(i) {
					t.Fatal("bad")
				}
			}
			if err := a.UnsafeFree(p); err != nil {
				t.Fatal(n, i, err)
			}
		}
	}
	if err := a.Trim(); err != nil {
		t.Fatal(err)
	}
	if m := a.table.Load().Budget.Mapped(); m != 0 {
		t.Fatal(m)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkPair(b *testing.B) {
	var a Allocator
	b.Run("alloc", func(b *testing.B) {
		for b.Loop() {
			p, _ := a.UnsafeMalloc(64)
			a.UnsafeFree(p)
		}
	})
	h := a.AcquireHeap()
	b.Run("heap", func(b *testing.B) {
		for b.Loop() {
			p, _ := h.UnsafeMalloc(64)
			h.UnsafeFree(p)
		}
	})
}
