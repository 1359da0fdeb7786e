package arena

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/headers"
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

// takeRun is TakeRun for the run's header.
func (s *Set) takeRun(units int, usable uintptr) (h *headers.Header, zero bool, err error) {
	p, zero, err := s.TakeRun(units, usable)
	if err != nil {
		return nil, false, err
	}
	return headers.Lookup(uintptr(p)), zero, nil
}

// takePool takes a pool of class c as the allocator does.
func (s *Set) takePool(c uint8) (*headers.Header, error) {
	h, err := s.Take(int(s.Shapes[c].Units))
	if err == nil {
		pool.Format(h, c, &s.Shapes[c], s.Tail, s.life, 0)
	}
	return h, err
}

// firstUnit returns the beginning of the first unit of a pool or run. The blocks of a pool may
// begin after it.
func firstUnit(h *headers.Header) unsafe.Pointer {
	return addr.Pointer(h.Start &^ (headers.UnitBytes - 1))
}

// baseOf returns the address of the arena of a unit.
func (s *Set) baseOf(h *headers.Header) uintptr { return h.Start &^ uintptr(s.Bytes-1) }

func TestGeometry(t *testing.T) {
	for arenaBytes := MinBytes; arenaBytes <= MaxBytes; arenaBytes *= 2 {
		g, err := NewGeometry(arenaBytes)
		if err != nil || 1<<g.Log2Bytes != arenaBytes || g.Units*headers.UnitBytes != arenaBytes || g.Usable() != g.Units {
			t.Errorf("NewGeometry(%d) = %+v, %v", arenaBytes, g, err)
		}
		for _, g := range []Geometry{g, g.Harden(true)} {
			if rest := g.Units - g.Usable(); rest != g.GuardUnits || g.Hardened() && rest*headers.UnitBytes < osmem.PageSize() || g.RunMax() > g.Usable()*headers.UnitBytes {
				t.Errorf("arena %d: %d units of %d are usable", arenaBytes, g.Usable(), g.Units)
			}
			for i, shape := range sizeclass.Shapes(headers.UnitBytes, g.PoolUnits()) {
				if shape.Blocks < 4 || int(shape.Blocks) > 64*len(headers.Header{}.Bits) {
					t.Errorf("arena %d: class %d has %d blocks in a pool", arenaBytes, i, shape.Blocks)
				}
			}
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
	h     *headers.Header
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
						st.h, zero, err = s.takeRun(st.units, uintptr(st.units*headers.UnitBytes))
					} else {
						c := uint8(r.IntN(sizeclass.Count))
						st.units = int(s.Shapes[c].Units)
						st.h, err = s.takePool(c)
						zero = err == nil && st.h.Clean
					}
					if err != nil {
						t.Fatal(err)
					}
					if int(st.h.Units) != st.units || headers.At(st.h.Number) != st.h || st.h.Load().Life() != s.life {
						t.Fatalf("%d units, number %d, word %#x; want %d units", st.h.Units, st.h.Number, st.h.Load(), st.units)
					}
					st.arena = s.baseOf(st.h)
					if st.units == 1 {
						for arena, n := range used {
							if n < s.Usable() && n > used[st.arena] {
								t.Fatalf("step %d: a unit of an arena with %d in use, another has %d of %d", step, used[st.arena], n, s.Usable())
							}
							_ = arena
						}
					}
					for i := range st.units {
						u := unsafe.Add(firstUnit(st.h), i*headers.UnitBytes)
						if taken[u] {
							t.Fatalf("step %d: unit %p is handed out twice", step, u)
						}
						taken[u] = true
						inner := headers.MakeWord(s.life, headers.Inner, 0, i)
						if st.run {
							inner = headers.MakeWord(s.life, headers.Large, headers.RunInner, 0)
						}
						if h := headers.Lookup(uintptr(u)); i > 0 && h.Load() != inner || h != st.h.Plus(i) {
							t.Fatalf("unit %d of %d has the word %#x, want %#x", i, st.units, h.Load(), inner)
						}
					}
					b := unsafe.Slice((*byte)(firstUnit(st.h)), st.units*headers.UnitBytes)
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
					delete(taken, unsafe.Add(firstUnit(st.h), i*headers.UnitBytes))
				}
				used[st.arena] -= st.units
				if st.run {
					p := st.h.First()
					if middle, first, second := s.PutRun(unsafe.Add(p, 16), false), s.PutRun(p, true), s.PutRun(p, false); middle != pool.NotOurs || first != pool.OK || second != pool.Double {
						t.Fatalf("PutRun of the middle of a run: %d, of the run: %d, again: %d", middle, first, second)
					}
				} else {
					s.Put([]uint32{st.h.Number})
				}
				for i := range st.units {
					if w := st.h.Plus(i).Load(); w != 0 {
						t.Fatalf("free unit %d of %d has the word %#x", i, st.units, w)
					}
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
						for i := range s.Units {
							if h := headers.Lookup(uintptr(a.base)).Plus(i); h.Load() != 0 || h.Last != 0 {
								t.Fatalf("unit %d of a retired arena has the word %#x, and was of %d", i, h.Load(), h.Last)
							}
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
			visited := 0
			c := s.Visit(func(h *headers.Header) {
				if !slices.ContainsFunc(live, func(st stretch) bool { return st.h == h }) {
					t.Errorf("Visit comes to %#x, where nothing begins", h.Start)
				}
				visited++
			})
			if visited != len(live) {
				t.Errorf("Visit comes to %d of %d", visited, len(live))
			}
			free := 0
			for _, n := range used {
				free += s.Usable() - n
			}
			if c.FreeUnits != free || c.Arenas != len(used) || s.UsedUnits() != len(taken) {
				t.Errorf("census %+v, %d units in use; the model has %d arenas, %d free units, %d in use", c, s.UsedUnits(), len(used), free, len(taken))
			}
		})
	}
}

