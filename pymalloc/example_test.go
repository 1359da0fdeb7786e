package pymalloc_test

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

func Example() {
	var a pymalloc.Allocator // the zero value is ready
	defer a.Close()

	type point struct{ x, y float64 }
	p, err := a.UnsafeCalloc(int(unsafe.Sizeof(point{})))
	if err != nil {
		fmt.Println(err)
		return
	}
	pt := (*point)(p)
	pt.x, pt.y = 3, 4
	fmt.Println(pt.x*pt.x + pt.y*pt.y)

	fmt.Println(a.UnsafeFree(p))
	fmt.Println(errors.Is(a.UnsafeFree(p), pymalloc.ErrDoubleFree))
	// Output:
	// 25
	// <nil>
	// true
}

func ExampleAllocator_Malloc() {
	var a pymalloc.Allocator
	defer a.Close()
	b, err := a.Malloc(5)
	if err != nil {
		fmt.Println(err)
		return
	}
	copy(b, "hello")
	b, err = a.Realloc(b, 12)
	if err != nil {
		fmt.Println(err)
		return
	}
	copy(b[5:], ", world")
	fmt.Printf("%s %d %d\n", b, len(b), cap(b))
	fmt.Println(a.Free(b))
	// Output:
	// hello, world 12 16
	// <nil>
}

func ExampleAllocator_AcquireHeap() {
	var a pymalloc.Allocator
	defer a.Close()
	h := a.AcquireHeap() // for this goroutine
	defer h.Release()
	p, err := h.UnsafeMalloc(100)
	fmt.Println(p != nil, err)
	fmt.Println(a.UnsafeFree(p)) // any goroutine may free it
	// Output:
	// true <nil>
	// <nil>
}

func ExampleAllocator_UnsafeMallocBatch() {
	var a pymalloc.Allocator
	defer a.Close()
	ps := make([]unsafe.Pointer, 1000)
	fmt.Println(a.UnsafeMallocBatch(ps, 64))
	fmt.Println(a.Stats().LiveBlocks)
	fmt.Println(a.UnsafeFreeBatch(ps))
	// Output:
	// <nil>
	// 1000
	// <nil>
}

func ExampleAllocator_Trim() {
	var a pymalloc.Allocator
	p, _ := a.UnsafeMalloc(64)
	fmt.Println(a.Stats().MappedBytes)
	_ = a.UnsafeFree(p)
	_ = a.Trim()
	fmt.Println(a.Stats().MappedBytes)
	// Output:
	// 1048576
	// 0
}

func ExampleNewAllocator() {
	_, err := pymalloc.NewAllocator(pymalloc.Options{ArenaBytes: 3 << 20})
	fmt.Println(err)
	// Output:
	// pymalloc: NewAllocator: invalid option: ArenaBytes is 3145728, it must be 0 or a power of two from 262144 to 67108864
}
