package pool

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/osmem"
)

const (
	life, home = 1<<24 - 1, 12345
	unit       = headers.UnitBytes
	groundSize = 64 * unit
)

// ground is units with headers, in which pools are made.
type ground struct {
	first *Header
	base  uintptr
}

func newGround(t *testing.T) *ground {
	t.Helper()
	p, err := osmem.MapAligned(groundSize, groundSize)
	if err != nil {
		t.Fatal(err)
	}
	h, err := headers.Grow(uintptr(p), groundSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := range groundSize / unit {
			h.Plus(i).Store(0)
		}
		if err := osmem.Release(p, groundSize); err != nil {
			t.Error(err)
		}
	})
	return &ground{h, uintptr(p)}
}

// raw gives n units from the i-th on to a pool, as the arenas do.
func (g *ground) raw(i int, n uint32) *Header {
	h := g.first.Plus(i)
	h.Number = g.first.Number + uint32(i)
	h.Start = g.base + uintptr(i)*unit
	h.Units = n
	for k := 1; k < int(n); k++ {
		h.Plus(k).Store(headers.MakeWord(life, headers.Inner, 0, k))
	}
	return h
}

var shapes = sizeclass.Shapes(unit, 64)

// format makes a pool of the class in units from the i-th on, whose memory is dirty.
func (g *ground) format(class uint8, i, tail int) *Header {
	s := &shapes[class]
	h := g.raw(i, s.Units)
	b := bytesAt(h.Start, int(s.Units)*unit)
	for i := range b {
		b[i] = byte(i) | 1
	}
	Format(h, class, s, tail, life, home)
	return h
}

func bytesAt(p uintptr, n int) []byte { return unsafe.Slice((*byte)(addr.Pointer(p)), n) }

// isSet reports whether block i is in the pool.
func isSet(h *Header, i uint32) bool { return h.Bits[i/64].Load()>>(i%64)&1 == 1 }

// take takes up to most blocks and ends the hand, or not, as Left says.
func take(h *Header, most int, ahead uint32) (blocks []uintptr, more bool) {
	var b Hand
	got, _ := Take(h, &b, most, ahead)
	hand, _ := Left(h, got)
	return slices.Clone(b.P[:b.N]), hand
}

// takeAll takes all blocks out of the pool in hand.
func takeAll(h *Header) (blocks []uintptr) {
	for more := true; more; {
		var got []uintptr
		got, more = take(h, Most, 1<<30)
		blocks = append(blocks, got...)
	}
	return blocks
}

// give gives one block back.
func give(h *Header, p uintptr) (given int, hand bool, count int32) {
	i := Index(h, p)
	given = Give(h, i/64, 1<<(i%64))
	hand, count = Gave(h, given)
	return given, hand, count
}

// A new pool of any class, anywhere in an arena, has all its blocks in its own units. All of them
// are free, and none was handed out.
func TestFormat(t *testing.T) {
	g := newGround(t)
	for _, maxUnits := range []int{15, 64} {
		for c, s := range sizeclass.Shapes(unit, maxUnits) {
			for i := 0; i+int(s.Units) <= 64; i++ {
				h := g.raw(i, s.Units)
				from, to := h.Start, h.Start+uintptr(s.Units)*unit
				tail := i % 2 * TailBytes
				h.Carved.Store(99)
				h.Lost.Store(99)
				h.Count.Store(99)
				h.Bits[i%16].Store(^uint64(0))
				Format(h, uint8(c), &s, tail, life, home)

				if w := h.Load(); w != headers.MakeWord(life, headers.Pool, uint8(c), 0).At(home) {
					t.Fatalf("class %d: the word is %#x", c, w)
				}
				if int(h.Tail) != tail || h.Size != s.Size || h.Carved.Load() != 0 || h.Lost.Load() != 0 || h.Count.Load() != int32(h.Blocks) || !Empty(h) {
					t.Fatalf("class %d: %d bytes, tail %d, carved %d, lost %d, count %d of %d",
						c, h.Size, h.Tail, h.Carved.Load(), h.Lost.Load(), h.Count.Load(), h.Blocks)
				}
				shift := h.Start - from
				left := unit - int(s.Blocks*s.Size)
				if s.Units > 1 && (shift != 0 || h.Blocks != s.Blocks) || s.Units == 1 && int(shift) > max(left, unit/16) {
					t.Fatalf("class %d: the first block is %d bytes after the beginning of the %d units, and %d of %d blocks are left", c, shift, s.Units, h.Blocks, s.Blocks)
				}
				if h.Start%uintptr(min(s.Size&-s.Size, unit)) != 0 || h.Start < from || Block(h, h.Blocks) > to || Block(h, h.Blocks)+uintptr(s.Size) <= to || h.Blocks < 4 {
					t.Fatalf("class %d: %d blocks from %#x on, in the units %#x … %#x", c, h.Blocks, h.Start, from, to)
				}
				for k := range uint32(len(h.Bits)) * 64 {
					if isSet(h, k) != (k < h.Blocks) {
						t.Fatalf("class %d: bit %d is set: %t, of %d blocks", c, k, isSet(h, k), h.Blocks)
					}
				}
				if err := Check(h); err != nil || !Consistent(h) {
					t.Fatalf("class %d: %v, consistent: %t", c, err, Consistent(h))
				}
			}
		}
	}
}

