package unsafeobj

import (
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
)

// Object is a borrowed reference to an object of any kind: it says which object,
// and keeps it no longer than its owner does. Two Objects are == if they are one
// object. The zero Object is none; functions return [ErrNoObject] for it.
//
// An Object is one word and no Go pointer, so it may be kept off heap too. [Own]
// makes an owned reference of it, [As] a handle of its kind.
type Object struct{ addr uintptr }

// object is embedded in the handles of each kind: under this name nobody outside
// can put an object of another kind there. An empty array in front keeps one handle
// from being converted to another; behind the object it would double the size.
type object = Object

// View is a handle on objects of a kind: [Object] itself, which is any,
// [Bool], [Int], [Float], [String], [Bytes], [Tuple], [List], [Dict], [Set] and
// [Instance]. A View is borrowed.
type View interface {
	// Object returns the handle without its kind.
	Object() Object
	// accepts reports whether the object is of the view's kind.
	accepts(*header) bool
}

// Object returns the handle without its kind; it is the same object.
func (o Object) Object() Object { return o }

func (Object) accepts(*header) bool { return true }

// IsNone reports whether o is None.
func (o Object) IsNone() bool { return o == None() }

// Ref is an owned reference to an object whose handle is a T: the object lives at
// least until Release. Each Ref is released once; a function that is said to
// steal a Ref does so itself. The zero Ref refers to nothing.
//
// Like Object it is one word and no Go pointer. In an owned [Space] it belongs to
// the Space's goroutine; in a shared one any goroutine may clone and release it,
// but each Ref is one goroutine's at a time.
type Ref[T View] struct {
	_    [0]T // Ref[List] does not convert to Ref[Dict]
	addr uintptr
}

// AnyRef is an owned reference to an object of any kind.
type AnyRef = Ref[Object]

// Get returns the object, borrowed from r: use it no longer than r lives.
func (r Ref[T]) Get() T { return *(*T)(unsafe.Pointer(&r.addr)) }

// Object returns the object, borrowed from r, without its kind.
func (r Ref[T]) Object() Object { return Object{r.addr} }

// IsZero reports whether r refers to nothing, as after Release.
func (r Ref[T]) IsZero() bool { return r.addr == 0 }

// Any returns r without its kind. It is the same reference: one of the two
// is to be released.
func (r Ref[T]) Any() AnyRef { return AnyRef{addr: r.addr} }

// Clone returns one more owned reference to the object.
func (r Ref[T]) Clone() Ref[T] {
	if r.addr != 0 {
		incref(at(r.addr))
	}
	return r
}

// Release gives the reference up, and empties r, so that releasing it again does
// nothing. With its last reference the object dies: it is finalised, and what it
// refers to is released.
func (r *Ref[T]) Release() {
	if a := r.addr; a != 0 {
		r.addr = 0
		decref(at(a))
	}
}

// Own returns an owned reference to a borrowed object.
func Own[T View](v T) Ref[T] {
	return Ref[T]{addr: v.Object().addr}.Clone()
}

// As returns the borrowed o as a handle of its kind, or a [TypeError].
func As[T View](o Object) (T, error) {
	var zero T
	if o.addr == 0 {
		return zero, ErrNoObject
	}
	if h := at(o.addr); !zero.accepts(h) {
		return zero, &TypeError{Want: viewName(zero), Got: typeOf(h).name}
	}
	return *(*T)(unsafe.Pointer(&o)), nil
}

// Take is [As] for an owned reference, which it steals if the kind is right. If
// not, r is still the caller's.
func Take[T View](r AnyRef) (Ref[T], error) {
	if _, err := As[T](r.Object()); err != nil {
		return Ref[T]{}, err
	}
	return Ref[T]{addr: r.addr}, nil
}

// RefCount returns the number of references to o, from Go and from other objects;
// math.MaxInt for an immortal object. In a shared Space it is a glimpse.
func RefCount(o Object) int {
	if o.addr == 0 {
		return 0
	}
	n := atomic.LoadInt32(&at(o.addr).refs)
	if n < 0 {
		return math.MaxInt
	}
	return int(n)
}

// header stands in front of every object.
type header struct {
	refs  int32  // references; 0 when dead, immortal when negative
	typ   typeID // the process knows types by number
	space int16  // id of an owned Space, -id of a shared one, 0 for the immortals of the process
}

const (
	immortal = math.MinInt32 / 2
	// maxRefs is the count at which an object becomes immortal rather than that
	// the count wraps around. It would take 8 GiB of references on 64 bits.
	maxRefs = 1 << (27 + 3*(ptrBytes/8))

	headerBytes = unsafe.Sizeof(header{})
	ptrBytes    = unsafe.Sizeof(uintptr(0))
)

// link is the address of something off heap, kept there. It is a number, so that no
// write barrier is compiled in, and is loaded and stored as one only.
type link uintptr

func (l *link) object() *header     { return (*header)(addr.Pointer(uintptr(*l))) }
func (l *link) set(p *header)       { *l = link(uintptr(unsafe.Pointer(p))) }
func (l *link) gc() *gcHead         { return (*gcHead)(addr.Pointer(uintptr(*l))) }
func (l *link) setGC(p *gcHead)     { *l = link(uintptr(unsafe.Pointer(p))) }
func (l *link) ptr() unsafe.Pointer { return addr.Pointer(uintptr(*l)) }

