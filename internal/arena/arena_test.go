package arena

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addrmap"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/osmem"
)

func newSet(t *testing.T, arenaBytes int, limit uint64) *Set {
	t.Helper()
	g, err := NewGeometry(arenaBytes)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSet(g, 1<<24-1, &Budget{Limit: limit})
	t.Cleanup(func() {
		if err := s.Unmap(s.Close(), false); err != nil {
			t.Error(err)
		}
		if n := s.limit.Mapped(); n != 0 {
			t.Errorf("%d bytes mapped at the end", n)
		}
	})
	return s
}

func TestGeometry(t *testing.T) {
	for _, c := range []struct{ arena, unit, units, headers int }{
		{256 << 10, 4 << 10, 64, 4},
		{512 << 10, 8 << 10, 64, 2},
		{1 << 20, 16 << 10, 64, 1},
		{2 << 20, 16 << 10, 128, 2},
		{64 << 20, 16 << 10, 4096, 64},
	} {
		g, err := NewGeometry(c.arena)
		if err != nil || g.UnitBytes != c.unit || g.Units != c.units || g.HeaderUnits != c.headers {
			t.Errorf("NewGeometry(%d) = %+v, %v; want %+v", c.arena, g, err, c)
		}
		for i, shape := range sizeclass.Shapes(g.UnitBytes, g.PoolUnits()) {
			if shape.Blocks < 4 || shape.Blocks > pool.MaxBlocks {
				t.Errorf("arena %d: class %d has %d blocks in a pool", c.arena, i, shape.Blocks)
			}
		}
		// The words of the bitmaps stand in the headers of header units, which no
		// pool has, one of each bitmap in a header.
		if g.Units/64 > g.HeaderUnits || headerBytes+16 > pool.HeaderBytes {
			t.Errorf("arena %d: %d words of bitmaps in %d headers", c.arena, g.Units/64, g.HeaderUnits)
		}
	}
	for _, bad := range []int{0, -1, 1, 128 << 10, 3 << 20, 128 << 20} {
		if _, err := NewGeometry(bad); err == nil {
			t.Errorf("NewGeometry(%d) is accepted", bad)
		}
	}
}

// stretch is what the model knows of a pool or run.
type stretch struct {
	h     *pool.Header
	arena uintptr
	units int
	run   bool
}

// Random pools and runs against a model: no overlap, the fullest arena that is
// sure to do, memory said to be zero is zero, the lists agree.
func TestModel(t *testing.T) {
	for _, arenaBytes := range []int{256 << 10, 1 << 20, 4 << 20} {
		t.Run(fmt.Sprint(arenaBytes), func(t *testing.T) {
			s := newSet(t, arenaBytes, 0)
			r := rand.New(rand.NewPCG(3, uint64(arenaBytes)))
			var live []stretch
			used := map[uintptr]int{} // units in use, by arena
			taken := map[unsafe.Pointer]bool{}
			for step := range 4000 {
				if r.IntN(5) < 3-step/2000 || len(live) == 0 {
					var st stretch
					zero := false
					var err error
					if r.IntN(4) == 0 {
						st.units, st.run = 1+r.IntN(s.Units/2), true
						st.h, zero, err = s.TakeRun(st.units, uintptr(st.units*s.UnitBytes))
					} else {
						c := uint8(r.IntN(sizeclass.Count))
						st.units = int(s.Shapes[c].Units)
						st.h, err = s.TakePool(c)
						if err == nil && (st.h.Class() != c || st.h.Live() != 0) {
							t.Fatalf("pool of class %d, %d live; want %d, 0", st.h.Class(), st.h.Live(), c)
						}
					}
					if err != nil {
						t.Fatal(err)
					}
					st.arena = uintptr(s.baseOf(unsafe.Pointer(st.h)))
					if st.units == 1 {
						for arena, n := range used {
							if n < s.Usable() && n > used[st.arena] {
								t.Fatalf("step %d: a unit of an arena with %d in use, another has %d of %d", step, used[st.arena], n, s.Usable())
							}
							_ = arena
						}
					}
					for i := range st.units {
						u := unsafe.Add(st.h.Start(), i*s.UnitBytes)
						if taken[u] {
							t.Fatalf("step %d: unit %p is handed out twice", step, u)
						}
						taken[u] = true
						if s.PoolOf(u) != st.h {
							t.Fatalf("unit %d of %d leads to another header", i, st.units)
						}
					}
					b := unsafe.Slice((*byte)(st.h.Start()), st.units*s.UnitBytes)
					for i := 0; zero && i < len(b); i += 64 {
						if b[i] != 0 {
							t.Fatalf("byte %d of zero memory is %#x", i, b[i])
						}
					}
					for i := 0; i < len(b); i += 64 {
						b[i] = 0xA5
					}
					used[st.arena] += st.units
					live = append(live, st)
					continue
				}
				i := r.IntN(len(live))
				st := live[i]
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
				for i := range st.units {
					delete(taken, unsafe.Add(st.h.Start(), i*s.UnitBytes))
				}
				used[st.arena] -= st.units
				if st.run {
					if s.PutRun(unsafe.Add(st.h.Start(), 16), false) == nil || s.PutRun(st.h.Start(), true) != nil || s.PutRun(st.h.Start(), false) == nil {
						t.Fatal("PutRun takes the middle of a run, or a run twice, or not at all")
					}
				} else {
					s.PutNumber(st.h.Number())
				}
				switch r.IntN(100) {
				case 0:
					s.Purge()
				case 1:
					s.Tick()
					for _, a := range s.Retire(uint32(r.IntN(3)), uint64(r.IntN(8))<<20) {
						if used[uintptr(a.base)] != 0 {
							t.Fatal("an arena in use is retired")
						}
						if addrmap.Load(uintptr(a.base)) != 0 {
							t.Fatal("a retired arena is in the map")
						}
						delete(used, uintptr(a.base))
						if err := s.Unmap([]Retired{a}, r.IntN(2) == 0); err != nil {
							t.Fatal(err)
						}
					}
				}
				if step%50 == 0 {
					if err := s.Check(); err != nil {
						t.Fatal(err)
					}
				}
			}
			c := s.Visit(func(*pool.Header) {})
			free := 0
			for _, n := range used {
				free += s.Usable() - n
			}
			if c.FreeUnits != free || c.Arenas != len(used) {
				t.Errorf("census %+v; the model has %d arenas, %d free units", c, len(used), free)
			}
		})
	}
}

