package huge

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/osmem"
)

var ids atomic.Uint32 // of lives

// least is the size of a small huge block, in bytes.
const least = 256 << 10

func newTestSet(t *testing.T, limit uint64, conf Config) *Set {
	t.Helper()
	g, err := arena.NewGeometry(256 << 10)
	if err != nil {
		t.Fatal(err)
	}
	if conf.Guard {
		g = g.Harden(false)
	}
	budget := &arena.Budget{Limit: limit}
	id := ids.Add(1) + 1<<20
	s := NewSet(arena.NewSet(g, id, budget), budget, id, conf)
	t.Cleanup(func() {
		if err := s.Release(s.Shut()); err != nil {
			t.Error(err)
		}
		arena.RetryOrphans(true)
		if n := budget.Mapped(); n != 0 {
			t.Errorf("%d bytes are mapped after Release", n)
		}
	})
	return s
}

// divides skips the test where no mapping can be given back in parts, and takes all kept
// addresses, for what lies there is not.
func divides(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" || osmem.OnGoHeap {
		t.Skip("no mapping can be given back in parts here")
	}
	s := newTestSet(t, 0, Config{})
	for {
		p, _, err := s.Alloc(least, 16)
		if err != nil {
			t.Fatal(err)
		}
		if s.divisible(p) {
			return
		}
	}
}

// check returns what is wrong with a set that nobody uses meanwhile.
func (s *Set) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	type extent struct{ from, to uintptr }
	var all []extent
	inMap := func(p unsafe.Pointer, want mapping) {
		if m, _ := lookup(p); m != want {
			bad("the table has %+v at %p, want %+v", m, p, want)
		}
		if h := headers.Lookup(uintptr(p)); h.Load() != s.word || h.First() != p {
			bad("the header of %p has %#x, and says that the mapping begins at %p", p, h.Load(), h.First())
		}
		all = append(all, extent{uintptr(p), uintptr(p) + uintptr(s.extent(want.size))})
	}
	var bytes, free uint64
	for p, size := range s.live {
		inMap(p, mapping{size: size, owner: s.word.Life()})
		bytes += uint64(size)
	}
	spared := map[unsafe.Pointer]bool{}
	for i, r := range s.retained {
		free += uint64(r.size)
		if i > s.refused && r.since < s.retained[i-1].since {
			bad("what is retained is not in order")
		}
		if r.of == nil {
			inMap(r.p, mapping{size: r.size, owner: s.word.Life(), free: true})
			continue
		}
		size, ok := s.live[r.of]
		if !ok || unsafe.Add(r.of, size) != r.p || size < headers.UnitBytes || r.size <= 0 || spared[r.of] || !s.divisible(r.of) {
			bad("a spare of %d bytes at %p is of %p, which has %d", r.size, r.p, r.of, size)
		}
		spared[r.of] = true
		all = append(all, extent{uintptr(r.p), uintptr(r.p) + uintptr(r.size)})
	}
	slices.SortFunc(all, func(a, b extent) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(all); i++ {
		if all[i].from < all[i-1].to {
			bad("two overlap: %x, %x", all[i-1], all[i])
		}
	}
	if s.totals.Blocks != len(s.live) || s.totals.Bytes != bytes || s.totals.Retained != free {
		bad("%+v, but %d blocks of %d bytes, and %d retained", s.totals, len(s.live), bytes, free)
	}
	guards := uint64(s.guard * (len(s.live) + len(s.retained)))
	if n := s.budget.Mapped(); n != bytes+free+guards {
		bad("%d bytes are counted, want %d+%d+%d", n, bytes, free, guards)
	}
	if free > s.conf.RetainBytes && s.Refusals.Load() == 0 {
		bad("%d bytes are retained, more than %d", free, s.conf.RetainBytes)
	}
	return errors.Join(errs...)
}

// shadow is what a block should be: each page of it has its seed and number.
type shadow struct {
	p    unsafe.Pointer
	size int
	seed uint64
}

func (b shadow) pages(do func(i int, page []byte) bool) {
	all := unsafe.Slice((*byte)(b.p), b.size)
	for i := 0; i+16 <= len(all); i += osmem.PageSize() {
		if !do(i, all[i:i+16]) {
			return
		}
	}
}

func (b shadow) stamp() {
	b.pages(func(i int, page []byte) bool {
		binary.LittleEndian.PutUint64(page, b.seed)
		binary.LittleEndian.PutUint64(page[8:], uint64(i))
		return true
	})
}

