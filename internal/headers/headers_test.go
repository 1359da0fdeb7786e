package headers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// The table is one for the process and only grows, so each test takes leaves that nobody has
// had: from three quarters of the addresses down, and from the first high ones up. Nothing is
// mapped at these addresses, and nothing touches them.
var taken struct{ low, high uint64 }

// freshLeaf returns the first address of a leaf that has no headers yet. The leaf below it and
// the one above have none either.
func freshLeaf(t *testing.T) uintptr {
	t.Helper()
	taken.low += 2
	if taken.low > rootEntries*3/4 {
		t.Skip("no leaf is left of those that the tests may take")
	}
	p := uintptr(rootEntries*3/4-taken.low) << leafLog
	if h := Lookup(p); h != &foreign {
		t.Fatalf("%#x has a header already", p)
	}
	return p
}

// firstHigh is the first address that Find does not know, or 0 where it knows all.
func firstHigh() uintptr {
	high := uint64(rootEntries) << leafLog
	return uintptr(high)
}

// freshHighLeaf is freshLeaf for addresses that Find does not know. There must be some.
func freshHighLeaf(t *testing.T) uintptr {
	t.Helper()
	p := firstHigh() + uintptr(taken.high<<leafLog)
	taken.high += 2
	if h := Lookup(p); h != &foreign {
		t.Fatalf("%#x has a header already", p)
	}
	return p
}

