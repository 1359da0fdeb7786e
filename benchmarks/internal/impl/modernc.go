package impl

import (
	"sync"
	"unsafe"

	"modernc.org/memory"

	"github.com/pyarena/pyarena/benchmarks/internal/proc"
)

// modernc is modernc.org/memory. It is not safe for several goroutines, so these
// share it behind a mutex; one alone has it without.
type modernc struct {
	w       lockedModernc
	lock    bool
	virtual uint64 // of the process, at the start
}

func newModernc(goroutines int) Impl {
	return &modernc{lock: goroutines > 1, virtual: proc.Read().Virtual}
}

func (i *modernc) Worker() Worker {
	if i.lock {
		return &i.w
	}
	return &i.w.moderncWorker
}

func (*modernc) LiveBlocks() int { return -1 }

// Mapped is what the address space of the whole process has grown by.
func (i *modernc) Mapped() uint64 {
	now := proc.Read().Virtual
	return max(now, i.virtual) - i.virtual
}

// Calls needs the build tag memory.counters, which makes the package count its
// pages. To align a page it may call munmap twice more.
func (i *modernc) Calls() *Calls {
	if !moderncCounts {
		return nil
	}
	c := i.w.calls
	return &c
}

// moderncWorker is for one goroutine at a time.
type moderncWorker struct {
	a       memory.Allocator
	aligned map[unsafe.Pointer]unsafe.Pointer // blocks of AlignedMalloc: where they really begin
	calls   Calls
}

// count takes note of pages obtained and given back since there were before.
func (w *moderncWorker) count(before int) {
	if !moderncCounts {
		return
	}
	w.calls.Map += uint64(max(0, w.a.Mmaps-before))
	w.calls.Unmap += uint64(max(0, before-w.a.Mmaps))
}

func (w *moderncWorker) Release() {}

func (w *moderncWorker) Malloc(size int) (unsafe.Pointer, error) {
	before := w.a.Mmaps
	p, err := w.a.UnsafeMalloc(size)
	w.count(before)
	return p, err
}

func (w *moderncWorker) Calloc(size int) (unsafe.Pointer, error) {
	before := w.a.Mmaps
	p, err := w.a.UnsafeCalloc(size)
	w.count(before)
	return p, err
}

// AlignedMalloc asks for more, as the package knows no alignment.
func (w *moderncWorker) AlignedMalloc(size, align int) (unsafe.Pointer, error) {
	p, err := w.Malloc(size + align - 1)
	if err != nil || p == nil {
		return nil, err
	}
	q := alignUp(p, align)
	if q != p {
		if w.aligned == nil {
			w.aligned = map[unsafe.Pointer]unsafe.Pointer{}
		}
		w.aligned[q] = p
	}
	return q, nil
}

func (w *moderncWorker) Realloc(p unsafe.Pointer, old, size int) (unsafe.Pointer, error) {
	if _, moved := w.aligned[p]; moved {
		q, err := w.Malloc(size)
		if err != nil {
			return nil, err
		}
		n := min(old, size)
		copy(unsafe.Slice((*byte)(q), n), unsafe.Slice((*byte)(p), n))
		return q, w.Free(p)
	}
	before := w.a.Mmaps
	q, err := w.a.UnsafeRealloc(p, size)
	w.count(before)
	return q, err
}

func (w *moderncWorker) Free(p unsafe.Pointer) error {
	if len(w.aligned) > 0 {
		if start, moved := w.aligned[p]; moved {
			delete(w.aligned, p)
			p = start
		}
	}
	before := w.a.Mmaps
	err := w.a.UnsafeFree(p)
	w.count(before)
	return err
}

// lockedModernc is a moderncWorker for any number of goroutines.
type lockedModernc struct {
	mu sync.Mutex
	moderncWorker
}

func (w *lockedModernc) Malloc(size int) (unsafe.Pointer, error) {
	w.mu.Lock()
	p, err := w.moderncWorker.Malloc(size)
	w.mu.Unlock()
	return p, err
}

func (w *lockedModernc) Calloc(size int) (unsafe.Pointer, error) {
	w.mu.Lock()
	p, err := w.moderncWorker.Calloc(size)
	w.mu.Unlock()
	return p, err
}

func (w *lockedModernc) AlignedMalloc(size, align int) (unsafe.Pointer, error) {
	w.mu.Lock()
	p, err := w.moderncWorker.AlignedMalloc(size, align)
	w.mu.Unlock()
	return p, err
}

func (w *lockedModernc) Realloc(p unsafe.Pointer, old, size int) (unsafe.Pointer, error) {
	w.mu.Lock()
	q, err := w.moderncWorker.Realloc(p, old, size)
	w.mu.Unlock()
	return q, err
}

func (w *lockedModernc) Free(p unsafe.Pointer) error {
	w.mu.Lock()
	err := w.moderncWorker.Free(p)
	w.mu.Unlock()
	return err
}