// The pools of units in a row begin at different places where there is room to, so that their
// first blocks are not in the same sets of a cache.
func TestColor(t *testing.T) {
	g := newGround(t)
	for c, s := range shapes {
		if s.Units > 1 {
			continue
		}
		starts := map[uintptr]int{}
		for i := range 64 {
			h := g.format(uint8(c), i, 0)
			starts[h.Start%unit]++
		}
		step := max(64, s.Size&-s.Size)
		room := max(unit-s.Blocks*s.Size, unit/16)
		if want := int(min(room/step+1, 64)); len(starts) != want {
			t.Errorf("class %d of %d bytes: 64 pools begin at %d places, want %d", c, s.Size, len(starts), want)
		}
		for at, n := range starts {
			if at%uintptr(step) != 0 || n > (64+len(starts)-1)/len(starts)+1 {
				t.Errorf("class %d: %d pools of 64 begin %d bytes after their unit", c, n, at)
			}
		}
	}
}

// Index, Block and IsBlock agree on all addresses of a pool's units, and First leads to it.
func TestIndex(t *testing.T) {
	g := newGround(t)
	r := rand.New(rand.NewPCG(1, 2))
	for c := range shapes {
		for _, i := range []int{0, 1 + r.IntN(30), 64 - int(shapes[c].Units)} {
			h := g.format(uint8(c), i, 0)
			from := g.base + uintptr(i)*unit
			for k := range h.Blocks {
				if p := Block(h, k); Index(h, p) != k || p%sizeclass.Alignment != 0 || p < from {
					t.Fatalf("class %d: block %d begins at %#x, and there block %d does", c, k, p, Index(h, p))
				}
			}
			for _, carved := range []uint32{0, 1, h.Blocks / 2, h.Blocks - 1, h.Blocks} {
				h.Carved.Store(carved)
				for p := from; p < from+uintptr(h.Units)*unit; p += sizeclass.Alignment {
					at := p - h.Start // of what is before it, a large number
					begins := p >= h.Start && at%uintptr(h.Size) == 0 && at/uintptr(h.Size) < uintptr(h.Blocks)
					k := Index(h, p)
					if begins != (k < h.Blocks) || begins && Block(h, k) != p {
						t.Fatalf("class %d: %d bytes after the first block begins block %d of %d, want one: %t", c, int(at), k, h.Blocks, begins)
					}
					if IsBlock(h, p) != (begins && k < carved) {
						t.Fatalf("class %d: IsBlock(%d) = %t, %d of %d are carved", c, k, IsBlock(h, p), carved, h.Blocks)
					}
					if odd := p + 1 + uintptr(r.IntN(15)); Index(h, odd) < h.Blocks || IsBlock(h, odd) {
						t.Fatalf("class %d: a block begins at the odd address %#x", c, odd)
					}
				}
			}
			for k := range int(h.Units) {
				u := headers.Lookup(from + uintptr(k)*unit)
				if first := First(u, u.Load()); first != h {
					t.Fatalf("class %d: unit %d leads to %p, want %p", c, k, first, h)
				}
			}
		}
	}
}

// Hand is filled up to the last place.
func TestHand(t *testing.T) {
	var b Hand
	for i := range uintptr(Most) {
		b.Add(i + 1)
	}
	if b.N != Most || b.P[0] != 1 || b.P[Most-1] != Most {
		t.Errorf("%d blocks, from %d to %d", b.N, b.P[0], b.P[Most-1])
	}
}

