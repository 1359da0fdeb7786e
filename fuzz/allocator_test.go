// Package fuzz is fuzz targets for what pyarena promises as a whole: a program
// of calls is read from the input, and every answer compared with a shadow.
// See README.md.
package fuzz

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// input reads a fuzzer's bytes; at their end it reads zeros.
type input []byte

func (in *input) byte() byte {
	if len(*in) == 0 {
		return 0
	}
	b := (*in)[0]
	*in = (*in)[1:]
	return b
}

// intn returns a number below n, at most 1<<16.
func (in *input) intn(n int) int { return (int(in.byte())<<8 | int(in.byte())) % max(n, 1) }

// size returns a size in bytes: one of few classes, at a border between them, or of
// all scales alike.
func (in *input) size() int {
	b := in.byte()
	switch {
	case b >= 128:
		return 1 + int(b)%64
	case b >= 120:
		borders := [8]int{16, 512, 1024, 4096, 32 << 10, 128 << 10, 512 << 10, 1 << 20}
		return max(borders[b-120]-20+in.intn(41), 1)
	}
	shift := b % 22
	return 1<<shift + in.intn(1<<min(shift, 15))<<max(int(shift)-15, 0)
}

// options reads the options of an allocator.
func (in *input) options() pymalloc.Options {
	b := in.byte()
	o := pymalloc.Options{ArenaBytes: 256 << 10 << (b % 9), RetainDelay: time.Hour}
	switch b >> 4 % 4 {
	case 1:
		o.LimitBytes = o.ArenaBytes
	case 2:
		o.LimitBytes = 3 * o.ArenaBytes
	case 3:
		o.RetainBytes = -1
	}
	if b>>6 == 3 {
		o.KeepAddresses = pymalloc.KeepAlways
	}
	b = in.byte()
	o.Hardened, o.WipeOnFree = b%8 == 1 || b%8 == 2, b%8 == 2 || b%8 == 3
	o.Canaries = o.Hardened && b>>3%2 == 0
	return o
}