// at returns the object at an address. Handles hold addresses, not pointers, so
// that they may stand anywhere: off heap, and by the million in a Go map that the
// collector then does not look into.
func at(a uintptr) *header { return (*header)(addr.Pointer(a)) }

func objectOf(h *header) Object { return Object{uintptr(unsafe.Pointer(h))} }

func refTo[T View](h *header) Ref[T] { return Ref[T]{addr: uintptr(unsafe.Pointer(h))} }

// incref adds a reference. It is inlined; only the rare cases are called.
func incref(h *header) {
	if h.space > 0 && uint32(h.refs-1) < maxRefs { // only of an owned Space may refs be read so
		h.refs++
		return
	}
	increfSlow(h)
}

func increfSlow(h *header) {
	switch {
	case h.space == 0: // immortal
	case h.space < 0:
		if n := atomic.LoadInt32(&h.refs); n > 0 && n < maxRefs {
			atomic.AddInt32(&h.refs, 1)
		} else if n >= maxRefs {
			atomic.StoreInt32(&h.refs, immortal)
		} else if n == 0 {
			_ = misused(h, "is cloned")
		}
	case h.refs == 0:
		_ = misused(h, "is cloned")
	case h.refs > 0:
		h.refs = immortal
	}
}

// How counts of a shared Space fall. A reference is cloned by who has one, or, with
// the Space locked, by who finds the object in something that has one: a container, the
// table of Intern'ed strings, a weak reference's address.
//
//	n > 1   n-1     anybody, by CAS
//	1       0       a leaf: who has that reference, without the lock, for nobody else
//	                can come by one: a plain store
//	1       0       a container, or an Intern'ed string: the same, with the lock, for
//	                the weak reference, the collector or the table
//
// So nothing that a list, a table or a weak reference leads to has the count 0, while the
// Space is locked. What others did with the object happened before the CAS that left the
// count at 1, and that before its load.
//
// Of two who release the one reference at once, which neither may, both can find the
// 1 of a leaf. Then both free its block, of which the allocator refuses one, or hands the
// block out once. In a Debug Space the last step is a CAS too: one of them is told.

// decref drops a reference from outside: the lock is not held. It is one function, for
// calls are a good part of what the death of an int takes.
func decref(h *header) {
	switch {
	case h.space > 0:
		n := h.refs
		switch {
		case n > 1:
			h.refs = n - 1
		case n == 1:
			h.refs = 0
			s := ownedByID(h.space)
			switch {
			case (h.typ == typeInt || h.typ == typeFloat) && s.numbers.push(h):
			case h.typ < firstContainer:
				s.freeLeaf(h)
			case s.locks:
				s.dieLater(h, false)
			default:
				s.dead(h)
				s.settle()
			}
		case n == 0:
			_ = misused(h, "is released")
		}
	case h.space < 0:
		for {
			n := atomic.LoadInt32(&h.refs)
			switch {
			case n < 0:
				return
			case n == 0:
				_ = misused(h, "is released")
				return
			case n == 1:
				s := spaceOf(h)
				if h.typ >= firstContainer || isInterned(h) {
					s.dropLast(h)
					return
				}
				if !s.bury(h) {
					continue
				}
				if s.debug {
					s.retire(h)
				} else if err := s.mem.UnsafeFree(unsafe.Pointer(h)); err != nil {
					s.notFreed(err)
				}
				return
			case atomic.CompareAndSwapInt32(&h.refs, n, n-1):
				return
			}
		}
	}
}

// dropLast is drop from outside, of what is the last reference unless somebody finds the
// object in the meantime.
func (s *Space) dropLast(h *header) {
	s.lock()
	defer s.unlock()
	s.drop(h)
}

// bury drops the last reference to an object of a shared Space, whose count was 1. It
// reports false if that has changed.
func (s *Space) bury(h *header) bool {
	if s.debug {
		return atomic.CompareAndSwapInt32(&h.refs, 1, 0)
	}
	h.bury()
	return true
}

// drop is decref inside an operation, which has the Space locked if it is shared
// and settles at its end.
func (s *Space) drop(h *header) {
	if h.space == 0 {
		return
	}
	if !s.shared {
		if n := h.refs - 1; n > 0 {
			h.refs = n
		} else if n == 0 {
			h.refs = 0
			s.dead(h)
		} else if n == -1 {
			s.misusedLater(h, "is released")
		}
		return
	}
	for {
		n := atomic.LoadInt32(&h.refs)
		switch {
		case n < 0:
			return
		case n == 0:
			s.misusedLater(h, "is released")
			return
		case n == 1:
			if s.bury(h) {
				s.dead(h)
				return
			}
		case atomic.CompareAndSwapInt32(&h.refs, n, n-1):
			return
		}
	}
}

// misused reports a use of a dead object whose block is still as it was, and returns the
// error.
func misused(h *header, what string) error {
	err := &CountError{Type: typeOf(h).name, What: what}
	if s := spaceOf(h); s != nil {
		s.tell(err)
	}
	return err
}

// misusedLater has a misuse reported when the operation is over that found it: Report may
// panic.
//
//go:noinline
func (s *Space) misusedLater(h *header, what string) {
	s.later(callback{err: &CountError{Type: typeOf(h).name, What: what}})
}