// Take takes what has the lowest addresses, no more than it is told, and of what was never
// handed out no more than lies ahead.
func TestTake(t *testing.T) {
	g := newGround(t)
	const class = 3 // of 64 bytes: 240 blocks at least
	for _, c := range []struct {
		name       string
		carved     uint32   // handed out before
		back       []uint32 // of these
		held, most int
		ahead      uint32
		want       []uint32
		fresh      int
		wantCarved uint32
	}{
		{name: "none", most: 0, ahead: 4096},
		{name: "one of a new pool", most: 1, ahead: 0, want: seq(0, 1), fresh: 1, wantCarved: 1},
		{name: "one at least is ahead", most: 64, ahead: 0, want: seq(0, 1), fresh: 1, wantCarved: 1},
		{name: "just less than two are ahead", most: 64, ahead: 127, want: seq(0, 1), fresh: 1, wantCarved: 1},
		{name: "two are ahead", most: 64, ahead: 128, want: seq(0, 2), fresh: 2, wantCarved: 2},
		{name: "a word", most: 64, ahead: 4096, want: seq(0, 64), fresh: 64, wantCarved: 64},
		{name: "a hand that is full", held: Most, most: 64, ahead: 4096},
		{name: "a hand with room for three", held: Most - 3, most: 64, ahead: 4096, want: seq(0, 3), fresh: 3, wantCarved: 3},
		{name: "over the end of a word", carved: 60, most: 64, ahead: 4096, want: seq(60, 64), fresh: 64, wantCarved: 124},
		{name: "from the beginning of a word", carved: 64, most: 64, ahead: 64 * 64, want: seq(64, 64), fresh: 64, wantCarved: 128},
		{name: "up to the end of a word", carved: 64, most: 100, ahead: 64 * 10, want: seq(64, 10), fresh: 10, wantCarved: 74},
		{name: "old ones only", carved: 100, back: []uint32{99, 5, 64, 63}, most: 3, ahead: 4096, want: []uint32{5, 63, 64}, wantCarved: 100},
		{name: "old ones first", carved: 100, back: []uint32{99, 5}, most: 4, ahead: 4096, want: []uint32{5, 99, 100, 101}, fresh: 2, wantCarved: 102},
		{name: "old ones and what is ahead", carved: 100, back: []uint32{99, 5}, most: 64, ahead: 64, want: []uint32{5, 99, 100}, fresh: 1, wantCarved: 101},
		{name: "one in a word from above", carved: 200, back: []uint32{199, 197, 130, 129}, most: 2, ahead: 4096, want: []uint32{129, 130}, wantCarved: 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := g.format(class, 0, 0)
			var before []uintptr
			for len(before) < int(c.carved) {
				blocks, _ := take(h, int(c.carved)-len(before), 1<<30)
				before = append(before, blocks...)
			}
			for _, i := range c.back {
				give(h, before[i])
			}
			count := h.Count.Load()
			b := Hand{N: c.held}
			got, fresh := Take(h, &b, c.most, c.ahead)
			if got != len(c.want) || fresh != c.fresh || b.N != c.held+got || h.Carved.Load() != c.wantCarved || h.Count.Load() != count {
				t.Fatalf("took %d, %d of them fresh, into a hand of %d then; %d are carved; want %d, %d, %d", got, fresh, b.N, h.Carved.Load(), len(c.want), c.fresh, c.wantCarved)
			}
			for k, i := range c.want {
				if p := b.P[c.held+k]; p != Block(h, i) || !IsSealed(p) || isSet(h, i) {
					t.Fatalf("number %d is block %d, want %d; sealed: %t, in the pool: %t", k, Index(h, p), i, IsSealed(p), isSet(h, i))
				}
			}
			if i := c.wantCarved; IsSealed(Block(h, i)) || !isSet(h, i) {
				t.Errorf("block %d, beyond what is carved, was touched", i)
			}
			if hand, was := Left(h, got); !hand || was != count || h.Count.Load() != count-int32(got) {
				t.Errorf("the pool counts %d after %d of %d", h.Count.Load(), got, count)
			}
			if err := Check(h); err != nil {
				t.Error(err)
			}
		})
	}
}

// seq returns n numbers from first on.
func seq(first uint32, n int) (s []uint32) {
	for i := range uint32(n) {
		s = append(s, first+i)
	}
	return s
}

// model is what is known of the blocks of a pool: each is in one of these places.
type model struct {
	h      *Header
	inPool []bool
	out    []uintptr          // sealed, as in a magazine
	live   map[uintptr]uint64 // allocated, by their first words
	carved uint32
	inHand bool // the pool
}

func (m *model) free() (n int) {
	for _, in := range m.inPool {
		if in {
			n++
		}
	}
	return n
}

// lowest returns what Take is to take.
func (m *model) lowest(most int, ahead uint32) (blocks []uintptr, carved uint32) {
	limit := min(m.carved+max(1, ahead/m.h.Size), m.h.Blocks)
	carved = m.carved
	for i := uint32(0); i < limit && len(blocks) < most; i++ {
		if m.inPool[i] {
			blocks = append(blocks, Block(m.h, i))
			carved = max(carved, i+1)
		}
	}
	return blocks, carved
}

