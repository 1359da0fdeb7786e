package engine

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// life opens a life that is closed at the end of the test.
func life(t *testing.T, c Config) (*Life, *View) {
	t.Helper()
	g, err := arena.NewGeometry(arena.DefaultBytes)
	if err != nil {
		t.Fatal(err)
	}
	c.Geometry = g
	v := new(View)
	l := Open(c, v)
	t.Cleanup(func() { l.Close(v) })
	return l, v
}

func mustMalloc(t *testing.T, l *Life, hp *Heap, c uint8) unsafe.Pointer {
	t.Helper()
	p, _, err := l.Malloc(hp, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustFree(t *testing.T, l *Life, hp *Heap, p unsafe.Pointer) {
	t.Helper()
	if out := l.Free(hp, p); out != pool.OK {
		t.Fatalf("Free = %d", out)
	}
}

// eventually waits until done, for a long time.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("after 30 s: not %s", what)
		}
	}
}

// yield lets others run where nothing is preempted.
func yield() {
	if runtime.GOARCH == "wasm" {
		runtime.Gosched()
	}
}

func short(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// Many goroutines give the same few Ps a shard, beside Trim, which claims what is in the list, and
// Close, after which no slot leads to a shard.
func TestInstall(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(32))
	for range short(400) {
		l, v := life(t, Config{RetainDelay: time.Hour})
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 3 {
					if p, _, err := l.Malloc(nil, 3); err == nil {
						l.Free(nil, p)
					}
					runtime.Gosched()
				}
			})
		}
		for range 20 {
			if err := l.Trim(); err != nil {
				t.Fatal(err)
			}
		}
		l.Close(v)
		for i := range l.slots {
			if s := l.slots[i].Load(); s != nil {
				t.Fatalf("slot %d of a closed life has a shard", i)
			}
		}
		wg.Wait()
	}
}

// Close does without a barrier only where no other P, and no Heap, has a way to a shard.
func TestHide(t *testing.T) {
	if !pin.Pinned {
		t.Skip("a section has no P of its own")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that this is P 0
	for _, c := range []struct {
		what  string
		slots []int32 // of shards; -1 is a Heap's
		more  int     // slots than the least
		want  bool
	}{
		{"no shard", nil, 0, true},
		{"one of this P", []int32{0}, 0, true},
		{"one of another P", []int32{1}, 0, false},
		{"of both", []int32{0, 1}, 0, false},
		{"of a Heap", []int32{-1}, 0, false},
		{"of this P and of a Heap", []int32{0, -1}, 0, false},
		{"one of this P, of a life with more slots", []int32{0}, 1, false},
	} {
		l, _ := life(t, Config{RetainDelay: time.Hour})
		l.slots = append(l.slots, make([]slot, c.more)...)
		for _, s := range c.slots {
			if _, err := l.newShard(s); err != nil {
				t.Fatal(err)
			}
		}
		if got := l.hide(l.shards); got != c.want {
			t.Errorf("%s: hide = %t, want %t", c.what, got, c.want)
		}
		if hidden := l.slots[0].Load() == nil; c.want && !hidden {
			t.Errorf("%s: the slot leads to the shard still", c.what)
		}
	}
}

// A life whose only shard is that of the closer's P is closed without a barrier, while others come
// late: each call gets a block, or hears that the life is closed.
func TestCloseWithoutBarrier(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for round := range short(3000) {
		l, v := life(t, Config{RetainDelay: time.Hour})
		p := mustMalloc(t, l, nil, 3)
		mustFree(t, l, nil, p)
		var begun, wg sync.WaitGroup
		late := round%3 + 1
		begun.Add(late)
		for range late {
			wg.Go(func() {
				begun.Done()
				for {
					p, _, err := l.Malloc(nil, 3)
					if err == arena.ErrClosed {
						return
					} else if err != nil {
						t.Error(err)
						return
					}
					if out := l.Free(nil, p); out != pool.OK && !l.closed.Load() {
						t.Errorf("Free = %d", out)
					}
					yield()
				}
			})
		}
		if round%2 == 0 {
			begun.Wait()
		}
		l.Close(v)
		for i := range l.slots {
			if l.slots[i].Load() != nil {
				t.Fatalf("slot %d of a closed life has a shard", i)
			}
		}
		if _, _, err := l.Malloc(nil, 3); err != arena.ErrClosed {
			t.Fatalf("malloc after Close: %v", err)
		}
		wg.Wait()
	}
	Funeral()
}

// The janitor comes for what is freed after it has gone, though only fast paths free it.
func TestJanitorComesAgain(t *testing.T) {
	for _, heap := range []bool{false, true} {
		l, _ := life(t, Config{RetainDelay: time.Millisecond})
		var hp *Heap
		if heap {
			h, err := l.NewHeap()
			if err != nil {
				t.Fatal(err)
			}
			hp = &h
		}
		p := mustMalloc(t, l, hp, 3)
		eventually(t, "drained", func() bool { return !l.armed.Load() })
		mustFree(t, l, hp, p)
		eventually(t, "given back", func() bool { return l.Budget.Mapped() == 0 })
	}
}

// The janitor does not forget a heap that it has found in the middle of a call.
func TestJanitorRemembers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var lives []*Life
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range short(200) {
		l, _ := life(t, Config{RetainDelay: time.Millisecond})
		h, err := l.NewHeap()
		if err != nil {
			t.Fatal(err)
		}
		lives = append(lives, l)
		wg.Go(func() {
			for !stop.Load() {
				for range 1000 {
					p, _, err := l.Malloc(&h, 3)
					if err != nil || l.Free(&h, p) != pool.OK {
						t.Error("a pair failed: ", err)
						return
					}
				}
				yield()
			}
		})
	}
	time.Sleep(3 * time.Second) // some rounds of the janitor, each of which finds some in the middle
	stop.Store(true)
	wg.Wait()
	eventually(t, "given back", func() bool {
		for _, l := range lives {
			if l.Budget.Mapped() != 0 {
				return false
			}
		}
		return true
	})
}

