package engine

import (
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/invariant"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/tagstack"
)

// looks is how many pools a refill takes at most.
const looks = 4

// fill takes free blocks of class c in hand, up to most: from usedpools, else from a new
// pool. It looks at pools until half of that was found. home is the id of the shard that
// they are for, or 0. zero tells that all of them are known to be zero but for their
// seals. Not in a section; the life goes on.
func (l *Life) fill(home uint32, c uint8, b *pool.Hand, most int) (zero bool, err error) {
	zero = true
	for range looks {
		h := l.popPool(c)
		if h == nil {
			if b.N > 0 {
				break
			}
			if h, err = l.newPool(c); err != nil {
				return false, err
			}
		}
		if w := h.Load(); home != 0 && w.Home() != home {
			h.Store(w.At(home))
		}
		blocks, isNew := int32(h.Blocks), h.Carved.Load() == 0
		got, fresh := pool.Take(h, b, most-b.N, ahead)
		zero = zero && h.Clean && got == fresh
		if got == 0 {
			l.strange.Add(1) // it stays in this hand for ever
			continue
		}
		number := h.Number
		hand, was := pool.Left(h, got)
		if was == blocks && !isNew {
			l.classes[c].empties.Add(-1)
		}
		if hand {
			if invariant.Enabled {
				invariant.Check(pool.Consistent(h), "refill: a pool that is not consistent")
			}
			l.push(c, number, number)
		}
		if fresh > 0 || 2*b.N >= most {
			break
		}
	}
	if b.N == 0 {
		return false, errStrange
	}
	return zero, nil
}

var errStrange error = pool.Error("pools without the free blocks that they count: memory was written to by a program that does not own it")

// popPool takes a pool of class c from usedpools in hand, or returns nil.
func (l *Life) popPool(c uint8) *headers.Header {
	cl := &l.classes[c]
	f := cl.front.Load()
	n := cl.stacks[f&1].Pop()
	if n == 0 {
		n = cl.stacks[^f&1].Pop()
	}
	if n == 0 {
		return nil
	}
	h := headers.At(n)
	if invariant.Enabled {
		invariant.Check(pool.Consistent(h) && h.Load().Class() == c, "usedpools: a pool that is not consistent, or of another class")
	}
	return h
}

// push puts the chain of pools in hand on usedpools, at the front.
func (l *Life) push(c uint8, first, last uint32) {
	cl := &l.classes[c]
	cl.stacks[cl.front.Load()&1].Push(first, last)
}

// newPool returns a pool of class c from the arenas, in hand.
func (l *Life) newPool(c uint8) (*headers.Header, error) {
	shape := &l.Arenas.Shapes[c]
	h, err := l.Arenas.Take(int(shape.Units))
	if err != nil {
		return nil, err
	}
	pool.Format(h, c, shape, l.Tail(), l.id, 0)
	l.arm() // a shard that frees on its fast path alone never does
	return h, nil
}

// scatter gives the blocks in hand to their pools, and leaves the hand empty: one OR for
// those of one word that came in a row, one addition for a run of one pool's. The loads
// of the first pass overlap where the bitmaps are in no cache; the ORs would not. Not in
// a section; the life goes on, so the headers of the blocks stay.
func (l *Life) scatter(b *pool.Hand) {
	if l.conf.Geometry.Hardened() {
		l.keepBroken(b)
	}
	if b.N == 0 {
		return
	}
	var of [pool.Most]*headers.Header
	var index [pool.Most]uint16
	touched := uint64(0)
	n := min(b.N, pool.Most)
	for i := range n {
		h := headers.Lookup(b.P[i])
		h = pool.First(h, h.Load())
		x := pool.Index(h, b.P[i])
		of[i], index[i] = h, uint16(x)
		touched |= h.Bits[x/64%16].Load()
	}
	_ = touched
	for i := 0; i < n; {
		i = l.give(of[i:n], index[i:n]) + i
	}
	b.N = 0
	l.stir()
}

// keepBroken takes those blocks out of the hand that were written to since they were freed. They
// are lost to their pools, and the next malloc of their class that is no fast one tells of the
// last of them. Hardened allocators look; in others a block that nobody gets again stays as it is.
func (l *Life) keepBroken(b *pool.Hand) {
	n := 0
	for i := range min(b.N, pool.Most) {
		p := b.P[i]
		if pool.IsSealed(p) {
			b.P[n] = p
			n++
			continue
		}
		h, w := find(p)
		l.lost.Add(1)
		h.Lost.Add(1)
		if c := w.Class(); int(c) < len(l.classes) {
			l.classes[c].broken.Store(p)
		}
	}
	b.N = n
}

