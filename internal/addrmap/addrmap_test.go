package addrmap_test

import (
	"errors"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pyarena/pyarena/internal/addrmap"
	"github.com/pyarena/pyarena/osmem"
)

const (
	step      = addrmap.StepBytes
	leafLog   = 36      // a leaf covers 64 GiB
	leafBytes = 1 << 20 // and takes this much itself
	only64    = "needs 64-bit addresses"
)

// shift is 1<<log, where an address has so many bits: written as a call, or a
// 32-bit compiler would refuse it.
func shift(log uint) uintptr { return uintptr(uint64(1) << log) }

// usedLeaves counts the leaves that freshLeaf gave: the map is the process's, and
// a test that runs again finds its leaves there.
var usedLeaves atomic.Uint64

// freshLeaf returns the first address of n leaves in a row that are not there
// yet, nor are those of the addresses with bit 53 or a higher one set too. No
// other test has an address between leaf 2100 and leaf 4000.
func freshLeaf(t *testing.T, n uint64) uintptr {
	t.Helper()
	const first, last = 2100, 4000
	i := usedLeaves.Add(n) - n + first
	switch {
	case bits.UintSize == 32:
		t.Skip(only64)
	case i+n > last:
		t.Skip("this process has used up the leaves")
	}
	return uintptr(i << leafLog)
}

func entry(id uint32) addrmap.Entry { return addrmap.MakeEntry(addrmap.Arena, 20, id) }

func set(t *testing.T, p, size uintptr, e addrmap.Entry) {
	t.Helper()
	if err := addrmap.Set(p, size, e); err != nil {
		t.Fatal(err)
	}
}

// want looks at an address by every way there is.
func want(t *testing.T, p uintptr, e addrmap.Entry) {
	t.Helper()
	if got := addrmap.Load(p); got != e {
		t.Errorf("Load(%#x) = %#x, want %#x", p, got, e)
	}
	low := uint64(p) < 1<<48
	if e != 0 && addrmap.Is(p, e) != low {
		t.Errorf("Is(%#x, %#x) = %t, want %t", p, e, !low, low)
	}
	if e != 0 && low && bits.UintSize == 64 && addrmap.Is(p|shift(48), e) {
		t.Errorf("Is(%#x, %#x) = true, that is %#x", p|shift(48), e, p)
	}
	if other := e ^ 1<<8; other != 0 && addrmap.Is(p, other) {
		t.Errorf("Is(%#x, %#x) = true, it is %#x", p, other, e)
	}
}

// wantRange looks at the ends and steps of a range, which is wholly e, and beside
// it, where there is nothing.
func wantRange(t *testing.T, p, size uintptr, e addrmap.Entry) {
	t.Helper()
	want(t, p-1, 0)
	want(t, p+size, 0)
	want(t, p+size-1, e)
	for at := p; at < p+size; at += step {
		want(t, at, e)
		want(t, at+step-1, e)
	}
}

func TestEntry(t *testing.T) {
	if e := addrmap.Entry(0); e.Kind() != addrmap.None || e.ID() != 0 || e.Log2Bytes() != 0 {
		t.Errorf("the zero entry is %v, %d, %d", e.Kind(), e.Log2Bytes(), e.ID())
	}
	seen := map[addrmap.Entry]bool{}
	for _, kind := range []addrmap.Kind{addrmap.Arena, addrmap.Huge} {
		for log := range uint(64) {
			for _, id := range []uint32{0, 1, 2, 255, 256, 0x555555, 0xaaaaaa, 1<<24 - 1} {
				e := addrmap.MakeEntry(kind, log, id)
				if e.Kind() != kind || e.Log2Bytes() != log || e.ID() != id || e == 0 || seen[e] {
					t.Errorf("kind %d, log %d, id %#x became %#x: %d, %d, %#x", kind, log, id, e, e.Kind(), e.Log2Bytes(), e.ID())
				}
				seen[e] = true
			}
		}
	}
}