func grow(t *testing.T, p uintptr, size int) *Header {
	t.Helper()
	h, err := Grow(p, size)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Where the cache lines of a header end is the same on all systems.
func TestLayout(t *testing.T) {
	for _, f := range []struct {
		name      string
		got, want uintptr
	}{
		{"Header", unsafe.Sizeof(Header{}), Bytes},
		{"Count", unsafe.Offsetof(Header{}.Count), 64},
		{"Next", unsafe.Offsetof(Header{}.Next), 68},
		{"Bits", unsafe.Offsetof(Header{}.Bits), 72},
		{"Arena", unsafe.Offsetof(Header{}.Arena), 200},
	} {
		if f.got != f.want {
			t.Errorf("%s: %d, want %d", f.name, f.got, f.want)
		}
	}
	if unsafe.Offsetof(Header{}.Clean) >= 64 {
		t.Error("a plain field is not in the first line")
	}
}

// Each part of a word comes back, whatever the others are.
func TestWord(t *testing.T) {
	const most = 1<<24 - 1
	for _, life := range []uint32{1, 2, 1 << 23, most} {
		for _, home := range []uint32{0, 1, 1 << 23, most} {
			for _, class := range []uint8{0, 1, 75, 255} {
				for _, back := range []int{0, 1, 32, 63} {
					for k := None; k <= Large; k++ {
						bare := MakeWord(life, k, class, back)
						if bare.Home() != 0 || bare.Key() != uint64(life)<<24 {
							t.Fatalf("%#x has the home %d, and the key %#x", bare, bare.Home(), bare.Key())
						}
						w := bare.At(home ^ most).At(home)
						if w.Life() != life || w.Home() != home || w.Class() != class || w.Back() != back || w.Kind() != k {
							t.Fatalf("%#x has life %d, home %d, class %d, back %d, kind %d; want %d, %d, %d, %d, %d",
								w, w.Life(), w.Home(), w.Class(), w.Back(), w.Kind(), life, home, class, back, k)
						}
						if w.Key() != uint64(life)<<24|uint64(home) || w.At(0) != bare {
							t.Fatalf("%#x has the key %#x; without a home it is %#x, want %#x", w, w.Key(), w.At(0), bare)
						}
						for other := None; other <= Large; other++ {
							if w.Is(life, other) != (other == k) || w.Is(life^1, other) || w.Is(life^1<<23, other) {
								t.Fatalf("%#x is said to be what it is not, or not what it is: kind %d", w, other)
							}
						}
					}
				}
			}
		}
	}
	if w := Word(0); w.Kind() != None || w.Life() != 0 || w.Key() != 0 || w.Is(1, None) {
		t.Error("the word 0 is something")
	}
	var h Header
	if h.Load() != 0 {
		t.Error("the zero header has a word")
	}
	w := MakeWord(most, Inner, 255, 63).At(most)
	if h.Store(w); h.Load() != w {
		t.Errorf("the word is %#x, want %#x", h.Load(), w)
	}
	h.Start = uintptr(unsafe.Pointer(&h))
	if h.First() != unsafe.Pointer(&h) {
		t.Errorf("the first block is at %p, want %p", h.First(), &h)
	}
}

// Addresses of nobody have the header that is never written.
func TestForeign(t *testing.T) {
	p := freshLeaf(t)
	h := grow(t, p, LeafBytes)
	if again := grow(t, p, LeafBytes); again != h {
		t.Errorf("the second Grow returns %p, want %p", again, h)
	}
	addresses := []uintptr{
		0, 1, UnitBytes - 1, UnitBytes, LeafBytes - 1, ^uintptr(0), ^uintptr(0) - UnitBytes,
		p - 1, p - UnitBytes, p - LeafBytes, p + LeafBytes, p + LeafBytes + UnitBytes, p + 2*LeafBytes - 1,
	}
	if high := firstHigh(); high != 0 { // and the last below, and those with a known one's lower bits
		addresses = append(addresses, high-1, high+LeafBytes, high+2*LeafBytes-1, high+p, high+high/2, ^high, -high, -high+p)
	}
	for _, a := range addresses {
		if h := Lookup(a); h != &foreign {
			t.Errorf("Lookup(%#x) is %p, want the foreign header", a, h)
		}
		if h := Find(a); h != &foreign {
			t.Errorf("Find(%#x) is %p, want the foreign header", a, h)
		}
	}
	for _, a := range []uintptr{p, p + 1, p + LeafBytes - 1} {
		if h := Lookup(a); h == &foreign || h != Find(a) || h.Load() != 0 {
			t.Errorf("%#x has the header %p, and Find says %p", a, h, Find(a))
		}
	}
	if foreign.Load() != 0 || foreign.Start != 0 || foreign.Last != 0 {
		t.Errorf("the foreign header was written to: %#x", foreign.Load())
	}
}

// agree compares all that leads to the headers of units from p on, of which h is the first.
func agree(t *testing.T, h *Header, p uintptr, units int) {
	t.Helper()
	for i := range units {
		at := p + uintptr(i)*UnitBytes
		u := h.Plus(i)
		if uintptr(unsafe.Pointer(u)) != uintptr(unsafe.Pointer(h))+uintptr(i)*Bytes {
			t.Fatalf("header %d is at %p, the first at %p", i, u, h)
		}
		if first, last := Lookup(at), Lookup(at+UnitBytes-1); first != u || last != u {
			t.Fatalf("unit %d at %#x has the headers %p and %p, want %p", i, at, first, last, u)
		}
		if got := At(h.Number + uint32(i)); got != u {
			t.Fatalf("the header with number %d is %p, want %p", h.Number+uint32(i), got, u)
		}
		if f := Find(at); f != u && uint64(at) < rootEntries<<leafLog {
			t.Fatalf("Find(%#x) is %p, want %p", at, f, u)
		}
		if u.Plus(-i) != h {
			t.Fatalf("%d before unit %d is %p, want %p", i, i, u.Plus(-i), h)
		}
	}
	if unit := int(p % LeafBytes / UnitBytes); int(h.Number)%leafUnits != unit || h.Number < leafUnits {
		t.Errorf("unit %d of a leaf has the number %#x", unit, h.Number)
	}
}

func TestGrow(t *testing.T) {
	p := freshLeaf(t)
	before := Reserved()
	number := uint32(0)
	for i, r := range []struct{ unit, units int }{
		{0, 1},
		{leafUnits - 1, 1},
		{leafUnits - 64, 64},
		{leafUnits/2 - 1, 2},
		{0, leafUnits},
		{1, leafUnits - 1},
	} {
		at := p + uintptr(r.unit)*UnitBytes
		h := grow(t, at, r.units*UnitBytes)
		agree(t, h, at, r.units)
		if i == 0 {
			number = h.Number
		} else if h.Number != number+uint32(r.unit) {
			t.Errorf("unit %d has the number %#x, the first of its leaf %#x", r.unit, h.Number, number)
		}
		if got := Reserved() - before; got != tableBytes {
			t.Errorf("after %d calls one leaf's table takes %d bytes, want %d", i+1, got, tableBytes)
		}
	}
	for _, a := range []uintptr{p - 1, p + LeafBytes} {
		if Lookup(a) != &foreign {
			t.Errorf("%#x, beside the leaf, has a header", a)
		}
	}

	// What stands in a header stays, and the address need not be that of a unit.
	h := Lookup(p + UnitBytes)
	h.Store(5)
	h.Size = 7
	if again := grow(t, p+UnitBytes+16, UnitBytes/2); again != h || h.Load() != 5 || h.Size != 7 {
		t.Errorf("the second Grow returns %p with the word %#x, want %p with 5", again, again.Load(), h)
	}

	q := freshLeaf(t)
	other := grow(t, q, UnitBytes)
	agree(t, other, q, 1)
	if other.Number>>numberLog == number>>numberLog || Reserved()-before != 2*tableBytes {
		t.Errorf("two leaves have the numbers %#x and %#x, and %d bytes", number, other.Number, Reserved()-before)
	}
}

// Addresses of 2^48 and above have headers after Grow, which Lookup knows.
func TestHigh(t *testing.T) {
	if firstHigh() == 0 {
		t.Skip("Find knows all addresses")
	}
	before := Reserved()
	low := freshLeaf(t)
	grow(t, low, UnitBytes)
	var leaves []uintptr
	for range 3 {
		p := freshHighLeaf(t)
		h := grow(t, p+UnitBytes, LeafBytes-UnitBytes)
		agree(t, h, p+UnitBytes, leafUnits-1)
		h.Store(Word(p))
		if again := grow(t, p+UnitBytes, UnitBytes); again != h {
			t.Errorf("the second Grow of %#x returns %p, want %p", p, again, h)
		}
		leaves = append(leaves, p)
	}
	for _, p := range leaves {
		if w := Lookup(p + UnitBytes).Load(); w != Word(p) {
			t.Errorf("the header of %#x has the word %#x", p, w)
		}
		if Find(p) != &foreign || Lookup(p-1) != &foreign || Lookup(p+LeafBytes) != &foreign {
			t.Errorf("what is beside the leaf of %#x is not foreign, or Find knows it", p)
		}
	}
	if got := Reserved() - before; got != 4*tableBytes {
		t.Errorf("four leaves take %d bytes, want %d", got, 4*tableBytes)
	}
}

// Random words in random units of a few leaves: each is found again, and no other.
func TestModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	leaves := []uintptr{freshLeaf(t), freshLeaf(t)}
	if firstHigh() != 0 {
		leaves = append(leaves, freshHighLeaf(t))
	}
	model := map[uintptr]Word{} // by the addresses of units
	numbers := map[uint32]uintptr{}
	for step := range 20_000 {
		p := leaves[r.IntN(len(leaves))] + uintptr(r.IntN(leafUnits))*UnitBytes
		inside := p + uintptr(r.IntN(UnitBytes))
		if r.IntN(2) == 0 {
			h := grow(t, p, UnitBytes)
			w := Word(r.Uint64())
			h.Store(w)
			model[p] = w
			if was, ok := numbers[h.Number]; ok && was != p {
				t.Fatalf("step %d: the units %#x and %#x have the number %#x", step, was, p, h.Number)
			}
			numbers[h.Number] = p
		}
		h := Lookup(inside)
		if h.Load() != model[p] {
			t.Fatalf("step %d: %#x has the word %#x, want %#x", step, inside, h.Load(), model[p])
		}
		if _, ok := model[p]; ok && At(h.Number) != h {
			t.Fatalf("step %d: the header with the number of %p is %p", step, h, At(h.Number))
		}
	}
	for n, p := range numbers {
		if w := At(n).Load(); w != model[p] {
			t.Errorf("number %#x has the word %#x, want %#x", n, w, model[p])
		}
	}
}

