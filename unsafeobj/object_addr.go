//go:build !race && !pymalloc_goheap

package unsafeobj

import "unsafe"

// at returns the object at an address. Handles hold addresses, not pointers, so
// that they may stand anywhere: off heap, and by the million in a Go map that the
// collector then does not look into.
func at(addr uintptr) *header { return (*header)(unsafe.Add(nil, addr)) }