// Retire gives up what is old or too much, and nothing else.
func TestRetire(t *testing.T) {
	s := newSet(t, MinBytes, 0)
	var hs []*headers.Header
	for range 4 * s.Usable() {
		h, err := s.takePool(0)
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, h)
	}
	for i, h := range hs {
		s.Put([]uint32{h.Number})
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
	out = slices.Clone(out) // the next call uses it again
	out = append(out, s.Retire(2, MinBytes)...)
	if len(out) != 3 {
		t.Errorf("%d arenas retired by age and size, want 3", len(out))
	}
	if err := s.Unmap(out, false); err != nil {
		t.Error(err)
	}
}

// Units that are free tell what began in them: each block of the pool that was there last, in
// any of its units, or the run; and nothing else, and not after their arena was given back.
func TestWasFreed(t *testing.T) {
	s := newSet(t, 256<<10, 0)
	const class = sizeclass.Count - 1 // several units in a pool
	h, err := s.takePool(class)
	if err != nil {
		t.Fatal(err)
	}
	h.Carved.Store(h.Blocks - 1) // all but the last were handed out
	number, last := h.Number, h.Blocks-1
	var blocks []unsafe.Pointer
	for i := range h.Blocks {
		blocks = append(blocks, addr.Pointer(pool.Block(h, i)))
	}
	want := func(what string, freed bool) {
		t.Helper()
		for i, p := range blocks {
			if got := s.WasFreed(p); got != (freed && i < int(last)) {
				t.Errorf("%s: WasFreed(block %d) = %t", what, i, got)
			}
			if s.WasFreed(unsafe.Add(p, 16)) {
				t.Errorf("%s: the middle of block %d was freed", what, i)
			}
		}
	}
	want("in use", false)
	s.Put([]uint32{number})
	want("free", true)
	run, _, err := s.TakeRun(int(s.Shapes[class].Units), 5000)
	if err != nil || run != blocks[0] {
		t.Fatalf("the run is at %p, %v; want %p", run, err, blocks[0])
	}
	want("a run", false)
	s.PutRun(run, false)
	if !s.WasFreed(run) || s.WasFreed(unsafe.Add(run, 16)) || s.WasFreed(unsafe.Add(run, headers.UnitBytes)) {
		t.Error("a free run is not known, or what is in it is")
	}
	blocks = blocks[1:]
	want("after the run", false)
	if s.WasFreed(unsafe.Pointer(s)) {
		t.Error("a foreign pointer was freed")
	}
	out := s.Retire(0, 0)
	if len(out) != 1 || s.WasFreed(run) {
		t.Errorf("%d arenas are retired, want 1; the run is known still: %t", len(out), s.WasFreed(run))
	}
	if err := s.Unmap(out, false); err != nil {
		t.Error(err)
	}
}

