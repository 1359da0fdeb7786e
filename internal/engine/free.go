package engine

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/huge"
	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/shard"
)

// find returns the header of the pool, run or mapping that p is in the units of, and its word.
func find(p uintptr) (*headers.Header, headers.Word) {
	h := headers.Lookup(p)
	w := h.Load()
	if w.Kind() == headers.Inner {
		h = pool.First(h, w)
		w = h.Load()
	}
	return h, w
}

// Free frees the block at p, whatever it is. It does what the fast path and Keep leave to it.
func (l *Life) Free(hp *Heap, at unsafe.Pointer) pool.Outcome {
	p := uintptr(at)
	n, ok := l.begin()
	if !ok {
		return pool.NotOurs
	}
	_, w := find(p)
	out := pool.NotOurs
	if w.Is(l.id, headers.Pool) {
		out = l.freeBlock(hp, at)
	} else if w.Is(l.id, headers.Large) {
		out = l.freeLarge(w, at)
	} else if w == 0 {
		out = l.wasFreed(at)
	}
	n.end()
	return out
}

// wasFreed tells a double free from a foreign pointer, as well as it can, when the unit of p
// is free.
func (l *Life) wasFreed(p unsafe.Pointer) pool.Outcome {
	if l.Arenas.WasFreed(p) {
		return pool.Double
	}
	return pool.NotOurs
}

// freeLarge frees a large run or a huge mapping.
func (l *Life) freeLarge(w headers.Word, p unsafe.Pointer) pool.Outcome {
	out := pool.NotOurs
	if w.Class() == headers.Huge {
		out = l.Huge.FreeHuge(p)
	} else {
		out = l.Arenas.PutRun(p, l.conf.Wipe)
	}
	if out == pool.OK {
		l.arm()
		l.stir()
	}
	return out
}

// Keep puts the block at p, in a unit with the header h and the word w, into a magazine of the
// shard that has room for it, and reports whether that is done, or is not to be done: the
// outcome says then what p was. It knows all modes. In a section of the shard, in which w was read.
//
//go:noinline
func Keep(s *Shard, h *Header, w Word, p unsafe.Pointer) (out pool.Outcome, done bool) {
	if !usable(s) || !w.Is(s.Life(), headers.Pool) {
		return 0, false
	}
	m := s.OfPool(w)
	if !s.Home(w) {
		if !m.RoomOut() {
			return 0, false
		}
		if out = sealOnce(h, p, s.Wipes()); out == pool.OK {
			m.PushOut(uintptr(p))
		}
		return out, true
	}
	at := m.Room()
	if at == 0 {
		return 0, false
	}
	if out = pool.Examine(h, p); out == pool.OK {
		if s.Wipes() {
			pool.Wipe(uintptr(p), h.Size)
		}
		m.Push(p, at)
	}
	return out, true
}

// keep is Keep in a section of its own.
func (l *Life) keep(hp *Heap, p unsafe.Pointer) (out pool.Outcome, done bool) {
	s, token := l.enter(hp)
	h, w := find(uintptr(p)) // what is seen in the section stays mapped
	out, done = Keep(s, h, w, p)
	l.leave(hp, token)
	return out, done
}

// sealOnce examines the block at p, and seals it if it is one that the caller may free.
func sealOnce(h *headers.Header, p unsafe.Pointer, wipe bool) pool.Outcome {
	if out := pool.Examine(h, p); out != pool.OK {
		return out
	}
	if !pool.SealOnce(uintptr(p)) {
		return pool.Double
	}
	if wipe {
		pool.Wipe(uintptr(p), h.Size)
	}
	pool.Freed(uintptr(p))
	return pool.OK
}

// freeBlock frees the block of a pool at p, for which the shard's magazines have no room: it
// makes some, or gives the block to its pool.
func (l *Life) freeBlock(hp *Heap, p unsafe.Pointer) pool.Outcome {
	out := l.makeRoom(hp, p)
	if out != pool.OK {
		return out
	}
	if out, done := l.keep(hp, p); done {
		return out
	}
	_, token := l.enter(hp)
	h, w := find(uintptr(p))
	out = pool.NotOurs
	if w.Is(l.id, headers.Pool) {
		out = sealOnce(h, p, l.conf.Wipe)
	}
	l.leave(hp, token)
	switch {
	case out == pool.OK:
		var b pool.Hand
		b.Add(uintptr(p))
		l.scatter(&b)
		l.arm()
	case w == 0: // another has freed it since makeRoom looked, and the pool is gone
		out = l.wasFreed(p)
	}
	return out
}

