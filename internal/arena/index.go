package arena

import (
	"math/bits"

	"github.com/pyarena/pyarena/internal/headers"
)

// index has arenas in lists by a number, from 0 to the units of an arena. The lists are
// linked by the numbers of the headers, of which none is 0.
type index struct {
	which int // of an arena's links
	lists []list
	some  []uint64 // bit n: lists[n] has an arena
}

type list struct{ head, tail uint32 }

func newIndex(which, units int) index {
	return index{which, make([]list, units+1), make([]uint64, units/64+1)}
}

func (x *index) links(n uint32) *headers.Links { return &headers.At(n).Arena.Links[x.which] }

// add puts the arena at the end of list n.
func (x *index) add(a *headers.Header, n uint32) {
	l := &x.lists[n]
	a.Arena.Links[x.which] = headers.Links{Prev: l.tail}
	if l.tail != 0 {
		x.links(l.tail).Next = a.Number
	} else {
		l.head = a.Number
		x.some[n/64] |= 1 << (n % 64)
	}
	l.tail = a.Number
}

// remove takes the arena out of list n.
func (x *index) remove(a *headers.Header, n uint32) {
	l, at := &x.lists[n], a.Arena.Links[x.which]
	if at.Prev != 0 {
		x.links(at.Prev).Next = at.Next
	} else {
		l.head = at.Next
	}
	if at.Next != 0 {
		x.links(at.Next).Prev = at.Prev
	} else {
		l.tail = at.Prev
	}
	if l.head == 0 {
		x.some[n/64] &^= 1 << (n % 64)
	}
}

// first returns the first arena of list n, and next the one after a in its list, or nil.
func (x *index) first(n int) *headers.Header { return arenaAt(x.lists[n].head) }

func (x *index) next(a *headers.Header) *headers.Header { return arenaAt(a.Arena.Links[x.which].Next) }

func arenaAt(n uint32) *headers.Header {
	if n == 0 {
		return nil
	}
	return headers.At(n)
}

// from returns the first arena of the lists from n on, or nil.
func (x *index) from(n int) *headers.Header {
	mask := ^uint64(0) << (n % 64)
	for i := n / 64; i < len(x.some); i++ {
		if w := x.some[i] & mask; w != 0 {
			return x.first(i*64 + bits.TrailingZeros64(w))
		}
		mask = ^uint64(0)
	}
	return nil
}

// clear empties all lists.
func (x *index) clear() {
	clear(x.lists)
	clear(x.some)
}