// step does something at random.
func (m *model) step(t *testing.T, r *rand.Rand) {
	t.Helper()
	h := m.h
	switch op := r.IntN(10); {
	case op < 3 && m.inHand: // take
		held := r.IntN(Most + 1)
		if op > 0 {
			held = 0
		}
		most, ahead := r.IntN(Most+1), []uint32{0, 1, h.Size, 3 * h.Size, 4096, 1 << 20}[r.IntN(6)]
		want, carved := m.lowest(min(most, Most-held), ahead)
		b := Hand{N: held}
		got, fresh := Take(h, &b, most, ahead)
		if blocks := b.P[held:b.N]; !slices.Equal(blocks, want) || got != len(want) || fresh != int(carved-m.carved) || h.Carved.Load() != carved {
			t.Fatalf("took %x, %d and %d fresh, carved %d; want %x, %d, carved %d", blocks, got, fresh, h.Carved.Load(), want, carved-m.carved, carved)
		}
		m.carved = carved
		for _, p := range want {
			if !IsSealed(p) {
				t.Fatalf("took %#x without a seal", p)
			}
			m.inPool[Index(h, p)] = false
			m.out = append(m.out, p)
		}
		m.inHand = m.free() > 0
		if left, was := Left(h, got); left != m.inHand || int(was) != m.free()+got {
			t.Fatalf("Left = %t, %d, after %d, with %d blocks in the pool", left, was, got, m.free())
		}
	case op < 6 && len(m.out) > 0: // hand out
		k := r.IntN(len(m.out))
		p := m.out[k]
		m.out = slices.Delete(m.out, k, k+1)
		Unseal(p)
		m.live[p] = r.Uint64()
		*word(p) = m.live[p]
	case op < 8: // free, to a magazine
		for p, w := range m.live {
			if *word(p) != w {
				t.Fatalf("%#x has the first word %#x, want %#x", p, *word(p), w)
			}
			delete(m.live, p)
			Seal(p)
			m.out = append(m.out, p)
			break
		}
	default: // give some of one word back, and some that are there already
		if len(m.out) == 0 {
			return
		}
		of := Index(h, m.out[r.IntN(len(m.out))]) / 64
		mask, news := uint64(0), 0
		before := m.free()
		m.out = slices.DeleteFunc(m.out, func(p uintptr) bool {
			i := Index(h, p)
			if i/64 != of || r.IntN(3) == 0 {
				return false
			}
			mask |= 1 << (i % 64)
			m.inPool[i] = true
			news++
			return true
		})
		if r.IntN(3) == 0 {
			mask |= h.Bits[of].Load() & r.Uint64()
		}
		given := Give(h, of, mask)
		if given != news || int(h.Count.Load()) != before {
			t.Fatalf("gave %d, want %d; the count is %d, want %d still", given, news, h.Count.Load(), before)
		}
		hand, count := Gave(h, given)
		if hand != (before == 0 && news > 0) || int(count) != before+news {
			t.Fatalf("gave %d to %d: in hand %t, count %d", news, before, hand, count)
		}
		m.inHand = m.inHand || hand
	}
}

// check compares the pool with the model.
func (m *model) check(t *testing.T, r *rand.Rand) {
	t.Helper()
	h := m.h
	if err := Check(h); err != nil {
		t.Fatal(err)
	}
	if free := m.free(); Empty(h) != (free == int(h.Blocks)) || !Consistent(h) || free+len(m.out)+len(m.live) != int(h.Blocks) {
		t.Fatalf("Empty = %t with %d of %d blocks in the pool, %d in magazines, %d allocated", Empty(h), free, h.Blocks, len(m.out), len(m.live))
	}
	seen := 0
	Each(h, func(p unsafe.Pointer, first uint64) {
		if w, ok := m.live[uintptr(p)]; !ok || first != w {
			t.Errorf("Each comes to %p with %#x, allocated: %t", p, first, ok)
		}
		seen++
	})
	if seen != len(m.live) {
		t.Fatalf("Each comes to %d blocks of %d", seen, len(m.live))
	}
	i := r.Uint32N(h.Blocks)
	p := Block(h, i)
	want := OK
	if _, live := m.live[p]; i >= m.carved {
		want = NotOurs
	} else if !live {
		want = Double
	}
	if got := State(h, p); got != want || isSet(h, i) != m.inPool[i] {
		t.Fatalf("block %d: State = %d, want %d; in the pool: %t, want %t", i, got, want, isSet(h, i), m.inPool[i])
	}
	if got := State(h, p+8); got != NotOurs {
		t.Fatalf("the middle of block %d: State = %d", i, got)
	}
}

// Random taking, handing out, freeing and giving back, against the model.
func TestModel(t *testing.T) {
	g := newGround(t)
	steps := 20_000
	if testing.Short() {
		steps = 3_000
	}
	for _, class := range []uint8{0, 3, 30, 31, 40, 62, sizeclass.Count - 1} {
		t.Run(fmt.Sprint(sizeclass.Size(class)), func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, uint64(class)))
			h := g.format(class, 1+r.IntN(40), 0)
			m := &model{h: h, inPool: make([]bool, h.Blocks), live: map[uintptr]uint64{}, inHand: true}
			for i := range m.inPool {
				m.inPool[i] = true
			}
			full := 0
			for step := range steps {
				m.step(t, r)
				if step%8 == 0 || h.Blocks < 64 {
					m.check(t, r)
				}
				if m.free() == 0 {
					full++
				}
			}
			if full == 0 && h.Blocks <= 64 {
				t.Error("the pool was never full")
			}
			// All come back: then the pool is empty, and in one hand.
			for p := range m.live {
				Seal(p)
				m.out = append(m.out, p)
			}
			for _, p := range m.out {
				if Empty(h) {
					t.Fatal("the pool is empty before all blocks are back")
				}
				_, hand, _ := give(h, p)
				if hand && m.inHand {
					t.Fatal("the pool comes into a second hand")
				}
				m.inHand = m.inHand || hand
			}
			if err := Check(h); err != nil || !Empty(h) || !m.inHand {
				t.Errorf("at the end: %v, empty: %t, in hand: %t", err, Empty(h), m.inHand)
			}
		})
	}
}

