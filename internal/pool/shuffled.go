package pool

import (
	"math/bits"
	"unsafe"
)

// Shuffled is the magazine of a hardened shard: a stack of blocks, whose lowest places
// are the hat. A block that is freed goes into the hat, to a place drawn at random, and
// the one that was there goes on top, from where a malloc takes it. While there is none
// above the hat, the pool deals some first, which it draws at random (Deal).
//
// As in a [Magazine] each block's bit is set, so that a second free shows whatever the
// program has written to the block, and it counts as live. A pool that deals leaves out
// those that are here.
//
// The magazine of large blocks has no hat, and no room for what is freed: for each malloc
// the pool deals one.
type Shuffled struct {
	// Distances from here, in bytes, to places.
	top   uint32 // behind the block on top; read by statistics
	first uint32 // the lowest
	least uint32 // top when there is nothing for a malloc
	hat   uint32 // top from which on the hat is full; never reached without a hat
	dealt uint32 // top when the pool has dealt enough
	end   uint32 // top when there is no room for a block that is freed

	tail uint32 // bytes of a block before its tail
	_    uint32
}

// shuffled is a place of a Shuffled.
type shuffled struct {
	block uintptr
	bit   uint64 // from 32 on the distance in bytes from the block to its bitmap's word; the block's number, and what is known of it
}

// What is known of a block that was dealt.
const (
	fromPool = 1 << 30 // its first word may be 0, not sealed
	isZero   = 1 << 31 // all of it is zero but for a seal
)

const (
	shuffledBytes = uint32(unsafe.Sizeof(shuffled{}))
	hatLog        = 3 // of the places of a hat
	hatPlaces     = 1 << hatLog
	hatMax        = 1 << 10 // size of the largest blocks that have a hat
)

// ShuffledBlocks returns how many blocks of a size a Shuffled holds.
func ShuffledBlocks(size int) int {
	if size > hatMax {
		return 1
	}
	return 3 * hatPlaces
}

// Init makes the magazine an empty one for blocks of size bytes, on ShuffledBlocks places,
// which lie behind it in memory.
func (m *Shuffled) Init(places []Cached, size int) {
	first := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(places))) - uintptr(unsafe.Pointer(m)))
	*m = Shuffled{top: first, first: first, least: first, hat: ^uint32(0), dealt: first + shuffledBytes, end: first, tail: uint32(size - TailBytes)}
	if size <= hatMax {
		const hat = hatPlaces * shuffledBytes
		m.least, m.hat, m.dealt, m.end = first+hat, first+hat, first+2*hat, first+3*hat
	}
}

// A place is as large as one of a Magazine.
var _ [unsafe.Sizeof(Cached{})]byte = [shuffledBytes]byte{}

func (m *Shuffled) at(place uint32) *shuffled {
	return (*shuffled)(unsafe.Add(unsafe.Pointer(m), place))
}

func (c *shuffled) pointer() unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&c.block)) }

// locate returns the bit of a place with block i, which begins at p and has its bit in w.
func locate(w *uint64, i uint32, p unsafe.Pointer) uint64 {
	return uint64(uintptr(unsafe.Pointer(w))-uintptr(p))<<32 | uint64(i)
}

// word returns the word of the bitmap that the block's bit is in, and mask that bit.
func (c *shuffled) word() *uint64 { return (*uint64)(unsafe.Add(c.pointer(), int64(c.bit)>>32)) }
func (c *shuffled) mask() uint64  { return 1 << (c.bit & 63) }

// Len returns the number of blocks.
func (m *Shuffled) Len() int { return int((load(&m.top) - m.first) / shuffledBytes) }

// HasRoom reports whether there is room for one more block that was freed.
func (m *Shuffled) HasRoom() bool { return m.top < m.end }

// HasChoice reports whether there is a block above the hat.
func (m *Shuffled) HasChoice() bool { return m.top > m.least }

// IsOverrun reports whether the block at p was written to beyond its usable bytes.
func (m *Shuffled) IsOverrun(p unsafe.Pointer) bool { return !IsTail(p, uintptr(m.tail)) }

// SetBit sets the bit of block i, in use, which begins at p, and returns what Put wants to
// know of it.
func (h *Header) SetBit(i uint32, p unsafe.Pointer) (bit uint64) {
	w := h.bits(i)
	store64(w, *w|1<<(i&63))
	return locate(w, i, p)
}

// Put puts the block at p, whose bit is set, into a place of the hat that the random
// number chooses, and what was there on top. The caller seals the block.
func (m *Shuffled) Put(p unsafe.Pointer, bit uint64, r Random) {
	c := m.at(m.top)
	if m.top >= m.hat {
		was := m.at(m.inHat(r))
		c.block, c.bit, c = was.block, was.bit, was
	}
	c.block, c.bit = uintptr(p), bit
	store(&m.top, m.top+shuffledBytes)
}

