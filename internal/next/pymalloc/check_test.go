package pymalloc

import (
	"errors"
	"testing"
	"unsafe"
)

// TestCheck writes to a block after it was freed by another, and wants to hear
// of it; the structure that pools, shards and arenas are in is the other
// packages' to damage.
func TestCheck(t *testing.T) {
	var a Allocator
	defer a.Close()
	if err := a.Check(); err != nil {
		t.Errorf("unused: %v", err)
	}
	h, other := a.AcquireHeap(), a.AcquireHeap()
	var ps []unsafe.Pointer
	for range 1000 {
		p, err := h.UnsafeMalloc(64)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	for _, p := range ps[:100] {
		if err := other.UnsafeFree(p); err != nil {
			t.Fatal(err)
		}
	}
	// The shards are drained by the first; the lists of freed blocks stay.
	for range 2 {
		if err := a.Check(); err != nil {
			t.Errorf("in use: %v", err)
		}
	}
	p := (*uint64)(ps[50])
	kept := *p
	*p++
	if err := a.Check(); !errors.Is(err, ErrCorrupted) {
		t.Errorf("a freed block was written to: %v, want ErrCorrupted", err)
	}
	*p = kept
	if err := a.Check(); err != nil {
		t.Errorf("mended: %v", err)
	}
	for _, p := range ps[100:] {
		if err := h.UnsafeFree(p); err != nil {
			t.Error(err)
		}
	}
	requireEmpty(t, &a)
}