// GrowPrepared takes the table of Prepare for a new leaf only, and leaves it for the next else.
func TestGrowPrepared(t *testing.T) {
	prepare := func() {
		t.Helper()
		if err := Prepare(); err != nil {
			t.Fatal(err)
		}
	}
	known := freshLeaf(t)
	fresh := []uintptr{freshLeaf(t) + 7*UnitBytes, freshLeaf(t) + LeafBytes - UnitBytes}
	if firstHigh() != 0 {
		fresh = append(fresh, freshHighLeaf(t)+UnitBytes)
	}
	first := grow(t, known, UnitBytes)
	before := Reserved()
	want := func(what string, tables uint64) {
		t.Helper()
		if got := Reserved() - before; got != tables*tableBytes {
			t.Fatalf("%s: %d bytes, want %d tables of %d", what, got, tables, tableBytes)
		}
	}
	prepare()
	want("Prepare", 1)
	prepare()
	want("Prepare again", 1)

	p := known + 3*UnitBytes
	h := GrowPrepared(p)
	agree(t, h, p, 5)
	if h != first.Plus(3) {
		t.Errorf("GrowPrepared of a known leaf returns %p, want %p", h, first.Plus(3))
	}
	for i, p := range fresh {
		prepare()
		h := GrowPrepared(p)
		agree(t, h, p, 1)
		want("GrowPrepared", uint64(i+1))
		if again := grow(t, p, UnitBytes); again != h {
			t.Errorf("Grow after GrowPrepared returns %p, want %p", again, h)
		}
		want("Grow after GrowPrepared", uint64(i+1))
	}
}