// inHat returns the place of the full hat that the random number chooses.
func (m *Shuffled) inHat(r Random) uint32 {
	return m.first + uint32(r>>(64-hatLog))*shuffledBytes
}

// onTop returns the place on top.
func (m *Shuffled) onTop() *shuffled { return m.at(m.top - shuffledBytes) }

// Top returns the block on top, where there is one, if it is sealed as one that was freed
// by its owner is; else it returns nil, and Examine tells more.
func (m *Shuffled) Top() unsafe.Pointer {
	p := m.onTop().pointer()
	if *(*uint64)(p) != ownSeal(p) {
		return nil
	}
	return p
}

// Examine returns the block on top, where there is one, whether it is unharmed, and
// whether it is known to be zero.
//
//go:nosplit
func (m *Shuffled) Examine() (p unsafe.Pointer, whole, zero bool) {
	c := m.onTop()
	return c.pointer(), c.isWhole(), c.bit&isZero != 0
}

// isWhole reports whether the block was not written to since it was freed.
//
//go:nosplit
func (c *shuffled) isWhole() bool {
	first := *(*uint64)(c.pointer())
	_, whole := unseal(first, c.pointer())
	return whole || first == 0 && c.bit&fromPool != 0
}

// Pop takes the block on top, which begins at p.
func (m *Shuffled) Pop(p unsafe.Pointer) {
	SetTail(p, uintptr(m.tail))
	c := m.onTop()
	store(&m.top, m.top-shuffledBytes)
	w := c.word()
	store64(w, *w&^c.mask())
}

// Deal lets the pool put blocks on top: of those of a word of its bitmap, until it has
// none left; then of another word that is drawn. One goes into the hat instead, for
// another from there. Owner only, hardened pools only.
//
//go:nosplit
func (h *Header) Deal(m *Shuffled, r *Random) {
	x, top, live := *r, m.top, h.live
	for top < m.dealt && live < h.blocks {
		w := h.draw(m, top, x.Next())
		first := uint32(h.pick) * 64
		word, n := h.bits(first), uint64(min(64, h.blocks-first)) // of the word's bits that are blocks
		for ; w != 0 && top < m.dealt; top += shuffledBytes {
			turn := int(uint64(x.Next()>>32) * n >> 32)
			i := uint32(bits.TrailingZeros64(bits.RotateLeft64(w, -turn))+turn) & 63
			w &^= 1 << i
			i += first
			p := unsafe.Add(unsafe.Pointer(h), h.start2+i*h.size2)
			bit := locate(word, i, p) | fromPool
			if i >= h.carved {
				if h.clean {
					bit |= isZero
				}
				h.carved = i + 1
			}
			c := m.at(top)
			c.block, c.bit = uintptr(p), bit
			live++
		}
	}
	if top > m.hat && top != m.top {
		c, last := m.at(m.inHat(x.Next())), m.at(top-shuffledBytes)
		c.block, c.bit, last.block, last.bit = last.block, last.bit, c.block, c.bit
	}
	*r = x
	store(&m.top, top)
	store(&h.live, live)
}

// draw returns the free blocks, but for those in the magazine below top, of the word of
// the bitmap that the pool deals from. If there are none that becomes the next word with
// some from one that r chooses on.
//
//go:nosplit
func (h *Header) draw(m *Shuffled, top uint32, r Random) uint64 {
	if w := m.without(top, h.bits(uint32(h.pick)*64)); w != 0 {
		return w
	}
	words := (h.blocks + 63) / 64
	at := uint32(uint64(r>>32) * uint64(words) >> 32)
	for range words {
		if w := m.without(top, h.bits(at*64)); w != 0 {
			h.pick = uint8(at)
			return w
		}
		if at++; at == words {
			at = 0
		}
	}
	return 0
}

// without returns a word of a bitmap without the bits of blocks that are here below top.
//
//go:nosplit
func (m *Shuffled) without(top uint32, b *uint64) uint64 {
	w := *b
	if w == 0 {
		return 0
	}
	for at := m.first; at != top; at += shuffledBytes {
		c := m.at(at)
		bit := c.mask()
		if c.word() != b {
			bit = 0 // a move, not a branch, which would be mispredicted
		}
		w &^= bit
	}
	return w
}

// Blocks calls f for each block, and tells whether it is unharmed.
func (m *Shuffled) Blocks(f func(p unsafe.Pointer, whole bool)) {
	for at := m.first; at != m.top; at += shuffledBytes {
		f(m.at(at).pointer(), m.at(at).isWhole())
	}
}

// Clear empties the magazine. The blocks' pools are still to count them: see Return.
func (m *Shuffled) Clear() { store(&m.top, m.first) }

// Random is a state of a linear generator, of which the high bits are the random ones. It
// is fast, not cryptographic.
type Random uint64

// Next returns the next state. A factor of 31 bits fits into the instruction.
func (r *Random) Next() Random {
	*r = *r*0x5bd1e995 + 0x3c6ef35f
	return *r
}
