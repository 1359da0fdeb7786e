package unsafeobj

import (
	"fmt"
	"unsafe"
)

// Memory is where values live: a [*pymalloc.Allocator], a [*pymalloc.Heap], or
// what works like them. Sizes are bytes, never 0 or less. Blocks are aligned to
// 16 bytes, which is enough for every Go type, and stay until they are freed,
// for their addresses are kept where the collector does not look.
//
// Whether any goroutine may call the functions of this package is up to the
// Memory: yes for an Allocator, one at a time for a Heap.
type Memory interface {
	// UnsafeMalloc returns a block that is not initialised.
	UnsafeMalloc(size int) (unsafe.Pointer, error)
	// UnsafeCalloc returns a block that is zero.
	UnsafeCalloc(size int) (unsafe.Pointer, error)
	// UnsafeRealloc resizes a block, which may move. Contents are kept up to the
	// smaller size. A nil p is UnsafeMalloc. If it fails the block is as it was.
	UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error)
	// UnsafeFree frees a block, or returns an error and changes nothing.
	UnsafeFree(p unsafe.Pointer) error
}

// New returns a zero T in a block of its own, aligned as T is. The caller frees
// it with [Free]. The error is a [*GoPointerError] if T holds Go pointers, or m's.
func New[T any](m Memory) (*T, error) {
	if err := check[T](); err != nil {
		return nil, err
	}
	p, err := m.UnsafeCalloc(blockBytes[T](1))
	return (*T)(p), err
}

// NewOf is New for a copy of v.
func NewOf[T any](m Memory, v T) (*T, error) {
	if err := check[T](); err != nil {
		return nil, err
	}
	p, err := m.UnsafeMalloc(blockBytes[T](1))
	if err != nil {
		return nil, err
	}
	*(*T)(p) = v
	return (*T)(p), nil
}

// Free frees the value at p, which [New] or [NewOf] has returned for m, and which
// nobody uses any more. Values that it refers to through a [Str], [Slice] or
// [Ptr] are freed before it, by the caller. The error is a [*MisuseError], for
// nil too; nothing is freed then.
func Free[T any](m Memory, p *T) error {
	if err := release(m, unsafe.Pointer(p)); err != nil {
		return misuse("Free", fmt.Sprintf("%T at %p", p, p), unsafe.Pointer(p), err)
	}
	return nil
}

// release frees the block at p.
func release(m Memory, p unsafe.Pointer) error {
	if p == nil {
		return ErrNil
	}
	return m.UnsafeFree(p)
}

// sizeOf returns the size of a T in bytes, a constant to the compiler.
func sizeOf[T any]() uintptr {
	var v T
	return unsafe.Sizeof(v)
}

// blockBytes returns the size of a block for n values, which must not overflow.
// It is never 0, so that each value of size 0 and each empty slice has a block of
// its own too, and is freed by the same rules as all others.
func blockBytes[T any](n int) int { return max(1, n*int(sizeOf[T]())) }
