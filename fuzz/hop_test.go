package fuzz

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

	"github.com/pyarena/pyarena/pymalloc"
)

// hoppers share a table of stamped blocks: each puts blocks there and frees what it
// finds, whoever put it, singly and in batches, while the scheduler moves it between
// Ps. Now and then all stand still, and the table must be all that lives.
type hoppers struct {
	a     *pymalloc.Allocator
	table [1024]atomic.Pointer[block]
	idle  bool         // the janitor drains the shards of who is idle
	quiet sync.RWMutex // held to write while all stand still
	stop  atomic.Bool
}

// hopper is one of them.
type hopper struct {
	*hoppers
	r      *rand.Rand
	heap   *pymalloc.Heap // or nil
	locked bool           // to its thread
}

func (h *hopper) source() source {
	if h.heap != nil && h.r.IntN(4) > 0 {
		return h.heap
	}
	return h.a
}

// size draws from few classes, so that pools fill and empty.
func (h *hopper) size() int {
	sizes := [...]int{8, 16, 30, 64, 64, 64, 500, 3000, 5000, 20_000, 32 << 10, 40_000, 300_000, 700_000}
	n := len(sizes)
	if h.r.IntN(64) > 0 {
		n -= 3
	}
	return sizes[h.r.IntN(n)]
}

// obtain returns a new block, by one of the ways there are.
func (h *hopper) obtain() (*block, error) {
	b := &block{size: h.size(), seed: byte(h.r.Uint32())}
	var err error
	switch src := h.source(); h.r.IntN(8) {
	case 0:
		b.p, err = src.UnsafeCalloc(b.size)
		if err == nil {
			for i, c := range b.bytes() {
				if c != 0 {
					return nil, fmt.Errorf("UnsafeCalloc(%d): byte %d is %#x", b.size, i, c)
				}
			}
		}
	case 1:
		b.p, err = src.UnsafeAlignedMalloc(b.size, 1<<h.r.IntN(14))
	case 2:
		var ps [1]unsafe.Pointer
		err = h.a.UnsafeMallocBatch(ps[:], b.size)
		b.p = ps[0]
	default:
		b.p, err = src.UnsafeMalloc(b.size)
	}
	if err != nil {
		return nil, err
	}
	b.stamp()
	return b, nil
}

// take takes up to n blocks from the table, whose contents must be whole.
func (h *hopper) take(n int) (ps []unsafe.Pointer, err error) {
	for range n {
		if b := h.table[h.r.IntN(len(h.table))].Swap(nil); b != nil {
			if err := b.check(b.size); err != nil {
				return ps, err
			}
			ps = append(ps, b.p)
		}
	}
	return ps, nil
}

// put puts a block into the table and frees what was there.
func (h *hopper) put(b *block) error {
	old := h.table[h.r.IntN(len(h.table))].Swap(b)
	if old == nil {
		return nil
	}
	if err := old.check(old.size); err != nil {
		return err
	}
	return h.source().UnsafeFree(old.p)
}

func (h *hopper) step() error {
	switch op := h.r.IntN(16); {
	case op < 6:
		b, err := h.obtain()
		if err != nil {
			return err
		}
		return h.put(b)
	case op < 9:
		ps, err := h.take(1 + h.r.IntN(4))
		for _, p := range ps {
			err = errors.Join(err, h.source().UnsafeFree(p))
		}
		return err
	case op < 11:
		ps, err := h.take(1 + h.r.IntN(40))
		return errors.Join(err, h.a.UnsafeFreeBatch(ps))
	case op < 12:
		b := h.table[h.r.IntN(len(h.table))].Swap(nil)
		if b == nil {
			return nil
		}
		size := h.size()
		q, err := h.source().UnsafeRealloc(b.p, size)
		if err == nil {
			err = (block{q, min(size, b.size), b.seed}).prefixOf(*b)
		}
		if err != nil {
			return err
		}
		b = &block{q, size, b.seed}
		b.stamp()
		return h.put(b)
	case op < 14: // the shortest way of a block
		src, size := h.source(), h.size()
		for range h.r.IntN(8) {
			p, err := src.UnsafeMalloc(size)
			if err != nil {
				return err
			}
			b := block{p, size, byte(h.r.Uint32())}
			b.stamp()
			if h.r.IntN(4) == 0 {
				runtime.Gosched()
			}
			if err := errors.Join(b.check(size), src.UnsafeFree(p)); err != nil {
				return err
			}
		}
	case op == 14:
		h.changeHeap()
	}
	return nil
}

