//go:build !pymalloc_nolinkname

package grace

import (
	"runtime"
	"runtime/metrics"
	"sync"
	_ "unsafe" // for go:linkname
)

// Pinned is false where sections are counted instead of pinned, so that two of
// them may run on one P.
const Pinned = true

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// Enter pins the goroutine and returns the id of its P: a small number that no
// other pinned goroutine has at the same time.
func Enter() int { return procPin() }

// Exit ends the pinned section that Enter(token) began.
func Exit(token int) {
	ended(token)
	procUnpin()
}

var waiting sync.Mutex

// Wait returns after a grace period. It must not be called while pinned. Any
// goroutine may call it; calls take turns.
func Wait() {
	waiting.Lock()
	defer waiting.Unlock()
	defer waited()
	if readStops() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return
	}
	runtime.GC()
}

// readStops reports whether ReadMemStats stops the world in this version of
// Go: the runtime's own histogram of such pauses must count it.
var readStops = sync.OnceValue(func() bool {
	before := pauses()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return pauses() > before
})

// pauses returns how many stop-the-world pauses there were that are not the
// collector's.
func pauses() (n uint64) {
	s := []metrics.Sample{{Name: "/sched/pauses/total/other:seconds"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0
	}
	for _, c := range s[0].Value.Float64Histogram().Counts {
		n += c
	}
	return n
}