// What is given twice is counted once, and does not bring the pool into another hand.
func TestDoubleGive(t *testing.T) {
	g := newGround(t)
	h := g.format(0, 0, 0)
	blocks := takeAll(h)
	if len(blocks) != int(h.Blocks) || h.Count.Load() != 0 {
		t.Fatalf("%d blocks of %d, the count is %d", len(blocks), h.Blocks, h.Count.Load())
	}
	for _, c := range []struct {
		word  uint32
		mask  uint64
		given int
		hand  bool
		count int32
	}{
		{1, 0, 0, false, 0},
		{1, 1, 1, true, 1},
		{1, 1, 0, false, 1},
		{1, 3, 1, false, 2},
		{1, 3, 0, false, 2},
		{0, 1 << 63, 1, false, 3},
		{0, ^uint64(0), 63, false, 66},
		{0, ^uint64(0), 0, false, 66},
	} {
		given := Give(h, c.word, c.mask)
		hand, count := Gave(h, given)
		if given != c.given || hand != c.hand || count != c.count {
			t.Errorf("%#x to word %d: %d given, in hand %t, count %d; want %d, %t, %d", c.mask, c.word, given, hand, count, c.given, c.hand, c.count)
		}
	}
	if err := Check(h); err != nil {
		t.Error(err)
	}
}

// Left counts what comes back meanwhile: the count is below 0 for a moment, and the addition
// that makes it positive takes the pool in hand.
func TestBelowZero(t *testing.T) {
	g := newGround(t)
	h := g.format(sizeclass.Count-1, 0, 0)
	all := takeAll(h)
	given, hand, _ := give(h, all[0])
	if given != 1 || !hand {
		t.Fatalf("the first to come back: %d, in hand %t", given, hand)
	}
	// The hand takes it, and before it subtracts that block comes back again, and is given
	// before it is counted.
	var b Hand
	got, _ := Take(h, &b, Most, 0)
	if got != 1 || b.P[0] != all[0] {
		t.Fatalf("took %d", got)
	}
	if given := Give(h, 0, 1); given != 1 {
		t.Fatalf("gave %d", given)
	}
	if hand, was := Left(h, got); hand || was != 1 || h.Count.Load() != 0 || !Consistent(h) {
		t.Errorf("the hand has not ended, with the count %d", h.Count.Load())
	}
	if hand, count := Gave(h, 1); !hand || count != 1 {
		t.Errorf("the addition does not take the pool in hand: %t, count %d", hand, count)
	}

	// Two that were taken and not subtracted yet, and one of them is back: no hand.
	h.Count.Store(-2)
	if hand, count := Gave(h, 1); hand || count != -1 {
		t.Errorf("a count of %d: in hand %t", count, hand)
	}
	if hand, count := Gave(h, 1); hand || count != 0 {
		t.Errorf("a count of %d: in hand %t", count, hand)
	}
	if hand, count := Gave(h, 2); !hand || count != 2 {
		t.Errorf("a count of %d: in hand %t", count, hand)
	}
}

// Several goroutines give all blocks to a full pool at once. One of them takes the pool in hand.
// Each block is given once, and one goroutine sees that its block was the last.
func TestOneHand(t *testing.T) {
	const workers = 8
	g := newGround(t)
	rounds := 200
	if testing.Short() {
		rounds = 50
	}
	for _, class := range []uint8{0, 20, sizeclass.Count - 1} {
		for round := range rounds {
			h := g.format(class, round%40, 0)
			takeAll(h)
			var hands, counted, last atomic.Int32
			gate := make(chan struct{})
			var wg sync.WaitGroup
			for w := range uint32(workers) {
				from := uint32(0) // all at the same block, or each at its own
				if round%2 == 1 {
					from = w * h.Blocks / workers
				}
				wg.Go(func() {
					<-gate
					for k := range h.Blocks {
						i := (from + k) % h.Blocks
						given := Give(h, i/64, 1<<(i%64))
						counted.Add(int32(given))
						hand, count := Gave(h, given)
						if hand {
							hands.Add(1)
						}
						if count == int32(h.Blocks) && given > 0 {
							last.Add(1)
						}
					}
				})
			}
			close(gate)
			wg.Wait()
			if hands.Load() != 1 || counted.Load() != int32(h.Blocks) || last.Load() != 1 || !Empty(h) {
				t.Fatalf("class %d: %d hands, %d given of %d, %d were the last, empty: %t", class, hands.Load(), counted.Load(), h.Blocks, last.Load(), Empty(h))
			}
		}
	}
}

// stress is a pool that goroutines take blocks of and give them back to.
type stress struct {
	*testing.T
	h      *Header
	used   atomic.Bool // it is where a pop finds it
	hands  atomic.Int32
	holder []atomic.Uint32
	value  []int // written by who holds the block
}

