// Package race tells the race detector what it cannot see: it watches variables and the
// Go heap, and knows nothing of the order that pinned sections, seals and magazines
// give. Without the detector everything here is compiled away.
package race

import "unsafe"

// Acquire tells the detector that what was done before [Release] of p happened before
// what the caller does now.
func Acquire(p unsafe.Pointer) {
	if Enabled {
		acquire(p)
	}
}

// Release is the other side of [Acquire]. Several may be acquired as one.
func Release(p unsafe.Pointer) {
	if Enabled {
		releaseMerge(p)
	}
}

// Written shows the detector a write of n bytes at p: a free is one, so that a use
// beside it is reported.
func Written(p unsafe.Pointer, n int) {
	if Enabled {
		written(p, n)
	}
}