// TestSteps: what is set is set from its first byte to its last, whatever its
// size, and so is what is cleared.
func TestSteps(t *testing.T) {
	const base = 0x4000_0000
	for _, size := range []uintptr{step, 2 * step, 4 * step, 64 << 20} {
		set(t, base, size, entry(1))
		wantRange(t, base, size, entry(1))
		set(t, base, size, entry(2)) // and anew
		wantRange(t, base, size, entry(2))
		addrmap.Clear(base, size)
		wantRange(t, base, size, 0)
	}
}

// TestNeighbours: an arena's entries end where its neighbours' begin.
func TestNeighbours(t *testing.T) {
	const base, size = 0x5000_0000, 4 * step
	for i := range uintptr(3) {
		set(t, base+i*size, size, entry(uint32(i+1)))
	}
	addrmap.Clear(base+size, size)
	want(t, base+size-1, entry(1))
	want(t, base+size, 0)
	want(t, base+2*size-1, 0)
	want(t, base+2*size, entry(3))
	set(t, base+size, size, entry(9))
	addrmap.Clear(base, size)
	addrmap.Clear(base+2*size, size)
	wantRange(t, base+size, size, entry(9))
	addrmap.Clear(base+size, size)
}

// TestHugeHead: of a huge mapping only the first step is known.
func TestHugeHead(t *testing.T) {
	const base = 0x6000_0000
	e := addrmap.MakeEntry(addrmap.Huge, 20, 7)
	set(t, base, step, e)
	wantRange(t, base, step, e)
	want(t, base+20*step, 0)
	addrmap.Clear(base, step)
	want(t, base, 0)
}

// TestBoundaries: ranges that cross from a leaf to the next, and from the root to
// the leaves of high addresses, and those beyond.
func TestBoundaries(t *testing.T) {
	if bits.UintSize == 32 {
		t.Skip(only64)
	}
	for name, at := range map[string]uintptr{
		"first leaf's end": shift(leafLog),
		"a leaf's end":     shift(leafLog) * 1000,
		"47 bits":          shift(47),
		"48 bits":          shift(48),
		"49 bits":          shift(49),
		"52 bits":          shift(52),
		"56 bits":          shift(56),
		"57 bits":          shift(57),
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range []uintptr{at - step, at - 4*step, at - 2*step, at} {
				set(t, p, 4*step, entry(3))
				wantRange(t, p, 4*step, entry(3))
				addrmap.Clear(p, 4*step)
				wantRange(t, p, 4*step, 0)
			}
		})
	}
	// Equal low bits do not meet.
	for i, p := range []uintptr{shift(30), shift(30) | shift(48), shift(30) | shift(49), shift(30) | shift(56), shift(30) | shift(34)} {
		set(t, p, step, entry(uint32(i+1)))
	}
	for i, p := range []uintptr{shift(30), shift(30) | shift(48), shift(30) | shift(49), shift(30) | shift(56), shift(30) | shift(34)} {
		wantRange(t, p, step, entry(uint32(i+1)))
		addrmap.Clear(p, step)
	}
}

