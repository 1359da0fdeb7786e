package main

import (
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/pyarena/pyarena/pymalloc"
)

// The allocator leaves no goroutine behind, not even while it gives memory back.
func TestNoGoroutineLeft(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a, err := pymalloc.NewAllocator(pymalloc.Options{RetainDelay: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	h := a.AcquireHeap()
	ps := make([]unsafe.Pointer, 10_000)
	if err := a.UnsafeMallocBatch(ps, 100); err != nil {
		t.Fatal(err)
	}
	p, err := h.UnsafeMalloc(100)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(ps, p) {
		if err := a.UnsafeFree(p); err != nil {
			t.Fatal(err)
		}
	}
	h.Release()
	goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for end := time.Now().Add(10 * time.Second); a.Stats().MappedBytes != 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := a.Stats().MappedBytes; n != 0 {
		t.Errorf("%d bytes stay mapped", n)
	}
}
