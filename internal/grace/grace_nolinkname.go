//go:build pymalloc_nolinkname

package grace

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Pinned is false where sections are counted instead of pinned, so that two of
// them may run on one P.
const Pinned = false

// spread is the number of counters that sections are spread over, a power of
// two, so that goroutines on several cores rarely share one.
const spread = 64

type counter struct {
	running [2]atomic.Int64 // sections of each epoch's parity
	_       [112]byte
}

var (
	epoch    atomic.Uint32
	counters [spread]counter
	waiting  sync.Mutex
)

// Enter begins a section and returns its token: the upper bits are a hash of
// the goroutine's stack, bit 0 the parity of the epoch.
func Enter() int {
	var here byte
	at := uintptr(unsafe.Pointer(&here))
	hash := int((at>>10)^(at>>15)) & (spread - 1)
	parity := int(epoch.Load() & 1)
	counters[hash].running[parity].Add(1)
	return hash<<1 | parity
}

// Exit ends the section that Enter(token) began.
func Exit(token int) { counters[token>>1].running[token&1].Add(-1) }

// Hash returns the part of a token that says where the section runs.
func Hash(token int) int { return token >> 1 }

// Wait returns after a grace period. It must not be called in a section. Any
// goroutine may call it; calls take turns.
func Wait() {
	waiting.Lock()
	defer waiting.Unlock()
	// Twice: a section may have read the epoch before the first flip and count
	// itself after the first wait has looked.
	for range 2 {
		old := int((epoch.Add(1) - 1) & 1)
		for i := range counters {
			for n := 0; counters[i].running[old].Load() != 0; n++ {
				if n < 100 {
					runtime.Gosched()
				} else {
					time.Sleep(20 * time.Microsecond)
				}
			}
		}
	}
}