// changeHeap gives the heap up, or acquires one.
func (h *hopper) changeHeap() {
	switch {
	case h.r.IntN(8) > 0:
	case h.heap == nil:
		h.heap = h.a.AcquireHeap()
	default:
		if h.r.IntN(4) > 0 {
			h.heap.Release()
		} // else it is the collector's
		h.heap = nil
	}
}

// work steps until it is told to stop.
func (h *hopper) work() error {
	for !h.stop.Load() {
		h.quiet.RLock()
		for range 1 + h.r.IntN(64) {
			if err := h.step(); err != nil {
				h.quiet.RUnlock()
				return err
			}
		}
		h.quiet.RUnlock()
		switch h.r.IntN(16) {
		case 0:
			if h.locked = !h.locked; h.locked {
				runtime.LockOSThread()
			} else {
				runtime.UnlockOSThread()
			}
		case 1, 2, 3:
			runtime.Gosched()
		case 4:
			time.Sleep(time.Microsecond)
		}
	}
	return nil
}

// freeOnce frees all blocks of ps in one of the ways there are, and returns how many
// times it succeeded.
func (h *hopper) freeOnce(ps []unsafe.Pointer) (freed int, err error) {
	failed := func(e error) {
		if !errors.Is(e, pymalloc.ErrDoubleFree) && !errors.Is(e, pymalloc.ErrNotOwned) {
			err = e
		}
	}
	if h.r.IntN(2) == 0 {
		all := append([]unsafe.Pointer(nil), ps...)
		freed = len(ps)
		if e, ok := h.a.UnsafeFreeBatch(all).(interface{ Unwrap() []error }); ok {
			for _, e := range e.Unwrap() {
				failed(e)
				freed--
			}
		}
		return freed, err
	}
	for _, p := range ps {
		if e := h.source().UnsafeFree(p); e != nil {
			failed(e)
		} else {
			freed++
		}
	}
	return freed, err
}

