package arena

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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

// takeRun is TakeRun for the run's header.
func (s *Set) takeRun(units int, usable uintptr) (h *pool.Header, zero bool, err error) {
	p, zero, err := s.TakeRun(units, usable)
	if err != nil {
		return nil, false, err
	}
	return s.PoolOf(p), zero, nil
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
						st.h, zero, err = s.takeRun(st.units, uintptr(st.units*s.UnitBytes))
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
			if c.FreeUnits != free || c.Arenas != len(used) || s.UsedUnits() != len(taken) {
				t.Errorf("census %+v, %d units in use; the model has %d arenas, %d free units, %d in use", c, s.UsedUnits(), len(used), free, len(taken))
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

// Units that are free tell what they were part of, and so may one that they lead to; in the
// end there is a header that is not Inner, that of the unit itself or of one before, and it
// is that of the run where there is one.
func TestFormerUnits(t *testing.T) {
	s := newSet(t, 256<<10, 0)
	rng := rand.New(rand.NewPCG(1, 2))
	live := map[*pool.Header]int{}
	base, chains := unsafe.Pointer(nil), 0
	for range 3000 {
		if n := 1 + rng.IntN(6); rng.IntN(2) == 0 && len(live) < 4 { // one arena has room
			h, _, err := s.takeRun(n, 1)
			if err != nil {
				t.Fatal(err)
			}
			live[h] = n
			base = s.baseOf(unsafe.Pointer(h))
		} else {
			for h := range live {
				s.put(h)
				delete(live, h)
				break
			}
		}
		if base == nil {
			continue
		}
		of := map[int]*pool.Header{} // the run of a unit
		for h, n := range live {
			for i := range n {
				of[s.unitOfHeader(h)+i] = h
			}
		}
		for u := s.HeaderUnits; u < s.Units; u++ {
			h, own := s.PoolOf(unsafe.Add(base, u*s.UnitBytes)), s.headerOf(base, u)
			if h.IsInner() || s.unitOfHeader(h) > u || s.unitOfHeader(h) < s.HeaderUnits || of[u] != nil && h != of[u] {
				t.Fatalf("unit %d, of the run at %p, leads to the header %p, of owner %d", u, of[u], h, h.Owner())
			}
			if own.IsInner() && own.Outer().IsInner() {
				chains++
			}
		}
	}
	if chains == 0 {
		t.Error("no unit led to another that is Inner: the test does not test")
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
	h, _, err := s.takeRun(4, 16<<10)
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
	again, zero, err := s.takeRun(4, 16<<10)
	if err != nil || !zero || *(*int)(again.Start()) != 0 || again.Start() != h.Start() {
		t.Errorf("after a refusal: %p, zero %v, %v; want %p again", again.Start(), zero, err, h.Start())
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
		starts := make([][]*pool.Header, len(layouts))
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
			s.PutNumber(row.Number())
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
			if want := starts[c.arena][c.row].Start(); h.Start() != want {
				t.Errorf("arenas of %d bytes: %d units are at %p, want %p, row %d of arena %d", arenaBytes, c.units, h.Start(), want, c.row, c.arena)
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
		live        []*pool.Header
	}
	pools := &population{least: 4000, most: 6000, length: func() int { return 1 }}
	runs := &population{least: 350, most: 3500, length: func() int { return 2 + r.IntN(24) }}
	take := func(n int) *pool.Header {
		h, _, err := s.takeRun(n, 1)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	grow := func(p *population) {
		n := p.length()
		p.live, p.units = append(p.live, take(n)), p.units+n
		s.PutNumber(take(3 + r.IntN(30)).Number()) // one that lives shortly
	}
	shrink := func(p *population) {
		i, last := r.IntN(len(p.live)), len(p.live)-1
		h := p.live[i]
		p.live[i] = p.live[last]
		p.live, p.units = p.live[:last], p.units-h.Units()
		s.PutNumber(h.Number())
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

// Arenas that come and go have the numbers of those before: the tables of the
// process grow with the most arenas at once, of each size, and no further.
func TestNumbersAreReused(t *testing.T) {
	var next uint32
	var tables [2]uint64 // memory, addresses
	for round := range 5 {
		for _, arenaBytes := range []int{256 << 10, 1 << 20, 8 << 20} {
			g, err := NewGeometry(arenaBytes)
			if err != nil {
				t.Fatal(err)
			}
			s := NewSet(g, 1<<24-1, &Budget{})
			for range 20 - 2*round {
				if _, _, err := s.TakeRun(s.Usable(), 1); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Unmap(s.Close(), round%2 == 0); err != nil {
				t.Fatal(err)
			}
		}
		memory, reserved := TableBytes()
		now := [2]uint64{memory, reserved}
		if round == 0 {
			next, tables = numbers.next, now
		}
		if numbers.next != next || now != tables {
			t.Fatalf("round %d: %d groups of numbers and tables of %d bytes, %d and %d after the first, which had the most arenas", round, numbers.next, now, next, tables)
		}
	}
}

// What is kept is handed out again, in parts of all sizes, and becomes one again when
// the parts are given back: programs that ask for other sizes each time use no more
// addresses.
func TestKeptRangesAreReused(t *testing.T) {
	const most = 32 << 20
	p, err := MapRange(most, addrmap.StepBytes)
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
		var parts []mapping
		for left := most; left > most/2; { // so that there is room, with the alignment
			size := pages(min(left, most/8))
			p, err := MapRange(size, addrmap.StepBytes)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, mapping{p, size})
			left -= size + addrmap.StepBytes
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
	var live []mapping
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
		live = append(live, mapping{p, size})
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
		return osmem.SetFault(func(op osmem.Op, _ int) error {
			switch op {
			case osmem.OpRelease, osmem.OpDecommit:
				asked++
				return osmem.ErrNoMemory
			case osmem.OpAdvise:
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
