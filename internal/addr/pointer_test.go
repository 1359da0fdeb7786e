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
