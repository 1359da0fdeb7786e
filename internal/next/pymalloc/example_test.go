package pymalloc_test

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/pyarena/pyarena/internal/next/pymalloc"
)

// The code of README.md.
func Example() {
	var a pymalloc.Allocator // ready for use, by any goroutine

	p, err := a.UnsafeMalloc(64) // 64 bytes outside the Go heap
	if err != nil {
		panic(err) // out of memory is an error
	}
	*(*int64)(p) = 42
	fmt.Println(*(*int64)(p))

	fmt.Println(a.UnsafeFree(p))                                    // nil
	fmt.Println(errors.Is(a.UnsafeFree(p), pymalloc.ErrDoubleFree)) // true
	fmt.Println(a.Trim())                                           // gives back now what is free
	// Output:
	// 42
	// <nil>
	// true
	// <nil>
}

// A type in a block holds no Go pointer. UnsafeCalloc's memory is zero.
func ExampleAllocator() {
	type point struct{ x, y float64 }

	var a pymalloc.Allocator
	defer a.Close()
	p, err := a.UnsafeCalloc(int(unsafe.Sizeof(point{})))
	if err != nil {
		fmt.Println(err)
		return
	}
	pt := (*point)(p)
	pt.x = 3
	fmt.Println(*pt)
	fmt.Println(a.UnsafeFree(p))
	// Output:
	// {3 0}
	// <nil>
}

// What would exceed the limit fails, and the program goes on.
func ExampleOptions_limitBytes() {
	a, err := pymalloc.NewAllocator(pymalloc.Options{LimitBytes: 16 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	_, err = a.Malloc(100 << 20)
	fmt.Println(errors.Is(err, pymalloc.ErrLimit))
	b, err := a.Malloc(100)
	fmt.Println(len(b), err)
	// Output:
	// true
	// 100 <nil>
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
