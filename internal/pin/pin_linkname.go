//go:build !pymalloc_nolinkname

package pin

import (
	"runtime"
	"sync/atomic"
	_ "unsafe" // for go:linkname

	"github.com/pyarena/pyarena/internal/race"
)

// Pinned is false where sections hold a record instead of being pinned.
const Pinned = true

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// Enter begins a section and returns its token, the id of the P: a small number that no
// other section has at the same time.
func Enter() int {
	token := procPin()
	if race.Enabled {
		raise(int32(min(token+1, MaxPs)))
	}
	records[token&(MaxPs-1)].Begin()
	return token
}

// Exit ends the section that Enter began.
func Exit(token int) {
	records[token&(MaxPs-1)].End()
	procUnpin()
}

// inUse returns how many of the records are used. The race detector does not know that Ps that
// are gone have ended their sections, so it is to be told.
func inUse() int {
	n := min(runtime.GOMAXPROCS(0), MaxPs)
	if race.Enabled {
		n = max(n, int(most.Load()))
	}
	return n
}

// most is how many records were ever used, with the race detector.
var most atomic.Int32

func raise(n int32) {
	for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
	}
}

// Slots returns how many tokens there are.
func Slots() int { return runtime.GOMAXPROCS(0) }
