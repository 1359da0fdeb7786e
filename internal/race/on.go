//go:build race

package race

import (
	"runtime"
	"unsafe"
)

// Enabled tells whether the program is built with the race detector.
const Enabled = true

func acquire(p unsafe.Pointer)      { runtime.RaceAcquire(p) }
func releaseMerge(p unsafe.Pointer) { runtime.RaceReleaseMerge(p) }
func written(p unsafe.Pointer, n int) {
	runtime.RaceWriteRange(p, n)
}
