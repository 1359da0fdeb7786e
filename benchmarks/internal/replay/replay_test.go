package replay

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

// plan makes a plan of records.
func plan(t testing.TB, records []trace.Record) *Plan {
	t.Helper()
	var file bytes.Buffer
	w, err := trace.NewWriter(&file, "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := trace.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Build(r, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mixed returns records of every op by several threads, which also free and
// resize each other's blocks.
func mixed(threads, n int, seed uint64) []trace.Record {
	rnd := rand.New(rand.NewPCG(seed, 0))
	size := func() uint64 {
		switch rnd.IntN(50) {
		case 0:
			return 0
		case 1:
			return 1 + rnd.Uint64N(600_000)
		case 2, 3, 4:
			return 1 + rnd.Uint64N(20_000)
		}
		return 1 + rnd.Uint64N(600)
	}
	var records []trace.Record
	type block struct{ id, thread int }
	var live []block
	made := 0
	for i := range n {
		thread := min(i, rnd.IntN(threads)) // each begins in its turn
		if i < threads {
			thread = i
		}
		r := trace.Record{Thread: thread}
		if len(live) < 8 || len(live) < 300 && rnd.IntN(100) < 52 {
			r.Op = []trace.Op{trace.Alloc, trace.Alloc, trace.Calloc, trace.AllocAligned}[rnd.IntN(4)]
			r.Block, r.Size = made, size()
			if r.Op == trace.AllocAligned {
				r.Align = 1 << rnd.IntN(13)
			}
			live = append(live, block{made, thread})
			made++
		} else {
			at := rnd.IntN(len(live))
			r.Op, r.Block = trace.Free, live[at].id
			if rnd.IntN(20) > 0 {
				r.Thread = live[at].thread
			}
			if rnd.IntN(4) == 0 {
				r.Op, r.Size = trace.Realloc, max(1, size())
			} else {
				live[at] = live[len(live)-1]
				live = live[:len(live)-1]
			}
		}
		records = append(records, r)
	}
	return records
}

func TestEveryImplementationReplaysEveryOp(t *testing.T) {
	for _, threads := range []int{1, 3} {
		p := plan(t, mixed(threads, 20_000, uint64(threads)))
		if threads > 1 && p.Shared == 0 {
			t.Error("no block is shared by threads")
		}
		for _, info := range impl.All() {
			m, err := Check(p, info)
			if err != nil {
				t.Errorf("%d threads: %v", threads, err)
			}
			if threads == 1 && m.Live != p.PeakBytes {
				t.Errorf("%s: at most %d bytes were live, want %d", info.Name, m.Live, p.PeakBytes)
			}
			if m.Live < p.PeakBytes/2 {
				t.Errorf("%s: at most %d bytes were live, the trace has %d", info.Name, m.Live, p.PeakBytes)
			}
			got, err := Time(p, info)
			if err != nil {
				t.Errorf("%d threads, timed: %v", threads, err)
			}
			if got.Elapsed <= 0 {
				t.Errorf("%s took %v", info.Name, got.Elapsed)
			}
		}
	}
}

// evil is an allocator of the Go heap that fails on purpose, once.
type evil struct {
	mu     sync.Mutex
	keep   []unsafe.Pointer
	malloc func(e *evil, size int) (unsafe.Pointer, error)
	calloc func(e *evil, size int) (unsafe.Pointer, error)
	resize func(e *evil, p unsafe.Pointer, old, size int) (unsafe.Pointer, error)
	left   int
}

func (e *evil) Worker() impl.Worker { return e }
func (e *evil) Mapped() uint64      { return 0 }
func (e *evil) LiveBlocks() int     { return e.left }
func (e *evil) Calls() *impl.Calls  { return nil }
func (e *evil) Release()            {}

func (e *evil) good(size int) unsafe.Pointer {
	p := unsafe.Pointer(unsafe.SliceData(make([]uint64, size/8+1)))
	e.mu.Lock()
	e.keep = append(e.keep, p)
	e.mu.Unlock()
	return p
}

func (e *evil) Malloc(size int) (unsafe.Pointer, error) {
	if e.malloc != nil {
		return e.malloc(e, size)
	}
	return e.good(size), nil
}

func (e *evil) Calloc(size int) (unsafe.Pointer, error) {
	if e.calloc != nil {
		return e.calloc(e, size)
	}
	return e.good(size), nil
}

func (e *evil) AlignedMalloc(size, _ int) (unsafe.Pointer, error) { return e.good(size), nil }

func (e *evil) Realloc(p unsafe.Pointer, old, size int) (unsafe.Pointer, error) {
	if e.resize != nil {
		return e.resize(e, p, old, size)
	}
	q := e.good(size)
	copy(unsafe.Slice((*byte)(q), size), unsafe.Slice((*byte)(p), min(old, size)))
	return q, nil
}

func (e *evil) Free(unsafe.Pointer) error { return nil }

func flip(p unsafe.Pointer, at int) { *(*byte)(unsafe.Add(p, at)) ^= 0x10 }

func TestCheckReportsBadAllocators(t *testing.T) {
	alloc := func(id int, size uint64) trace.Record {
		return trace.Record{Op: trace.Alloc, Block: id, Size: size}
	}
	free := func(id int) trace.Record { return trace.Record{Op: trace.Free, Block: id} }
	realloc := trace.Record{Op: trace.Realloc, Block: 0, Size: 200}
	for _, c := range []struct {
		name    string
		records []trace.Record
		evil    *evil
		record  int    // that is to be reported
		reason  string // in the message
	}{
		{
			"a byte flips in a block when the next is made",
			[]trace.Record{alloc(0, 100), alloc(1, 100), free(1), free(0)},
			&evil{malloc: func(e *evil, size int) (unsafe.Pointer, error) {
				if len(e.keep) == 1 {
					flip(e.keep[0], 57)
				}
				return e.good(size), nil
			}},
			3, "byte 57 of 100",
		},
		{
			"the last byte of a block that stays live",
			[]trace.Record{alloc(0, 101), alloc(1, 8)},
			&evil{malloc: func(e *evil, size int) (unsafe.Pointer, error) {
				if len(e.keep) == 1 {
					flip(e.keep[0], 100)
				}
				return e.good(size), nil
			}},
			-1, "byte 100 of 101",
		},
		{
			"a live block is handed out again",
			[]trace.Record{alloc(0, 64), alloc(1, 64), free(1), free(0)},
			&evil{malloc: func(e *evil, size int) (unsafe.Pointer, error) {
				if len(e.keep) == 1 {
					return e.keep[0], nil
				}
				return e.good(size), nil
			}},
			3, "byte 0 of 64",
		},
		{
			"blocks overlap by a byte",
			[]trace.Record{alloc(0, 65), alloc(1, 64), free(0)},
			&evil{malloc: func(e *evil, size int) (unsafe.Pointer, error) {
				if len(e.keep) == 1 {
					return unsafe.Add(e.keep[0], 64), nil
				}
				return e.good(256), nil
			}},
			2, "byte 64 of 65",
		},
		{
			"realloc loses the contents",
			[]trace.Record{alloc(0, 100), realloc, free(0)},
			&evil{resize: func(e *evil, _ unsafe.Pointer, _, size int) (unsafe.Pointer, error) {
				return e.good(size), nil
			}},
			1, "byte 0 of 100",
		},
		{
			"calloc is dirty",
			[]trace.Record{{Op: trace.Calloc, Size: 33}},
			&evil{calloc: func(e *evil, size int) (unsafe.Pointer, error) {
				p := e.good(size)
				flip(p, 32)
				return p, nil
			}},
			0, "byte 32 of 33",
		},
		{
			"an address is not aligned",
			[]trace.Record{alloc(0, 10)},
			&evil{malloc: func(e *evil, size int) (unsafe.Pointer, error) {
				return unsafe.Add(e.good(size+8), 4), nil
			}},
			0, "multiple of 8",
		},
		{
			"nil without an error",
			[]trace.Record{alloc(0, 10)},
			&evil{malloc: func(*evil, int) (unsafe.Pointer, error) { return nil, nil }},
			0, "no block",
		},
		{
			"an error",
			[]trace.Record{alloc(0, 1), alloc(1, 10)},
			&evil{malloc: func(e *evil, size int) (unsafe.Pointer, error) {
				if size == 10 {
					return nil, errors.New("no more")
				}
				return e.good(size), nil
			}},
			1, "no more",
		},
		{"blocks are left over", []trace.Record{alloc(0, 10), free(0)}, &evil{left: 3}, -1, "3 blocks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan(t, c.records)
			_, err := Check(p, impl.Info{
				Name: "evil", Align: 8, GoHeap: true,
				New: func(int) impl.Impl { return c.evil },
			})
			var at *RecordError
			if !errors.As(err, &at) {
				t.Fatalf("got %v, want a RecordError", err)
			}
			if at.Impl != "evil" || at.Record != c.record || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %q, want record %d and %q", err, c.record, c.reason)
			}
		})
	}
}

