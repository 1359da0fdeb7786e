//go:build race && !pymalloc_nolinkname

package grace

import (
	"runtime"
	"unsafe"
)

// The race detector does not know what a grace period is: that what a section did
// happened before the end of a Wait that began after it. It is told by marks, which
// are variables, for the detector knows the Go heap and variables alone.
var marks [64]byte

// ended tells the detector that a section ends.
func ended(token int) { runtime.RaceReleaseMerge(unsafe.Pointer(&marks[uint(token)%uint(len(marks))])) }

// waited tells the detector that all sections have ended that began before.
func waited() {
	for i := range marks {
		runtime.RaceAcquire(unsafe.Pointer(&marks[i]))
	}
}
