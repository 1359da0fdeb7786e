package impl

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"unsafe"
)

func content(p unsafe.Pointer, size int) []byte { return unsafe.Slice((*byte)(p), size) }

// use has a worker do all that it can, and leaves nothing behind.
func use(t *testing.T, info Info, w Worker) {
	t.Helper()
	must := func(p unsafe.Pointer, err error) unsafe.Pointer {
		t.Helper()
		if err != nil || p == nil {
			t.Fatalf("%s: got %v, %v", info.Name, p, err)
		}
		return p
	}
	free := func(p unsafe.Pointer) {
		t.Helper()
		if err := w.Free(p); err != nil {
			t.Errorf("%s: %v", info.Name, err)
		}
	}
	for _, size := range []int{1, 15, 16, 100, 1000, 40_000, 700_000} {
		want := bytes.Repeat([]byte{0xa5}, size)
		p := must(w.Malloc(size))
		copy(content(p, size), want)
		p = must(w.Realloc(p, size, 3*size))
		if !bytes.Equal(content(p, size), want) {
			t.Errorf("%s: a block of %d bytes that grew lost its content", info.Name, size)
		}
		small := max(1, size/3)
		p = must(w.Realloc(p, 3*size, small))
		if !bytes.Equal(content(p, small), want[:small]) {
			t.Errorf("%s: a block of %d bytes that shrank lost its content", info.Name, 3*size)
		}
		free(p)
		p = must(w.Calloc(size))
		if slices.Max(content(p, size)) != 0 {
			t.Errorf("%s: calloc of %d bytes is dirty", info.Name, size)
		}
		free(p)
		for _, align := range []int{1, 64, 4096, 1 << 17} {
			p := must(w.AlignedMalloc(size, align))
			if uintptr(p)%uintptr(align) != 0 {
				t.Errorf("%s: AlignedMalloc(%d, %d) = %p", info.Name, size, align, p)
			}
			copy(content(p, size), want)
			q := must(w.Realloc(p, size, 2*size))
			if !bytes.Equal(content(q, size), want) {
				t.Errorf("%s: an aligned block of %d bytes that grew lost its content", info.Name, size)
			}
			free(q)
		}
	}
	for _, align := range []int{1, 16, 4096} {
		p, err := w.AlignedMalloc(0, align)
		if err != nil {
			t.Errorf("%s: AlignedMalloc(0, %d): %v", info.Name, align, err)
		}
		free(p)
	}
	if _, err := w.Malloc(0); err != nil {
		t.Errorf("%s: Malloc(0): %v", info.Name, err)
	}
	free(nil)
}

func TestWorkers(t *testing.T) {
	for _, info := range All() {
		alone := info.New(1)
		w := alone.Worker()
		use(t, info, w)
		w.Release()
		if n := alone.LiveBlocks(); n > 0 {
			t.Errorf("%s: %d blocks are live", info.Name, n)
		}

		several := info.New(3)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				w := several.Worker()
				defer w.Release()
				use(t, info, w)
			})
		}
		all.Wait()
	}
}

func TestMappedGrows(t *testing.T) {
	const size = 1 << 20
	for _, info := range All() {
		if info.GoHeap {
			continue // it may have had the memory before
		}
		i := info.New(1)
		w := i.Worker()
		keep := make([]unsafe.Pointer, 40)
		for j := range keep {
			p, err := w.Malloc(size)
			if err != nil {
				t.Fatal(err)
			}
			keep[j] = p
		}
		if got := i.Mapped(); got != 0 && got < uint64(len(keep))*size {
			t.Errorf("%s: %d bytes are mapped for %d blocks of %d", info.Name, got, len(keep), size)
		}
		if c := i.Calls(); c != nil && c.Map == 0 {
			t.Errorf("%s: no mapping is counted", info.Name)
		}
		for _, p := range keep {
			if err := w.Free(p); err != nil {
				t.Error(err)
			}
		}
		w.Release()
	}
}
