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
// it. It wraps [ErrNil], [ErrLength], [pymalloc.ErrNotOwned] or
// [pymalloc.ErrDoubleFree].
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

// misuse explains err, with which a memory has refused to free or resize the
// block of a value at p. Other errors than those of misuse are returned as they
// are.
func misuse(call, value string, p unsafe.Pointer, err error) error {
	switch {
	case errors.Is(err, ErrNil):
		return &MisuseError{call, value, ErrNil, "there is nothing to free; did its allocation fail, or was it freed before?"}
	case errors.Is(err, pymalloc.ErrDoubleFree):
		return &MisuseError{call, value, pymalloc.ErrDoubleFree, "free a value once, and forget it then"}
	case !errors.Is(err, pymalloc.ErrNotOwned):
		return err
	case pymalloc.UnsafeUsableSize(p) != 0:
		return &MisuseError{call, value, pymalloc.ErrNotOwned, "it is a block of another allocator; use the one that it came from"}
	}
	return &MisuseError{
		call, value, pymalloc.ErrNotOwned,
		"no live block begins there; keep the start of what was allocated (s[i:] and &s[i] lose it), and free it once",
	}
}

func notMarshalled(kind, method string) error {
	return fmt.Errorf("unsafeobj: a %s is not marshalled: marshal what its method %s returns", kind, method)
}

func lengthError(call, value string) error {
	return &MisuseError{call, value, ErrLength, "a length is 0 or more, no more than the capacity, and an int can count the bytes"}
}
