package osmem

import (
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// ErrInvalid is the cause of a refusal for its arguments: a nil or unaligned
// address, a size that is not positive or too large, an unknown access or
// advice. The system has not been asked.
var ErrInvalid = errors.New("invalid argument")

// Error is a refusal.
type Error struct {
	Op   Op
	Addr uintptr // 0 where the system was to choose it
	Size int     // bytes: rounded up to whole pages, or as given if invalid
	Err  error   // the system's cause, ErrInvalid with its reason, or errors.ErrUnsupported
}

func (e *Error) Error() string {
	if e.Addr != 0 {
		return fmt.Sprintf("osmem: %v %d bytes at %#x: %v", e.Op, e.Size, e.Addr, e.Err)
	}
	return fmt.Sprintf("osmem: %v %d bytes: %v", e.Op, e.Size, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// wholePages rounds size up to whole pages, or says why it cannot.
func wholePages(size int) (int, error) {
	switch {
	case size <= 0:
		return size, invalid("size %d is not positive; ask for at least 1 byte", size)
	case size > math.MaxInt-pageSize:
		return size, invalid("size %d is larger than any address space; ask for less", size)
	}
	return (size + pageSize - 1) &^ (pageSize - 1), nil
}

// checkAlign says whether size bytes, whole pages, can be had at a multiple of align.
func checkAlign(size, align int) error {
	switch {
	case align <= 0 || align&(align-1) != 0:
		return invalid("alignment %d is not a power of two; use one, such as the page size %d", align, pageSize)
	case size > math.MaxInt-max(align, pageSize):
		return invalid("size %d and alignment %d together are larger than any address space; ask for less", size, align)
	}
	return nil
}

// checkRegion says whether size bytes, whole pages, can be a region at p.
func checkRegion(p unsafe.Pointer, size int) error {
	switch {
	case p == nil:
		return invalid("the address is nil; pass one that Reserve or MapAligned returned")
	case uintptr(p)&uintptr(pageSize-1) != 0:
		return invalid("the address is not a multiple of the page size %d; round it", pageSize)
	case uintptr(size) > -uintptr(p):
		return invalid("the end of %d bytes there is beyond the address space; pass the region's own size", size)
	}
	return nil
}
