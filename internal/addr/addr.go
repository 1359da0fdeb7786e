// Package addr makes pointers from numbers, in one function.
//
// Structures off the Go heap hold the addresses of other such structures as
// numbers, of type uintptr: a field of a pointer type would have a write barrier
// compiled into every store, and the collector would follow what it held before.
// One place has one type. From Go 1.27 on the compiler takes it that a store of a
// number does not change a pointer, nor a store of a pointer a number, and so may
// read a place of both kinds before it is written. A number that is to be a pointer
// goes through [Pointer], and never through a cast of the place that it is in.
//
// The test of this package reads the whole module for what breaks the rule.
package addr

import "unsafe"

// Pointer returns a pointer to the address n, which is not followed by the
// collector unless it is in the Go heap. What is there must stay as long as the
// pointer is used: off the Go heap because nobody unmaps it, on the Go heap because
// something else points to it. Any goroutine may call it.
//
// Pointer of 0 is nil. unsafe.Add(nil, n) is not the same: the compiler takes a sum with
// a pointer not to be nil, and leaves comparisons with nil out.
//
// checkptr takes a pointer that was made from a number for a fault where the number
// is an address of the Go heap, as those of arenas are in race builds, so this
// function is not checked. Where checkptr is not compiled in, it is inlined and costs
// no instruction.
//
//go:nocheckptr
func Pointer[N ~uintptr](n N) unsafe.Pointer { return unsafe.Pointer(n) }