// machine runs a program of calls on one goroutine.
type machine struct {
	t     *testing.T
	a     *pymalloc.Allocator
	heaps []*pymalloc.Heap
	other *machine // of another allocator
	shadow
	freed []unsafe.Pointer // lately, most recent last, not handed out since
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// source returns the allocator or one of its heaps.
func (m *machine) source(in *input) source {
	if i := int(in.byte()) % (len(m.heaps) + 1); i > 0 {
		return m.heaps[i-1]
	}
	return m.a
}

// got enters what a call that allocates has returned.
func (m *machine) got(p unsafe.Pointer, err error, size, align int) {
	m.t.Helper()
	if err != nil {
		if !errors.Is(err, pymalloc.ErrLimit) {
			m.t.Fatalf("%d bytes: %v", size, err)
		}
		return
	}
	m.must(m.add(p, size, align))
	for i, q := range m.freed {
		if q == p {
			m.freed = append(m.freed[:i], m.freed[i+1:]...)
			break
		}
	}
}

// pick returns the number of a live block: the youngest, or any.
func (m *machine) pick(in *input) int {
	if in.byte()%4 == 0 {
		return len(m.blocks) - 1
	}
	return in.intn(len(m.blocks))
}

func (m *machine) free(src source, i int) {
	b, err := m.remove(i)
	m.must(err)
	m.must(src.UnsafeFree(b.p))
	m.freed = append(m.freed, b.p)
	if len(m.freed) > 8 {
		m.freed = m.freed[1:]
	}
}

// refuse calls Free with a pointer that must be refused.
func (m *machine) refuse(src source, p unsafe.Pointer, want ...error) {
	m.t.Helper()
	err := src.UnsafeFree(p)
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	m.t.Fatalf("UnsafeFree(%p): %v, want one of %v", p, err, want)
}

// step runs one call.
func (m *machine) step(in *input) {
	m.t.Helper()
	op, src := in.byte(), m.source(in)
	n := len(m.blocks)
	switch op % 19 {
	case 0, 1, 2:
		size := in.size()
		p, err := src.UnsafeMalloc(size)
		m.got(p, err, size, 16)
	case 3:
		size := in.size()
		p, err := src.UnsafeCalloc(size)
		if err == nil {
			for i, b := range unsafe.Slice((*byte)(p), size) {
				if b != 0 {
					m.t.Fatalf("UnsafeCalloc(%d): byte %d is %#x", size, i, b)
				}
			}
		}
		m.got(p, err, size, 16)
	case 4:
		size, align := in.size(), 1<<(in.byte()%19)
		p, err := src.UnsafeAlignedMalloc(size, align)
		m.got(p, err, size, align)
	case 5:
		if n > 0 {
			m.realloc(src, m.pick(in), in.size())
		}
	case 6, 7, 8:
		if n > 0 {
			m.free(src, m.pick(in))
			if op&16 != 0 {
				m.freeAgain(m.source(in), in)
			}
		}
	case 9:
		if n > 0 {
			b := m.blocks[in.intn(n)]
			off := 1 + in.intn(min(b.size, 1<<16))
			if off < b.size {
				m.refuse(src, unsafe.Add(b.p, off), pymalloc.ErrNotOwned)
			}
		}
	case 10:
		m.freeAgain(src, in)
	case 11:
		m.mallocBatch(in)
	case 12:
		m.freeBatch(in)
		if op&16 != 0 {
			m.freeAgain(src, in)
		}
	case 13:
		m.must(m.a.Trim())
	case 14:
		if len(m.heaps) < 3 {
			m.heaps = append(m.heaps, m.a.AcquireHeap())
		} else {
			m.heaps[0].Release()
			m.heaps = m.heaps[1:]
		}
	case 15:
		for n := in.byte() % 64; n > 0 && len(m.blocks) > 0; n-- {
			m.free(src, in.intn(len(m.blocks)))
		}
	case 16:
		m.misuse(src, in)
	case 17:
		if op > 244 {
			m.close()
		} else {
			m.must(m.a.Check())
		}
	case 18:
		m.young(src, in)
	}
}

// young has the youngest block of a source freed by another, and, after something else
// that the source does, by the source again.
func (m *machine) young(src source, in *input) {
	m.t.Helper()
	size, other := 1+in.intn(64), m.source(in)
	malloc := func() unsafe.Pointer {
		p, err := src.UnsafeMalloc(size)
		m.got(p, err, size, 16)
		return p
	}
	free := func(by source, p unsafe.Pointer) {
		if p != nil {
			m.free(by, m.find(uintptr(p)))
		}
	}
	p, q := malloc(), malloc()
	free(src, p) // and from there the source has its youngest
	p = malloc()
	free(other, p)
	switch in.byte() % 5 {
	case 0:
		free(src, q)
	case 1:
		for n := in.byte() % 64; n > 0; n-- {
			malloc()
		}
	case 2:
		m.must(m.a.Trim())
	case 3:
		free(src, malloc())
	}
	if slices.Contains(m.freed, p) {
		m.refuse(src, p, pymalloc.ErrDoubleFree, pymalloc.ErrNotOwned)
	}
}

// misuse asks for what there is not, and gives the allocator what is another's.
func (m *machine) misuse(src source, in *input) {
	m.t.Helper()
	big, align := math.MaxInt-in.intn(1<<16), 1<<in.intn(bits.UintSize-1)
	p, err := src.UnsafeMalloc(big)
	if !errors.Is(err, pymalloc.ErrNoMemory) || p != nil {
		m.t.Fatalf("UnsafeMalloc(%d): %p, %v", big, p, err)
	}
	p, err = src.UnsafeAlignedMalloc(big, align)
	if !errors.Is(err, pymalloc.ErrNoMemory) || p != nil {
		m.t.Fatalf("UnsafeAlignedMalloc(%d, %d): %p, %v", big, align, p, err)
	}
	if p, err = src.UnsafeAlignedMalloc(0, align); p != nil || err != nil {
		m.t.Fatalf("UnsafeAlignedMalloc(0, %d): %p, %v", align, p, err)
	}
	if n := len(m.blocks); n > 0 {
		b := m.blocks[in.intn(n)]
		if p, err = src.UnsafeRealloc(b.p, big); !errors.Is(err, pymalloc.ErrNoMemory) || p != nil {
			m.t.Fatalf("UnsafeRealloc(%p, %d): %p, %v", b.p, big, p, err)
		}
		m.must(b.check(b.size))
	}
	if n := len(m.other.blocks); n > 0 {
		p := m.other.blocks[m.other.pick(in)].p
		m.refuse(src, p, pymalloc.ErrNotOwned)
		if q, err := src.UnsafeRealloc(p, in.size()); !errors.Is(err, pymalloc.ErrNotOwned) || q != nil {
			m.t.Fatalf("UnsafeRealloc of another allocator's block: %p, %v", q, err)
		}
		if err := m.a.UnsafeFreeBatch([]unsafe.Pointer{p}); !errors.Is(err, pymalloc.ErrNotOwned) {
			m.t.Fatalf("UnsafeFreeBatch of another allocator's block: %v", err)
		}
		if m.a.Owns(p) || !m.other.a.Owns(p) {
			m.t.Fatalf("%p is owned by %t and %t", p, m.a.Owns(p), m.other.a.Owns(p))
		}
	}
}

// close ends a life of the allocator.
func (m *machine) close() {
	m.t.Helper()
	m.must(m.a.Close())
	for _, h := range m.heaps {
		if p, err := h.UnsafeMalloc(64); err != pymalloc.ErrReleased {
			m.t.Fatalf("a heap of a closed allocator: %p, %v", p, err)
		}
		for _, p := range m.freed {
			m.refuse(h, p, pymalloc.ErrNotOwned)
		}
		for _, b := range m.blocks {
			m.refuse(h, b.p, pymalloc.ErrNotOwned)
		}
	}
	m.heaps, m.freed, m.blocks, m.usable = nil, nil, nil, 0
}

// freeAgain frees a block that is free.
func (m *machine) freeAgain(src source, in *input) {
	m.t.Helper()
	if k := len(m.freed); k > 0 {
		// A block that was given back to the system, or whose pool serves
		// another class by now, is no block.
		m.refuse(src, m.freed[k-1-in.intn(k)], pymalloc.ErrDoubleFree, pymalloc.ErrNotOwned)
	}
}

func (m *machine) realloc(src source, i, size int) {
	m.t.Helper()
	b, err := m.remove(i)
	m.must(err)
	q, err := src.UnsafeRealloc(b.p, size)
	if err != nil {
		if !errors.Is(err, pymalloc.ErrLimit) {
			m.t.Fatal(err)
		}
		m.must(b.check(b.size)) // it is as it was
		m.got(b.p, nil, b.size, 16)
		return
	}
	n := min(size, b.size)
	if err := (block{q, n, b.seed}).prefixOf(b); err != nil {
		m.t.Fatalf("UnsafeRealloc from %d to %d bytes: %v", b.size, size, err)
	}
	m.got(q, nil, size, 16)
	if q != b.p {
		m.freed = append(m.freed, b.p)
	}
}

// prefixOf returns an error unless the block has the contents that b had.
func (p block) prefixOf(b block) error {
	for i := 0; i < p.size; i = b.next(i) {
		if got := p.bytes()[i]; got != b.seed^byte(i) {
			return errors.New("contents are lost")
		}
	}
	return nil
}

func (m *machine) mallocBatch(in *input) {
	m.t.Helper()
	ps := make([]unsafe.Pointer, 1+in.intn(100))
	size := 1 + in.intn(5000)
	err := m.a.UnsafeMallocBatch(ps, size)
	for i, p := range ps {
		switch {
		case p != nil:
			m.got(p, nil, size, 16) // also if it failed later
		case err == nil || i+1 < len(ps) && ps[i+1] != nil:
			m.t.Fatalf("UnsafeMallocBatch returned no block %d of %d: %v", i, len(ps), err)
		}
	}
	if err != nil && !errors.Is(err, pymalloc.ErrLimit) {
		m.t.Fatal(err)
	}
}

// freeBatch frees blocks, one of them twice at times.
func (m *machine) freeBatch(in *input) {
	m.t.Helper()
	var ps []unsafe.Pointer
	for n := 1 + in.intn(30); n > 0 && len(m.blocks) > 0; n-- {
		b, err := m.remove(m.pick(in))
		m.must(err)
		ps = append(ps, b.p)
		m.freed = append(m.freed, b.p)
	}
	m.freed = m.freed[max(len(m.freed)-8, 0):]
	twice := len(ps) > 0 && in.byte()%4 == 0
	if twice {
		ps = append(ps, ps[in.intn(len(ps))])
	}
	if err := m.a.UnsafeFreeBatch(ps); err != nil != twice {
		m.t.Fatalf("UnsafeFreeBatch, twice=%t: %v", twice, err)
	}
}

// FuzzAllocator: no two live blocks overlap, contents are kept, alignment and
// usable sizes hold, bad frees are refused, statistics are exact, and everything
// is given back.
func FuzzAllocator(f *testing.F) {
	f.Add([]byte{2, 0, 0, 6, 1, 6, 0, 0, 0})
	f.Add([]byte("a program of calls, as good as any other: malloc, free, realloc, trim"))
	f.Fuzz(allocatorProgram)
}

// TestAllocatorPrograms runs programs drawn at random: a fuzzer takes its time to
// find what a few thousand calls of every kind do.
func TestAllocatorPrograms(t *testing.T) {
	n := uint64(60)
	if testing.Short() {
		n = 10
	}
	for seed := range n {
		data := make([]byte, 4000)
		if _, err := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(data); err != nil {
			t.Fatal(err)
		}
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { allocatorProgram(t, data) }) {
			break // one is enough to look at
		}
	}
}

