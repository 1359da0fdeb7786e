package engine

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/next/headers"
	"github.com/pyarena/pyarena/internal/next/huge"
	"github.com/pyarena/pyarena/internal/next/pin"
	"github.com/pyarena/pyarena/internal/next/pool"
	"github.com/pyarena/pyarena/internal/next/shard"
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

// Free frees the block at p, whatever it is. It does what the fast path does, in any mode,
// and what that leaves to it.
func (l *Life) Free(hp *Heap, at unsafe.Pointer) pool.Outcome {
	p := uintptr(at)
	n, ok := l.begin()
	if !ok {
		return pool.NotOurs
	}
	_, w := find(p)
	out := pool.NotOurs
	if w.Is(l.id, headers.Pool) {
		out = l.freeBlock(hp, p)
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

// freeBlock frees the block of a pool at p.
func (l *Life) freeBlock(hp *Heap, p uintptr) pool.Outcome {
	var b, idle pool.Hand
	var c, idler uint8
	old, was, want := uintptr(0), 0, 0
	s, token := l.enter(hp)
	h, w := find(p) // again: what was seen in the section stays mapped
	out := pool.NotOurs
	if w.Is(l.id, headers.Pool) {
		out = l.examine(h, p)
	}
	if out == pool.OK {
		c = w.Class()
		home := usable(s) && w.Key() == s.Key
		if !home && !pool.SealOnce(p) {
			out = pool.Double
		}
		if out == pool.OK {
			if l.conf.Wipe {
				pool.Wipe(p, h.Size)
			}
			if home {
				pool.Seal(p)
			}
			pool.Freed(p)
			if m := (*shard.Class)(nil); !usable(s) {
				b.Add(p)
			} else if m = s.Of(c); m.Mags == 0 {
				b.Add(p)
				want = shard.StartCap(c)
			} else if home && m.Top != m.End {
				m.Push(p)
			} else if home {
				g := m.Magazines()
				b.Add(p)
				n := int(g.Cap)
				if m.Flush(&b) && g.Refills > 0 && s.Extra < shard.ExtraBytes {
					was, want = n, min(2*n, shard.MostCap(c))
				}
				idler, old = s.Rotate(c, &idle)
			} else if !m.PushOut(p) {
				m.TakeOut(&b)
				b.Add(p)
				idler, old = s.Rotate(c, &idle)
			}
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
	return out
}

// examine returns what a free of p finds in the pool. In a section.
func (l *Life) examine(h *headers.Header, p uintptr) pool.Outcome {
	out := pool.State(h, p)
	if t := l.Tail(); out == pool.OK && t > 0 && !pool.IsTail(addr.Pointer(p), uintptr(int(h.Size)-t)) {
		return pool.Overrun
	}
	return out
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