// A timed replay sees at least that a block is another's.
func TestTimeReportsBlocksHandedOutTwice(t *testing.T) {
	p := plan(t, []trace.Record{
		{Op: trace.Alloc, Block: 0, Size: 64},
		{Op: trace.Alloc, Block: 1, Size: 64},
		{Op: trace.Free, Block: 0},
	})
	_, err := Time(p, impl.Info{Name: "evil", Align: 8, GoHeap: true, New: func(int) impl.Impl {
		return &evil{malloc: func(e *evil, size int) (unsafe.Pointer, error) {
			if len(e.keep) == 1 {
				return e.keep[0], nil
			}
			return e.good(size), nil
		}}
	}})
	var at *RecordError
	if !errors.As(err, &at) || at.Record != 2 {
		t.Errorf("got %v, want record 2 reported", err)
	}
}

// A thread that waits for one that has failed must not wait for ever.
func TestFailureStopsWaitingThreads(t *testing.T) {
	p := plan(t, []trace.Record{
		{Op: trace.Alloc, Block: 0, Size: 64},
		{Op: trace.Alloc, Block: 1, Size: 64, Thread: 1},
		{Op: trace.Alloc, Block: 2, Size: 65},
		{Op: trace.Free, Block: 2, Thread: 1},
	})
	_, err := Check(p, impl.Info{Name: "evil", Align: 8, GoHeap: true, New: func(int) impl.Impl {
		return &evil{malloc: func(e *evil, size int) (unsafe.Pointer, error) {
			if size == 65 {
				return nil, errors.New("no more")
			}
			return e.good(size), nil
		}}
	}})
	var at *RecordError
	if !errors.As(err, &at) || at.Record != 2 {
		t.Errorf("got %v, want record 2 reported", err)
	}
}

