package unsafeobj

import (
	"sync/atomic"
	"unsafe"
)

// Weak is a weak reference: it does not keep the object alive, and knows when it is
// gone. It is a Go value, and any goroutine may use it that may use the Space.
type Weak[T View] struct {
	_ [0]*T // Weak[List] does not convert to Weak[Dict]
	w *weakRef
}

type weakRef struct {
	s        *Space
	addr     atomic.Uintptr // 0 when the object is gone
	callback func()
}

// NewWeak returns a weak reference to a borrowed container or instance; other objects
// have none, and give a [TypeError]. callback, if not nil, is called once when the
// object is gone, unless the Weak was dropped before.
func NewWeak[T View](v T, callback func()) (Weak[T], error) {
	o := v.Object()
	if o.addr == 0 {
		return Weak[T]{}, ErrNoObject
	}
	h := at(o.addr)
	if h.typ < firstContainer || h.space == 0 {
		return Weak[T]{}, &TypeError{Want: "a container or instance of a Space", Got: typeOf(h).name}
	}
	s := spaceOf(h)
	w := &weakRef{s: s, callback: callback}
	w.addr.Store(o.addr)
	s.lock()
	s.weak[o.addr] = append(s.weak[o.addr], w)
	gcOf(h).flags |= gcWeak
	s.unlock()
	return Weak[T]{w: w}, nil
}

// Get returns a new reference to the object, and false if it is gone.
func (w Weak[T]) Get() (Ref[T], bool) {
	if w.w == nil || w.w.addr.Load() == 0 {
		return Ref[T]{}, false
	}
	s := w.w.s
	s.lock()
	defer s.unlock()
	addr := w.w.addr.Load()
	if addr == 0 {
		return Ref[T]{}, false
	}
	h := at(addr)
	if s.gc.condemned(gcOf(h), true) {
		return Ref[T]{}, false
	}
	incref(h)
	s.gc.shade(h)
	return Ref[T]{addr: addr}, true
}

// Drop ends the weak reference: its callback will not be called.
func (w Weak[T]) Drop() {
	if w.w == nil {
		return
	}
	s := w.w.s
	s.lock()
	defer s.unlock()
	addr := w.w.addr.Swap(0)
	if addr == 0 {
		return
	}
	rest := s.weak[addr][:0]
	for _, other := range s.weak[addr] {
		if other != w.w {
			rest = append(rest, other)
		}
	}
	if s.weak[addr] = rest; len(rest) == 0 {
		delete(s.weak, addr)
		gcOf(at(addr)).flags &^= gcWeak
	}
}

// clearWeak clears the weak references to an object, and has their callbacks called.
func (s *Space) clearWeak(h *header) {
	addr := uintptr(unsafe.Pointer(h))
	for _, w := range s.weak[addr] {
		w.addr.Store(0)
		if w.callback != nil {
			s.pending = append(s.pending, callback{weak: w.callback, name: typeOf(h).name})
		}
	}
	delete(s.weak, addr)
	gcOf(h).flags &^= gcWeak
}
