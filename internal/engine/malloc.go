package engine

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/shard"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// MaxShards is how many shards an allocator may have: Heaps, and Ps.
const MaxShards = 1<<24 - 1

// Errors of Malloc. The address beside ErrCorrupted is that of the block.
var (
	ErrCorrupted    error = pool.Error("a free block was written to")
	ErrTooManyHeaps error = pool.Error("there are 16,777,215 heaps and shards of Ps, the most that an allocator may have")
)

// Malloc returns a block of class c for the heap, or for the P if hp is nil, and whether it is
// known to be zero. It does what the fast path does, in any mode, and what that leaves to it.
func (l *Life) Malloc(hp *Heap, c uint8) (p unsafe.Pointer, zero bool, err error) {
	if c >= sizeclass.Count {
		return nil, false, errStrange // for the compiler: no class is out of range below
	}
	if p := l.tell(c); p != 0 {
		return addr.Pointer(p), false, ErrCorrupted
	}
	at, sealed := l.pop(hp, c)
	for tried := false; at == 0; {
		seen := l.reclaims.seen()
		n, ok := l.begin()
		if !ok {
			return nil, false, arena.ErrClosed
		}
		at, sealed, zero, err = l.refill(hp, c)
		n.end()
		switch {
		case err == nil:
			l.reclaims.found(tried)
		case tried || err == arena.ErrClosed || !l.reclaim(seen):
			return nil, false, err
		default: // the limit was reached, or the system refused: look once more
			tried = true
		}
	}
	if !sealed {
		l.lose(at)
		return addr.Pointer(at), false, ErrCorrupted
	}
	pool.Taken(at)
	if t := l.Tail(); t > 0 {
		pool.SetTail(addr.Pointer(at), uintptr(sizeclass.Size(c)-t))
	}
	return addr.Pointer(at), zero, nil
}

// Get returns a block of size bytes, 1 … SmallMax, from the shard's loaded magazine, in any
// mode, or nil if there is none, or it is not sealed. In a section of the shard.
//
//go:noinline
func Get(s *Shard, size int) unsafe.Pointer {
	if !usable(s) {
		return nil
	}
	canaries := s.Canaries()
	if canaries {
		size += pool.TailBytes
	}
	if uint(size) > sizeclass.Max {
		return nil
	}
	c := sizeclass.Of(size)
	m := s.Of(c)
	p := m.Peek()
	if !pool.IsSealedAt(p) {
		return nil
	}
	m.Pop(p)
	if canaries {
		pool.SetTail(p, uintptr(sizeclass.Size(c)-pool.TailBytes))
	}
	return p
}

// take clears the seal of a block that was popped, and reports whether it was there.
func take(p uintptr) bool {
	ok := pool.IsSealed(p)
	if ok {
		pool.Unseal(p)
	}
	return ok
}

// pop returns a block of class c from the shard, or 0, and whether it was sealed.
func (l *Life) pop(hp *Heap, c uint8) (p uintptr, sealed bool) {
	s, token := l.enter(hp)
	if usable(s) {
		m := s.Of(c)
		if m.Len() > 0 || m.Swap() {
			p = m.Drop()
			sealed = take(p)
		}
	}
	l.leave(hp, token)
	return p, sealed
}

// refill returns a block of class c from pools, and whether it was sealed and is known to be
// zero, and fills the shard's magazine with others.
func (l *Life) refill(hp *Heap, c uint8) (p uintptr, sealed, zero bool, err error) {
	var b, idle pool.Hand
	most, home, old, idler := 1, uint32(0), uintptr(0), uint8(0)
	for try := 0; ; try++ {
		s, token := l.enter(hp)
		ok := usable(s)
		ready := ok && s.Of(c).Mags != 0
		if ready {
			m := s.Of(c)
			g := m.Magazines()
			g.Refills++
			most, home = min(int(g.Cap), pool.Most), s.ID()
			m.TakeOut(&b)
			idler, old = s.Rotate(c, &idle)
		}
		l.leave(hp, token)
		if ready || try > 0 || s != nil && !ok {
			break
		}
		l.provide(hp, s, token, c)
	}
	l.scatter(&b)
	l.retire(&idle, idler, old)
	if zero, err = l.fill(home, c, &b, most); err != nil {
		return 0, false, false, err
	}
	if b.N > 1 {
		s, token := l.enter(hp)
		if usable(s) {
			if l.conf.Geometry.Hardened() {
				s.Shuffle(&b)
			}
			if m := s.Of(c); m.Mags != 0 {
				m.Put(&b, 1)
			}
		}
		l.leave(hp, token)
	}
	p = b.P[0]
	if b.N--; b.N > 0 {
		b.P[0] = b.P[uint(b.N)%pool.Most]
		l.scatter(&b)
	}
	return p, take(p), zero, nil
}