// A range that straddles two leaves is refused, and the table is as it was.
func TestStraddle(t *testing.T) {
	p := freshLeaf(t)
	before := Reserved()
	for _, r := range []struct {
		p    uintptr
		size int
	}{
		{p, LeafBytes + 1},
		{p + UnitBytes, LeafBytes},
		{p + LeafBytes - UnitBytes, UnitBytes + 1},
		{p + LeafBytes - UnitBytes, 2 * UnitBytes},
		{p - 1, 2},
		{p - UnitBytes, LeafBytes},
		{^uintptr(0) - UnitBytes + 1, 2 * UnitBytes}, // ends beyond the last address
	} {
		said := panics(func() { _, _ = Grow(r.p, r.size) })
		if want := fmt.Sprintf("%#x", r.p); !strings.Contains(said, "straddle") || !strings.Contains(said, want) {
			t.Errorf("Grow(%#x, %d) says %q", r.p, r.size, said)
		}
	}
	if Reserved() != before || Lookup(p) != &foreign {
		t.Error("a refused Grow has changed the table")
	}
	for _, r := range []struct {
		p    uintptr
		size int
	}{{p + LeafBytes - UnitBytes, UnitBytes}, {p, LeafBytes}, {p + LeafBytes - 1, 1}} {
		var h *Header
		if said := panics(func() { h = grow(t, r.p, r.size) }); said != "" || h != Lookup(r.p) {
			t.Errorf("Grow(%#x, %d) returns %p, want %p, and says %q", r.p, r.size, h, Lookup(r.p), said)
		}
	}
}

