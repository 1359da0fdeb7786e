package sizeclass_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pyarena/pyarena/internal/sizeclass"
)

// geometries are the unit sizes of arenas, and the most units that a pool may
// have there: those of the arena without its header, and 64.
var geometries = []struct{ unitBytes, maxUnits int }{
	{4 << 10, 60}, {8 << 10, 62}, {16 << 10, 63}, {16 << 10, 64},
}

func TestSizes(t *testing.T) {
	var want []int
	for size := 16; size <= 512; size += 16 {
		want = append(want, size)
	}
	want = append(want, 640, 768, 896, 1024)
	for from := 1024; from < 32<<10; from *= 2 {
		for step := 1; step <= 8; step++ {
			want = append(want, from+from/8*step)
		}
	}
	if len(want) != sizeclass.Count {
		t.Fatalf("Count is %d, want %d", sizeclass.Count, len(want))
	}
	for c, size := range want {
		if s := sizeclass.Size(uint8(c)); s != size || s%sizeclass.Alignment != 0 {
			t.Errorf("class %d has blocks of %d bytes, want %d", c, s, size)
		}
	}
	if last := sizeclass.Size(sizeclass.Count - 1); last != sizeclass.Max {
		t.Errorf("the largest class has %d bytes, Max is %d", last, sizeclass.Max)
	}
}

// TestOf: every size gets the smallest class that holds it, and is rounded up by
// no more than the package comment says.
func TestOf(t *testing.T) {
	for size := 1; size <= sizeclass.Max; size++ {
		c := sizeclass.Of(size)
		got := sizeclass.Size(c)
		if got < size || c > 0 && sizeclass.Size(c-1) >= size {
			t.Fatalf("size %d has class %d, of %d bytes: not the smallest that fits", size, c, got)
		}
		added, limit := got-size, size/8
		switch {
		case size <= sizeclass.SmallMax:
			limit = sizeclass.Alignment - 1
		case size <= 1024:
			limit = size / 4
		}
		if added > limit {
			t.Errorf("size %d is rounded up by %d, want at most %d", size, added, limit)
		}
	}
}

func TestAligned(t *testing.T) {
	for align := 1; align <= sizeclass.AlignMax; align *= 2 {
		for size := 0; size <= sizeclass.Max; size++ {
			want := uint8(0)
			for sizeclass.Size(want) < size || sizeclass.Size(want)%align != 0 {
				want++
			}
			if c, ok := sizeclass.Aligned(size, align); !ok || c != want {
				t.Fatalf("%d bytes at a multiple of %d: class %d, %v; want %d", size, align, c, ok, want)
			}
		}
	}
	for _, no := range [][2]int{
		{sizeclass.Max + 1, 1}, {sizeclass.Max + 1, 4096}, {1, 2 * sizeclass.AlignMax}, {sizeclass.Max, 1 << 30}, {1 << 30, 16},
	} {
		if c, ok := sizeclass.Aligned(no[0], no[1]); ok {
			t.Errorf("%d bytes at a multiple of %d: class %d, want none", no[0], no[1], c)
		}
	}
}

// TestShapes: a pool has at least four blocks, wastes at most an eighth behind
// them, and is as short as unitsFor promises. A class has no pool only where four
// of its blocks take more units than there may be.
func TestShapes(t *testing.T) {
	worst := 0.0
	for _, g := range geometries {
		for c, s := range sizeclass.Shapes(g.unitBytes, g.maxUnits) {
			size, bytes := sizeclass.Size(uint8(c)), int(s.Units)*g.unitBytes
			if int(s.Size) != size || s.Units < 1 || int(s.Units) > g.maxUnits || s.Blocks < 4 || int(s.Blocks) != bytes/size {
				t.Errorf("units of %d, class %d of %d bytes: %+v", g.unitBytes, c, size, s)
				continue
			}
			waste := float64(bytes%size) / float64(bytes)
			worst = max(worst, waste)
			if waste > 0.125 {
				t.Errorf("units of %d, %d bytes: %.1f %% of a pool wasted", g.unitBytes, size, 100*waste)
			}
			if s.Units > 1 && bytes >= 8*size+g.unitBytes {
				t.Errorf("units of %d, %d bytes: %d units, more than eight blocks need", g.unitBytes, size, s.Units)
			}
		}
	}
	t.Logf("at most %.2f %% of a pool wasted", 100*worst)

	for _, g := range []struct{ unitBytes, maxUnits int }{{4 << 10, 1}, {4 << 10, 5}, {16 << 10, 1}, {16 << 10, 2}, {16 << 10, 4}} {
		for c, s := range sizeclass.Shapes(g.unitBytes, g.maxUnits) {
			fits := 4*sizeclass.Size(uint8(c)) <= g.unitBytes*g.maxUnits
			if (s.Blocks != 0) != fits || (s.Units != 0) != fits || fits && s.Blocks < 4 || int(s.Units) > g.maxUnits {
				t.Errorf("%d units of %d, %d bytes: %+v", g.maxUnits, g.unitBytes, sizeclass.Size(uint8(c)), s)
			}
		}
	}
}

// TestIndex compares Index with division: at all offsets of a pool, and at random
// ones of 32 bits, which pointers before and behind a pool have.
func TestIndex(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, g := range geometries {
		for c, s := range sizeclass.Shapes(g.unitBytes, g.maxUnits) {
			check := func(offset uint32) {
				i := sizeclass.Index(offset, s.Inverse, s.Rotate)
				if offset%s.Size == 0 && i != offset/s.Size || offset%s.Size != 0 && i < s.Blocks {
					t.Fatalf("units of %d, class %d of %d bytes, offset %d: block %d of %d", g.unitBytes, c, s.Size, offset, i, s.Blocks)
				}
			}
			for offset := range s.Units * uint32(g.unitBytes) {
				check(offset)
			}
			for range 20_000 {
				offset := rng.Uint32()
				check(offset)
				check(offset - offset%s.Size)
				check(-(offset % (64 << 20))) // before the pool, in its arena
				check(-s.Size * (offset % 1024))
			}
		}
	}
}

func Example() {
	c := sizeclass.Of(100)
	fmt.Println("100 bytes are served from blocks of", sizeclass.Size(c))

	s := sizeclass.Shapes(16<<10, 63)[c]
	fmt.Println("a pool has", s.Blocks)
	fmt.Println("offset 224 is block", sizeclass.Index(224, s.Inverse, s.Rotate))
	fmt.Println("offset 225 is one:", sizeclass.Index(225, s.Inverse, s.Rotate) < s.Blocks)
	// Output:
	// 100 bytes are served from blocks of 112
	// a pool has 146
	// offset 224 is block 2
	// offset 225 is one: false
}