// check looks at the first size bytes.
func (b shadow) check(size int) (err error) {
	b.size = size
	b.pages(func(i int, page []byte) bool {
		if binary.LittleEndian.Uint64(page) != b.seed || binary.LittleEndian.Uint64(page[8:]) != uint64(i) {
			err = fmt.Errorf("the block at %p has % x at %d of %d, want %x", b.p, page, i, size, b.seed)
		}
		return err == nil
	})
	return err
}

// model is a set beside a list of the blocks that it should have.
type model struct {
	s    *Set
	r    *rand.Rand
	live []shadow
	dead []unsafe.Pointer // free, and maybe retained
}

// size is mostly of a few, so that what is free fits.
func (m *model) size() int {
	n := (140 << 10) << m.r.IntN(6)
	if m.r.IntN(2) == 0 {
		n += m.r.IntN(n)
	}
	return n
}

// step does something at random. What the system refuses may be without effect.
func (m *model) step() error {
	i := -1
	if len(m.live) > 0 {
		i = m.r.IntN(len(m.live))
	}
	switch what := m.r.IntN(16); {
	case i < 0 || what < 3 && len(m.live) < 12:
		size, align := m.size(), 16<<m.r.IntN(17)
		p, zero, err := m.s.Alloc(size, align)
		if err != nil {
			return nil
		}
		if uintptr(p)&uintptr(align-1) != 0 {
			return fmt.Errorf("%p is no multiple of %d", p, align)
		}
		b := shadow{p, size, 0}
		if zero {
			b.pages(func(i int, page []byte) bool {
				zero = zero && binary.LittleEndian.Uint64(page) == 0
				return zero
			})
			if !zero {
				return errors.New("it is not zero")
			}
		}
		b.seed = m.r.Uint64()
		b.stamp()
		m.live = append(m.live, b)
	case what < 12:
		b := &m.live[i]
		size := m.size()
		switch m.r.IntN(4) {
		case 0:
			size = b.size + b.size/8
		case 1:
			size = 2 * b.size
		}
		size = min(size, 24<<20)
		q := m.s.Resize(b.p, size)
		if q == nil {
			return b.check(b.size)
		}
		if q != b.p {
			m.dead = append(m.dead, b.p)
		}
		b.p = q
		if err := b.check(min(b.size, size)); err != nil {
			return err
		}
		if n, v := Usable(q); n < size || v != pool.OK {
			return fmt.Errorf("resized to %d it has %d bytes, outcome %d", size, n, v)
		}
		b.size = size
		b.stamp()
	case what < 14:
		b := m.live[i]
		m.live = slices.Delete(m.live, i, i+1)
		if err := b.check(b.size); err != nil {
			return err
		}
		if v := m.s.FreeHuge(b.p); v != pool.OK {
			return fmt.Errorf("free: outcome %d", v)
		}
		m.dead = append(m.dead, b.p)
	case what == 14:
		_ = m.s.Tick(uint32(m.r.IntN(4)))
	case len(m.dead) > 0: // what was freed once, or moved away, and is nobody's since
		p := m.dead[m.r.IntN(len(m.dead))]
		if !slices.ContainsFunc(m.live, func(b shadow) bool { return b.p == p }) {
			retained := slices.ContainsFunc(m.s.retained, func(r Retained) bool { return r.p == p && r.of == nil })
			if v := m.s.FreeHuge(p); v == pool.OK || retained != (v == pool.Double) {
				return fmt.Errorf("second free of %p, retained %t: outcome %d", p, retained, v)
			}
		}
	}
	return m.s.check()
}

// Blocks come, grow, shrink and go at random, beside a list of what they should be: their
// contents are there, each byte is counted once, and no two pieces overlap; also where
// the system refuses.
func TestModel(t *testing.T) {
	steps := 1500
	if testing.Short() {
		steps = 250
	}
	for _, c := range []struct {
		name string
		conf Config
	}{
		{"retain", Config{RetainBytes: 24 << 20}},
		{"retain nothing", Config{}},
		{"wipe", Config{RetainBytes: 24 << 20, Wipe: true}},
		{"guard", Config{RetainBytes: 24 << 20, Guard: true}},
		{"keep", Config{RetainBytes: 24 << 20, Keep: true}},
		{"use what others kept", Config{RetainBytes: 24 << 20}},
	} {
		for _, limit := range []uint64{0, 48 << 20} {
			for _, refuse := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/limit=%d/refuse=%t", c.name, limit, refuse), func(t *testing.T) {
					m := model{s: newTestSet(t, limit, c.conf), r: rand.New(rand.NewPCG(limit, uint64(len(c.name))))}
					if refuse {
						faults := rand.New(rand.NewPCG(1, 2))
						defer osmem.SetFault(func(op osmem.Op, _ int) error {
							if faults.IntN(8) == 0 {
								return osmem.ErrNoMemory
							}
							return nil
						})()
					}
					for i := range steps {
						if err := m.step(); err != nil {
							t.Fatalf("step %d: %v", i, err)
						}
						if n := m.s.budget.Mapped(); limit != 0 && n > limit {
							t.Fatalf("step %d: %d bytes are mapped, more than the limit", i, n)
						}
					}
				})
			}
		}
	}
}

