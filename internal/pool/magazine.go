package pool

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
)

// Magazine is a stack of blocks of one class that were freed last, at hand for the next
// mallocs (Bonwick and Adams, "Magazines and Vmem", 2001). Its user owns the blocks'
// pools. A free sets the block's bit and puts it there, a malloc takes it and clears the
// bit: neither looks for a pool that has a free block, finds one full or empty, or
// counts.
//
// So a block in a magazine has its bit set, like a free one in its pool, but counts as
// live. The pool cannot tell the two apart: nothing is taken from a pool unless the
// magazine is empty.
type Magazine struct {
	top    uintptr // address of the place on top; read by statistics
	bottom uintptr // of the place below the first, whose block is nil
	end    uintptr // top when there is no more room
}

// Cached is a block that the owner of its pool keeps at hand. Where its bit is need not
// be found again.
type Cached struct {
	block uintptr
	bit   uint64 // the distance in bytes from the block to its bitmap's word, and 32 bits on its number
}

// Block returns the block's address, nil of the zero Cached.
func (c *Cached) Block() unsafe.Pointer { return addr.Pointer(c.block) }

// word returns the word of the bitmap that the bit of the block, at p, is in, and mask
// that bit.
func (c *Cached) word(p unsafe.Pointer) *uint64 { return (*uint64)(unsafe.Add(p, int32(c.bit))) }
func (c *Cached) mask() uint64                  { return 1 << (c.bit >> 32 & 63) }

// MagazineBlocks returns how many blocks of a size a magazine holds: as many as make 8
// KiB, but one at least and sixteen at most.
func MagazineBlocks(size int) int { return max(min(16, 8<<10/size), 1) }

// Init makes the magazine an empty one on places, which are zero: one more than it is to
// hold blocks.
func (m *Magazine) Init(places []Cached) {
	m.bottom = uintptr(unsafe.Pointer(&places[0]))
	m.end = uintptr(unsafe.Pointer(&places[len(places)-1]))
	m.top = m.bottom
}

func (m *Magazine) at() *Cached { return (*Cached)(addr.Pointer(m.top)) }

// Len returns the number of blocks.
func (m *Magazine) Len() int { return int(loadPtr(&m.top)-m.bottom) / int(cachedBytes) }

const cachedBytes = unsafe.Sizeof(Cached{})

// IsEmpty reports whether there is no block.
func (m *Magazine) IsEmpty() bool { return m.at().Block() == nil }

// Pop takes the block on top, where there is one.
func (m *Magazine) Pop() unsafe.Pointer {
	top := m.top
	c := (*Cached)(addr.Pointer(top))
	p := c.Block()
	w := c.word(p)
	store64(w, *w&^c.mask())
	storePtr(&m.top, top-cachedBytes)
	return p
}

// Top returns the block on top, nil if there is none.
func (m *Magazine) Top() unsafe.Pointer { return m.at().Block() }

// HasRoom reports whether there is room for one more block.
func (m *Magazine) HasRoom() bool { return m.top != m.end }

// PushTo puts block i, which begins at p and is in use, on top of the magazine, where there
// is room. Owner only.
func (h *Header) PushTo(m *Magazine, i uint32, p unsafe.Pointer) {
	h.freed(i)
	w := h.bits(i)
	store64(w, *w|1<<(i&63))
	c := (*Cached)(unsafe.Add(unsafe.Pointer(m.at()), cachedBytes))
	c.block = uintptr(p)
	c.bit = uint64(uint32(uintptr(unsafe.Pointer(w))-uintptr(p))) | uint64(i)<<32
	storePtr(&m.top, uintptr(unsafe.Pointer(c)))
}

// Blocks calls f for each block, from the top. It touches no place of an empty magazine.
func (m *Magazine) Blocks(f func(p unsafe.Pointer)) {
	for top := *m; top.top != m.bottom; top.top -= cachedBytes {
		f(top.at().Block())
	}
}

// Clear empties the magazine. The blocks' pools are still to count them: see Return.
func (m *Magazine) Clear() { storePtr(&m.top, m.bottom) }

// Return counts a block that was in a magazine as the pool's again.
func (h *Header) Return() { store(&h.live, h.live-1) }
