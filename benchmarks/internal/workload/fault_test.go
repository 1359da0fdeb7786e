package workload

import (
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/osmem"
	"github.com/pyarena/pyarena/pymalloc"
)

var everyFault = flag.Bool("workload.faults", false, "refuse the system's calls at every n, and not only at powers of four")

// strained is an allocator that may refuse. A program of the suite does not
// notice: what it cannot have from the allocator it has from the Go heap.
//
// Each block is asked for with some bytes more, for a seal at the end of what is
// usable. Nobody else may write there, and it is broken when the block is freed:
// a block that two have, or that overlaps another, is found out.
type strained struct {
	impl.Impl
	a       *pymalloc.Allocator
	refusal error // what every refusal must wrap
	retry   bool  // a second try must succeed

	calls, refusals atomic.Int64
	rest            atomic.Int64 // of the program's requests, before it asks the allocator again
	spare           sync.Map     // blocks of the Go heap

	mu   sync.Mutex
	errs []error
}

func newStrained(a *pymalloc.Allocator, heaps bool, refusal error) *strained {
	return &strained{Impl: impl.Pymalloc(a, heaps), a: a, refusal: refusal}
}

func (s *strained) failed(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) < 10 {
		s.errs = append(s.errs, fmt.Errorf(format, args...))
	}
}

// run runs the workload, whose tables lie on the Go heap, where no fault reaches them.
func (s *strained) run(w Workload) (Result, error) {
	info := impl.Info{Name: "strained", GoHeap: true, New: func(int) impl.Impl { return s }}
	got, err := w.Run(info, w.fewThreads(), 1)
	got.Elapsed = 0
	errs := append(s.errs, err)
	s.errs = nil
	return got, errors.Join(errs...)
}

func (w Workload) fewThreads() int {
	if w.Threads == 1 {
		return 1
	}
	return 2
}

func (s *strained) trim() {
	if err := s.a.Trim(); err != nil && !errors.Is(err, s.refusal) {
		s.failed("Trim: %w", err)
	}
}

func (s *strained) Worker() impl.Worker { return strainedWorker{s.Impl.Worker(), s} }

type strainedWorker struct {
	impl.Worker
	s *strained
}

const sealBytes = 8

func seal(p unsafe.Pointer) *uint64 {
	return (*uint64)(unsafe.Add(p, pymalloc.UnsafeUsableSize(p)-sealBytes))
}

// sealOf is what the seal of the block at p says while it is whole.
func sealOf(p unsafe.Pointer) uint64 { return uint64(uintptr(p)) ^ 0x5ea1_5ea1_5ea1_5ea1 }

// get makes a call that allocates.
func (s *strained) get(size int, call func(size int) (unsafe.Pointer, error)) (unsafe.Pointer, error) {
	if s.calls.Add(1)%50_000 == 0 {
		s.trim()
	}
	if s.rest.Add(-1) >= 0 {
		return s.fromGo(size), nil
	}
	p, err := call(size + sealBytes)
	if err != nil {
		// A refusal takes long, since the allocator first gives back what is
		// idle: the next one comes ever later.
		n := s.refusals.Add(1)
		s.rest.Store(n * n * n)
		if sized := (*pymalloc.SizeError)(nil); p != nil || !errors.As(err, &sized) ||
			sized.Size != size+sealBytes || !errors.Is(err, pymalloc.ErrNoMemory) || !errors.Is(err, s.refusal) {
			s.failed("%d bytes: %p, %w", size, p, err)
		}
		if s.retry {
			if p, err = call(size + sealBytes); err != nil {
				s.failed("the second try: %w", err)
			}
		}
	}
	if err != nil {
		return s.fromGo(size), nil
	}
	*seal(p) = sealOf(p)
	return p, nil
}

func (s *strained) fromGo(size int) unsafe.Pointer {
	p := unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	s.spare.Store(p, nil)
	return p
}

func (w strainedWorker) Malloc(size int) (unsafe.Pointer, error) {
	return w.s.get(size, w.Worker.Malloc)
}

func (w strainedWorker) Calloc(size int) (unsafe.Pointer, error) {
	p, err := w.s.get(size, w.Worker.Calloc)
	for i, b := range unsafe.Slice((*byte)(p), size) {
		if b != 0 {
			w.s.failed("calloc of %d bytes: byte %d is %#x", size, i, b)
			break
		}
	}
	return p, err
}

func (w strainedWorker) AlignedMalloc(size, align int) (unsafe.Pointer, error) {
	return w.s.get(size, func(size int) (unsafe.Pointer, error) { return w.Worker.AlignedMalloc(size, align) })
}

func (w strainedWorker) Free(p unsafe.Pointer) error {
	if _, ok := w.s.spare.LoadAndDelete(p); ok {
		return nil
	}
	if got := *seal(p); got != sealOf(p) {
		w.s.failed("block %p: its seal is %#x, want %#x", p, got, sealOf(p))
	}
	*seal(p) = 0
	return w.Worker.Free(p)
}

