// Package sizeclass maps request sizes to size classes, and size classes to the
// shape of their pools.
//
//	class    0 … 31   16, 32 … 512 bytes          CPython's classes
//	class   32 … 35   640, 768, 896, 1024         four steps per doubling
//	class   36 … 75   1152 … 32768                eight steps per doubling
//
// A request is rounded up by less than 16 bytes up to 512, by at most 25 % up
// to 1 KiB and by at most 12.5 % above. Every size is a multiple of 16.
package sizeclass

import "math/bits"

const (
	// Alignment is that of every block, and the step of the small classes, in bytes.
	Alignment = 16
	// SmallMax is the largest size, in bytes, of CPython's classes.
	SmallMax = 512
	// Max is the largest size in bytes that has a class.
	Max = 32 << 10
	// Count is the number of classes.
	Count = 76
	// AlignMax is the largest alignment in bytes that blocks of a class can have.
	AlignMax = 4096
)

var (
	sizes = makeSizes()
	table = makeTable()
)

// Of returns the class of a request of size bytes, 1 <= size <= Max.
func Of(size int) uint8 { return table[uint(size+Alignment-1)/Alignment] }

// Size returns the size in bytes of the blocks of class c.
func Size(c uint8) int { return int(sizes[c]) }

// Aligned returns the smallest class whose blocks hold size bytes and lie at
// multiples of align, a power of two. ok is false if there is none.
func Aligned(size, align int) (c uint8, ok bool) {
	if size > Max || align > AlignMax {
		return 0, false
	}
	for c := int(Of(max(size, 1))); c < Count; c++ {
		if int(sizes[c])&(align-1) == 0 {
			return uint8(c), true
		}
	}
	return 0, false
}

func makeSizes() (s [256]uint16) { // so that no uint8 is out of range
	n := 0
	for size := Alignment; size <= SmallMax; size += Alignment {
		s[n] = uint16(size)
		n++
	}
	for from := SmallMax; from < Max; from *= 2 {
		step := from / 8
		if from < 1024 {
			step = from / 4
		}
		for size := from + step; size <= 2*from; size += step {
			s[n] = uint16(size)
			n++
		}
	}
	return s
}

func makeTable() (t [Max/Alignment + 1]uint8) {
	c := 0
	for i := range t {
		if i*Alignment > int(sizes[c]) {
			c++
		}
		t[i] = uint8(c)
	}
	return t
}

// Shape says how a pool of one class is laid out.
type Shape struct {
	Size    uint32 // bytes of a block
	Units   uint32 // units of a pool
	Blocks  uint32 // blocks of a pool
	Inverse uint32 // of the odd part of Size, modulo 2^32
	Rotate  uint8  // 32 minus the number of trailing zero bits of Size
}

// Index returns the number of the block that begins offset bytes into the
// pool. For an offset at which no block begins it returns a number that is not
// below Blocks. No division: an exact multiple of size = odd × 2^k, times the
// inverse of odd, is the index shifted left by k; anything else leaves bits in
// the low k, or a large quotient (Granlund and Montgomery, "Division by
// Invariant Integers using Multiplication", 1994, section 9).
func Index(offset, inverse uint32, rotate uint8) uint32 {
	return bits.RotateLeft32(offset*inverse, int(rotate))
}

// Pools hold few blocks where blocks are large: at least minBlocks, unless that
// takes more units than an arena has.
const minBlocks = 8

// Shapes returns the pools' shapes for units of unitBytes, of which a pool may
// have up to maxUnits. Blocks of a class that needs more have Blocks 0 and are
// to be served otherwise.
func Shapes(unitBytes, maxUnits int) (s [Count]Shape) {
	for c := range s {
		size := int(sizes[c])
		units := unitsFor(size, unitBytes, maxUnits)
		k := bits.TrailingZeros(uint(size))
		s[c] = Shape{
			Size:    uint32(size),
			Units:   uint32(units),
			Blocks:  uint32(units * unitBytes / size),
			Inverse: inverse(uint32(size >> k)),
			Rotate:  uint8(32 - k),
		}
	}
	return s
}

// unitsFor returns the number of units, between those that hold minBlocks/2 and
// minBlocks blocks, that wastes the smallest part of a pool.
func unitsFor(size, unitBytes, maxUnits int) int {
	if unitBytes/size >= minBlocks {
		return 1
	}
	from := (size*minBlocks/2 + unitBytes - 1) / unitBytes
	to := (size*minBlocks + unitBytes - 1) / unitBytes
	best, bestWaste := 0, 0.0
	for n := from; n <= to && n <= maxUnits; n++ {
		waste := float64(n*unitBytes%size) / float64(n*unitBytes)
		if best == 0 || waste < bestWaste {
			best, bestWaste = n, waste
		}
	}
	return best
}

// inverse returns x with odd*x = 1 modulo 2^32, by Newton's iteration: each
// step doubles the number of right bits, and odd itself is right in three.
func inverse(odd uint32) uint32 {
	x := odd
	for range 4 {
		x *= 2 - odd*x
	}
	return x
}
