package arena

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/osmem"
)

// Limits of the size of an arena, in bytes.
const (
	MinBytes     = 256 << 10
	MaxBytes     = 64 << 20
	DefaultBytes = 1 << 20
)

// Geometry is the sizes that an arena is cut by.
//
//	arena      unit    units
//	256 KiB    4 KiB   64      CPython before 3.10
//	512 KiB    8 KiB   64
//	1 MiB      16 KiB  64      CPython since 3.10; the default
//	2 … 64 MiB 16 KiB  128 … 4096
type Geometry struct {
	Bytes       int
	Log2Bytes   uint
	UnitBytes   int
	UnitLog     uint
	Units       int // in an arena, those of the header among them
	HeaderUnits int
	GuardUnits  int // at the end, inaccessible; 0 unless hardened
	Tail        int // bytes behind the usable ones of a block of a hardened arena: 0 or pool.TailBytes
}

// NewGeometry returns the geometry of arenas of the given size, a power of two.
func NewGeometry(arenaBytes int) (Geometry, error) {
	if arenaBytes < MinBytes || arenaBytes > MaxBytes || arenaBytes&(arenaBytes-1) != 0 {
		return Geometry{}, fmt.Errorf("arena of %d bytes: must be a power of two from %d to %d", arenaBytes, MinBytes, MaxBytes)
	}
	unit := min(arenaBytes/64, 16<<10)
	g := Geometry{
		Bytes:     arenaBytes,
		Log2Bytes: uint(bits.TrailingZeros(uint(arenaBytes))),
		UnitBytes: unit,
		UnitLog:   uint(bits.TrailingZeros(uint(unit))),
		Units:     arenaBytes / unit,
	}
	g.HeaderUnits = g.Units * pool.HeaderBytes / unit
	return g, nil
}

// geometries has the geometry of every size of arena, by log2.
var geometries = func() (all [27]Geometry) {
	for log := range all {
		if g, err := NewGeometry(1 << log); err == nil {
			all[log] = g
		}
	}
	return all
}()

// GeometryOf returns the geometry of arenas of 1<<log bytes, which exist.
func GeometryOf(log uint) *Geometry { return &geometries[log] }

// Harden returns the geometry of hardened arenas of the same size: the last
// units of each are inaccessible, one page or more, and pools are hardened, with canaries
// if so.
func (g Geometry) Harden(canaries bool) Geometry {
	g.GuardUnits = max(1, osmem.PageSize()/g.UnitBytes)
	if canaries {
		g.Tail = pool.TailBytes
	}
	return g
}

// Hardened reports whether the geometry is that of hardened arenas.
func (g *Geometry) Hardened() bool { return g.GuardUnits != 0 }

// Usable returns the number of units that an arena can hand out.
func (g *Geometry) Usable() int { return g.end() - g.HeaderUnits }

// end returns the unit after the last that an arena can hand out.
func (g *Geometry) end() int { return g.Units - g.GuardUnits }

// PoolUnits returns the largest number of units of a pool.
func (g *Geometry) PoolUnits() int { return min(g.Usable(), 64) }

// RunMax returns the largest size in bytes of a large run: half an arena.
func (g *Geometry) RunMax() int { return g.Bytes / 2 }

// baseOf returns the start of the arena that p lies in.
func (g *Geometry) baseOf(p unsafe.Pointer) unsafe.Pointer {
	return unsafe.Add(p, -int(uintptr(p)&(uintptr(g.Bytes)-1)))
}

// headerOf returns the pool header of a unit of the arena at base.
func (g *Geometry) headerOf(base unsafe.Pointer, unit int) *pool.Header {
	return (*pool.Header)(unsafe.Add(base, unit*pool.HeaderBytes))
}

func (g *Geometry) unitOfHeader(h *pool.Header) int {
	return int(uintptr(unsafe.Pointer(h))&(uintptr(g.Bytes)-1)) / pool.HeaderBytes
}

// distance returns the bytes from a unit's header to the unit.
func (g *Geometry) distance(unit int) uint32 {
	return uint32(unit * (g.UnitBytes - pool.HeaderBytes))
}

// PoolOf returns the header of the pool or run that p, an address of an arena
// in the map, lies in; for an address among the headers one that is Free for
// ever, and in which no block has been.
func (g *Geometry) PoolOf(p unsafe.Pointer) *pool.Header {
	base := g.baseOf(p)
	unit := int(uintptr(p)-uintptr(base)) >> g.UnitLog
	h := g.headerOf(base, unit)
	for h.Owner() == pool.Inner {
		h = h.Outer()
	}
	return h
}

// bitmap is a bit per unit of an arena. There are at least as many headers
// without a pool as a bitmap has words: word i stands in header i.
type bitmap struct{ first unsafe.Pointer }

func freeBits(a *Header) bitmap  { return bitmap{unsafe.Add(unsafe.Pointer(a), headerBytes)} }
func dirtyBits(a *Header) bitmap { return bitmap{unsafe.Add(unsafe.Pointer(a), headerBytes+8)} }

func (b bitmap) word(i int) *uint64 { return (*uint64)(unsafe.Add(b.first, i*pool.HeaderBytes)) }
func (b bitmap) has(i int) bool     { return *b.word(i / 64)>>(i%64)&1 == 1 }
func (b bitmap) set(i int)          { *b.word(i / 64) |= 1 << (i % 64) }
func (b bitmap) clear(i int)        { *b.word(i / 64) &^= 1 << (i % 64) }

// count returns how many of n units are set.
func (b bitmap) count(n int) (set int) {
	for i := range n / 64 {
		set += bits.OnesCount64(*b.word(i))
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
func (g *Geometry) fit(a *Header, n int) (unit int, left uint32) {
	free := freeBits(a)
	unit = -1
	best, longest := 0, 0
	for i := g.HeaderUnits; ; {
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