// Ops on one block stay in the order of the trace, whoever does them.
func TestSharedBlocksKeepTheirOrder(t *testing.T) {
	const threads, rounds = 3, 200
	records := []trace.Record{}
	for i := range threads {
		records = append(records, trace.Record{Op: trace.Alloc, Thread: i, Block: i, Size: 8})
	}
	for i := range rounds {
		records = append(records, trace.Record{Op: trace.Realloc, Thread: i * 7 % threads, Block: 0, Size: uint64(i + 1)})
	}
	var last atomic.Int64
	e := &evil{}
	e.resize = func(e *evil, p unsafe.Pointer, old, size int) (unsafe.Pointer, error) {
		if was := last.Swap(int64(size)); was != int64(size-1) {
			t.Errorf("realloc to %d bytes came after that to %d", size, was)
		}
		q := e.good(size)
		copy(unsafe.Slice((*byte)(q), size), unsafe.Slice((*byte)(p), min(old, size)))
		return q, nil
	}
	if _, err := Check(plan(t, records), impl.Info{Name: "order", Align: 8, GoHeap: true, New: func(int) impl.Impl { return e }}); err != nil {
		t.Error(err)
	}
}

func TestPlanSurvivesSaveAndLoad(t *testing.T) {
	want := plan(t, mixed(3, 500, 7))
	var file bytes.Buffer
	if err := want.Save(&file); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	got, err := Load(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("the loaded plan differs from the saved one")
	}
	for _, n := range []int{0, 4, 8, 20, len(whole) / 2, len(whole) - 1} {
		if _, err := Load(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("the first %d of %d bytes are loaded without an error", n, len(whole))
		}
	}
}
