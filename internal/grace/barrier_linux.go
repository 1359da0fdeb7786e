package grace

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Commands of membarrier(2).
const (
	privateExpedited         = 1 << 3
	registerPrivateExpedited = 1 << 4
)

// registered tells whether the system has the barrier and lets us use it.
var registered = sync.OnceValue(func() bool {
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, registerPrivateExpedited, 0, 0)
	return errno == 0
})

// Barrier makes every processor that runs this process pass a full memory
// barrier, and reports whether it could. It takes some microseconds. Any
// goroutine may call it.
func Barrier() bool {
	if !registered() {
		return false
	}
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, privateExpedited, 0, 0)
	return errno == 0
}
