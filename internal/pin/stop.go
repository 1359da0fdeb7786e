package pin

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// minRest is the least time from one stop of the world to the next.
const minRest = 10 * time.Millisecond

var lastStop time.Time // guarded by stops

// restful waits until the world may be stopped again. The caller holds the lock of stops.
func restful() {
	now := time.Now()
	if bubble := now == now.Round(0); bubble { // it has no monotonic part, and its clock says nothing
		return
	}
	if left := minRest - now.Sub(lastStop); left > 0 {
		time.Sleep(left)
		now = time.Now()
	}
	lastStop = now
}

// readStops reports whether ReadMemStats stops the world in this version of Go: the
// runtime's own histogram of such pauses must count it.
func readStops() bool {
	statsStop.once.Do(func() {
		before := pauses()
		runtime.ReadMemStats(&stops.stats)
		statsStop.ok = pauses() > before
	})
	return statsStop.ok
}

var statsStop struct {
	once sync.Once
	ok   bool
}

// pauses returns how many stop-the-world pauses there were that are not the collector's.
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
