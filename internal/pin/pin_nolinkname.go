//go:build pymalloc_nolinkname

package pin

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// Pinned is false where sections hold a record instead of being pinned.
const Pinned = false

// used is how many records are used. It only grows.
var used atomic.Int32

// Slots returns how many tokens there are: a goroutine that is preempted keeps its own, so
// they are more than Ps.
func Slots() int {
	n := int32(min(4*runtime.GOMAXPROCS(0), MaxPs))
	for old := used.Load(); old < n && !used.CompareAndSwap(old, n); old = used.Load() {
	}
	return int(used.Load())
}

// Enter begins a section and returns its token: a small number that no other section has at
// the same time.
func Enter() int {
	var here byte
	at := uintptr(unsafe.Pointer(&here))
	hash := int((at>>10)^(at>>15)) & (MaxPs - 1)
	n := int(used.Load())
	if n == 0 {
		n = Slots()
	}
	for i := 0; ; i++ {
		token := (hash + i) % n
		busy := &records[token].busy
		if atomic.LoadUint32(busy) == 0 && atomic.CompareAndSwapUint32(busy, 0, 1) {
			return token
		}
		if i%n == n-1 {
			runtime.Gosched() // all are taken
		}
	}
}

// Exit ends the section that Enter began.
func Exit(token int) {
	atomic.StoreUint32(&record(token).busy, 0)
}

// inUse returns how many of the records are used.
func inUse() int { return int(used.Load()) }