// allocatorProgram runs the calls that the input chooses.
func allocatorProgram(t *testing.T, data []byte) {
	in := input(data)
	in = in[:min(len(in), 4000)]
	var ms [2]*machine
	for i := range ms {
		a, err := pymalloc.NewAllocator(in.options())
		if err != nil {
			t.Fatal(err)
		}
		ms[i] = &machine{t: t, a: a}
	}
	ms[0].other, ms[1].other = ms[1], ms[0]
	for n := 0; len(in) > 0; n++ {
		m := ms[in.byte()/192] // one has most of the calls
		m.step(&in)
		if n%8 == 0 {
			m.must(m.agrees(m.a.Stats()))
		}
	}
	for _, m := range ms {
		m.end()
	}
}

// end frees all, and wants it to be gone.
func (m *machine) end() {
	m.t.Helper()
	m.must(m.agrees(m.a.Stats()))
	for len(m.blocks) > 0 {
		m.free(m.a, len(m.blocks)/2)
	}
	m.must(m.agrees(m.a.Stats()))
	for _, h := range m.heaps {
		h.Release()
	}
	m.must(m.a.Trim())
	if s := m.a.Stats(); s.MappedBytes != 0 {
		m.t.Fatalf("%d bytes are mapped, and nothing is live\n%v", s.MappedBytes, s)
	}
	m.must(m.a.Close())
}