// A block that grows as others did before finds what was touched: the system is not asked
// for anything, and hardly more is mapped than the block.
func TestGrowsIntoTouched(t *testing.T) {
	divides(t)
	s := newTestSet(t, 0, Config{RetainBytes: 64 << 20})
	grow := func(by func(int) int) (mapped uint64) {
		b := shadow{size: 300 << 10, seed: 7}
		var err error
		if b.p, _, err = s.Alloc(b.size, 16); err != nil {
			t.Fatal(err)
		}
		b.stamp()
		for b.size < 10<<20 {
			size := by(b.size)
			q := s.Resize(b.p, size)
			if q == nil { // as UnsafeRealloc does
				if q, _, err = s.Alloc(size, 16); err != nil {
					t.Fatal(err)
				}
				copy(unsafe.Slice((*byte)(q), b.size), unsafe.Slice((*byte)(b.p), b.size))
				s.FreeHuge(b.p)
			}
			b.p = q
			if err := errors.Join(b.check(b.size), s.check()); err != nil {
				t.Fatal(err)
			}
			b.size = size
			b.stamp()
		}
		mapped = s.budget.Mapped()
		if v := s.FreeHuge(b.p); v != pool.OK {
			t.Errorf("free: outcome %d", v)
		}
		return mapped
	}
	for name, by := range map[string]func(int) int{
		"double": func(n int) int { return 2 * n },
		"eighth": func(n int) int { return n + n/8 },
	} {
		if err := s.Tick(0); err != nil {
			t.Fatal(err)
		}
		for range 4 { // each leaves a mapping, of some size
			grow(by)
		}
		before := osmem.Calls()
		mapped := grow(by)
		if made := osmem.Calls().Sub(before); made != (osmem.Counts{}) {
			t.Errorf("%s: %+v, want no call of the system", name, made)
		}
		if mapped > 32<<20 {
			t.Errorf("%s: %d bytes are mapped", name, mapped)
		}
	}
}

// A block is copied to what is retained only where that pays: not if that is less than
// twice as large, not if it is much larger than what is asked for, and not if its pages
// were dropped.
func TestCopiesWhereItPays(t *testing.T) {
	divides(t)
	for _, c := range []struct {
		old, size, retained int
		wipe, copies        bool
	}{
		{1 << 20, 2 << 20, 2 << 20, false, true},
		{1 << 20, 2 << 20, 4 << 20, true, false},
		{1 << 20, 5 << 18, 2 << 20, false, true},
		{1 << 20, 5 << 18, 7 << 18, false, false},
		{1 << 20, 3 << 20, 2 << 20, false, false},
		{1 << 20, 2 << 20, 32 << 20, false, true},
		{1 << 20, 2 << 20, 33 << 20, false, false},
	} {
		s := newTestSet(t, 0, Config{RetainBytes: 64 << 20, Wipe: c.wipe})
		b := shadow{size: c.old, seed: 1}
		free, _, err := s.Alloc(c.retained, 16)
		if err == nil {
			b.p, _, err = s.Alloc(b.size, 16)
		}
		if err != nil {
			t.Fatal(err)
		}
		b.stamp()
		s.FreeHuge(free)
		q := s.Resize(b.p, c.size)
		if copied := q == free; copied != c.copies {
			t.Errorf("%+v: copied %t", c, copied)
		}
		if q != nil {
			b.p = q
		}
		if err := errors.Join(b.check(b.size), s.check()); err != nil {
			t.Error(err)
		}
	}
}

// withSpare returns a block of 1 MiB with a spare of 7 MiB, and nothing else.
func withSpare(t *testing.T, s *Set) shadow {
	t.Helper()
	p, _, err := s.Alloc(8<<20, 16)
	if err != nil {
		t.Fatal(err)
	}
	b := shadow{p, 8 << 20, 3}
	b.stamp()
	if q := s.Resize(p, 1<<20); q != p {
		t.Fatalf("it shrinks to %p, not where it is", q)
	}
	b.size = 1 << 20
	return b
}

