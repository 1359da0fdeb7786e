package unsafeobj

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// What errors of typed values wrap, besides those of pymalloc.
var (
	// ErrGoPointer: a type holds Go pointers, which the collector would not see.
	ErrGoPointer = errors.New("type holds a Go pointer")
	// ErrNil: nil was to be freed.
	ErrNil = errors.New("nil has no block")
	// ErrLength: a length or capacity is negative, out of order, or needs more
	// bytes than an int can count.
	ErrLength = errors.New("length or capacity out of range")
)

// GoPointerError refuses a type that holds Go pointers. It wraps [ErrGoPointer].
type GoPointerError struct {
	Path string       // where, as "Session.User.Name"; "[]" stands for an array's element
	Type reflect.Type // what is there
	Fix  string       // what to use in its place
}

func (e *GoPointerError) Error() string {
	return fmt.Sprintf("unsafeobj: %s: %v holds a Go pointer; use %s", e.Path, e.Type, e.Fix)
}

// Unwrap returns ErrGoPointer.
func (e *GoPointerError) Unwrap() error { return ErrGoPointer }

// MisuseError is a call with a value that it is not for. Nothing was changed by
// it. It wraps [ErrNil], [ErrLength], [pymalloc.ErrNotOwned],
// [pymalloc.ErrDoubleFree], or what another Memory has to say.
type MisuseError struct {
	Call  string // such as "FreeSlice"
	Value string // what it was called with, in words
	Err   error  // what is wrong
	Fix   string // what to do
}

func (e *MisuseError) Error() string {
	return fmt.Sprintf("unsafeobj: %s(%s): %v: %s", e.Call, e.Value, e.Err, e.Fix)
}

// Unwrap returns what is wrong.
func (e *MisuseError) Unwrap() error { return e.Err }

// misuse explains why the block of a value, at p, could not be freed or resized.
func misuse(call, value string, p unsafe.Pointer, err error) error {
	if bad, ok := errors.AsType[*pymalloc.PointerError](err); ok {
		err = bad.Err // what the rest of it tells is told below
	}
	fix := "free what this package has returned for this memory, unchanged and once"
	switch {
	case errors.Is(err, ErrNil):
		fix = "there is nothing to free; did its allocation fail, or was it freed before?"
	case errors.Is(err, pymalloc.ErrDoubleFree):
		fix = "free a value once, and forget it then"
	case errors.Is(err, pymalloc.ErrNotOwned) && pymalloc.UnsafeUsableSize(p) != 0:
		fix = "it is a block of another allocator; use the one that it came from"
	case errors.Is(err, pymalloc.ErrNotOwned):
		fix = "no live block begins there; keep the start of what was allocated (s[i:] and &s[i] lose it), and free it once"
	}
	return &MisuseError{call, value, err, fix}
}

// reallocError explains why s could not grow: for want of memory, or because it
// is no block of this memory.
func reallocError[T any](call string, s []T, err error) error {
	if !errors.Is(err, pymalloc.ErrNotOwned) && !errors.Is(err, pymalloc.ErrDoubleFree) {
		return err
	}
	return misuse(call, describe(s), unsafe.Pointer(unsafe.SliceData(s)), err)
}

func lengthError(call, typ string, length, capacity int) error {
	return &MisuseError{
		call, fmt.Sprintf("%s of length %d and capacity %d", typ, length, capacity), ErrLength,
		"0 <= length <= capacity, and an int counts the bytes",
	}
}