// refill takes blocks of the pool, which is in hand, as a refill does.
func (s *stress) refill(b *Hand, most int, me uint32) {
	if n := s.hands.Add(1); n != 1 {
		s.Errorf("%d have the pool in hand", n)
	}
	from := b.N
	got, _ := Take(s.h, b, most, 256)
	for _, p := range b.P[from:b.N] {
		i := Index(s.h, p)
		if !s.holder[i].CompareAndSwap(0, me) || !IsSealed(p) {
			s.Errorf("block %d came to %d, and is sealed: %t", i, me, IsSealed(p))
		}
		s.value[i]++
	}
	s.hands.Add(-1)
	hand, was := Left(s.h, got)
	if was <= 0 || was > int32(s.h.Blocks) {
		s.Errorf("the pool in hand counted %d of %d", was, s.h.Blocks)
	}
	if hand { // else it is in nobody's hand, or in another's
		if n := s.hands.Add(1); n != 1 {
			s.Errorf("%d have the pool in hand, that has more", n)
		}
		s.hands.Add(-1)
		s.used.Store(true)
	}
}

// scatter gives the first n blocks back.
func (s *stress) scatter(b *Hand, n int, me uint32) {
	for _, p := range b.P[:n] {
		i := Index(s.h, p)
		s.value[i]++
		if !s.holder[i].CompareAndSwap(me, 0) {
			s.Errorf("block %d was taken from %d", i, me)
		}
		given, hand, _ := give(s.h, p)
		if given != 1 {
			s.Errorf("block %d was in the pool already", i)
		}
		if hand {
			if n := s.hands.Load(); n != 0 {
				s.Errorf("%d have the pool in hand beside the one who has made it positive", n)
			}
			s.used.Store(true)
		}
	}
	copy(b.P[:], b.P[n:b.N])
	b.N -= n
}

// No block is in two hands, the pool neither, and nothing is lost.
func TestStress(t *testing.T) {
	const workers = 8
	g := newGround(t)
	steps := 20_000
	if testing.Short() {
		steps = 2_000
	}
	for _, class := range []uint8{20, sizeclass.Count - 1} { // of 336 bytes, and of 32 KiB: 4 in a pool
		h := g.format(class, 3, 0)
		s := &stress{T: t, h: h, holder: make([]atomic.Uint32, h.Blocks), value: make([]int, h.Blocks)}
		s.used.Store(true)
		var wg sync.WaitGroup
		for w := range uint32(workers) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(w), 5))
				var b Hand
				for range steps {
					if most := 1 + r.IntN(6); b.N < 8 && s.used.CompareAndSwap(true, false) {
						s.refill(&b, most, w+1)
					} else if b.N > 0 {
						s.scatter(&b, 1+r.IntN(b.N), w+1)
					}
				}
				s.scatter(&b, b.N, w+1)
			})
		}
		wg.Wait()
		if err := Check(h); err != nil || !Empty(h) || !s.used.Load() {
			t.Errorf("class %d, at the end: %v, empty: %t, in its place: %t", class, err, Empty(h), s.used.Load())
		}
		sum := 0
		for _, n := range s.value {
			sum += n
		}
		if sum == 0 || sum%2 != 0 {
			t.Errorf("class %d: blocks have changed hands %d times", class, sum)
		}
	}
}

// Wipe clears a block but for its seal, and nothing beside it.
func TestWipe(t *testing.T) {
	g := newGround(t)
	for c := range shapes {
		h := g.format(uint8(c), 0, 0)
		if h.Blocks < 3 {
			t.Fatalf("class %d has %d blocks", c, h.Blocks)
		}
		p := Block(h, 1)
		all := bytesAt(g.base, int(h.Units)*unit)
		for i := range all {
			all[i] = 0xA5
		}
		Seal(p)
		Wipe(p, h.Size)
		if !IsSealed(p) {
			t.Fatalf("class %d: the seal is gone", c)
		}
		for i, v := range all {
			at := g.base + uintptr(i)
			want := byte(0xA5)
			switch {
			case at >= p && at < p+SealBytes:
				continue
			case at >= p && at < p+uintptr(h.Size):
				want = 0
			}
			if v != want {
				t.Fatalf("class %d: byte %d, from the block's %d, is %#x, want %#x", c, i, int(at-p), v, want)
			}
		}
	}
	p := g.base
	*word(p + 8) = 7
	Seal(p)
	if Wipe(p, SealBytes); !IsSealed(p) || *word(p + 8) != 7 {
		t.Error("Wipe of a seal alone has cleared it, or what is behind it")
	}
}