// requireEmpty fails the test unless nothing is live, and all can be given back.
func requireEmpty(t *testing.T, a *pymalloc.Allocator) {
	t.Helper()
	if s := a.Stats(); s.LiveBlocks != 0 || s.InUseBytes != 0 || s.MappedBytes != s.Parts.Sum() {
		t.Errorf("%d blocks of %d bytes are live, none should be\n%v", s.LiveBlocks, s.InUseBytes, s)
	}
	if err := a.Trim(); err != nil {
		t.Error(err)
	}
	if s := a.Stats(); s.MappedBytes != 0 || s.Arenas.Current != 0 {
		t.Errorf("%d bytes are mapped after Trim\n%v", s.MappedBytes, s)
	}
}

// Every operation of the system is refused at every n, alone and in bursts, while
// the programs run. Every answer is the program's all the same, nothing is lost,
// and the allocator works again as soon as the system does.
func TestFaults(t *testing.T) {
	for i, w := range All() {
		t.Run(w.Name, func(t *testing.T) {
			want := unstrained(t, w)
			if testing.Short() && want.Mallocs > 400_000 {
				t.Skip("a long program")
			}
			for op := osmem.OpReserve; op <= osmem.OpRemap; op++ {
				for _, burst := range []bool{false, true} {
					refuseAll(t, w, want, op, burst, (i+int(op))%2 == 0)
				}
			}
		})
	}
}

// unstrained returns what the workload does while nothing is refused.
func unstrained(t *testing.T, w Workload) Result {
	t.Helper()
	want, err := newStrained(new(pymalloc.Allocator), false, nil).run(w)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// burstRequests is how many requests of the program a burst of refusals fails.
// One that fails none lasts to the end.
const burstRequests = 8

func refuseAll(t *testing.T, w Workload, want Result, op osmem.Op, burst, heaps bool) {
	t.Helper()
	o := pymalloc.Options{RetainBytes: -1, KeepAddresses: pymalloc.KeepAlways}
	if op == osmem.OpMap || op == osmem.OpRelease {
		o.KeepAddresses = pymalloc.KeepWhereNeeded
	}
	a, err := pymalloc.NewAllocator(o)
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(1); ; {
		var calls atomic.Int64
		s := newStrained(a, heaps, osmem.ErrNoMemory)
		s.retry = !burst
		restore := osmem.SetFault(func(o osmem.Op, _ int) error {
			if o == op {
				if c := calls.Add(1); c == n || burst && c > n && s.refusals.Load() < burstRequests {
					return osmem.ErrNoMemory
				}
			}
			return nil
		})
		got, err := s.run(w)
		s.trim()
		restore()
		if err := errors.Join(append(s.errs, err)...); err != nil || got != want {
			t.Fatalf("%v, n=%d, burst=%t: %+v, want %+v; %v", op, n, burst, got, want, err)
		}
		requireEmpty(t, a)
		if calls.Load() < n { // nothing was refused by the system
			if n := s.refusals.Load(); n > 0 {
				t.Errorf("%v: %d requests were refused without a reason", op, n)
			}
			return
		}
		if n%3 == 1 {
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case *everyFault:
			n++
		case testing.Short():
			n *= 16
		default:
			n *= 4
		}
	}
}

// The programs run under limits down to one arena. What is mapped stays below,
// and what was freed can be had again.
func TestLimits(t *testing.T) {
	for _, w := range All() {
		t.Run(w.Name, func(t *testing.T) {
			want := unstrained(t, w)
			limited(t, w, want, 1<<20, false)
			if !testing.Short() {
				limited(t, w, want, 3<<20, true)
			}
		})
	}
}

func limited(t *testing.T, w Workload, want Result, limit int, heaps bool) {
	t.Helper()
	a, err := pymalloc.NewAllocator(pymalloc.Options{LimitBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	s := newStrained(a, heaps, pymalloc.ErrLimit)
	got, err := s.run(w)
	if err != nil || got != want {
		t.Fatalf("limit %d: %+v, want %+v; %v", limit, got, want, err)
	}
	if high := a.Stats().HighWaterBytes; high > uint64(limit) {
		t.Errorf("limit %d: %d bytes were mapped", limit, high)
	}
	if w.Name == "alloc-test" && s.refusals.Load() == 0 { // its slots hold tens of MiB
		t.Errorf("limit %d: nothing was refused", limit)
	}
	t.Logf("limit %d, heaps=%t: %d requests refused", limit, heaps, s.refusals.Load())
	var ps []unsafe.Pointer
	for n := 0; n < limit/2; n += 64 {
		p, err := a.UnsafeMalloc(64)
		if err != nil {
			t.Fatalf("limit %d: after %d bytes: %v", limit, n, err)
		}
		ps = append(ps, p)
	}
	if err := a.UnsafeFreeBatch(ps); err != nil {
		t.Error(err)
	}
	requireEmpty(t, a)
}