// A spare is free memory: it is counted as that, and goes back as that, and the block
// stays as it was. No other block gets it.
func TestSpareGoesBack(t *testing.T) {
	divides(t)
	another := func(s *Set, size int) (unsafe.Pointer, error) {
		p, _, err := s.Alloc(size, 16)
		return p, errors.Join(err, s.check())
	}
	for name, back := range map[string]func(s *Set) error{
		"after two ticks": func(s *Set) error {
			err := s.Tick(2)
			if s.Totals().Retained != 7<<20 {
				t.Error("it goes after one tick")
			}
			return errors.Join(err, s.Tick(2))
		},
		"at once": func(s *Set) error { return s.Tick(0) },
		"beyond RetainBytes": func(s *Set) error {
			p, err := another(s, 9<<20)
			if v := s.FreeHuge(p); v != pool.OK {
				t.Errorf("free: outcome %d", v)
			}
			if q, err := another(s, 9<<20); err != nil || q != p {
				t.Errorf("what went is not the spare: %p, %v, want %p", q, err, p)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestSet(t, 0, Config{RetainBytes: 12 << 20})
			b := withSpare(t, s)
			if got := s.Totals(); got != (Totals{Blocks: 1, Bytes: 1 << 20, Retained: 7 << 20}) {
				t.Errorf("before: %+v", got)
			}
			if p, err := another(s, 7<<20); err != nil || p == unsafe.Add(b.p, b.size) {
				t.Errorf("another block is at %p, %v", p, err)
			}
			if err := errors.Join(back(s), b.check(b.size), s.check()); err != nil {
				t.Error(err)
			}
			if n := s.Totals().Retained; n != 0 {
				t.Errorf("%d bytes are retained, want 0", n)
			}
		})
	}
}

// What is dropped when it is freed is dropped when a block shrinks, too.
func TestSpareIsWiped(t *testing.T) {
	divides(t)
	s := newTestSet(t, 0, Config{RetainBytes: 12 << 20, Wipe: true})
	b := withSpare(t, s)
	if q := s.Resize(b.p, 8<<20); q != b.p {
		t.Fatalf("it grows to %p, not where it is", q)
	}
	for i, x := range unsafe.Slice((*byte)(b.p), 8<<20)[1<<20:] {
		if x != 0 {
			t.Fatalf("byte %d is %#x", i, x)
		}
	}
}

// A spare that the system refuses to take is counted still, or an orphan if its block has
// gone meanwhile.
func TestSpareRefused(t *testing.T) {
	divides(t)
	s := newTestSet(t, 0, Config{RetainBytes: 12 << 20})
	b := withSpare(t, s)
	var meanwhile func()
	restore := osmem.SetFault(func(op osmem.Op, _ int) error {
		if op == osmem.OpRelease {
			meanwhile()
			return osmem.ErrNoMemory
		}
		return nil
	})
	defer restore()
	meanwhile = func() {}
	if err := s.Tick(0); !errors.Is(err, osmem.ErrNoMemory) {
		t.Errorf("Tick = %v, want the refusal", err)
	}
	if got := s.Totals(); got != (Totals{Blocks: 1, Bytes: 1 << 20, Retained: 7 << 20}) {
		t.Errorf("refused: %+v", got)
	}
	meanwhile = func() { s.Resize(b.p, 512<<10) } // it ends elsewhere then
	if err := errors.Join(s.Tick(0), s.Tick(0)); err != nil {
		t.Errorf("Tick tries again what was refused: %v", err)
	}
	if err := s.Retry(true); !errors.Is(err, osmem.ErrNoMemory) {
		t.Errorf("Retry = %v, want the refusal", err)
	}
	if got := s.Totals(); got != (Totals{Blocks: 1, Bytes: 512 << 10, Retained: 512 << 10}) {
		t.Errorf("refused while it shrank: %+v", got)
	}
	if err := errors.Join(b.check(512<<10), s.check()); err != nil {
		t.Error(err)
	}
}

