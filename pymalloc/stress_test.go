package pymalloc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// stamp fills the whole block with a pattern of its seed.
func stamp(p unsafe.Pointer, size int, seed uint64) {
	b := unsafe.Slice((*byte)(p), size)
	for i := range b {
		b[i] = byte(seed>>(i%8*8)) ^ byte(i>>3)
	}
}

// checkStamp returns an error if any byte of the block changed.
func checkStamp(p unsafe.Pointer, size int, seed uint64) error {
	b := unsafe.Slice((*byte)(p), size)
	for i := range b {
		if want := byte(seed>>(i%8*8)) ^ byte(i>>3); b[i] != want {
			return fmt.Errorf("block %p of %d bytes: byte %d is %#x, want %#x", p, size, i, b[i], want)
		}
	}
	return nil
}

// source is what hands out blocks: an allocator or a heap.
type source interface {
	UnsafeMalloc(int) (unsafe.Pointer, error)
	UnsafeCalloc(int) (unsafe.Pointer, error)
	UnsafeRealloc(unsafe.Pointer, int) (unsafe.Pointer, error)
	UnsafeAlignedMalloc(int, int) (unsafe.Pointer, error)
	UnsafeFree(unsafe.Pointer) error
}

// block is a stamped block on its way between goroutines.
type block struct {
	p    unsafe.Pointer
	size int
	seed uint64
}

// stressSize draws sizes of all kinds, small ones most of the time.
func stressSize(r *rand.Rand) int {
	switch n := r.IntN(1000); {
	case n < 800:
		return 1 + r.IntN(512)
	case n < 960:
		return 1 + r.IntN(4096)
	case n < 990:
		return 1 + r.IntN(40_000)
	case n < 998:
		return 1 + r.IntN(300_000)
	}
	return 1 + r.IntN(1_500_000)
}

// worker allocates, passes blocks on, receives others', reallocates and frees,
// checking every block over its whole length.
func worker(src source, seed uint64, stop *atomic.Bool, out chan<- block, in <-chan block) (err error) {
	r := rand.New(rand.NewPCG(seed, 1))
	var mine []block
	free := func(b block) {
		if e := checkStamp(b.p, b.size, b.seed); e != nil && err == nil {
			err = e
		}
		if e := src.UnsafeFree(b.p); e != nil && err == nil {
			err = e
		}
	}
	defer func() {
		for _, b := range mine {
			free(b)
		}
	}()
	for !stopped(stop) && err == nil {
		switch op := r.IntN(10); {
		case op < 4 || len(mine) == 0:
			b := block{size: stressSize(r), seed: r.Uint64()}
			switch r.IntN(8) {
			case 0:
				b.p, err = src.UnsafeCalloc(b.size)
				for i, c := range unsafe.Slice((*byte)(b.p), b.size) {
					if c != 0 {
						return fmt.Errorf("calloc(%d): byte %d is %#x", b.size, i, c)
					}
				}
			case 1:
				align := 1 << r.IntN(14)
				b.p, err = src.UnsafeAlignedMalloc(b.size, align)
				if uintptr(b.p)%uintptr(align) != 0 {
					return fmt.Errorf("alignedMalloc(%d, %d) = %p", b.size, align, b.p)
				}
			default:
				b.p, err = src.UnsafeMalloc(b.size)
			}
			if err != nil {
				return err
			}
			stamp(b.p, b.size, b.seed)
			mine = append(mine, b)
		case op < 6 && len(mine) > 0:
			i := r.IntN(len(mine))
			b := mine[i]
			mine[i] = mine[len(mine)-1]
			mine = mine[:len(mine)-1]
			select {
			case out <- b:
			default:
				free(b)
			}
		case op < 7:
			select {
			case b := <-in:
				free(b)
			default:
			}
		case op < 8:
			i := r.IntN(len(mine))
			b := &mine[i]
			if e := checkStamp(b.p, b.size, b.seed); e != nil {
				return e
			}
			size := stressSize(r)
			p, e := src.UnsafeRealloc(b.p, size)
			if e != nil {
				return e
			}
			if e := checkStamp(p, min(size, b.size), b.seed); e != nil {
				return fmt.Errorf("after realloc to %d: %w", size, e)
			}
			b.p, b.size = p, size
			stamp(b.p, b.size, b.seed)
		default:
			i := r.IntN(len(mine))
			b := mine[i]
			mine[i] = mine[len(mine)-1]
			mine = mine[:len(mine)-1]
			free(b)
		}
		if len(mine) > 3000 {
			for _, b := range mine[1000:] {
				free(b)
			}
			mine = mine[:1000]
		}
	}
	return err
}

