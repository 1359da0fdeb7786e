package pymalloc

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/blocks"
)

// blocks.Each finds the live blocks and no others: not those that the shards keep at hand,
// that others have freed, or that were never handed out.
func TestBlocks(t *testing.T) {
	for _, o := range []Options{{}, {ArenaBytes: 256 << 10}, {Hardened: true}, {WipeOnFree: true}} {
		a, err := NewAllocator(o)
		if err != nil {
			t.Fatal(err)
		}
		blocks.Each(a, func(unsafe.Pointer, uint64) { t.Error("a block before the first") })
		want := map[unsafe.Pointer]uint64{}
		make1 := func(size int) unsafe.Pointer {
			p, err := a.UnsafeMalloc(size)
			if err != nil {
				t.Fatal(err)
			}
			*(*uint64)(p) = uint64(len(want))
			want[p] = uint64(len(want))
			return p
		}
		drop := func(p unsafe.Pointer) {
			if err := a.UnsafeFree(p); err != nil {
				t.Error(err)
			}
		}
		h := a.AcquireHeap()
		for _, size := range []int{16, 16, 48, 1000, 20_000, 100_000, 3 << 20} {
			var own []unsafe.Pointer
			for range 40 {
				own = append(own, make1(size))
			}
			var wg sync.WaitGroup
			for i := range 3 { // by this goroutine's P, another, and a heap
				ps := own[i*10 : i*10+10]
				for _, p := range ps {
					delete(want, p)
				}
				wg.Go(func() {
					for _, p := range ps {
						if i == 2 {
							if err := h.UnsafeFree(p); err != nil {
								t.Error(err)
							}
						} else {
							drop(p)
						}
					}
				})
				wg.Wait()
			}
			last := make1(size) // which the shard keeps
			delete(want, last)
			drop(last)
		}
		got := map[unsafe.Pointer]uint64{}
		blocks.Each(a, func(p unsafe.Pointer, first uint64) { got[p] = first })
		if !maps.Equal(got, want) {
			t.Errorf("%+v: %d blocks are found, %d are live", o, len(got), len(want))
			for p := range got {
				if _, live := want[p]; !live {
					t.Errorf("the block of %d bytes at %p is not live", UnsafeUsableSize(p), p)
				}
			}
		}
		for _, p := range slices.Collect(maps.Keys(want)) {
			drop(p)
		}
		h.Release()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