// Blocks grow and shrink while their spares are given back.
func TestSparesBesideTick(t *testing.T) {
	s := newTestSet(t, 0, Config{RetainBytes: 16 << 20})
	var wg sync.WaitGroup
	var stop atomic.Bool
	wg.Go(func() {
		for !stop.Load() {
			if err := s.Tick(1); err != nil {
				t.Error(err)
			}
			runtime.Gosched() // nothing else lets the others run where there is one thread
		}
	})
	var blocks sync.WaitGroup
	for w := range uint64(3) {
		blocks.Go(func() {
			m := model{s: s, r: rand.New(rand.NewPCG(w, 9))}
			for range 100 {
				b := shadow{size: m.size(), seed: m.r.Uint64()}
				var err error
				if b.p, _, err = s.Alloc(b.size, 16); err != nil {
					t.Error(err)
					return
				}
				b.stamp()
				for range 8 {
					size := min(m.size()+b.size/2, 6<<20)
					q := s.Resize(b.p, size)
					if q == nil {
						continue
					}
					b.p = q
					if err := b.check(min(size, b.size)); err != nil {
						t.Error(err)
						return
					}
					b.size = size
					b.stamp()
				}
				if v := s.FreeHuge(b.p); v != pool.OK {
					t.Errorf("free: outcome %d", v)
				}
			}
		})
	}
	blocks.Wait()
	stop.Store(true)
	wg.Wait()
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

// refuseAll makes the system refuse to take anything until restore is called, and counts
// what it was asked, by size.
func refuseAll(t *testing.T) (asked func() map[int]int, restore func()) {
	var mu sync.Mutex
	sizes := map[int]int{}
	restore = sync.OnceFunc(osmem.SetFault(func(op osmem.Op, size int) error {
		if op != osmem.OpRelease && op != osmem.OpDecommit {
			return nil
		}
		mu.Lock()
		sizes[size]++
		mu.Unlock()
		return osmem.ErrNoMemory
	}))
	t.Cleanup(restore)
	return func() map[int]int {
		mu.Lock()
		defer mu.Unlock()
		was := sizes
		sizes = map[int]int{}
		return was
	}, restore
}

func sum(counts map[int]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// At the system's limit of mappings each free tries its own block, once, and allocates
// nothing; a tick tries some of the others, in turn; Trim tries all; and what is refused
// serves requests. When the limit is left, a tick gives all back.
func TestRefusalsAreBounded(t *testing.T) {
	const blocks = 500
	if runtime.GOARCH == "wasm" {
		t.Skip("its mappings do not fit into 4 GiB of addresses")
	}
	for name, keep := range map[string]bool{"unmap": false, "keep": true} {
		t.Run(name, func(t *testing.T) {
			s := newTestSet(t, 0, Config{Keep: keep})
			var ps []unsafe.Pointer
			for i := range blocks { // each of a size of its own
				p, _, err := s.Alloc(least+i*osmem.PageSize(), 16)
				if err != nil {
					t.Fatal(err)
				}
				ps = append(ps, p)
			}
			asked, restore := refuseAll(t)
			i := 0
			allocations := testing.AllocsPerRun(blocks-1, func() { // and one run before
				if v := s.FreeHuge(ps[i]); v != pool.OK {
					t.Errorf("free: outcome %d", v)
				}
				i++
			})
			if n := sum(asked()); n != blocks || allocations != 0 {
				t.Errorf("%d frees tried %d times, with %v allocations each; want once each, with none", blocks, n, allocations)
			}
			if err := s.Tick(0); err != nil || len(asked()) != 0 {
				t.Errorf("a tick tries again what was refused: %v", err)
			}
			tried := map[int]int{}
			for range (blocks + arena.Patience - 1) / arena.Patience {
				if err := s.Retry(false); !errors.Is(err, osmem.ErrNoMemory) {
					t.Errorf("Retry = %v, want the refusal", err)
				}
				now := asked()
				if n := sum(now); n > arena.Patience {
					t.Errorf("a pass tried %d times", n)
				}
				for size, n := range now {
					tried[size] += n
				}
			}
			if len(tried) != blocks {
				t.Errorf("the passes tried %d of %d mappings", len(tried), blocks)
			}
			if err := s.Retry(true); !errors.Is(err, osmem.ErrNoMemory) {
				t.Errorf("Retry = %v, want the refusal", err)
			}
			if now := asked(); len(now) != blocks || sum(now) != blocks {
				t.Errorf("a whole pass tried %d mappings %d times, want %d once each", len(now), sum(now), blocks)
			}
			if err := s.check(); err != nil {
				t.Error(err)
			}
			if some, untried := s.HasFree(); !some || untried {
				t.Errorf("HasFree = %t, %t; want what is refused only", some, untried)
			}
			calls := osmem.Calls()
			p, _, err := s.Alloc(least, 16)
			if c := osmem.Calls().Sub(calls); err != nil || c != (osmem.Counts{}) {
				t.Errorf("%v, %+v: what was refused is not used again", err, c)
			}
			restore()
			s.FreeHuge(p)
			if err := s.Retry(false); err != nil {
				t.Error(err)
			}
			if got := s.Totals(); got != (Totals{}) {
				t.Errorf("after the limit: %+v", got)
			}
		})
	}
}

// A block whose alignment is that of no unit is a mapping too, and takes a unit of addresses at
// least: no two begin in one, and each is told by its header.
func TestSmallHugeBlocks(t *testing.T) {
	for _, conf := range []Config{{}, {Guard: true}, {Keep: true}} {
		s := newTestSet(t, 0, conf)
		units := map[uintptr]bool{}
		for range 20 {
			p, _, err := s.Alloc(1, 2*headers.UnitBytes)
			if err != nil {
				t.Fatal(err)
			}
			unit := uintptr(p) / headers.UnitBytes
			if n, out := Usable(p); n != osmem.PageSize() || out != pool.OK || units[unit] {
				t.Errorf("%p: %d bytes, outcome %d, another begins in its unit: %t", p, n, out, units[unit])
			}
			units[unit] = true
		}
		if err := s.check(); err != nil {
			t.Error(err)
		}
	}
}

// After Shut nothing is known of the mappings, and nothing is handed out. Release takes their
// addresses from the process: all that it counted is given back, spares and guards too.
func TestShut(t *testing.T) {
	for _, conf := range []Config{{RetainBytes: 64 << 20}, {RetainBytes: 64 << 20, Guard: true}} {
		arena.RetryOrphans(true)
		before := arena.Mappings.Count()
		kept := arena.KeptBytes()
		s := newTestSet(t, 0, conf)
		var ps []unsafe.Pointer
		for range 8 {
			p, _, err := s.Alloc(8<<20, 16)
			if err != nil {
				t.Fatal(err)
			}
			ps = append(ps, p)
		}
		each := 1
		if conf.Guard {
			each = 2
		}
		if n := arena.Mappings.Count() - before; n != len(ps)*each && kept == 0 {
			t.Errorf("%d mappings are counted for %d blocks", n, len(ps))
		}
		s.FreeHuge(ps[0])
		s.Resize(ps[1], 1<<20) // a spare is cut off
		s.Resize(ps[2], 1<<20)
		if err := s.Tick(0); err != nil { // and given back
			t.Error(err)
		}
		s.Resize(ps[3], 1<<20)
		s.FreeHuge(ps[4])
		out := s.Shut()
		for _, p := range ps {
			if n, found := Usable(p); n != 0 || found != pool.NotOurs || s.FreeHuge(p) != pool.NotOurs || headers.Lookup(uintptr(p)).Load() != 0 {
				t.Errorf("%p after Shut: %d bytes, outcome %d, word %#x", p, n, found, headers.Lookup(uintptr(p)).Load())
			}
		}
		if _, _, err := s.Alloc(8<<20, 16); err != arena.ErrClosed {
			t.Errorf("Alloc after Shut: %v", err)
		}
		if err := s.Release(out); err != nil {
			t.Error(err)
		}
		if n := arena.Mappings.Count(); n != before && arena.KeptBytes() == kept {
			t.Errorf("%d mappings are counted, %d before", n, before)
		}
	}
}

// A block that is moved is told by the header of its new place, and its old one is forgotten.
func TestMove(t *testing.T) {
	divides(t)
	s := newTestSet(t, 0, Config{})
	b := shadow{size: 4 << 20, seed: 5}
	p, _, err := s.Alloc(b.size, 16)
	if err != nil {
		t.Fatal(err)
	}
	b.p = p
	b.stamp()
	for b.p == p && b.size < 256<<20 {
		if _, _, err := s.Alloc(least, 16); err != nil { // in its way, sooner or later
			t.Fatal(err)
		}
		if b.p = s.Resize(b.p, 2*b.size); b.p == nil {
			t.Skip("the system moves nothing")
		}
		if err := errors.Join(b.check(b.size), s.check()); err != nil {
			t.Fatal(err)
		}
		b.size *= 2
		b.stamp()
	}
	if w := headers.Lookup(uintptr(p)).Load(); b.p == p || w != 0 {
		t.Errorf("it is at %p, was at %p, which has the word %#x", b.p, p, w)
	}
}