// stress runs workers on a, one in three with a heap of its own, while GOMAXPROCS
// changes, the collector runs and the allocator is trimmed.
func stress(t *testing.T, a *Allocator, workers int, d time.Duration) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	pipe := make(chan block, 4096)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			src := source(a)
			if i%3 == 2 {
				h := a.AcquireHeap()
				defer h.Release()
				src = h
			}
			if err := worker(src, uint64(i), &stop, pipe, pipe); err != nil {
				t.Errorf("worker %d: %v", i, err)
				stop.Store(true)
			}
		})
	}
	r := rand.New(rand.NewPCG(7, 7))
	for end := time.Now().Add(d); time.Now().Before(end) && !stop.Load(); {
		switch r.IntN(6) {
		case 0:
			runtime.GOMAXPROCS(1 + r.IntN(8))
		case 1:
			runtime.GC()
		case 2:
			if err := a.Trim(); err != nil {
				t.Error(err)
			}
		case 3:
			s := a.Stats()
			if s.MappedBytes != s.Parts.Sum() {
				t.Errorf("parts add up to %d, mapped are %d", s.Parts.Sum(), s.MappedBytes)
			}
		case 4:
			a.AcquireHeap().Release()
		case 5:
			if err := a.Check(); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
	}
	stop.Store(true)
	wg.Wait()
	close(pipe)
	for b := range pipe {
		if err := checkStamp(b.p, b.size, b.seed); err != nil {
			t.Error(err)
		}
		if err := a.UnsafeFree(b.p); err != nil {
			t.Error(err)
		}
	}
}

// stopped reads stop. On wasm, where nobody is preempted, it lets others run, or
// who is to set stop never would.
func stopped(stop *atomic.Bool) bool {
	if runtime.GOARCH == "wasm" {
		runtime.Gosched()
	}
	return stop.Load()
}

// stressTime is how long one stress test runs.
func stressTime() time.Duration {
	if testing.Short() {
		return 500 * time.Millisecond
	}
	return 1500 * time.Millisecond
}

// requireEmpty fails the test unless everything was freed and can be given back.
func requireEmpty(t *testing.T, a *Allocator) {
	t.Helper()
	if s := a.Stats(); s.LiveBlocks != 0 || s.InUseBytes != 0 {
		t.Errorf("%d blocks, %d bytes are live, none should be\n%s", s.LiveBlocks, s.InUseBytes, s)
	}
	if err := a.Trim(); err != nil {
		t.Error(err)
	}
	if s := a.Stats(); s.MappedBytes != 0 || s.Arenas.Current != 0 {
		t.Errorf("%d bytes are mapped after Trim, want 0\n%s", s.MappedBytes, s)
	}
	if err := a.Check(); err != nil {
		t.Error(err)
	}
	if table := a.life.Load(); table != nil {
		if n := table.Budget.Mapped(); n != 0 {
			t.Errorf("the budget counts %d bytes mapped, want 0", n)
		}
	}
}

func TestStress(t *testing.T) {
	for _, o := range []Options{
		{},
		{ArenaBytes: 256 << 10},
		{ArenaBytes: 4 << 20, RetainBytes: -1, RetainDelay: 20 * time.Millisecond},
		{Hardened: true},
		{Canaries: true},
		{Canaries: true, WipeOnFree: true, ArenaBytes: 256 << 10},
		{WipeOnFree: true},
	} {
		t.Run(fmt.Sprintf("arena=%d/hardened=%v/canaries=%v/wipe=%v", o.ArenaBytes, o.Hardened, o.Canaries, o.WipeOnFree), func(t *testing.T) {
			a, err := NewAllocator(o)
			if err != nil {
				t.Fatal(err)
			}
			stress(t, a, 6, stressTime())
			requireEmpty(t, a)
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStressClose closes the allocator again and again while others allocate.
// Blocks from before are freed, where others have blocks by now: a misuse that
// may be reported as a corrupted list, and that must do no worse.
func TestStressClose(t *testing.T) {
	var a Allocator
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			var ps [64]unsafe.Pointer
			for !stopped(&stop) {
				j := r.IntN(len(ps))
				_ = a.UnsafeFree(ps[j]) // refused, or of the present life
				size := 1 + r.IntN(20_000)
				if r.IntN(8) == 0 {
					size = 1 + r.IntN(700_000)
				}
				p, err := a.UnsafeMalloc(size)
				if err != nil && !errors.Is(err, ErrCorrupted) {
					t.Error(err)
					return
				}
				ps[j] = p
			}
		})
	}
	for end := time.Now().Add(stressTime()); time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if s := a.Stats(); s.MappedBytes != 0 {
		t.Errorf("%d bytes mapped after Close", s.MappedBytes)
	}
}

// TestSlicesBesideClose: a slice that is made while the allocator is closed is
// stale, and no more than that.
func TestSlicesBesideClose(t *testing.T) {
	var a Allocator
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for !stopped(&stop) {
				if b, err := a.Malloc(64); err != nil || len(b) != 64 {
					t.Errorf("%d bytes, %v", len(b), err)
					return
				}
			}
		})
	}
	for end := time.Now().Add(stressTime() / 3); time.Now().Before(end); runtime.Gosched() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
