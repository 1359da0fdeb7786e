package pymalloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// faultRun is a workload that uses every way to the system: first use, arenas,
// huge mappings, growth in place, heaps, Trim. Requests may fail; whatever they
// returned is stamped and checked. It returns how many requests failed, and what
// else went wrong.
func faultRun(a *Allocator) (failed int, err error) {
	h := a.AcquireHeap()
	defer h.Release()
	r := rand.New(rand.NewPCG(5, 5))
	var live []block
	free := func(i int) error {
		b := live[i]
		live[i] = live[len(live)-1]
		live = live[:len(live)-1]
		return errors.Join(checkStamp(b.p, b.size, b.seed), a.UnsafeFree(b.p))
	}
	for i := range 120 {
		src := source(a)
		if i%2 == 1 {
			src = h
		}
		b := block{size: 1 + r.IntN(8_000), seed: r.Uint64()}
		if i%20 == 0 {
			b.size = 530_000 + r.IntN(100_000)
		}
		var e error
		if b.p, e = src.UnsafeMalloc(b.size); e != nil {
			if !errors.Is(e, ErrNoMemory) || b.p != nil {
				return failed, fmt.Errorf("malloc(%d) = %p, %w", b.size, b.p, e)
			}
			failed++
			continue
		}
		stamp(b.p, b.size, b.seed)
		live = append(live, b)
		if i%20 == 10 {
			j := r.IntN(len(live))
			size := 1 + r.IntN(700_000)
			p, e := src.UnsafeRealloc(live[j].p, size)
			if e != nil {
				if !errors.Is(e, ErrNoMemory) {
					return failed, e
				}
				failed++
			} else {
				if e := checkStamp(p, min(size, live[j].size), live[j].seed); e != nil {
					return failed, e
				}
				live[j].p, live[j].size = p, size
				stamp(p, size, live[j].seed)
			}
		}
		if i%3 == 0 {
			if e := free(r.IntN(len(live))); e != nil {
				return failed, e
			}
		}
		if i%40 == 39 {
			_ = a.Trim() // may report a refusal
		}
	}
	for len(live) > 0 {
		if e := free(0); e != nil {
			return failed, e
		}
	}
	_ = a.Trim()
	return failed, nil
}

// Every operation of the system is refused at every n, alone and from then on.
// Nothing is lost, and the allocator works again as soon as the system does.
func TestFaults(t *testing.T) {
	for _, op := range []osmem.Op{
		osmem.OpReserve, osmem.OpCommit, osmem.OpDecommit, osmem.OpRelease,
		osmem.OpMap, osmem.OpAdvise, osmem.OpRemap,
	} {
		for _, burst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/burst=%v", op, burst), func(t *testing.T) {
				for n := int64(1); ; n++ {
					if testing.Short() && n > 12 {
						break
					}
					var calls atomic.Int64
					restore := osmem.SetFault(func(o osmem.Op, _ int) error {
						if o == op {
							if c := calls.Add(1); c == n || burst && c > n {
								return osmem.ErrNoMemory
							}
						}
						return nil
					})
					a := &Allocator{opts: Options{RetainBytes: 2 << 20, KeepAddresses: KeepAddresses(n % 3)}}
					_, err := faultRun(a)
					restore()
					if err != nil {
						t.Fatalf("n=%d: %v", n, err)
					}
					if _, err := faultRun(a); err != nil {
						t.Fatalf("n=%d, after the fault: %v", n, err)
					}
					requireEmpty(t, a)
					if err := a.Close(); err != nil {
						t.Fatalf("n=%d: %v", n, err)
					}
					if calls.Load() < n {
						break // it was never reached
					}
				}
			})
		}
	}
}

// What the system refuses was never mapped, however much it was.
func TestHighWaterOfRefused(t *testing.T) {
	a := newAllocator(t, Options{})
	p := mustMalloc(t, a, 3<<20)
	want := a.Stats().HighWaterBytes
	restore := osmem.SetFault(func(op osmem.Op, _ int) error {
		if op == osmem.OpMap || op == osmem.OpCommit || op == osmem.OpRemap {
			return osmem.ErrNoMemory
		}
		return nil
	})
	for _, size := range []int{64, 100_000, 8 << 20, 1 << 30} {
		if _, err := a.UnsafeMalloc(size); !errors.Is(err, osmem.ErrNoMemory) {
			t.Errorf("%d bytes: %v, want the system's refusal", size, err)
		}
		if size > 3<<20 {
			if _, err := a.UnsafeRealloc(p, size); !errors.Is(err, osmem.ErrNoMemory) {
				t.Errorf("to %d bytes: %v, want the system's refusal", size, err)
			}
		}
	}
	restore()
	if s := a.Stats(); s.HighWaterBytes != want || s.MappedBytes != want {
		t.Errorf("%d bytes are mapped, %d were at most, want %d", s.MappedBytes, s.HighWaterBytes, want)
	}
	mustFree(t, a, p)
	requireEmpty(t, a)
}

// What the system refuses to take back is counted, and given back later.
func TestUnmapRefused(t *testing.T) {
	a := newAllocator(t, Options{RetainBytes: -1, KeepAddresses: KeepNever})
	ps := fill(t, a, 16<<20)
	restore := osmem.SetFault(func(op osmem.Op, _ int) error {
		if op == osmem.OpRelease || op == osmem.OpDecommit {
			return osmem.ErrNoMemory
		}
		return nil
	})
	defer restore()
	for _, p := range ps {
		mustFree(t, a, p)
	}
	if err := a.Trim(); !errors.Is(err, osmem.ErrNoMemory) {
		t.Errorf("Trim = %v, want the system's refusal", err)
	}
	s := a.Stats()
	if s.UnmapRefusals == 0 || s.MappedBytes == 0 || s.MappedBytes != s.Parts.Sum() || s.RetainedBytes != s.MappedBytes {
		t.Errorf("after refusals:\n%s", s)
	}
	mapped := s.MappedBytes
	ps = fill(t, a, 4<<20) // served from what could not be unmapped
	if s := a.Stats(); s.MappedBytes > mapped {
		t.Errorf("%d bytes mapped, %d before: refused arenas are not used again", s.MappedBytes, mapped)
	}
	for _, p := range ps {
		mustFree(t, a, p)
	}
	restore()
	requireEmpty(t, a)
}

