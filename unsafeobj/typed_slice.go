package unsafeobj

import (
	"fmt"
	"math"
	"unsafe"
)

// MakeSlice returns a slice of zero values in a block of its own. The caller
// frees it with [FreeSlice], also when it is empty. The error is a
// [*GoPointerError] if T holds Go pointers, a [*MisuseError] with [ErrLength] if
// length and capacity are not in order or too large, or m's.
func MakeSlice[T any](m Memory, length, capacity int) ([]T, error) {
	size, err := sliceBytes[T]("MakeSlice", length, capacity)
	if err != nil {
		return nil, err
	}
	p, err := m.UnsafeCalloc(size)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(p), capacity)[:length], nil
}

// MakeSliceUninitialized is MakeSlice for elements that hold whatever the memory
// held before: for those that write all of them anyway.
func MakeSliceUninitialized[T any](m Memory, length, capacity int) ([]T, error) {
	size, err := sliceBytes[T]("MakeSliceUninitialized", length, capacity)
	if err != nil {
		return nil, err
	}
	p, err := m.UnsafeMalloc(size)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(p), capacity)[:length], nil
}

// Clone returns a copy of s, which may lie anywhere, in a block of its own. The
// caller frees it with [FreeSlice], also when it is empty. For the way back to
// the Go heap there is slices.Clone. The errors are those of [MakeSlice].
func Clone[T any](m Memory, s []T) ([]T, error) {
	t, err := MakeSliceUninitialized[T](m, len(s), len(s))
	copy(t, s)
	return t, err
}

// Append is append for a slice of m, or for nil: it returns s with vs behind it,
// in another block if the capacity does not suffice. Then the old block is freed,
// and other slices of it are stale. vs may be part of s. If it fails, s is
// returned as it was. The errors are those of [MakeSlice], or a [*MisuseError]
// because s is no slice of m from its start.
func Append[T any](m Memory, s []T, vs ...T) ([]T, error) {
	n := len(s)
	if len(vs) <= cap(s)-n {
		s = s[:n+len(vs)]
		copy(s[n:], vs)
		return s, nil
	}
	at := offsetOf(vs, s)
	grown, err := grow(m, "Append", s, len(vs))
	if err != nil {
		return s, err
	}
	if at < uintptr(cap(s))*sizeOf[T]() { // vs has moved with s
		vs = unsafe.Slice((*T)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(grown)), at)), len(vs))
	}
	copy(grown[n:n+len(vs)], vs)
	clear(grown[n+len(vs) : cap(grown)])
	return grown[:n+len(vs)], nil
}

// Grow returns s with room for n more elements, so that the next [Append] of so
// many does not move it. New room is zero. For s, its old block and the errors
// it is as Append.
func Grow[T any](m Memory, s []T, n int) ([]T, error) {
	if uint(n) <= uint(cap(s)-len(s)) {
		return s, nil
	}
	grown, err := grow(m, "Grow", s, n)
	if err != nil {
		return s, err
	}
	clear(grown[cap(s):cap(grown)])
	return grown, nil
}

// grow returns s with more capacity, for n elements at least. What is new is not
// initialised.
func grow[T any](m Memory, call string, s []T, n int) ([]T, error) {
	if n < 0 || n > math.MaxInt-len(s) {
		return nil, lengthError(call, fmt.Sprintf("%s, %d more", describe(s), n))
	}
	capacity := nextCap(cap(s), len(s)+n, sizeOf[T]())
	size, err := sliceBytes[T](call, len(s), capacity)
	if err != nil {
		return nil, err
	}
	p := unsafe.Pointer(unsafe.SliceData(s))
	q, err := m.UnsafeRealloc(p, size)
	if err != nil {
		return nil, misuse(call, describe(s), p, err)
	}
	return unsafe.Slice((*T)(q), capacity)[:len(s)], nil
}

// FreeSlice frees the block of s, which [MakeSlice], [Clone], [Append] or [Grow]
// has returned for m, and which nobody uses any more. s may have been cut at its
// end, not at its start. The error is a [*MisuseError], for nil too; nothing is
// freed then.
func FreeSlice[T any](m Memory, s []T) error {
	p := unsafe.Pointer(unsafe.SliceData(s))
	if err := release(m, p); err != nil {
		return misuse("FreeSlice", describe(s), p, err)
	}
	return nil
}

// sliceBytes returns the size of the block of a slice.
func sliceBytes[T any](call string, length, capacity int) (int, error) {
	if err := check[T](); err != nil {
		return 0, err
	}
	if uint(length) > uint(capacity) || uintptr(capacity) > math.MaxInt/max(1, sizeOf[T]()) {
		return 0, lengthError(call, fmt.Sprintf("%T of length %d and capacity %d", []T(nil), length, capacity))
	}
	return blockBytes[T](capacity), nil
}

// nextCap returns the capacity that a slice of capacity old grows to for need
// elements of size bytes: append's rule, and no less than the smallest block.
func nextCap(old, need int, size uintptr) int {
	next := 2 * old
	if old >= 256 {
		next = old + (old+3*256)/4
	}
	return max(need, next, int(16/max(1, size)))
}

// offsetOf returns how many bytes of t precede the start of s, if it is in t, and
// more than t has if it is not.
func offsetOf[T any](s, t []T) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(s))) - uintptr(unsafe.Pointer(unsafe.SliceData(t)))
}

// describe names a slice in an error.
func describe[T any](s []T) string {
	return fmt.Sprintf("%T of length %d and capacity %d at %p", s, len(s), cap(s), s)
}