// A seal is one place's alone, and either form of the functions knows it.
func TestSeal(t *testing.T) {
	g := newGround(t)
	for p := g.base; p < g.base+unit; p += 16 + 512 {
		at, next := addr.Pointer(p), p+16
		*word(p), *word(next) = 0, 0
		if IsSealed(p) || IsSealedAt(at) {
			t.Fatal("zero is a seal")
		}
		if Seal(p); !IsSealed(p) || !IsSealedAt(at) {
			t.Fatalf("%#x is not sealed after Seal", p)
		}
		*word(next) = *word(p)
		if IsSealed(next) || IsSealedAt(addr.Pointer(next)) {
			t.Fatalf("the seal of %#x is one of %#x", p, next)
		}
		if Unseal(p); *word(p) != 0 || IsSealed(p) {
			t.Fatalf("%#x is sealed after Unseal", p)
		}
		if SealAt(at); !IsSealed(p) || !IsSealedAt(at) {
			t.Fatalf("%#x is not sealed after SealAt", p)
		}
		if SealOnce(p) || !IsSealed(p) {
			t.Fatalf("%#x is sealed twice", p)
		}
		for bit := range 64 {
			*word(p) ^= 1 << bit
			if IsSealed(p) || IsSealedAt(at) {
				t.Fatalf("%#x is sealed still, with bit %d changed", p, bit)
			}
			*word(p) ^= 1 << bit
		}
		if UnsealAt(at); *word(p) != 0 || !SealOnce(p) || !IsSealed(p) {
			t.Fatalf("%#x is not sealed by SealOnce, after UnsealAt", p)
		}
		Freed(p) // for the race detector
		Taken(p)
		if !IsSealed(p) {
			t.Fatalf("%#x is not sealed after Freed and Taken", p)
		}
	}
}

// Several goroutines seal a block at once. One of them is told that it was not sealed before.
func TestSealOnce(t *testing.T) {
	const workers, blocks = 4, groundSize / 16
	g := newGround(t)
	var first [blocks]atomic.Int32
	for i := range blocks {
		Unseal(g.base + uintptr(i)*16)
	}
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for range workers {
		wg.Go(func() {
			<-gate
			for i := range blocks {
				if SealOnce(g.base + uintptr(i)*16) {
					first[i].Add(1)
				}
			}
		})
	}
	close(gate)
	wg.Wait()
	for i := range first {
		if n := first[i].Load(); n != 1 || !IsSealed(g.base+uintptr(i)*16) {
			t.Errorf("block %d was sealed by %d", i, n)
		}
	}
}

// A tail is one block's alone, and neither of its ends is 0 or ASCII.
func TestTail(t *testing.T) {
	g := newGround(t)
	for p := g.base; p < g.base+unit; p += 16 * 31 {
		at := addr.Pointer(p)
		for _, usable := range []uintptr{8, 24, 504} {
			b := bytesAt(p+usable, TailBytes)
			clear(b)
			if IsTail(at, usable) {
				t.Fatal("zero is a tail")
			}
			SetTail(at, usable)
			if !IsTail(at, usable) || IsTail(unsafe.Add(at, 16), usable-16) {
				t.Fatalf("%#x has no tail after %d bytes, or %#x has it", p, usable, p+16)
			}
			if b[0] < 0x80 || b[TailBytes-1] < 0x80 {
				t.Fatalf("the tail of %#x is % x", p, b)
			}
			for i := range b {
				b[i]++
				if IsTail(at, usable) {
					t.Fatalf("byte %d of a tail was changed, and it is one still", i)
				}
				b[i]--
			}
		}
	}
}

// Examine and State tell a live block, a free one, one that was written to beyond its end, and
// what is no block.
func TestExamine(t *testing.T) {
	g := newGround(t)
	for _, tail := range []int{0, TailBytes} {
		for _, class := range []uint8{0, 31, 50, sizeclass.Count - 1} {
			h := g.format(class, 2, tail)
			blocks, _ := take(h, 3, 1<<20)
			p := blocks[1]
			at, usable := addr.Pointer(p), uintptr(h.Size)-uintptr(tail)
			want := func(what string, state, examine Outcome) {
				t.Helper()
				if s, e := State(h, p), Examine(h, at); s != state || e != examine {
					t.Errorf("class %d, tail %d, %s: State = %d, Examine = %d; want %d, %d", class, tail, what, s, e, state, examine)
				}
			}
			want("free", Double, Double)
			Unseal(p)
			if tail > 0 {
				SetTail(at, usable)
			}
			want("live", OK, OK)
			b := bytesAt(p, int(h.Size))
			for i := range b[:usable] {
				b[i] = 0xFF
			}
			want("full", OK, OK)
			beyond := OK
			if tail > 0 {
				beyond = Overrun
			}
			b[h.Size-1]++
			want("its last byte was written to", OK, beyond)
			b[h.Size-1]--
			b[min(usable, uintptr(h.Size)-1)]++
			want("the byte behind the usable ones was written to", OK, beyond)
			Seal(p)
			want("freed", Double, Double)
			p, at = p+8, unsafe.Add(at, 8)
			want("the middle", NotOurs, NotOurs)
			p = Block(h, 3)
			at = addr.Pointer(p)
			Unseal(p)
			want("never handed out", NotOurs, NotOurs)
		}
	}
}