// makeRoom makes room for the block at p, of a pool of the life, in the magazines of the shard,
// if the caller may free it: else it returns what p is.
func (l *Life) makeRoom(hp *Heap, p unsafe.Pointer) pool.Outcome {
	var b, idle pool.Hand
	var idler uint8
	old, was, want := uintptr(0), 0, 0
	s, token := l.enter(hp)
	h, w := find(uintptr(p))
	c, out := w.Class(), pool.NotOurs
	if w.Is(l.id, headers.Pool) {
		out = pool.Examine(h, p)
	}
	if out == pool.OK && s == nil {
		want = shard.StartCap(c)
	} else if out == pool.OK && usable(s) {
		m := s.OfPool(w)
		switch {
		case m.Mags == 0:
			want = shard.StartCap(c)
		case !s.Home(w):
			m.TakeOut(&b)
			idler, old = s.Rotate(c, &idle)
		case m.Room() == 0:
			g := m.Magazines()
			n := int(g.Cap)
			if m.Flush(&b) && g.Refills > 0 && s.Extra < shard.ExtraBytes {
				was, want = n, min(2*n, shard.MostCap(c))
			}
			idler, old = s.Rotate(c, &idle)
		}
	}
	l.leave(hp, token)
	if out != pool.OK {
		return out
	}
	if b.N > 0 {
		l.scatter(&b)
		l.arm()
	}
	l.retire(&idle, idler, old)
	if want > was && was > 0 {
		l.grow(hp, c, was, want)
	} else if want > 0 && was == 0 {
		l.provide(hp, s, token, c)
	}
	return pool.OK
}

// Resize gives the huge block at p another size without a new block, and returns where it is
// then, or nil if it could not. The caller holds the block.
func (l *Life) Resize(p unsafe.Pointer, size int) unsafe.Pointer {
	n, ok := l.begin()
	if !ok {
		return nil
	}
	defer n.end()
	q := l.Huge.Resize(p, size)
	if free, _ := l.Huge.HasFree(); q != nil && free {
		l.arm()
		l.stir()
	}
	return q
}

// IsHuge reports whether p may be the beginning of a huge block.
func IsHuge(p unsafe.Pointer) bool {
	w := headers.Lookup(uintptr(p)).Load()
	return w.Kind() == headers.Large && w.Class() == headers.Huge
}

// Knows reports whether p lies in memory of an allocator.
func Knows(p uintptr) bool { return headers.Lookup(p).Load() != 0 }

// Owns reports whether p lies in memory of the life: in a pool or run of one of its arenas, or at
// the beginning of one of its huge blocks.
func (l *Life) Owns(p unsafe.Pointer) bool {
	w := headers.Lookup(uintptr(p)).Load()
	if w.Life() != l.id {
		return false
	}
	if w.Kind() == headers.Large && w.Class() == headers.Huge {
		size, _ := huge.Usable(p)
		return size != 0
	}
	return true
}

// SizeOf returns the usable size of the life's live block at p, or, if there is none, 0 and
// what Free would say.
func (l *Life) SizeOf(p unsafe.Pointer) (size int, otherwise pool.Outcome) {
	n, ok := l.begin()
	if !ok {
		return 0, pool.NotOurs
	}
	defer n.end()
	_, w := find(uintptr(p))
	switch {
	case w == 0:
		return 0, l.wasFreed(p)
	case w.Life() != l.id:
		return 0, pool.NotOurs
	}
	return sizeOf(p)
}

// UsableSize returns the usable size of the live block at p, of any allocator, or 0 if there
// is none.
func UsableSize(p unsafe.Pointer) int {
	size, _ := sizeOf(p)
	return size
}

// sizeOf returns the usable size of the live block at p, or 0 and what a free would say.
func sizeOf(p unsafe.Pointer) (size int, otherwise pool.Outcome) {
	token := pin.Enter()
	h, w := find(uintptr(p))
	otherwise = pool.NotOurs
	switch w.Kind() {
	case headers.Pool:
		if otherwise = pool.State(h, uintptr(p)); otherwise == pool.OK {
			size = int(h.Size) - int(h.Tail)
		}
	case headers.Large:
		if w.Class() == headers.Run && h.Start == uintptr(p) {
			size, otherwise = int(h.Usable), pool.OK
		}
	}
	pin.Exit(token)
	if w.Kind() == headers.Large && w.Class() == headers.Huge {
		return huge.Usable(p)
	}
	return size, otherwise
}