// Retire gives up what is old or too much, and nothing else.
func TestRetire(t *testing.T) {
	s := newSet(t, MinBytes, 0)
	var hs []*pool.Header
	for range 4 * s.Usable() {
		h, err := s.TakePool(0)
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, h)
	}
	for i, h := range hs {
		h.Next = nil
		s.PutChain(h)
		if i == len(hs)/2-1 {
			s.Tick() // two arenas are a tick older
		}
	}
	if out := s.Retire(2, 4*MinBytes); len(out) != 0 {
		t.Errorf("%d arenas retired too early", len(out))
	}
	s.Tick()
	out := s.Retire(2, 4*MinBytes)
	if len(out) != 2 {
		t.Errorf("%d arenas retired by age, want 2", len(out))
	}
	out = append(out, s.Retire(2, MinBytes)...)
	if len(out) != 3 {
		t.Errorf("%d arenas retired by age and size, want 3", len(out))
	}
	if err := s.Unmap(out, false); err != nil {
		t.Error(err)
	}
}

func TestLimitAndClose(t *testing.T) {
	s := newSet(t, MinBytes, 2*MinBytes)
	n := 0
	var err error
	for err == nil {
		_, err = s.TakePool(0)
		n++
	}
	if n-1 != 2*s.Usable() || !errors.Is(err, ErrLimit) {
		t.Errorf("%d pools, then %v; want %d, ErrLimit", n-1, err, 2*s.Usable())
	}
	out := s.Close()
	if _, err := s.TakePool(0); err != ErrClosed {
		t.Errorf("TakePool of a closed set: %v", err)
	}
	if err := s.Unmap(out, false); err != nil {
		t.Error(err)
	}
}

// A refused unmapping keeps the arena, zeroed, for the next use.
func TestRefused(t *testing.T) {
	s := newSet(t, MinBytes, 0)
	h, _, err := s.TakeRun(4, 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	*(*int)(h.Start()) = 1
	if err := s.PutRun(h.Start(), false); err != nil {
		t.Fatal(err)
	}
	restore := osmem.SetFault(func(osmem.Op, int) error { return osmem.ErrNoMemory })
	err = s.Unmap(s.Retire(0, 0), false)
	restore()
	if !errors.Is(err, osmem.ErrNoMemory) || s.Counts.Refusals.Load() != 1 {
		t.Errorf("Unmap = %v, %d refusals", err, s.Counts.Refusals.Load())
	}
	again, zero, err := s.TakeRun(4, 16<<10)
	if err != nil || !zero || *(*int)(again.Start()) != 0 || again.Start() != h.Start() {
		t.Errorf("after a refusal: %p, zero %v, %v; want %p again", again.Start(), zero, err, h.Start())
	}
}

// Where the fullest arenas have their free units scattered, the holes of the
// emptiest ones are found before an arena is mapped; and wherever a hole is, it is
// found before a limit is reported.
func TestFindsHoles(t *testing.T) {
	const arenas = 3 * findTries
	for _, c := range []struct {
		name    string
		limit   uint64
		scatter func(arena int) int // frees every so many-th unit
	}{
		{"the emptiest", 0, func(int) int { return 2 }},
		{"in the middle", arenas * DefaultBytes, func(i int) int { return 2 + i%2*4 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSet(t, DefaultBytes, c.limit)
			var all [arenas][]*pool.Header
			for i := range all {
				for range s.Usable() {
					h, _, err := s.TakeRun(1, 1)
					if err != nil {
						t.Fatal(err)
					}
					all[i] = append(all[i], h)
				}
			}
			for i, runs := range all {
				for j, h := range runs {
					if i == arenas/2 && (j < 12 || c.limit == 0 && j%2 == 0) || i != arenas/2 && j%c.scatter(i) == 0 {
						s.PutNumber(h.Number())
					}
				}
			}
			if _, _, err := s.TakeRun(10, 1); err != nil {
				t.Fatal(err)
			}
			if n := s.Counts.Mapped.Load(); n != arenas {
				t.Errorf("%d arenas were mapped, %d have room", n, arenas)
			}
		})
	}
}