// give gives the run of blocks of one pool that of and index begin with, and returns how
// many they are.
func (l *Life) give(of []*headers.Header, index []uint16) (n int) {
	h := of[0]
	c, number, blocks := h.Load().Class(), h.Number, int32(h.Blocks)
	word, mask, given := index[0]/64, uint64(0), 0
	for n < len(of) && of[n] == h {
		if i := index[n]; i/64 != word {
			given += pool.Give(h, uint32(word), mask)
			word, mask = i/64, 0
		}
		mask |= 1 << (index[n] % 64)
		n++
	}
	given += pool.Give(h, uint32(word), mask)
	if given < n {
		l.doubles.Add(uint64(n - given))
	}
	hand, count := pool.Gave(h, given)
	if hand {
		if invariant.Enabled {
			invariant.Check(pool.Consistent(h), "scatter: a pool that is not consistent")
		}
		l.push(c, number, number)
	}
	if int(c) < len(l.classes) {
		cl := &l.classes[c]
		if count == blocks && given > 0 && cl.empties.Add(1) >= max(2, cl.pools.Load()/16) {
			l.wantSweep(c, 1)
		}
		if cl.wanted.Load() {
			l.sweep(c)
		}
	}
	return n
}

// portion is how many pools a step of a sweep looks at.
const portion = 64

// wantSweep begins a sweep of class c, if none is under way, that leaves so many empty pools.
func (l *Life) wantSweep(c uint8, leave int32) {
	cl := &l.classes[c]
	if cl.wanted.Load() || !cl.sweeping.CompareAndSwap(0, 1) {
		return
	}
	cl.seen, cl.leave = 0, leave
	cl.wanted.Store(true)
	cl.sweeping.Store(0)
}

// sweep does a step of the sweep of class c, and reports whether the sweep is under way
// still. It takes pools from the front: the empty ones go back to the arenas, but for
// those that it is to leave; those more than half free have no home from now on, so that they
// fill or empty and do not stay sparse; and all that stay go to the back, the fullest on
// top. When the front is empty, front and back change names.
func (l *Life) sweep(c uint8) (more bool) {
	cl := &l.classes[c]
	if !cl.sweeping.CompareAndSwap(0, 1) {
		return true // somebody else does one
	}
	defer cl.sweeping.Store(0)
	if !cl.wanted.Load() {
		return false
	}
	front := cl.front.Load() & 1
	var keep, empty [portion]uint32
	var free [portion]int32
	kept, gone, n := 0, 0, 0
	for ; n < portion; n++ {
		number := cl.stacks[front].Pop()
		if number == 0 {
			break
		}
		h := headers.At(number)
		if isEmpty := pool.Empty(h); isEmpty && cl.leave <= 0 {
			if invariant.Enabled {
				invariant.Check(pool.Consistent(h), "sweep: an empty pool that is not consistent")
			}
			empty[gone] = number
			gone++
			continue
		} else if isEmpty {
			cl.leave--
		}
		count := h.Count.Load()
		if w := h.Load(); w.Home() != 0 && 2*count > int32(h.Blocks) {
			h.Store(w.At(0))
		}
		i := kept
		for ; i > 0 && free[i-1] > count; i-- {
			keep[i], free[i] = keep[i-1], free[i-1]
		}
		keep[i], free[i] = number, count
		kept++
	}
	if kept > 0 {
		for i := 1; i < kept; i++ {
			tagstack.Link(keep[i-1], keep[i])
		}
		cl.stacks[1-front].Push(keep[0], keep[kept-1])
	}
	if gone > 0 {
		cl.empties.Add(int32(-gone))
		l.Arenas.Put(empty[:gone])
	}
	cl.seen += int32(kept)
	if n == portion && cl.seen < 2*cl.pools.Load()+16*portion {
		return true
	}
	cl.front.Store(1 - front)
	cl.pools.Store(cl.seen)
	cl.wanted.Store(false)
	return false
}

// sweepAll sweeps class c to the end, and leaves no empty pool that it finds. What went to
// the back while an earlier sweep was under way is found by the second.
func (l *Life) sweepAll(c uint8) {
	cl := &l.classes[c]
	for range 2 {
		if cl.stacks[0].Empty() && cl.stacks[1].Empty() {
			return
		}
		for cl.wanted.Load() {
			l.sweep(c)
		}
		for l.wantSweep(c, 0); cl.wanted.Load(); {
			l.sweep(c)
		}
	}
}

// ahead is how many bytes of blocks that were never handed out a refill may touch.
const ahead = 4096
