package pymalloc_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/osmem"
	"github.com/pyarena/pyarena/pymalloc"
)

// misusers are an allocator, and a heap of it, of each kind.
func misusers(t *testing.T, f func(t *testing.T, a *pymalloc.Allocator, m pymallocMemory)) {
	for name, o := range map[string]pymalloc.Options{
		"default": {}, "hardened": {Hardened: true}, "canaries": {Canaries: true}, "wiping": {WipeOnFree: true},
	} {
		for _, heap := range []bool{false, true} {
			t.Run(name+map[bool]string{true: "/heap"}[heap], func(t *testing.T) {
				a, err := pymalloc.NewAllocator(o)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := errors.Join(a.Check(), a.Trim(), a.Close()); err != nil {
						t.Error(err)
					}
				}()
				if !heap {
					f(t, a, a)
					return
				}
				h := a.AcquireHeap()
				defer h.Release()
				f(t, a, h)
			})
		}
	}
}

// pymallocMemory is what an Allocator and a Heap have in common.
type pymallocMemory interface {
	UnsafeMalloc(size int) (unsafe.Pointer, error)
	UnsafeCalloc(size int) (unsafe.Pointer, error)
	UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error)
	UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error)
	UnsafeFree(p unsafe.Pointer) error
}

// TestBadAddresses: a free, a realloc and a question about an address at which no
// block begins is refused, and the allocator is as good as before.
func TestBadAddresses(t *testing.T) {
	misusers(t, func(t *testing.T, a *pymalloc.Allocator, m pymallocMemory) {
		const size, arenaBytes = 64, 1 << 20
		live := map[uintptr]bool{}
		var blocks []unsafe.Pointer
		for _, n := range []int{size, size, 1000, 40 << 10, 200 << 10} { // pools of one unit and of several, a run
			p, err := m.UnsafeMalloc(n)
			if err != nil {
				t.Fatal(err)
			}
			blocks, live[uintptr(p)] = append(blocks, p), true
		}
		free, err := m.UnsafeMalloc(size)
		if err := errors.Join(err, m.UnsafeFree(free)); err != nil {
			t.Fatal(err)
		}
		before := a.Stats()
		try := func(p uintptr) {
			if live[p] {
				return
			}
			if err := a.UintptrFree(p); !errors.Is(err, pymalloc.ErrNotOwned) && !errors.Is(err, pymalloc.ErrDoubleFree) {
				t.Fatalf("UintptrFree(%#x) = %v", p, err)
			}
			if q, err := a.UintptrRealloc(p, 100); q != 0 || !errors.Is(err, pymalloc.ErrNotOwned) && !errors.Is(err, pymalloc.ErrDoubleFree) {
				t.Fatalf("UintptrRealloc(%#x) = %#x, %v", p, q, err)
			}
			if n := pymalloc.UintptrUsableSize(p); n != 0 {
				t.Fatalf("UintptrUsableSize(%#x) = %d", p, n)
			}
			if p < 4096 { // Go's runtime does not bear them on a stack that grows
				return
			}
			q := addr.Pointer(p)
			if err := m.UnsafeFree(q); !errors.Is(err, pymalloc.ErrNotOwned) && !errors.Is(err, pymalloc.ErrDoubleFree) {
				t.Fatalf("UnsafeFree(%#x) = %v", p, err)
			}
			if r, err := m.UnsafeRealloc(q, 100); r != nil || err == nil {
				t.Fatalf("UnsafeRealloc(%#x) = %p, %v", p, r, err)
			}
			a.Owns(q)
		}
		for p := uintptr(1); p <= 64<<10; p++ {
			try(p)
		}
		step := uintptr(1)
		if testing.Short() {
			step = 7
		}
		base := uintptr(blocks[0]) &^ (arenaBytes - 1)
		for p := base - 4096; p < base+arenaBytes+4096; p += step {
			if osmem.OnGoHeap && (p < base || p >= base+arenaBytes) {
				continue // an address of the Go heap that nothing is at, for its collector
			}
			try(p)
		}
		for bit := range 8 * unsafe.Sizeof(uintptr(0)) {
			if !osmem.OnGoHeap {
				try(1 << bit)
				try(^uintptr(0) >> bit)
			}
		}
		for range 100_000 {
			if p := uintptr(rand.Uint64()); !osmem.OnGoHeap && p != 0 {
				try(p)
			}
		}
		if after := a.Stats(); after.LiveBlocks != before.LiveBlocks || after.MappedBytes != before.MappedBytes {
			t.Errorf("%d live blocks in %d bytes, were %d in %d", after.LiveBlocks, after.MappedBytes, before.LiveBlocks, before.MappedBytes)
		}
		for _, p := range blocks {
			if err := m.UnsafeFree(p); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestFreeOne: a free of the address 1, which a damaged slice header may have, is
// refused like any other.
func TestFreeOne(t *testing.T) {
	misusers(t, func(t *testing.T, a *pymalloc.Allocator, m pymallocMemory) {
		p, err := m.UnsafeMalloc(8)
		if err != nil {
			t.Fatal(err)
		}
		growStack(1000) // so that it need not be copied while it holds that pointer
		if err := m.UnsafeFree(addr.Pointer(uintptr(1))); !errors.Is(err, pymalloc.ErrNotOwned) {
			t.Errorf("UnsafeFree of 1: %v", err)
		}
		if err := errors.Join(m.UnsafeFree(nil), m.UnsafeFree(p), m.UnsafeFree(nil)); err != nil {
			t.Error(err)
		}
		if err := m.UnsafeFree(p); !errors.Is(err, pymalloc.ErrDoubleFree) {
			t.Errorf("second free: %v", err)
		}
	})
}

//go:noinline
func growStack(n int) int {
	var pad [64]byte
	if n == 0 {
		return int(pad[0])
	}
	return growStack(n-1) + int(pad[n%64])
}

// nilCalls are calls of every exported method of a nil Allocator and a nil Heap.
func nilCalls() map[string]func() {
	var a *pymalloc.Allocator
	var h *pymalloc.Heap
	var block [16]byte
	p, at := unsafe.Pointer(&block), uintptr(unsafe.Pointer(&block))
	ps := make([]unsafe.Pointer, 3)
	return map[string]func(){
		"Allocator.UnsafeMalloc":              func() { _, _ = a.UnsafeMalloc(8) },
		"Allocator.UnsafeMalloc large":        func() { _, _ = a.UnsafeMalloc(1 << 20) },
		"Allocator.UnsafeCalloc":              func() { _, _ = a.UnsafeCalloc(8) },
		"Allocator.UnsafeCalloc large":        func() { _, _ = a.UnsafeCalloc(1 << 20) },
		"Allocator.UnsafeAlignedMalloc":       func() { _, _ = a.UnsafeAlignedMalloc(8, 64) },
		"Allocator.UnsafeAlignedMalloc small": func() { _, _ = a.UnsafeAlignedMalloc(8, 8) },
		"Allocator.UnsafeRealloc":             func() { _, _ = a.UnsafeRealloc(p, 8) },
		"Allocator.UnsafeRealloc nil":         func() { _, _ = a.UnsafeRealloc(nil, 8) },
		"Allocator.UnsafeRealloc 0":           func() { _, _ = a.UnsafeRealloc(p, 0) },
		"Allocator.UnsafeFree":                func() { _ = a.UnsafeFree(p) },
		"Allocator.UnsafeFree nil":            func() { _ = a.UnsafeFree(nil) },
		"Allocator.UnsafeMallocBatch":         func() { _ = a.UnsafeMallocBatch(ps, 8) },
		"Allocator.UnsafeMallocBatch large":   func() { _ = a.UnsafeMallocBatch(ps, 1<<20) },
		"Allocator.UnsafeFreeBatch":           func() { _ = a.UnsafeFreeBatch([]unsafe.Pointer{p}) },
		"Allocator.Malloc":                    func() { _, _ = a.Malloc(8) },
		"Allocator.Calloc":                    func() { _, _ = a.Calloc(8) },
		"Allocator.Realloc":                   func() { _, _ = a.Realloc(block[:], 8) },
		"Allocator.Free":                      func() { _ = a.Free(block[:]) },
		"Allocator.UintptrMalloc":             func() { _, _ = a.UintptrMalloc(8) },
		"Allocator.UintptrCalloc":             func() { _, _ = a.UintptrCalloc(8) },
		"Allocator.UintptrRealloc":            func() { _, _ = a.UintptrRealloc(0, 8) },
		"Allocator.UintptrRealloc of none":    func() { _, _ = a.UintptrRealloc(at, 8) },
		"Allocator.UintptrFree":               func() { _ = a.UintptrFree(0) },
		"Allocator.UintptrFree of none":       func() { _ = a.UintptrFree(at) },
		"Allocator.AcquireHeap":               func() { a.AcquireHeap() },
		"Allocator.Owns":                      func() { a.Owns(p) },
		"Allocator.Stats":                     func() { a.Stats() },
		"Allocator.Check":                     func() { _ = a.Check() },
		"Allocator.Trim":                      func() { _ = a.Trim() },
		"Allocator.Close":                     func() { _ = a.Close() },
		"Heap.UnsafeMalloc":                   func() { _, _ = h.UnsafeMalloc(8) },
		"Heap.UnsafeMalloc large":             func() { _, _ = h.UnsafeMalloc(1 << 20) },
		"Heap.UnsafeCalloc":                   func() { _, _ = h.UnsafeCalloc(8) },
		"Heap.UnsafeAlignedMalloc":            func() { _, _ = h.UnsafeAlignedMalloc(8, 64) },
		"Heap.UnsafeRealloc":                  func() { _, _ = h.UnsafeRealloc(p, 8) },
		"Heap.UnsafeRealloc nil":              func() { _, _ = h.UnsafeRealloc(nil, 8) },
		"Heap.UnsafeFree":                     func() { _ = h.UnsafeFree(p) },
		"Heap.UnsafeFree nil":                 func() { _ = h.UnsafeFree(nil) },
		"Heap.Release":                        func() { h.Release() },
		"Heap.Malloc":                         func() { _, _ = h.Malloc(8) },
		"Heap.Calloc":                         func() { _, _ = h.Calloc(8) },
		"Heap.Realloc":                        func() { _, _ = h.Realloc(nil, 8) },
		"Heap.Free":                           func() { _ = h.Free(make([]byte, 8)) },
		"Heap.Owns":                           func() { h.Owns(p) },
		"Heap.UnsafeMallocBatch":              func() { _ = h.UnsafeMallocBatch(make([]unsafe.Pointer, 1), 8) },
		"Heap.UnsafeFreeBatch":                func() { _ = h.UnsafeFreeBatch([]unsafe.Pointer{p}) },
	}
}

// TestNilReceiver: a call of a nil Allocator or Heap panics, and can be recovered.
// Nothing is pinned or locked then.
func TestNilReceiver(t *testing.T) {
	for name, call := range nilCalls() {
		func() {
			defer func() {
				if e, ok := recover().(runtime.Error); !ok || !strings.Contains(e.Error(), "nil pointer") {
					t.Errorf("%s on nil: panic %v", name, e)
				}
			}()
			call()
		}()
		runtime.GC() // which waits for whoever is pinned
	}
}

// TestNilReceiverHasAll: TestNilReceiver calls every exported method.
func TestNilReceiverHasAll(t *testing.T) {
	calls := nilCalls()
	for _, typ := range []reflect.Type{reflect.TypeFor[*pymalloc.Allocator](), reflect.TypeFor[*pymalloc.Heap]()} {
		for i := range typ.NumMethod() {
			name := typ.Elem().Name() + "." + typ.Method(i).Name
			if calls[name] == nil {
				t.Errorf("%s is not called on nil", name)
			}
		}
	}
}

// TestZeroHeap: a Heap that no allocator gave is a released one.
func TestZeroHeap(t *testing.T) {
	var h pymalloc.Heap
	var block [16]byte
	p := unsafe.Pointer(&block)
	for name, err := range map[string]error{
		"UnsafeMalloc":        second(h.UnsafeMalloc(8)),
		"UnsafeCalloc":        second(h.UnsafeCalloc(8)),
		"UnsafeMalloc large":  second(h.UnsafeMalloc(1 << 30)),
		"UnsafeAlignedMalloc": second(h.UnsafeAlignedMalloc(8, 64)),
		"UnsafeRealloc nil":   second(h.UnsafeRealloc(nil, 8)),
	} {
		if !errors.Is(err, pymalloc.ErrReleased) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"UnsafeFree":      h.UnsafeFree(p),
		"UnsafeRealloc":   second(h.UnsafeRealloc(p, 8)),
		"UnsafeRealloc 0": second(h.UnsafeRealloc(p, 0)),
	} {
		if !errors.Is(err, pymalloc.ErrNotOwned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := errors.Join(h.UnsafeFree(nil), second(h.UnsafeMalloc(0))); err != nil {
		t.Error(err)
	}
	h.Release()
	h.Release()
}

func second(_ unsafe.Pointer, err error) error { return err }
