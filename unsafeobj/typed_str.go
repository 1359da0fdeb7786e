package unsafeobj

import (
	"fmt"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
)

// CloneString returns a copy of s in a block of its own; of the empty string,
// which needs none, "". The caller frees it with [FreeString]. For the way back to
// the Go heap there is strings.Clone. The error is m's.
func CloneString(m Memory, s string) (string, error) {
	if s == "" {
		return "", nil
	}
	p, err := m.UnsafeMalloc(len(s))
	if err != nil {
		return "", err
	}
	copy(unsafe.Slice((*byte)(p), len(s)), s)
	return unsafe.String((*byte)(p), len(s)), nil
}

// FreeString frees the block of s, which [CloneString] has returned for m, and
// which nobody uses any more. s may have been cut at its end, but not to nothing,
// and not at its start. Freeing "" does nothing. The error is a [*MisuseError];
// nothing is freed then.
func FreeString(m Memory, s string) error {
	if s == "" {
		return nil
	}
	p := unsafe.Pointer(unsafe.StringData(s))
	if err := release(m, p); err != nil {
		return misuse("FreeString", fmt.Sprintf("string of %d bytes at %p", len(s), p), p, err)
	}
	return nil
}

// Str is a string for places where no Go pointer may be, such as the fields of an
// off-heap struct. The zero Str is empty and has no block. A copy of a Str is the
// same string, not another: one of them is freed. They are compared by their
// contents, a.String() == b.String(), and not by ==.
type Str struct {
	_    [0]func() // == would compare addresses
	addr uintptr
	len  int
}

// NewStr returns a Str of the bytes of s in a block of its own, which the caller
// frees with [Str.Free]. The error is m's.
func NewStr(m Memory, s string) (Str, error) {
	s, err := CloneString(m, s)
	return Str{addr: uintptr(unsafe.Pointer(unsafe.StringData(s))), len: len(s)}, err
}

// String returns the string itself, not a copy: it is stale once the Str is
// freed.
func (s Str) String() string { return unsafe.String((*byte)(addr.Pointer(s.addr)), s.len) }

// MarshalJSON is an error, in place of the {} that package json would write.
func (Str) MarshalJSON() ([]byte, error) { return nil, notMarshalled("Str", "String") }

// Free frees the block of s, which is of m, and leaves s empty. Freeing an empty
// Str does nothing. The errors are those of [FreeString].
func (s *Str) Free(m Memory) error {
	if err := FreeString(m, s.String()); err != nil {
		return err
	}
	*s = Str{}
	return nil
}