// TestWidths: arenas and huge mappings all over the address spaces that systems
// have, of 32 bits, 39 (riscv64, small arm64), 48 and 57 (five levels of page
// tables), up to the last address, all live at once. An address that differs in one
// bit from one of theirs is another's or nobody's.
func TestWidths(t *testing.T) {
	type place struct {
		p, size uintptr
		e       addrmap.Entry
	}
	var places []place
	model := map[uintptr]addrmap.Entry{} // by step
	for _, width := range []uint{32, 39, 48, 57} {
		if width > bits.UintSize {
			continue
		}
		for i := range uint(3) {
			begin, end := shift(width+i-3), shift(width+i-2) // the last end is 0 where pointers have 32 bits
			log, id := 18+4*i, uint32(len(places))
			for _, pl := range []place{
				{begin, step, addrmap.MakeEntry(addrmap.Huge, log, id)},
				{end - shift(log), shift(log), addrmap.MakeEntry(addrmap.Arena, log, id)},
			} {
				if model[pl.p] != 0 {
					t.Fatalf("%#x is there twice: the test shows less", pl.p)
				}
				places = append(places, pl)
				set(t, pl.p, pl.size, pl.e)
				for at := uintptr(0); at < pl.size; at += step {
					model[pl.p+at] = pl.e
				}
			}
		}
	}
	wantModel := func() {
		t.Helper()
		for _, pl := range places {
			for _, p := range []uintptr{pl.p - 1, pl.p, pl.p + pl.size/2, pl.p + pl.size - 1, pl.p + pl.size} {
				want(t, p, model[p&^(step-1)])
			}
			for bit := range uint(bits.UintSize) {
				for _, p := range []uintptr{pl.p ^ shift(bit), (pl.p + pl.size - 1) ^ shift(bit)} {
					want(t, p, model[p&^(step-1)])
				}
			}
		}
		for p, e := range model {
			want(t, p, e)
			want(t, p+step-1, e)
		}
	}
	wantModel()
	for _, odd := range []int{1, 0} { // every other one, then the rest
		for i, pl := range places {
			if i&1 == odd {
				addrmap.Clear(pl.p, pl.size)
				for at := uintptr(0); at < pl.size; at += step {
					model[pl.p+at] = 0
				}
			}
		}
		wantModel()
	}
}

// TestLeaves: a range with a whole leaf in it, and the ends of two more. Their
// tables are counted once.
func TestLeaves(t *testing.T) {
	base := freshLeaf(t, 3)
	p, size := base+shift(leafLog)-step, shift(leafLog)+2*step
	before := addrmap.MetadataBytes()
	for range 2 {
		set(t, p, size, entry(4))
		if grown := addrmap.MetadataBytes() - before; grown != 3*leafBytes {
			t.Errorf("three leaves take %d bytes, want %d", grown, 3*leafBytes)
		}
		for at := p; at < p+size; at += 4000 * step {
			want(t, at, entry(4))
		}
		want(t, p-1, 0)
		want(t, p+size-1, entry(4))
		want(t, p+size, 0)
		addrmap.Clear(p, size)
		want(t, p, 0)
		want(t, p+size-1, 0)
	}
}

// TestUnknown: addresses that were never near a Set.
func TestUnknown(t *testing.T) {
	for _, p := range []uintptr{0, 1, step, ^uintptr(0), ^uintptr(0) - step, ^uintptr(0) >> 1} {
		want(t, p, 0)
	}
}

// TestRefused: when memory for a table is refused, be it the first that a range
// needs or the last, no entry has been set and the same call works later.
func TestRefused(t *testing.T) {
	const leaf = 1 << leafLog
	fresh := uint64(freshLeaf(t, 6))
	set(t, uintptr(fresh+4*leaf), step, entry(1)) // makes the fifth leaf
	addrmap.Clear(uintptr(fresh+4*leaf), step)
	for _, r := range []struct {
		name    string
		p, size uint64
		tables  int // that are missing
	}{
		{"one leaf", fresh + 1<<20, 4 * step, 1},
		{"two leaves", fresh + 2*leaf - 2*step, 4 * step, 2},
		{"the second is there", fresh + 4*leaf - step, 2 * step, 1},
		{"the first is there", fresh + 5*leaf - step, 2 * step, 1},
		{"a high leaf", 1<<53 + fresh, step, 1},
		{"two high leaves", 1<<53 + fresh + 2*leaf - step, 2 * step, 2},
	} {
		t.Run(r.name, func(t *testing.T) {
			p, size := uintptr(r.p), uintptr(r.size)
			for n := 1; n <= r.tables; n++ {
				before := addrmap.MetadataBytes()
				calls := 0
				restore := osmem.SetFault(func(op osmem.Op, _ int) error {
					if op != osmem.OpMap {
						t.Errorf("a table by %v, want a map", op)
					}
					if calls++; calls == n {
						return osmem.ErrNoMemory
					}
					return nil
				})
				err := addrmap.Set(p, size, entry(5))
				restore()
				if !errors.Is(err, osmem.ErrNoMemory) {
					t.Fatalf("refusal %d: %v, want ErrNoMemory", n, err)
				}
				if grown := addrmap.MetadataBytes() - before; grown != uint64(calls-1)*leafBytes {
					t.Errorf("refusal %d: %d bytes counted for %d tables", n, grown, calls-1)
				}
				wantRange(t, p, size, 0)
			}
			set(t, p, size, entry(5))
			wantRange(t, p, size, entry(5))
			addrmap.Clear(p, size)
		})
	}
}

