// Package offheap holds the arrays of a replay outside the Go heap: were they on
// it, the collector would let garbage grow by as much, and a Go program's figures
// would be the harness's.
package offheap

import (
	"fmt"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// Slice returns n zeroed elements, which must hold no Go pointer. They are never
// freed.
func Slice[T any](n int) ([]T, error) {
	var element T
	if n == 0 {
		return nil, nil
	}
	p, err := osmem.MapAligned(n*int(unsafe.Sizeof(element)), osmem.PageSize())
	if err != nil {
		return nil, fmt.Errorf("array of %d elements: %w", n, err)
	}
	return unsafe.Slice((*T)(p), n), nil
}

// Bytes returns the memory of s.
func Bytes[T any](s []T) []byte {
	var element T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(element)))
}
