package arena

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/osmem"
)

// Limits of the size of an arena, in bytes.
const (
	MinBytes     = 256 << 10
	MaxBytes     = 64 << 20
	DefaultBytes = 1 << 20
)

// Geometry is the sizes that an arena is cut by. Units are of 16 KiB in all.
type Geometry struct {
	Bytes      int
	Log2Bytes  uint
	Units      int // in an arena: 16 … 4096, a power of two
	GuardUnits int // at the end, inaccessible; 0 unless hardened
	Tail       int // bytes after the usable ones of a block of a hardened arena: 0 or pool.TailBytes
}

// NewGeometry returns the geometry of arenas of the given size, a power of two.
func NewGeometry(arenaBytes int) (Geometry, error) {
	if arenaBytes < MinBytes || arenaBytes > MaxBytes || arenaBytes&(arenaBytes-1) != 0 {
		return Geometry{}, fmt.Errorf("arena of %d bytes: must be a power of two from %d to %d", arenaBytes, MinBytes, MaxBytes)
	}
	return Geometry{
		Bytes:     arenaBytes,
		Log2Bytes: uint(bits.TrailingZeros(uint(arenaBytes))),
		Units:     arenaBytes / headers.UnitBytes,
	}, nil
}

// Harden returns the geometry of hardened arenas of the same size: the last units of each
// are inaccessible, one page or more, and blocks have canaries if so.
func (g Geometry) Harden(canaries bool) Geometry {
	g.GuardUnits = max(1, osmem.PageSize()/headers.UnitBytes)
	if canaries {
		g.Tail = pool.TailBytes
	}
	return g
}

// Hardened reports whether the geometry is that of hardened arenas.
func (g *Geometry) Hardened() bool { return g.GuardUnits != 0 }

// Usable returns the number of units that an arena can hand out.
func (g *Geometry) Usable() int { return g.Units - g.GuardUnits }

// PoolUnits returns the largest number of units of a pool.
func (g *Geometry) PoolUnits() int { return min(g.Usable(), 64) }

// RunMax returns the largest size in bytes of a large run: half an arena.
func (g *Geometry) RunMax() int { return g.Bytes / 2 }

// unit returns the number of the unit of a header in its arena.
func (g *Geometry) unit(h *headers.Header) int { return int(h.Number) & (g.Units - 1) }

// bitmap is a bit for each unit of an arena. Word i stands in the header of unit 64*i.
type bitmap struct{ first *uint64 }

func freeBits(a *headers.Header) bitmap  { return bitmap{&a.Arena.Free} }
func dirtyBits(a *headers.Header) bitmap { return bitmap{&a.Arena.Dirty} }

func (b bitmap) word(i int) *uint64 {
	return (*uint64)(unsafe.Add(unsafe.Pointer(b.first), i*64*headers.Bytes))
}
func (b bitmap) has(i int) bool { return *b.word(i / 64)>>(i%64)&1 == 1 }
func (b bitmap) set(i int)      { *b.word(i / 64) |= 1 << (i % 64) }
func (b bitmap) clear(i int)    { *b.word(i / 64) &^= 1 << (i % 64) }

// fill sets the first of n units, and clears the others.
func (b bitmap) fill(first, n int) {
	for i := 0; i < n; i += 64 {
		*b.word(i / 64) = ^uint64(0) >> (64 - min(max(first-i, 0), 64)) // a shift by 64 gives 0
	}
}

// count returns how many of n units are set.
func (b bitmap) count(n int) (set int) {
	for i := 0; i < n; i += 64 {
		set += bits.OnesCount64(*b.word(i / 64))
	}
	return set
}

// next returns the first unit from i on, below n, whose bit is set, or clear if
// flip is ^0; or n.
func (b bitmap) next(i, n int, flip uint64) int {
	for ; i < n; i = i&^63 + 64 {
		if w := (*b.word(i / 64) ^ flip) >> (i % 64); w != 0 {
			return min(i+bits.TrailingZeros64(w), n)
		}
	}
	return n
}

// fit returns the first unit of the shortest row of free units that has n, or -1,
// and the longest row that is left when they are taken.
func (g *Geometry) fit(a *headers.Header, n int) (unit int, left uint32) {
	free := freeBits(a)
	unit = -1
	best, longest := 0, 0
	for i := 0; ; {
		from := free.next(i, g.Units, 0)
		i = free.next(from, g.Units, ^uint64(0))
		row := i - from
		switch {
		case row == 0:
			return unit, uint32(max(longest, best-n))
		case row >= n && (unit < 0 || row < best):
			longest = max(longest, best)
			unit, best = from, row
		default:
			longest = max(longest, row)
		}
	}
}

// longest returns the longest row of free units.
func (g *Geometry) longest(a *headers.Header) uint32 {
	_, row := g.fit(a, g.Units+1)
	return row
}