// At the limit a request waits for arenas that a heap in the middle of a call keeps, or the next
// one finds them.
func TestLimitBesideHeaps(t *testing.T) {
	l, _ := life(t, Config{LimitBytes: 16 << 20, RetainDelay: time.Hour})
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		h, err := l.NewHeap()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for !stop.Load() {
				if p, _, err := l.Malloc(&h, 3); err == nil {
					l.Free(&h, p)
				}
				yield()
			}
		})
	}
	for range short(200) {
		var ps []unsafe.Pointer
		for range 120 {
			p, _, err := l.MallocLarge(100<<10, 1)
			if err != nil {
				break
			}
			ps = append(ps, p)
		}
		for _, p := range ps {
			mustFree(t, l, nil, p)
		}
		eventually(t, "room for 10 MiB where all but some small blocks are free", func() bool {
			p, _, err := l.MallocLarge(10<<20, 1)
			if err == nil {
				mustFree(t, l, nil, p)
			}
			return err == nil
		})
	}
	stop.Store(true)
	wg.Wait()
}

// The number of empty pools on usedpools is exact when nothing is under way.
func TestEmpties(t *testing.T) {
	const class = sizeclass.Count - 1
	l, _ := life(t, Config{RetainDelay: time.Hour})
	blocks := make(chan unsafe.Pointer, 64)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			h, err := l.NewHeap()
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Release(h.Shard)
			for range short(40_000) {
				p, _, err := l.Malloc(&h, class)
				if err != nil {
					t.Error(err)
					return
				}
				blocks <- p
				if l.Free(&h, <-blocks) != pool.OK {
					t.Error("a free failed")
				}
			}
		})
	}
	wg.Wait()
	if err := l.Trim(); err != nil {
		t.Fatal(err)
	}
	if n := l.classes[class].empties.Load(); n != 0 {
		t.Errorf("%d empty pools are counted where there is none", n)
	}
	if mapped := l.Budget.Mapped(); mapped != 0 {
		t.Errorf("%d bytes are mapped", mapped)
	}
}

// Ids of lives and of shards are given again, and never to two.
func TestIDs(t *testing.T) {
	seen := map[uint32]bool{}
	var some []uint32
	for range 1000 {
		id := takeID()
		if id == 0 || seen[id] {
			t.Fatalf("id %d is given twice, or is nobody's", id)
		}
		seen[id] = true
		some = append(some, id)
	}
	for _, id := range some {
		giveID(id)
	}
	l, _ := life(t, Config{RetainDelay: time.Hour})
	heaps := map[uint32]Heap{}
	for i := range 1000 {
		h, err := l.NewHeap()
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := heaps[h.ID()]; twice || h.ID() == 0 {
			t.Fatalf("shard id %d is given twice, or is nobody's", h.ID())
		}
		heaps[h.ID()] = h
		if i%3 == 0 {
			delete(heaps, h.ID())
			l.Release(h.Shard)
		}
	}
}