// A pool that is being made is visited, with the word 0; nothing leads to it meanwhile.
func TestBeingMade(t *testing.T) {
	s := newSet(t, MinBytes, 0)
	h, err := s.Take(3)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	s.Visit(func(v *headers.Header) {
		if n++; v != h || v.Load() != 0 || v.Units != 3 {
			t.Errorf("Visit comes to %#x, of %d units, with the word %#x", v.Start, v.Units, v.Load())
		}
	})
	if n != 1 || s.UsedUnits() != 3 {
		t.Errorf("Visit comes to %d, %d units are in use", n, s.UsedUnits())
	}
	s.Put([]uint32{h.Number})
	if s.WasFreed(h.First()) {
		t.Error("a block that there never was was freed")
	}
}

// What was handed out when a set is closed is known no more, and is not taken back.
func TestLimitAndClose(t *testing.T) {
	s := newSet(t, MinBytes, 2*MinBytes)
	n := 0
	var h *headers.Header
	var err error
	for err == nil {
		var next *headers.Header
		if next, err = s.takePool(0); err == nil {
			h = next
		}
		n++
	}
	if n-1 != 2*s.Usable() || !errors.Is(err, ErrLimit) {
		t.Errorf("%d pools, then %v; want %d, ErrLimit", n-1, err, 2*s.Usable())
	}
	out := s.Close()
	for i := range s.Usable() {
		if w := headers.Lookup(s.baseOf(h)).Plus(i).Load(); w != 0 {
			t.Errorf("unit %d has the word %#x after Close", i, w)
		}
	}
	s.Put([]uint32{h.Number})
	if out := s.PutRun(h.First(), false); out != pool.NotOurs || s.UsedUnits() != 2*s.Usable() {
		t.Errorf("a closed set takes something back: %d", out)
	}
	if _, err := s.takePool(0); err != ErrClosed {
		t.Errorf("TakePool of a closed set: %v", err)
	}
	if err := s.Unmap(out, false); err != nil {
		t.Error(err)
	}
}