func panics(f func()) (said string) {
	defer func() {
		if r := recover(); r != nil {
			said = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

// What the system refuses is an error, and changes nothing; the next call succeeds.
func TestRefused(t *testing.T) {
	if spare != 0 {
		t.Fatal("a table is left over of another test")
	}
	cause := errors.New("no memory in this test")
	p := freshLeaf(t)
	before, count := Reserved(), leaves
	restore := osmem.SetFault(func(op osmem.Op, size int) error {
		if op == osmem.OpMap && size == tableBytes {
			return cause
		}
		return nil
	})
	defer restore()
	if h, err := Grow(p, UnitBytes); h != nil || !errors.Is(err, cause) {
		t.Errorf("Grow returns %p, %v", h, err)
	}
	if err := Prepare(); !errors.Is(err, cause) || spare != 0 {
		t.Errorf("Prepare returns %v, and the table %#x", err, spare)
	}
	if Reserved() != before || leaves != count || Lookup(p) != &foreign {
		t.Error("a refused call has changed the table")
	}
	restore()
	agree(t, grow(t, p, UnitBytes), p, 1)

	// Nor is there a table more than the numbers of leaves reach.
	growing.Lock()
	_, err := newTable(leaves)
	growing.Unlock()
	if err == nil || !strings.Contains(err.Error(), "ranges") || Reserved() != before+tableBytes {
		t.Errorf("a table too many: %v, %d bytes", err, Reserved()-before)
	}
	if maxLeaves>>(32-numberLog) != 0 || uint32(maxLeaves)<<numberLog>>numberLog != maxLeaves {
		t.Errorf("%d leaves have no numbers", maxLeaves)
	}
}

// Drop keeps a few headers that nobody uses, and counts these until they are used again.
func TestDropKeeps(t *testing.T) {
	defer kept.Store(kept.Load())
	kept.Store(0)
	units := keepBytes / Bytes / 4 // whose headers are a quarter of what may be kept
	p := freshLeaf(t)
	for i := range 5 {
		h := grow(t, p+uintptr(i*units)*UnitBytes, units*UnitBytes)
		Drop(p+uintptr(i*units)*UnitBytes, units*UnitBytes)
		if wasKept := h.Number != 0; wasKept != (i < 4 || !canDrop) {
			t.Errorf("quarter %d is kept: %t", i, wasKept)
		}
	}
	want := int64(keepBytes)
	if !canDrop {
		want += keepBytes / 4
	}
	if n := kept.Load(); n != want {
		t.Errorf("%d bytes are kept, want %d", n, want)
	}
	for i := range 5 {
		grow(t, p+uintptr(i*units)*UnitBytes, units*UnitBytes)
	}
	if n := kept.Load(); n != 0 {
		t.Errorf("%d bytes are kept when all are used again", n)
	}
}

// Drop clears the headers of whole pages where the system can, and no others, where enough is
// kept.
func TestDrop(t *testing.T) {
	defer kept.Store(kept.Load())
	kept.Store(keepBytes)
	units := osmem.PageSize() / Bytes // whose headers are a page
	p := freshLeaf(t) + uintptr(8*units)*UnitBytes
	first := grow(t, p, 4*units*UnitBytes)
	fill := func(i int) {
		h := first.Plus(i)
		h.Start, h.Size, h.Last = uintptr(i)+1, uint32(i)+2, uint32(i)+3
		h.Carved.Store(uint32(i) + 4)
		h.Bits[15].Store(uint64(i) + 5)
		h.Arena.Links[1].Prev = uint32(i) + 6
	}
	is := func(i int, zero bool) bool {
		h, n := first.Plus(i), uint32(i)
		if zero {
			return h.Start == 0 && h.Size == 0 && h.Last == 0 && h.Number == 0 && h.Carved.Load() == 0 && h.Bits[15].Load() == 0 && h.Arena.Links[1].Prev == 0
		}
		return h.Start == uintptr(n)+1 && h.Size == n+2 && h.Last == n+3 && h.Carved.Load() == n+4 && h.Bits[15].Load() == uint64(n)+5 && h.Arena.Links[1].Prev == n+6
	}
	for _, r := range []struct {
		what         string
		first, units int
		drops        bool
	}{
		{"a page", units, units, true},
		{"two pages", units, 2 * units, true},
		{"half a page", units, units / 2, false},
		{"a page and a unit", units, units + 1, false},
		{"a page's worth of two", units + units/2, units, false},
		{"nothing", units, 0, false},
	} {
		for i := range 4 * units {
			fill(i)
			first.Plus(i).Store(MakeWord(1, Pool, 0, 0))
		}
		for i := range r.units {
			first.Plus(r.first + i).Store(0)
		}
		Drop(p+uintptr(r.first)*UnitBytes, r.units*UnitBytes)
		for i := range 4 * units {
			in := i >= r.first && i < r.first+r.units
			if w := first.Plus(i).Load(); (w == 0) != in {
				t.Fatalf("%s: header %d has the word %#x", r.what, i, w)
			}
			if zero := in && r.drops && canDrop; !is(i, zero) {
				t.Fatalf("%s: header %d is not as it should be, zero: %t; it begins at %#x", r.what, i, zero, first.Plus(i).Start)
			}
		}
	}
	agree(t, grow(t, p, UnitBytes), p, 4*units)
}

// Many add headers in the same new leaves at once, while others look: each leaf gets one table,
// and what one has written all find.
func TestConcurrent(t *testing.T) {
	const workers, each = 8, 200
	spots := []uintptr{freshLeaf(t), freshLeaf(t)}
	if firstHigh() != 0 {
		spots = append(spots, freshHighLeaf(t))
	}
	before := Reserved()
	found := make([][]*Header, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			for i := range each {
				p := spots[(i+w)%len(spots)] + uintptr(w*each+i)*UnitBytes // nobody else's unit
				if h := Lookup(p); h != &foreign && h.Load() != 0 {
					t.Errorf("%#x has the word %#x before it is grown", p, h.Load())
				}
				h, err := Grow(p, UnitBytes)
				if err != nil {
					t.Error(err)
					return
				}
				h.Store(Word(p))
				if Lookup(p) != h || At(h.Number) != h {
					t.Errorf("%#x has the header %p, want %p", p, Lookup(p), h)
				}
				found[w] = append(found[w], h)
				q := spots[r.IntN(len(spots))] + uintptr(r.IntN(workers*each))*UnitBytes
				if got := Lookup(q).Load(); got != 0 && got != Word(q) {
					t.Errorf("%#x has the word %#x", q, got)
				}
			}
		})
	}
	wg.Wait()
	if got := Reserved() - before; got != uint64(len(spots)*tableBytes) {
		t.Errorf("%d leaves take %d bytes, want %d each", len(spots), got, tableBytes)
	}
	all := slices.Concat(found...)
	seen := map[*Header]bool{}
	for _, h := range all {
		seen[h] = true
		if w := h.Load(); Lookup(uintptr(w)) != h {
			t.Errorf("the header %p has the word of %#x", h, w)
		}
	}
	if len(seen) != workers*each {
		t.Errorf("%d headers, want %d", len(seen), workers*each)
	}
}
