package addr

import (
	"testing"
	"unsafe"
)

// The pointer of 0 is nil to the compiler too, and that of an address is the address.
func TestPointer(t *testing.T) {
	var none, some uintptr
	v := 7
	some = uintptr(unsafe.Pointer(&v))
	if p := (*int)(Pointer(none)); p != nil {
		t.Error("the pointer of 0 is not nil")
	}
	if !isNil(&none) || isNil(&some) {
		t.Error("a pointer is taken to be nil, or not to be")
	}
	if p := (*int)(Pointer(some)); p != &v || *p != 7 {
		t.Error("the pointer of an address is another")
	}
}

//go:noinline
func isNil(n *uintptr) bool { return Pointer(*n) == nil }

// node is a list as structures off the Go heap have them.
type node struct{ link uintptr }

func (x *node) next() *node { return (*node)(Pointer(x.link)) }

//go:noinline
func (x *node) length() (n int) {
	for y := x.next(); y != nil && n < 10; y = y.next() {
		n++
	}
	return n
}

// A list ends where the compiler believes that a pointer may be nil.
func TestList(t *testing.T) {
	var list [3]node
	for i := range list[1:] {
		list[i].link = uintptr(unsafe.Pointer(&list[i+1]))
	}
	if n := list[0].length(); n != 2 {
		t.Errorf("%d nodes follow, want 2", n)
	}
	if n := list[2].length(); n != 0 {
		t.Errorf("%d nodes follow the last", n)
	}
}
