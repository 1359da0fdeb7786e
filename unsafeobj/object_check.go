package unsafeobj

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// errRefused is what tests have alloc return, with the tag invariants.
var errRefused = errors.New("unsafeobj: refused by a test")

// check looks for faults in the structure of a locked Space, between any two
// operations, and between the slices of a collection:
//
//	lists    each container is in one, and those only that are not dead
//	counts   no object has fewer references than there are in containers
//	links    a container that refers to others says so (gcLinks), or they are not found
//	tables   n entries have a key; the index leads to each; a list has n <= cap
//	weak     what has weak references says so (gcWeak), and the reverse
//	leaves   as many are found in the allocator's blocks at least as can be reached
//
// It is for the tests, and is done after each full collection with the tag invariants.
func (s *Space) check() error {
	k := checker{s: s, in: map[*header]bool{}, refs: map[*header]int32{}}
	for i := range s.gc.heads {
		k.list(&s.gc.heads[i])
	}
	for h := range k.in {
		k.container(h)
	}
	var leaves [firstContainer]int
	for x, n := range k.refs {
		if x.typ < firstContainer {
			leaves[x.typ]++
		}
		if has := atomic.LoadInt32(&x.refs); has >= 0 && has < n {
			k.fault(x, "has %d references, and %d from containers", has, n)
		}
	}
	for t, has := range s.leaves() {
		if n := leaves[t]; has < n {
			k.errs = append(k.errs, fmt.Errorf("%d leaves of type %d, of which %d can be reached", has, t, n))
		}
	}
	for addr := range s.weak {
		if h := at(addr); !k.in[h] || gcOf(h).flags&gcWeak == 0 {
			k.errs = append(k.errs, errors.New("weak references to what is no container, or does not know of them"))
		}
	}
	k.table(&s.interned)
	return errors.Join(k.errs...)
}

type checker struct {
	s    *Space
	in   map[*header]bool
	refs map[*header]int32 // from containers
	errs []error
}

func (k *checker) fault(h *header, format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf("%s at %p "+format, append([]any{typeOf(h).name, h}, args...)...))
}

func (k *checker) list(l *gcHead) {
	for g := l.next.gc(); ; g = g.next.gc() {
		if g.next.gc().prev.gc() != g || g.prev.gc().next.gc() != g {
			k.errs = append(k.errs, errors.New("a list of containers is broken"))
			return
		}
		if g == l {
			return
		}
		h := g.object()
		if k.in[h] {
			k.fault(h, "is in two lists")
		}
		k.in[h] = true
	}
}

func (k *checker) container(h *header) {
	g := gcOf(h)
	if h.space != k.s.id || h.typ < firstContainer {
		k.errs = append(k.errs, fmt.Errorf("a container of Space %d and type %d", h.space, h.typ))
		return
	}
	if atomic.LoadInt32(&h.refs) == 0 {
		k.fault(h, "is dead, and in a list")
	}
	if _, weak := k.s.weak[uintptr(unsafe.Pointer(h))]; weak != (g.flags&gcWeak != 0) {
		k.fault(h, "has weak references %t, flags %#x", weak, g.flags)
	}
	switch h.typ {
	case typeList:
		if l := listOf(h); l.n > l.cap || (l.cap > 0) != (l.items != 0) {
			k.fault(h, "has %d of %d items", l.n, l.cap)
		}
	case typeDict, typeSet:
		k.table(tableOf(h))
	}
	if o := k.s.gc.old; o != nil && o.phase >= cutting && g.flags&(gcOld|gcWhite) == gcOld|gcWhite {
		return // what it refers to may be gone
	}
	links := false
	for c := childrenOf(h); c.left > 0; {
		var x *header
		if x, c = c.next(); x == nil || x.space == 0 {
			continue
		}
		if x.space != k.s.id {
			k.fault(h, "refers to one of Space %d", x.space)
			continue
		}
		k.refs[x]++
		if x.typ >= firstContainer {
			links = true
			if !k.in[x] {
				k.fault(h, "refers to a %s that is in no list", typeOf(x).name)
			}
		}
	}
	if o := k.s.gc.old; links && g.flags&gcLinks == 0 && (o == nil || o.at == 0 || o.cursor.gc() != g) {
		k.fault(h, "does not know that it refers to containers")
	}
}

func (k *checker) table(o *tableObject) {
	t := o.tab()
	if t == nil {
		if o.n != 0 {
			k.fault(&o.header, "has %d entries and no table", o.n)
		}
		return
	}
	n := 0
	for i := range t.filled {
		e := t.entry(i)
		x := e.key.object()
		if x == nil {
			continue
		}
		n++
		if uintptr(t.step) == dictStep && e.value == 0 {
			k.fault(&o.header, "has no value in entry %d", i)
		}
		if o == &k.s.interned && atomic.LoadInt32(&x.refs) == 0 {
			k.fault(x, "is dead, and interned")
		}
		if at := t.probe(e.hash, i); !at {
			k.fault(&o.header, "does not find entry %d", i)
		}
	}
	if n != o.n || t.filled > usableOf(t.log2) {
		k.fault(&o.header, "has %d entries, want %d; %d of %d are filled", n, o.n, t.filled, usableOf(t.log2))
	}
}

// probe reports whether the index leads to entry i.
func (t *table) probe(hash uint64, i int) bool {
	for at, perturb := hash, hash; ; at = at*5 + perturb + 1 {
		for j := range uint64(groupSlots) {
			switch t.index(at&t.mask() ^ j) {
			case slotFree:
				return false
			case t.tagOf(hash) | uint64(i) + slotFirst:
				return true
			}
		}
		perturb >>= perturbBits
	}
}
