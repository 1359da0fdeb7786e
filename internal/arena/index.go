package arena

import "math/bits"

// index has arenas in lists by a number, from 0 to the units of an arena.
type index struct {
	which int // of an arena's links
	lists []list
	some  []uint64 // bit n: lists[n] has an arena
}

type (
	list  struct{ head, tail *Header }
	links struct{ next, prev *Header }
)

func newIndex(which, units int) index {
	return index{which, make([]list, units+1), make([]uint64, units/64+1)}
}

// next returns the arena after a in its list.
func (x *index) next(a *Header) *Header { return a.links[x.which].next }

// add puts the arena at the end of list n.
func (x *index) add(a *Header, n uint32) {
	l := &x.lists[n]
	a.links[x.which] = links{prev: l.tail}
	if l.tail != nil {
		l.tail.links[x.which].next = a
	} else {
		l.head = a
		x.some[n/64] |= 1 << (n % 64)
	}
	l.tail = a
}

// remove takes the arena out of list n.
func (x *index) remove(a *Header, n uint32) {
	l, at := &x.lists[n], a.links[x.which]
	if at.prev != nil {
		at.prev.links[x.which].next = at.next
	} else {
		l.head = at.next
	}
	if at.next != nil {
		at.next.links[x.which].prev = at.prev
	} else {
		l.tail = at.prev
	}
	if l.head == nil {
		x.some[n/64] &^= 1 << (n % 64)
	}
}

// from returns the first arena of the lists from n on, or nil.
func (x *index) from(n int) *Header {
	mask := ^uint64(0) << (n % 64)
	for i := n / 64; i < len(x.some); i++ {
		if w := x.some[i] & mask; w != 0 {
			return x.lists[i*64+bits.TrailingZeros64(w)].head
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
