package main

import (
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// blockAPI is what an Allocator and a Heap have in common.
type blockAPI interface {
	mallocer
	UnsafeCalloc(size int) (unsafe.Pointer, error)
	UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error)
}

// Whoever takes memory off the Go heap wants none on it.
func TestNoGoHeapAllocations(t *testing.T) {
	var a pymalloc.Allocator
	defer func() { check(t, a.Close()) }()
	h := a.AcquireHeap()
	defer h.Release()
	must := func(p unsafe.Pointer, err error) unsafe.Pointer {
		if err != nil || p == nil {
			t.Errorf("got %v, %v", p, err)
		}
		return p
	}
	for name, m := range map[string]blockAPI{"Allocator": &a, "Heap": h} {
		for _, size := range []int{1, 64, 512, 4096} {
			zeroAllocs(t, name+".UnsafeMalloc", size, func() { check(t, m.UnsafeFree(must(m.UnsafeMalloc(size)))) })
			zeroAllocs(t, name+".UnsafeCalloc", size, func() { check(t, m.UnsafeFree(must(m.UnsafeCalloc(size)))) })
			zeroAllocs(t, name+".UnsafeRealloc", size, func() {
				p := must(m.UnsafeRealloc(nil, size))
				p = must(m.UnsafeRealloc(p, 4*size))
				p = must(m.UnsafeRealloc(p, size))
				check(t, m.UnsafeFree(p))
			})
		}
	}
	ps := make([]unsafe.Pointer, 64)
	for _, size := range []int{1, 64, 512, 4096} {
		zeroAllocs(t, "Allocator.UnsafeMallocBatch", size, func() {
			check(t, a.UnsafeMallocBatch(ps, size))
			check(t, a.UnsafeFreeBatch(ps))
		})
	}
	zeroAllocs(t, "Allocator.Malloc", 64, func() {
		b, err := a.Malloc(64)
		check(t, err)
		check(t, a.Free(b))
	})
	zeroAllocs(t, "Allocator.UintptrMalloc", 64, func() {
		p, err := a.UintptrMalloc(64)
		check(t, err)
		check(t, a.UintptrFree(p))
	})
}

func zeroAllocs(t *testing.T, name string, size int, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%s of %d bytes: %v allocations on the Go heap", name, size, n)
	}
}