// Where the system takes nothing back for long, the tries are as many as the frees and a
// few, also when requests fail at the limit; and the janitor gives all back afterwards.
func TestManyRefusals(t *testing.T) {
	const blocks, size = 1000, 256 << 10
	a := newAllocator(t, Options{ArenaBytes: size, LimitBytes: blocks * size, RetainBytes: -1, RetainDelay: time.Millisecond})
	var ps []unsafe.Pointer
	for range blocks {
		ps = append(ps, mustMalloc(t, a, size))
	}
	var asked atomic.Int64
	restore := osmem.SetFault(func(op osmem.Op, _ int) error {
		if op == osmem.OpRelease || op == osmem.OpDecommit {
			asked.Add(1)
			return osmem.ErrNoMemory
		}
		return nil
	})
	defer restore()
	begin := time.Now()
	for _, p := range ps {
		mustFree(t, a, p)
	}
	failed := 0
	for range blocks {
		if p, err := a.UnsafeMalloc(3 * size); err == nil {
			mustFree(t, a, p)
		} else if failed++; !errors.Is(err, ErrLimit) {
			t.Fatal(err)
		}
	}
	// The janitor comes once a second; a request that fails tries when something was freed.
	passes := int64(time.Since(begin)/time.Second) + 3
	if n := asked.Load(); failed == 0 || n > blocks+passes*100 {
		t.Errorf("%d tries for %d frees and %d requests that failed", n, blocks, failed)
	}
	if n := a.Stats().UnmapRefusals; n < blocks {
		t.Errorf("%d refusals are counted, there were %d or more", n, blocks)
	}
	restore()
	for deadline := time.Now().Add(time.Minute); a.Stats().MappedBytes != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after the limit %d bytes stay mapped", a.Stats().MappedBytes)
		}
	}
	requireEmpty(t, a)
}

// What the system refuses when an allocator is closed shows in Stats, and is made good later;
// its addresses are kept then, where they are to be kept.
func TestCloseRefused(t *testing.T) {
	for _, keep := range []KeepAddresses{KeepWhereNeeded, KeepAlways} {
		a := newAllocator(t, Options{KeepAddresses: keep})
		fill(t, a, 8<<20)
		mustMalloc(t, a, 3<<20)
		before, was := osmem.Calls(), a.Stats()
		restore := osmem.SetFault(func(op osmem.Op, _ int) error {
			if op == osmem.OpRelease || op == osmem.OpDecommit {
				return osmem.ErrNoMemory
			}
			return nil
		})
		if err := a.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		var other Allocator
		mustMalloc(t, &other, 64)
		if err := other.Trim(); err != nil { // comes after what Close has left
			t.Error(err)
		}
		if s := a.Stats(); s.UnmapRefusals < was.UnmapRefusals+9 || s.MappedBytes != 0 {
			t.Errorf("keep %d: %d refusals, were %d, and %d bytes are mapped", keep, s.UnmapRefusals, was.UnmapRefusals, s.MappedBytes)
		}
		restore()
		if err := other.Trim(); err != nil {
			t.Error(err)
		}
		if made := osmem.Calls().Sub(before); made.Release+made.Decommit < 8 && !osmem.OnGoHeap {
			t.Errorf("%d releases and %d decommits after Close, want those that were refused too", made.Release, made.Decommit)
		}
		if n := a.Stats().KeptAddressBytes; keep == KeepAlways && n < was.KeptAddressBytes+4<<20 {
			t.Errorf("%d bytes of addresses are kept, before %d", n, was.KeptAddressBytes)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A mapping that got no guard page, and that the system does not take back, is not
// handed out later.
func TestGuardRefused(t *testing.T) {
	a := newAllocator(t, Options{Hardened: true, RetainDelay: time.Hour})
	restore := osmem.SetFault(func(op osmem.Op, _ int) error {
		if op == osmem.OpProtect || op == osmem.OpRelease || op == osmem.OpDecommit {
			return osmem.ErrNoMemory
		}
		return nil
	})
	if p, err := a.UnsafeMalloc(3 << 20); !errors.Is(err, osmem.ErrNoMemory) {
		t.Errorf("%p, %v, want the system's refusal", p, err)
	}
	restore()
	before := osmem.Calls()
	mustFree(t, a, mustMalloc(t, a, 3<<20))
	if calls := osmem.Calls().Sub(before); calls.Protect != 1 {
		t.Errorf("%d guards for a new mapping, want 1", calls.Protect)
	}
	requireEmpty(t, a)
}

// The limit, and the system's refusal, first make the allocator give back what
// is idle.
func TestReclaimBeforeRefusal(t *testing.T) {
	a := newAllocator(t, Options{LimitBytes: 16 << 20, RetainDelay: time.Hour})
	for _, size := range []int{16, 3 << 20, 700, 100_000, 6 << 20, 48} {
		var ps []unsafe.Pointer
		for n := 0; n < 12<<20; n += max(size, 16) {
			ps = append(ps, mustMalloc(t, a, size))
		}
		for _, p := range ps {
			mustFree(t, a, p)
		}
	}
}
