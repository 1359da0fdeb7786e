package pymalloc_test

import (
	"testing"
	"unsafe"

	memory "github.com/pyarena/pyarena/internal/next/pymalloc"
)

// TestModernc is a program for modernc.org/memory, whose import alone was changed: each of
// that package's functions, by its types.
func TestModernc(t *testing.T) {
	var a memory.Allocator
	var (
		malloc  func(int) ([]byte, error)         = a.Malloc
		calloc  func(int) ([]byte, error)         = a.Calloc
		realloc func([]byte, int) ([]byte, error) = a.Realloc
		free    func([]byte) error                = a.Free
		usable  func(*byte) int                   = memory.UsableSize

		uintptrMalloc  func(int) (uintptr, error)          = a.UintptrMalloc
		uintptrCalloc  func(int) (uintptr, error)          = a.UintptrCalloc
		uintptrRealloc func(uintptr, int) (uintptr, error) = a.UintptrRealloc
		uintptrFree    func(uintptr) error                 = a.UintptrFree
		uintptrUsable  func(uintptr) int                   = memory.UintptrUsableSize

		unsafeMalloc  func(int) (unsafe.Pointer, error)                 = a.UnsafeMalloc
		unsafeCalloc  func(int) (unsafe.Pointer, error)                 = a.UnsafeCalloc
		unsafeRealloc func(unsafe.Pointer, int) (unsafe.Pointer, error) = a.UnsafeRealloc
		unsafeFree    func(unsafe.Pointer) error                        = a.UnsafeFree
		unsafeUsable  func(unsafe.Pointer) int                          = memory.UnsafeUsableSize

		trim   func() error = a.Trim
		closes func() error = a.Close
	)
	check := func(n int, err error) {
		t.Helper()
		if n < 100 || err != nil {
			t.Errorf("%d usable bytes, want 100 or more; %v", n, err)
		}
	}
	for _, make := range []func(int) ([]byte, error){malloc, calloc} {
		b, err := make(10)
		if len(b) != 10 || err != nil {
			t.Fatal(b, err)
		}
		b[9] = 42
		if b, err = realloc(b, 100); len(b) != 100 || b[9] != 42 {
			t.Fatal(b, err)
		}
		check(usable(&b[0]), free(b))
	}
	for _, make := range []func(int) (uintptr, error){uintptrMalloc, uintptrCalloc} {
		p, err := make(10)
		if err != nil {
			t.Fatal(err)
		}
		if p, err = uintptrRealloc(p, 100); err != nil {
			t.Fatal(err)
		}
		check(uintptrUsable(p), uintptrFree(p))
	}
	for _, make := range []func(int) (unsafe.Pointer, error){unsafeMalloc, unsafeCalloc} {
		p, err := make(10)
		if err != nil {
			t.Fatal(err)
		}
		if p, err = unsafeRealloc(p, 100); err != nil {
			t.Fatal(err)
		}
		check(unsafeUsable(p), unsafeFree(p))
	}
	if err := trim(); err != nil {
		t.Error(err)
	}
	if s := a.Stats(); s.LiveBlocks != 0 || s.MappedBytes != 0 {
		t.Errorf("%d blocks are live, %d bytes are mapped", s.LiveBlocks, s.MappedBytes)
	}
	if err := closes(); err != nil {
		t.Error(err)
	}
}
