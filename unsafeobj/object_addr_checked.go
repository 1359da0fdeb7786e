//go:build race || pymalloc_goheap

package unsafeobj

// at returns the object at an address. checkptr takes a pointer that was
// read, but not one that was computed from nil.
func at(addr uintptr) *header { return (*header)(pointerAt(addr)) }
