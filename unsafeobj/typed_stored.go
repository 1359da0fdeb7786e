package unsafeobj

import (
	"fmt"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
)

// Slice is a slice for places where no Go pointer may be, such as the fields of an
// off-heap struct. The zero Slice is empty and has no block; Append gives it one.
// A copy of a Slice shares its block, and is stale once the other was appended to
// or freed. Like slices, Slices are not compared by ==.
type Slice[T any] struct {
	_    [0]func() T // == would compare addresses; a Slice of one type is not one of another
	addr uintptr
	len  int
	cap  int
}

// View returns the elements themselves, not a copy: for reading, writing,
// sorting. It is stale once s has grown or was freed.
func (s Slice[T]) View() []T { return unsafe.Slice((*T)(addr.Pointer(s.addr)), s.cap)[:s.len] }

// Append adds vs at the end of s, whose block, if it has one, is of m. The errors
// are those of [Append]; s is as it was then.
func (s *Slice[T]) Append(m Memory, vs ...T) error {
	t, err := Append(m, s.View(), vs...)
	*s = sliceOf(t)
	return err
}

// Grow makes room for n more elements, as [Grow] does.
func (s *Slice[T]) Grow(m Memory, n int) error {
	t, err := Grow(m, s.View(), n)
	*s = sliceOf(t)
	return err
}

// SetLen cuts s to n elements, or extends it into its capacity. It panics where
// s.View()[:n] would.
func (s *Slice[T]) SetLen(n int) { s.len = len(s.View()[:n]) }

// Free frees the block of s, which is of m, and leaves s empty. What the elements
// refer to is freed before, by the caller. Freeing an empty Slice that has no
// block does nothing. The errors are those of [FreeSlice].
func (s *Slice[T]) Free(m Memory) error {
	if s.addr == 0 {
		return nil
	}
	if err := FreeSlice(m, s.View()); err != nil {
		return err
	}
	*s = Slice[T]{}
	return nil
}

// String formats the elements as fmt does.
func (s Slice[T]) String() string { return fmt.Sprint(s.View()) }

// MarshalJSON is an error, in place of the {} that package json would write.
func (Slice[T]) MarshalJSON() ([]byte, error) { return nil, notMarshalled("Slice", "View") }

func sliceOf[T any](s []T) Slice[T] {
	return Slice[T]{addr: uintptr(unsafe.Pointer(unsafe.SliceData(s))), len: len(s), cap: cap(s)}
}

// Ptr is a pointer for places where no Go pointer may be, such as the fields of an
// off-heap struct: the links of lists and trees. The zero Ptr is nil. Ptrs are
// compared by ==, as pointers.
type Ptr[T any] struct {
	_    [0]*T // a Ptr to one type is not one to another
	addr uintptr
}

// PtrTo returns p, which [New] or [NewOf] has returned, or which points into such
// a value or into a slice of this package. A pointer to Go memory must not become
// a Ptr: it keeps nothing alive there.
func PtrTo[T any](p *T) Ptr[T] { return Ptr[T]{addr: uintptr(unsafe.Pointer(p))} }

// MarshalJSON is an error, in place of the {} that package json would write.
func (Ptr[T]) MarshalJSON() ([]byte, error) { return nil, notMarshalled("Ptr", "Get") }

// Get returns the pointer that the Ptr was made of.
func (p Ptr[T]) Get() *T { return (*T)(addr.Pointer(p.addr)) }
