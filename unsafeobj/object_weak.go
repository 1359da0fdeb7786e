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
	over     atomic.Bool    // dropped, or called back
	doomed   bool           // was there when the collector found the object to be garbage
	callback func()
	name     string // of the object's type
}

// NewWeak returns a weak reference to a borrowed container or instance; other objects
// have none, and give a [TypeError]. callback, if not nil, is called once when the
// object is gone, unless the Weak was dropped before.
func NewWeak[T View](v T, callback func()) (Weak[T], error) {
	o := v.Object()
	h, err := live(o)
	if err != nil {
		return Weak[T]{}, err
	}
	if h.typ < firstContainer || h.space == 0 {
		return Weak[T]{}, &TypeError{Want: "a container or instance of a Space", Got: typeOf(h).name}
	}
	s := spaceOf(h)
	w := &weakRef{s: s, callback: callback, name: typeOf(h).name}
	w.addr.Store(o.addr)
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	s.weak[o.addr] = append(s.weak[o.addr], w)
	gcOf(h).flags |= gcWeak
	return Weak[T]{w: w}, nil
}

// Get returns a new reference to the object, and false if it is gone, or if the collector
// has found it to be garbage and is not through with the finalisers.
func (w Weak[T]) Get() (Ref[T], bool) {
	if w.w == nil || w.w.addr.Load() == 0 {
		return Ref[T]{}, false
	}
	s := w.w.s
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	addr := w.w.addr.Load()
	if addr == 0 {
		return Ref[T]{}, false
	}
	h := at(addr)
	if p, condemned := s.gc.condemned(gcOf(h)); condemned && (p != finalizing || w.w.doomed) {
		return Ref[T]{}, false
	}
	incref(h)
	s.gc.shade(h)
	return Ref[T]{addr: addr}, true
}

// Drop ends the weak reference: its callback will not be called, unless that has begun.
func (w Weak[T]) Drop() {
	if w.w == nil {
		return
	}
	s := w.w.s
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	w.w.over.Store(true)
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
	s.keepWeak(at(addr), rest)
}

// clearWeak clears the weak references to an object, and has their callbacks called; those
// without one are left, if so wished.
func (s *Space) clearWeak(h *header, leave bool) {
	addr := uintptr(unsafe.Pointer(h))
	rest := s.weak[addr][:0]
	for _, w := range s.weak[addr] {
		switch {
		case w.callback != nil:
			s.later(callback{weak: w})
		case leave:
			w.doomed = true
			rest = append(rest, w)
			continue
		}
		w.addr.Store(0)
	}
	s.keepWeak(h, rest)
}

// keepWeak makes refs the weak references to an object.
func (s *Space) keepWeak(h *header, refs []*weakRef) {
	addr := uintptr(unsafe.Pointer(h))
	if s.weak[addr] = refs; len(refs) == 0 {
		delete(s.weak, addr)
		gcOf(h).flags &^= gcWeak
	}
}