// What a unit was last is known by the life and by what was carved.
func TestWasBlock(t *testing.T) {
	g := newGround(t)
	h := g.format(7, 0, 0)
	take(h, 5, 1<<20)
	h.Last = life
	h.Store(0)
	for i := range h.Blocks {
		if got := WasBlock(h, Block(h, i), life); got != (i < 5) {
			t.Errorf("block %d of 5 that were handed out: %t", i, got)
		}
		if WasBlock(h, Block(h, i), life-1) || WasBlock(h, Block(h, i)+16, life) {
			t.Errorf("block %d was another life's, or its middle is a block", i)
		}
	}
	h.Last = 0
	if WasBlock(h, Block(h, 0), life) {
		t.Error("a unit that was nobody's had a block")
	}
}

// Check finds each fault, and takes nothing else for one. Consistent finds what a hand may not
// rely on.
func TestCheck(t *testing.T) {
	g := newGround(t)
	for _, c := range []struct {
		name, want   string
		inconsistent bool
		do           func(h *Header, blocks []uintptr)
	}{
		{"nothing", "", false, func(*Header, []uintptr) {}},
		{"an allocated block", "", false, func(_ *Header, b []uintptr) { *word(b[5]) = 77 }},
		{"a block that was never handed out", "", false, func(h *Header, _ []uintptr) { *word(Block(h, h.Blocks-1)) = 77 }},
		{"a seal of a free block", "was written to after it was freed", false, func(_ *Header, b []uintptr) { *word(b[0]) ^= 1 << 63 }},
		{"the seal of the last free block", "was written to after it was freed", false, func(h *Header, b []uintptr) {
			give(h, b[9])
			*word(b[9]) = 0
		}},
		{"a count too high", "it counts", true, func(h *Header, _ []uintptr) { h.Count.Add(1) }},
		{"a count too low", "it counts", false, func(h *Header, _ []uintptr) { h.Count.Add(-1) }},
		{"a bit beyond the last block", "it counts", false, func(h *Header, _ []uintptr) { h.Bits[15].Or(1 << 63) }},
		{"the last block is gone", "never carved", false, func(h *Header, _ []uintptr) {
			i := h.Blocks - 1
			h.Bits[i/64].And(^(1 << (i % 64)))
			h.Count.Add(-1)
		}},
		{"the next to be carved is gone", "never carved", false, func(h *Header, _ []uintptr) {
			i := h.Carved.Load()
			h.Bits[i/64].And(^(1 << (i % 64)))
			h.Count.Add(-1)
		}},
		{"more carved than there are", "it has carved", true, func(h *Header, _ []uintptr) { h.Carved.Store(h.Blocks + 1) }},
		{"more blocks than bits", "of 1025 blocks", false, func(h *Header, _ []uintptr) { h.Blocks = 1025 }},
		{"fewer blocks than bits", "", true, func(h *Header, _ []uintptr) { h.Blocks = 100 }},
		{"another kind of unit", "", true, func(h *Header, _ []uintptr) { h.Store(headers.MakeWord(life, headers.Large, 0, 0)) }},
	} {
		h := g.format(5, 9, 0)
		blocks, _ := take(h, 10, 1<<20)
		for _, p := range blocks[:4] {
			give(h, p)
		}
		c.do(h, blocks)
		err := Check(h)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if Consistent(h) == c.inconsistent {
			t.Errorf("%s: consistent is %t", c.name, !c.inconsistent)
		}
	}
}

// Each comes to allocated blocks only: not to those in the pool, sealed or not, nor to those in
// magazines.
func TestEach(t *testing.T) {
	g := newGround(t)
	for _, class := range []uint8{0, 40, sizeclass.Count - 1} {
		h := g.format(class, 0, 0)
		visit := func() map[uintptr]uint64 {
			seen := map[uintptr]uint64{}
			Each(h, func(p unsafe.Pointer, first uint64) { seen[uintptr(p)] = first })
			return seen
		}
		if seen := visit(); len(seen) != 0 {
			t.Errorf("class %d: Each comes to %d blocks of a new pool", class, len(seen))
		}
		blocks, _ := take(h, 4, 1<<20)
		if seen := visit(); len(seen) != 0 {
			t.Errorf("class %d: Each comes to %d blocks in magazines", class, len(seen))
		}
		for i, p := range blocks {
			*word(p) = uint64(i) + 1
		}
		seen := visit()
		if len(seen) != 4 || seen[blocks[0]] != 1 || seen[blocks[3]] != 4 {
			t.Errorf("class %d: Each comes to %v, want the four at %x", class, seen, blocks)
		}
		give(h, blocks[2]) // without a seal, as of a program that writes to it
		Seal(blocks[0])
		if seen = visit(); len(seen) != 2 || seen[blocks[1]] != 2 || seen[blocks[3]] != 4 {
			t.Errorf("class %d: Each comes to %v, want the second and the fourth of %x", class, seen, blocks)
		}
		h.Carved.Store(1 << 20) // no further than the blocks of the pool
		if again := visit(); !maps.Equal(again, seen) {
			t.Errorf("class %d: Each comes to %v, want %v", class, again, seen)
		}
	}
}