// agree compares the statistics with the table. All others stand still, but for the
// janitor: blocks at hand of a shard that it is draining count as live.
func (h *hoppers) agree() (err error) {
	for range 100 {
		if err = h.agreeNow(); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

func (h *hoppers) agreeNow() error {
	var s shadow
	live := map[unsafe.Pointer]bool{}
	for i := range h.table {
		if b := h.table[i].Load(); b != nil {
			if live[b.p] {
				return fmt.Errorf("%p was handed out twice", b.p)
			}
			live[b.p] = true
			s.blocks = append(s.blocks, *b)
			s.usable += uint64(pymalloc.UnsafeUsableSize(b.p))
		}
	}
	return s.agrees(h.a.Stats())
}

// freeTwice frees blocks of the table, and some that are as young as can be, again and
// again: each free succeeds once. All others stand still.
func (h *hopper) freeTwice() error {
	if err := h.agree(); err != nil {
		return err
	}
	ps, err := h.take(h.r.IntN(200))
	if err != nil {
		return err
	}
	for range h.r.IntN(4) {
		b, err := h.obtain()
		if err == nil && h.r.IntN(2) == 0 { // another from the same place
			err = h.a.UnsafeFree(b.p)
			if err == nil {
				b.p, err = h.a.UnsafeMalloc(b.size)
			}
		}
		if err != nil {
			return err
		}
		ps = append(ps, b.p)
	}
	succeeded := 0
	for range 1 + h.r.IntN(3) {
		n, err := h.freeOnce(ps)
		if err != nil {
			return err
		}
		succeeded += n
		runtime.Gosched()
	}
	if succeeded != len(ps) {
		return fmt.Errorf("%d blocks, freed in turn: %d frees succeeded", len(ps), succeeded)
	}
	if err := h.contend(); err != nil {
		return err
	}
	return h.agree()
}

// contend has goroutines free the same blocks at the same moment, which belong to a
// heap that is none of theirs. Pools that are drained from it might become theirs
// meanwhile, and then two frees of a block may succeed.
func (h *hopper) contend() error {
	if h.idle {
		return nil
	}
	owner := h.a.AcquireHeap()
	defer owner.Release()
	ps := make([]unsafe.Pointer, 1+h.r.IntN(60))
	size := h.size()
	for i := range ps {
		var err error
		if ps[i], err = owner.UnsafeMalloc(size); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	var succeeded, ready atomic.Int32
	var errs [3]error
	for i := range errs {
		seed := h.r.Uint64()
		wg.Go(func() {
			other := hopper{hoppers: h.hoppers, r: rand.New(rand.NewPCG(seed, 5))}
			for ready.Add(1); int(ready.Load()) < len(errs); {
				runtime.Gosched()
			}
			var n int
			n, errs[i] = other.freeOnce(ps)
			succeeded.Add(int32(n))
		})
	}
	wg.Wait()
	if n := int(succeeded.Load()); n != len(ps) {
		return fmt.Errorf("%d blocks of %d bytes, freed at the same moment: %d frees succeeded", len(ps), size, n)
	}
	return errors.Join(errs[:]...)
}

// run lets n of them go on for a while, and disturbs them.
func (h *hoppers) run(n int, d time.Duration, seed uint64) (err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			w := &hopper{hoppers: h, r: rand.New(rand.NewPCG(seed, uint64(i)))}
			if errs[i] = w.work(); errs[i] != nil {
				h.stop.Store(true)
			}
			if w.heap != nil {
				w.heap.Release()
			}
		})
	}
	me := &hopper{hoppers: h, r: rand.New(rand.NewPCG(seed, uint64(n)))}
	for end := time.Now().Add(d); err == nil && time.Now().Before(end) && !h.stop.Load(); {
		switch me.r.IntN(8) {
		case 0:
			runtime.GOMAXPROCS(1 + me.r.IntN(8))
		case 1:
			err = h.a.Trim()
		case 2:
			err = h.a.Check()
		case 3:
			if s := h.a.Stats(); s.MappedBytes != s.Parts.Sum() {
				err = fmt.Errorf("MappedBytes is %d, its parts are %d", s.MappedBytes, s.Parts.Sum())
			}
		case 4:
			h.a.AcquireHeap().Release()
		case 5:
			if me.r.IntN(8) == 0 {
				runtime.GC() // for the heaps that were dropped
			}
		default:
			h.quiet.Lock()
			err = me.freeTwice()
			h.quiet.Unlock()
		}
		time.Sleep(time.Duration(me.r.IntN(3000)) * time.Microsecond)
	}
	h.stop.Store(true)
	wg.Wait()
	return errors.Join(append(errs, err)...)
}

// TestHop: contents are kept, no block is handed out twice, each is freed once, and
// the figures are exact whenever all stand still.
func TestHop(t *testing.T) {
	for i, o := range []pymalloc.Options{
		{RetainDelay: time.Hour},
		{ArenaBytes: 256 << 10, RetainDelay: time.Millisecond, RetainBytes: -1},
		{RetainDelay: time.Hour, KeepAddresses: pymalloc.KeepAlways, ArenaBytes: 4 << 20},
		{RetainDelay: time.Hour, Hardened: true},
		{RetainDelay: time.Hour, WipeOnFree: true, ArenaBytes: 512 << 10},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			a, err := pymalloc.NewAllocator(o)
			if err != nil {
				t.Fatal(err)
			}
			h := &hoppers{a: a, idle: o.RetainDelay < time.Hour}
			seed := rand.Uint64()
			if err := h.run(6, loadTime(), seed); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := h.agree(); err != nil {
				t.Fatal(err)
			}
			for i := range h.table {
				if b := h.table[i].Load(); b != nil {
					if err := errors.Join(b.check(b.size), a.UnsafeFree(b.p)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := a.Trim(); err != nil {
				t.Fatal(err)
			}
			if s := a.Stats(); s.MappedBytes != 0 {
				t.Fatalf("%d bytes are mapped, and nothing is live\n%v", s.MappedBytes, s)
			}
			if err := errors.Join(a.Check(), a.Close()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