// A refused unmapping keeps the arena, zeroed, for the next use.
func TestRefused(t *testing.T) {
	s := newSet(t, MinBytes, 0)
	h, _, err := s.takeRun(4, 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	*(*int)(h.First()) = 1
	if out := s.PutRun(h.First(), false); out != pool.OK {
		t.Fatalf("PutRun: %d", out)
	}
	restore := osmem.SetFault(func(osmem.Op, int) error { return osmem.ErrNoMemory })
	err = s.Unmap(s.Retire(0, 0), false)
	restore()
	if !errors.Is(err, osmem.ErrNoMemory) || s.Counts.Refusals.Load() != 1 {
		t.Errorf("Unmap = %v, %d refusals", err, s.Counts.Refusals.Load())
	}
	again, zero, err := s.takeRun(4, 16<<10)
	if err != nil || !zero || *(*int)(again.First()) != 0 || again.First() != h.First() {
		t.Errorf("after a refusal: %p, zero %v, %v; want %p again", again.First(), zero, err, h.First())
	}
}

// Several units come from the arena whose longest row of free units is the
// shortest that will do, and in it from the shortest row that will do; one unit
// from the fullest arena. No row is overlooked, so none is needed from the system.
func TestShortestRowThatWillDo(t *testing.T) {
	for _, arenaBytes := range []int{1 << 20, 4 << 20} {
		s := newSet(t, arenaBytes, 0)
		// Arenas with free rows of these lengths, in this order, some units in use
		// between them.
		layouts := [][]int{{9, 3, 12}, {1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2}, {5, 8, 7}, {20}}
		starts := make([][]*headers.Header, len(layouts))
		for i, rows := range layouts {
			used := 0
			for _, n := range rows {
				h, _, err := s.takeRun(n, 1)
				if err != nil {
					t.Fatal(err)
				}
				starts[i] = append(starts[i], h)
				if _, _, err = s.TakeRun(1, 1); err != nil {
					t.Fatal(err)
				}
				used += n + 1
			}
			if _, _, err := s.TakeRun(s.Usable()-used, 1); err != nil {
				t.Fatal(err)
			}
		}
		for _, row := range slices.Concat(starts...) {
			s.Put([]uint32{row.Number})
		}
		for _, c := range []struct{ units, arena, row int }{
			{7, 2, 2},  // 7 of {5, 8, 7}: its longest row is the shortest of 7 and more
			{10, 0, 2}, // 10 of {9, 3, 12}
			{2, 1, 1},  // 2 of {1, 2, …}
		} {
			h, _, err := s.takeRun(c.units, 1)
			if err != nil {
				t.Fatal(err)
			}
			if want := starts[c.arena][c.row].First(); h.First() != want {
				t.Errorf("arenas of %d bytes: %d units are at %p, want %p, row %d of arena %d", arenaBytes, c.units, h.First(), want, c.row, c.arena)
			}
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		if n := s.Counts.Mapped.Load(); int(n) != len(layouts) {
			t.Errorf("%d arenas were mapped, want %d", n, len(layouts))
		}
	}
}

// Pools and runs that grow to the same sum again and again, and shrink by random
// ones, take no more arenas in later cycles than in the second. As when a server's
// load comes and goes, most pools of one unit stay, for a block that is left in each,
// scattered; most stretches of several units go.
func TestScatteredUnitsAreUsed(t *testing.T) {
	s := newSet(t, DefaultBytes, 0)
	r := rand.New(rand.NewPCG(1, 2))
	type population struct {
		least, most int // units
		units       int
		length      func() int
		live        []*headers.Header
	}
	pools := &population{least: 4000, most: 6000, length: func() int { return 1 }}
	runs := &population{least: 350, most: 3500, length: func() int { return 2 + r.IntN(24) }}
	take := func(n int) *headers.Header {
		h, _, err := s.takeRun(n, 1)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	grow := func(p *population) {
		n := p.length()
		p.live, p.units = append(p.live, take(n)), p.units+n
		s.Put([]uint32{take(3 + r.IntN(30)).Number}) // one that lives shortly
	}
	shrink := func(p *population) {
		i, last := r.IntN(len(p.live)), len(p.live)-1
		h := p.live[i]
		p.live[i] = p.live[last]
		p.live, p.units = p.live[:last], p.units-int(h.Units)
		s.Put([]uint32{h.Number})
	}
	both := []*population{pools, runs}
	toward := func(to func(p *population) int, step func(p *population)) {
		begin := [2]int{pools.units, runs.units}
		for i := range 100 {
			for k, p := range both {
				want := begin[k] + (to(p)-begin[k])*(i+1)/100
				for (want-p.units)*(to(p)-begin[k]) > 0 {
					step(p)
				}
			}
		}
	}
	var arenas []int
	for range 20 {
		toward(func(p *population) int { return p.most }, grow)
		for range 100 {
			for _, p := range both {
				for range len(p.live) / 50 {
					shrink(p)
					grow(p)
				}
			}
		}
		arenas = append(arenas, len(s.all))
		toward(func(p *population) int { return p.least }, shrink)
	}
	t.Logf("arenas at the peak of each cycle: %v", arenas)
	if most := slices.Max(arenas); most > arenas[1]+arenas[1]/25 {
		t.Errorf("%d arenas in the second cycle, then as many as %d: %v", arenas[1], most, arenas)
	}
}

// newOnly takes the addresses that other tests have kept, so that each arena is a new mapping.
func newOnly(t *testing.T) {
	s := newSet(t, MinBytes, 0)
	for len(addresses.kept[s.Log2Bytes]) > 0 {
		if _, _, err := s.TakeRun(s.Usable(), 1); err != nil {
			t.Fatal(err)
		}
	}
}

// Arenas that come and go leave no header counted, no mapping, and nothing on the Go heap.
func TestLeavesNothing(t *testing.T) {
	newOnly(t)
	before, mappings := HeaderBytes(), Mappings.Count()
	for _, harden := range []bool{false, true} {
		g, err := NewGeometry(MinBytes)
		if err != nil {
			t.Fatal(err)
		}
		each := 1
		if harden {
			g = g.Harden(false)
			each = 2
		}
		s := NewSet(g, 1<<24-1, &Budget{})
		cycle := func() {
			p, _, err := s.TakeRun(s.Usable(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if got := HeaderBytes() - before; got != uint64(s.Units*headers.Bytes) {
				t.Errorf("%d bytes of headers are counted", got)
			}
			if got := Mappings.Count() - mappings; got != each && !osmem.OnGoHeap {
				t.Errorf("%d mappings are counted, want %d", got, each)
			}
			s.PutRun(p, false)
			if err := s.Unmap(s.Retire(0, 0), false); err != nil {
				t.Fatal(err)
			}
			if HeaderBytes() != before {
				t.Error("headers are counted that are not there")
			}
		}
		cycle()
		if n := testing.AllocsPerRun(100, cycle); n > 0 && !osmem.OnGoHeap {
			t.Errorf("an arena that comes and goes makes %v allocations", n)
		}
	}
	if n := Mappings.Count(); n != mappings && !osmem.OnGoHeap {
		t.Errorf("%d mappings are counted, %d before", n, mappings)
	}
}

// At nine tenths of what the system allows no arena is mapped, and the system is not asked for
// one. Once in a while it is asked how many mappings there are, because it joins those that
// adjoin.
func TestMappings(t *testing.T) {
	newOnly(t)
	s := newSet(t, MinBytes, 0)
	take := func() error {
		_, _, err := s.TakeRun(s.Usable(), 1)
		return err
	}
	count := &Mappings
	limit, ask := count.limit.Load(), count.ask
	defer func() {
		count.limit.Store(limit)
		count.ask, count.asked = ask, time.Time{}
		count.off.Store(0)
	}()
	actual, asked := int64(1000), 0
	count.ask = func() (int64, bool) { asked++; return actual, true }
	count.limit.Store(int64(count.Count()) + 2)
	for range 2 {
		if err := take(); err != nil {
			t.Fatal(err)
		}
	}
	calls := osmem.Calls()
	for range 3 {
		if err := take(); err != ErrMappings {
			t.Fatalf("beyond the limit: %v", err)
		}
	}
	if c := osmem.Calls().Sub(calls); c != (osmem.Counts{}) || asked != 1 || s.limit.Mapped() != uint64(len(s.all)*s.Bytes) {
		t.Errorf("beyond the limit: %+v, the system was asked how many %d times, %d bytes are counted", c, asked, s.limit.Mapped())
	}
	count.asked = time.Time{} // a while passes
	actual = count.limit.Load() - 2
	for i := range 3 {
		if err := take(); (err == ErrMappings) != (i == 2) {
			t.Errorf("arena %d, with room for 2: %v", i, err)
		}
	}
	if asked != 2 {
		t.Errorf("the system was asked %d times, want 2", asked)
	}
	if n, ok := countMaps(); runtime.GOOS == "linux" && (!ok || n == 0) {
		t.Errorf("countMaps = %d, %t", n, ok)
	}
}

// What is kept is handed out again, in parts of all sizes, and becomes one again when
// the parts are given back: programs that ask for other sizes each time use no more
// addresses.
func TestKeptRangesAreReused(t *testing.T) {
	const most = 32 << 20
	p, err := MapRange(most, headers.UnitBytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := UnmapRange(p, most, true); err != nil {
		t.Fatal(err)
	}
	kept := KeptBytes()
	r := rand.New(rand.NewPCG(6, 7))
	pages := func(max int) int { return (1 + r.IntN(max/osmem.PageSize())) * osmem.PageSize() }
	for range 200 {
		var parts []orphan
		for left := most; left > most/2; { // so that there is room, with the alignment
			size := pages(min(left, most/8))
			p, err := MapRange(size, headers.UnitBytes)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, orphan{p: p, size: size})
			left -= size + headers.UnitBytes
		}
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		for _, part := range parts {
			if err := UnmapRange(part.p, part.size, true); err != nil {
				t.Fatal(err)
			}
		}
		if n := KeptBytes(); n != kept {
			t.Fatalf("%d bytes of addresses are kept, %d before", n, kept)
		}
	}
}

// TestKeptModel takes and gives parts of four mappings that adjoin, and compares each
// with a model that has a byte for each page.
func TestKeptModel(t *testing.T) {
	const mappings, each, page = 4, 64, 4096
	const inUse, kept = 0, 1
	var model [mappings * each]byte
	base, err := osmem.Reserve(len(model) * page)
	if err != nil {
		t.Fatal(err)
	}
	l := addressList{part: map[unsafe.Pointer]unsafe.Pointer{}}
	set := func(p unsafe.Pointer, size int, to byte) {
		first := (int(uintptr(p)) - int(uintptr(base))) / page
		for i := first; i < first+size/page; i++ {
			if model[i] == to {
				t.Fatalf("page %d is %d already", i, to)
			}
			model[i] = to
		}
	}
	give := func(p unsafe.Pointer, size int) {
		set(p, size, kept)
		l.keepHuge(p, size)
	}
	// shortest returns the pages of the shortest row of one mapping's that has room.
	shortest := func(size, align int) (best int) {
		for i := 0; i < len(model); {
			row := 0
			for i+row < len(model) && model[i+row] == kept && (row == 0 || (i+row)%each != 0) {
				row++
			}
			at := uintptr(base) + uintptr(i*page)
			lead := int(-at & uintptr(align-1))
			if row*page >= lead+size && (best == 0 || row < best) {
				best = row
			}
			i += max(row, 1)
		}
		return best
	}
	for _, i := range []int{2, 0, 3, 1} {
		give(unsafe.Add(base, i*each*page), each*page)
	}
	r := rand.New(rand.NewPCG(8, 9))
	var live []orphan
	for step := range 20_000 {
		if r.IntN(2) == 0 && len(live) > 0 {
			i := r.IntN(len(live))
			give(live[i].p, live[i].size)
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
			continue
		}
		size, align := (1+r.IntN(each/(1+r.IntN(each))))*page, page<<r.IntN(4)
		room := shortest(size, align)
		before := slices.Clone(l.huge)
		p := l.takeHuge(size, align)
		if (p != nil) != (room > 0) {
			t.Fatalf("step %d: %d bytes at %p, the shortest row with room is of %d pages", step, size, p, room)
		}
		if p == nil {
			continue
		}
		from := slices.IndexFunc(before, func(s span) bool {
			return uintptr(s.p) <= uintptr(p) && uintptr(p) < uintptr(s.end())
		})
		if uintptr(p)&uintptr(align-1) != 0 || before[from].size != room*page {
			t.Fatalf("step %d: %d bytes at a multiple of %d at %p, of a row of %d bytes, want one of %d pages", step, size, align, p, before[from].size, room)
		}
		set(p, size, inUse)
		live = append(live, orphan{p: p, size: size})
	}
	for _, m := range live {
		give(m.p, m.size)
	}
	if len(l.huge) != mappings || l.size.Load() != uint64(len(model)*page) || len(l.part) != 0 {
		t.Errorf("%d spans of %d bytes are kept, want the %d mappings of %d; %d are in use", len(l.huge), l.size.Load(), mappings, len(model)*page, len(l.part))
	}
	if err := osmem.Release(base, len(model)*page); err != nil {
		t.Error(err)
	}
}

// At the system's limit of mappings an arena that was refused is cleared once, and tried
// again in passes that end after some refusals, or by a whole one. When the limit is left,
// one pass gives all back. The same holds of what a closed set leaves.
func TestRefusalsAreBounded(t *testing.T) {
	const arenas = 3*Patience + 10
	g, err := NewGeometry(MinBytes)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSet(g, 1<<24-1, &Budget{})
	fill := func() {
		for range arenas {
			p, zero, err := s.TakeRun(s.Usable(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if zero && *(*byte)(p) != 0 {
				t.Error("an arena that was refused has its pages still")
			}
			*(*byte)(p) = 1
			defer s.PutRun(p, false)
		}
	}
	fill()
	retired := s.Retire(0, 0)
	asked, dropped := 0, 0
	refuse := func() (restore func()) {
		return osmem.SetFault(func(op osmem.Op, size int) error {
			switch {
			case op == osmem.OpRelease || op == osmem.OpDecommit:
				asked++
				return osmem.ErrNoMemory
			case op == osmem.OpAdvise && size == MinBytes:
				dropped++
			}
			return nil
		})
	}
	restore := refuse()
	defer func() { restore() }()
	want := func(what string, err error, refused bool, tries int) {
		t.Helper()
		if errors.Is(err, osmem.ErrNoMemory) != refused || asked != tries {
			t.Errorf("%s: %v, %d tries; want %d, refused: %t", what, err, asked, tries, refused)
		}
		asked = 0
	}
	want("Unmap", s.Unmap(retired, false), true, arenas)
	if some, untried := s.HasFree(); !some || untried || len(s.Retire(0, 0)) != 0 {
		t.Errorf("HasFree = %t, %t; want what is refused only", some, untried)
	}
	for range 5 {
		want("Retry", s.Retry(false, false), true, Patience)
	}
	want("Retry of all", s.Retry(false, true), true, arenas)
	if dropped != arenas {
		t.Errorf("pages of %d arenas were dropped %d times", arenas, dropped)
	}
	if n := testing.AllocsPerRun(10, func() { _ = s.Retry(false, false) }); n > 3 {
		t.Errorf("%v allocations for %d refusals", n, Patience)
	}
	asked = 0
	mapped := s.Counts.Mapped.Load()
	calls := osmem.Calls()
	fill()
	if c := osmem.Calls().Sub(calls); c.Map != 0 || s.Counts.Mapped.Load() != mapped+arenas {
		t.Errorf("%d arenas are new, %d maps; want none", s.Counts.Mapped.Load()-mapped, c.Map)
	}
	want("Unmap", s.Unmap(s.Retire(0, 0), false), true, arenas)
	restore()
	want("Retry after the limit", s.Retry(false, false), false, 0)
	if some, _ := s.HasFree(); some || s.limit.Mapped() != 0 {
		t.Errorf("%d bytes are left after the limit", s.limit.Mapped())
	}

	fill()
	restore = refuse()
	want("Close", s.Unmap(s.Close(), false), true, arenas)
	for range 5 {
		RetryOrphans(false)
		want("RetryOrphans", nil, false, Patience)
	}
	RetryOrphans(true)
	want("RetryOrphans of all", nil, false, arenas)
	restore()
	RetryOrphans(false)
	if n := len(orphans.list); n != 0 {
		t.Errorf("%d orphans are left after the limit", n)
	}
}

// An arena of a set that is closed is the next one's, as it is, and goes back to the system when
// nobody has wanted it for a round.
func TestWarm(t *testing.T) {
	Cool(true, func() {})
	defer Cool(true, func() {})
	life := func(g Geometry, noDump bool) (base uintptr, zero bool) {
		s := NewSet(g, 7, &Budget{})
		s.NoDump = noDump
		p, zero, err := s.TakeRun(2, 2*headers.UnitBytes)
		if err != nil {
			t.Fatal(err)
		}
		b := unsafe.Slice((*byte)(p), 2*headers.UnitBytes)
		for i := range b {
			if zero && b[i] != 0 {
				t.Fatalf("byte %d of zero memory is %#x", i, b[i])
			}
			b[i] = 0xA5
		}
		if err := s.Unmap(s.Leave(s.Close(), false), false); err != nil {
			t.Fatal(err)
		}
		if n := s.limit.Mapped(); n != 0 {
			t.Errorf("%d bytes are mapped for a set that is closed", n)
		}
		return uintptr(p) &^ uintptr(g.Bytes-1), zero
	}
	g, err := NewGeometry(DefaultBytes)
	if err != nil {
		t.Fatal(err)
	}
	takes := (&Set{Geometry: g}).takesWarm()
	first, zero := life(g, false)
	if !zero {
		t.Error("a new arena is not zero")
	}
	if second, zero := life(g, false); (second == first && !zero) != takes {
		t.Errorf("an arena at %#x that is zero: %t, after one at %#x; warm arenas: %t", second, zero, first, takes)
	}
	for _, other := range []struct {
		g      Geometry
		noDump bool
	}{{g.Harden(false), false}, {g, true}} {
		if _, zero := life(other.g, other.noDump); !zero {
			t.Error("a hardened or wiping allocator has what another has left")
		}
	}
	small, err := NewGeometry(MinBytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, zero := life(small, false); !zero {
		t.Error("an arena of another size is warm")
	}
	if left, _ := Cool(false, func() {}); left != takes {
		t.Errorf("after the first round arenas are left: %t", left)
	}
	before := osmem.Calls()
	if left, refused := Cool(false, func() {}); left || refused != 0 {
		t.Errorf("after the second round arenas are left: %t; %d refused", left, refused)
	}
	if made := osmem.Calls().Sub(before); takes && made.Release != 1 {
		t.Errorf("%d arenas are unmapped in the second round, want 1", made.Release)
	}
	var bases []*Set
	for range 2 * mostWarm {
		s := NewSet(g, 7, &Budget{})
		if _, err := s.Take(1); err != nil {
			t.Fatal(err)
		}
		bases = append(bases, s)
	}
	for _, s := range bases {
		if err := s.Unmap(s.Leave(s.Close(), false), false); err != nil {
			t.Fatal(err)
		}
	}
	warm.Lock()
	n := len(warm.list)
	warm.Unlock()
	if n > mostWarm || takes && n != mostWarm {
		t.Errorf("%d arenas are warm, want %d at most", n, mostWarm)
	}
}