// TestPrepared: after Prepare nothing is refused, whether a leaf is needed or not, and
// a spare leaf that was not needed is there for the next.
func TestPrepared(t *testing.T) {
	const leaf = 1 << leafLog
	fresh := uint64(freshLeaf(t, 2))
	for _, r := range []struct {
		name   string
		p      uint64
		leaves int // that are missing
	}{
		{"a new leaf", fresh + 5*step + 4096, 1},
		{"the leaf is there", fresh + 7*step, 0},
		{"again a new leaf", fresh + leaf, 1},
		{"a high leaf", 1<<54 + fresh, 1},
	} {
		before := addrmap.MetadataBytes()
		if err := addrmap.Prepare(); err != nil {
			t.Fatal(err)
		}
		restore := osmem.SetFault(func(osmem.Op, int) error { return osmem.ErrNoMemory })
		addrmap.SetPrepared(uintptr(r.p), entry(7))
		spare := addrmap.Prepare()
		restore()
		if (spare != nil) != (r.leaves != 0) {
			t.Errorf("%s: another Prepare: %v", r.name, spare)
		}
		at := uintptr(r.p) &^ (step - 1)
		wantRange(t, at, step, entry(7))
		addrmap.Clear(uintptr(r.p), 1)
		want(t, at, 0)
		if grown := addrmap.MetadataBytes() - before; grown > leafBytes {
			t.Errorf("%s: %d bytes more", r.name, grown)
		}
	}
}

// TestConcurrent: beside writers of other addresses, of the same leaf and of new
// ones, an address has its own entry or none; and for its writer exactly what it
// has set.
func TestConcurrent(t *testing.T) {
	const writers, size = 4, 4 * step
	bases := []uintptr{0x7000_0000, 0x7800_0000} // 32-bit and of one leaf
	if bits.UintSize == 64 {
		fresh := freshLeaf(t, 2)
		bases = append(bases, fresh, fresh+shift(leafLog), shift(54)+fresh, shift(55)+fresh)
	}
	var running atomic.Int32
	running.Store(writers)
	var wg sync.WaitGroup
	for w := range uint32(writers) {
		wg.Go(func() {
			defer running.Add(-1)
			for range 200 {
				for _, base := range bases {
					p := base + uintptr(w)*size
					if err := addrmap.Set(p, size, entry(w+1)); err != nil {
						t.Error(err)
						return
					}
					if a, b := addrmap.Load(p), addrmap.Load(p+size-1); a != entry(w+1) || b != entry(w+1) {
						t.Errorf("writer %d finds %#x and %#x, want %#x", w, a, b, entry(w+1))
					}
					addrmap.Clear(p, size)
					if e := addrmap.Load(p); e != 0 {
						t.Errorf("writer %d finds %#x after Clear", w, e)
					}
				}
				runtime.Gosched()
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for running.Load() > 0 {
				for _, base := range bases {
					for w := range uint32(writers) {
						p := base + uintptr(w)*size + 3*step/2
						if e := addrmap.Load(p); e != 0 && e != entry(w+1) {
							t.Errorf("%#x has %#x, want %#x or none", p, e, entry(w+1))
							return
						}
					}
				}
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
}