// provide gives the shard s magazines of class c, or the P whose token that is a shard first,
// if there is memory for it.
func (l *Life) provide(hp *Heap, s *shard.Shard, token int, c uint8) {
	if s == nil {
		if hp != nil {
			return
		}
		l.install(token)
	}
	l.grow(hp, c, 0, shard.StartCap(c))
}

// grow gives the shard magazines of n places for class c, where it has ones of was.
func (l *Life) grow(hp *Heap, c uint8, was, n int) {
	p, err := metaAlloc(shard.ArrayBytes(c, n))
	if err != nil {
		return // it works without
	}
	old := uintptr(p)
	s, token := l.enter(hp)
	if usable(s) {
		m := s.Of(c)
		if has := m.Cap(); has == was {
			old = s.Install(c, uintptr(p), n)
			s.Extra += int32((n - max(was, shard.StartCap(c))) * sizeclass.Size(c) * 2)
		}
	}
	l.leave(hp, token)
	if old != 0 {
		metaFreeAt(old)
	}
	l.stir() // from now on frees go where no slow path sees them
	l.arm()
}

// retire scatters what the rotor has found idle in class c, frees the magazines that it has
// taken away, and then gives back the pools of the class that are empty.
func (l *Life) retire(idle *pool.Hand, c uint8, old uintptr) {
	l.scatter(idle)
	if old == 0 {
		return
	}
	metaFreeAt(old)
	if int(c) < len(l.classes) && l.classes[c].empties.Load() > 0 {
		l.wantSweep(c, 0)
		l.sweep(c)
	}
}

// tell returns a broken block of class c that nobody was told of, or 0. One whose seal is whole
// again goes back to its pool.
func (l *Life) tell(c uint8) uintptr {
	broken := &l.classes[c].broken
	if broken.Load() == 0 {
		return 0
	}
	n, ok := l.begin()
	if !ok {
		return 0
	}
	defer n.end()
	p := broken.Swap(0)
	if p == 0 || !pool.IsSealed(p) {
		return p
	}
	h, _ := find(p)
	h.Lost.Add(^uint32(0))
	l.lost.Add(^uint64(0))
	b := pool.Hand{N: 1, P: [pool.Most]uintptr{p}}
	l.scatter(&b)
	return 0
}

// lose takes a block that was written to after it was freed out of use.
func (l *Life) lose(p uintptr) {
	l.lost.Add(1)
	if n, ok := l.begin(); ok {
		h := headers.Lookup(p)
		pool.First(h, h.Load()).Lost.Add(1)
		n.end()
	}
}

// MallocLarge returns a block for a request that has no size class, and whether it is known to
// be zero.
func (l *Life) MallocLarge(size, align int) (p unsafe.Pointer, zero bool, err error) {
	seen := l.reclaims.seen()
	p, zero, err = l.mallocLarge(size, align)
	if err == nil || err == arena.ErrClosed || !l.reclaim(seen) {
		return p, zero, err
	}
	if p, zero, err = l.mallocLarge(size, align); err == nil {
		l.reclaims.found(true)
	}
	return p, zero, err
}

func (l *Life) mallocLarge(size, align int) (p unsafe.Pointer, zero bool, err error) {
	n, ok := l.begin()
	if !ok {
		return nil, false, arena.ErrClosed
	}
	defer n.end()
	return l.Huge.Alloc(size, align)
}
