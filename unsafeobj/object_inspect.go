package unsafeobj

import (
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// SizeOf returns the bytes of the blocks that a borrowed object has: its own, and a
// list's items or the table of a dict or set. It is 0 for the immortal objects of
// the process, and does not count the objects that it refers to.
func SizeOf(o Object) int {
	if o.addr == 0 {
		return 0
	}
	h := at(o.addr)
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	return sizeOfObject(h)
}

func sizeOfObject(h *header) int {
	if h.space == 0 {
		return 0
	}
	if h.typ < firstContainer {
		return pymalloc.UnsafeUsableSize(unsafe.Pointer(h))
	}
	n := pymalloc.UnsafeUsableSize(unsafe.Pointer(gcOf(h)))
	if p := h.rest(); p != nil {
		n += pymalloc.UnsafeUsableSize(p)
	}
	return n
}

// DeepSizeOf returns the bytes of a borrowed object and of all that can be reached
// from it, each once.
func DeepSizeOf(o Object) int {
	if o.addr == 0 {
		return 0
	}
	h := at(o.addr)
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	n := 0
	seen := map[*header]struct{}{h: {}}
	for todo := []*header{h}; len(todo) > 0; {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n += sizeOfObject(h)
		if h.typ < firstContainer {
			continue
		}
		for c := childrenOf(h); c.left > 0; {
			var x *header
			if x, c = c.next(); x == nil {
				continue
			}
			if _, known := seen[x]; !known {
				seen[x] = struct{}{}
				todo = append(todo, x)
			}
		}
	}
	return n
}

// Referents returns the objects that a borrowed object refers to, once for each
// reference, borrowed from it. In a shared Space nobody may change it meanwhile, nor
// while the result is in use.
func Referents(o Object) []Object {
	if o.addr == 0 || at(o.addr).typ < firstContainer {
		return nil
	}
	h := at(o.addr)
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	var all []Object
	for c := childrenOf(h); c.left > 0; {
		var x *header
		if x, c = c.next(); x != nil {
			all = append(all, objectOf(x))
		}
	}
	return all
}

// Referrers returns new references to the containers of the Space that refer to a
// borrowed object; release them. It looks at all containers. Those that a collection
// has found to be garbage, and is about to free, are not among them.
func (s *Space) Referrers(o Object) []AnyRef {
	if o.addr == 0 {
		return nil
	}
	target := at(o.addr)
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	if !s.open {
		return nil
	}
	var all []AnyRef
	_ = s.gc.each(func(h *header) { // Close tells the error
		if _, condemned := s.gc.condemned(gcOf(h)); condemned {
			return
		}
		for c := childrenOf(h); c.left > 0; {
			var x *header
			if x, c = c.next(); x == target {
				incref(h)
				s.gc.shade(h)
				all = append(all, refTo[Object](h))
				return
			}
		}
	})
	return all
}
