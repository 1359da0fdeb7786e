package pin

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Commands of membarrier(2).
const (
	privateExpedited         = 1 << 3
	registerPrivateExpedited = 1 << 4
)

var membarrier struct {
	once sync.Once
	ok   bool
}

// registered reports whether the system has the barrier and lets us use it.
func registered() bool {
	membarrier.once.Do(func() {
		_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, registerPrivateExpedited, 0, 0)
		membarrier.ok = errno == 0
	})
	return membarrier.ok
}

// Barrier returns after every processor that runs this process has passed a full memory
// barrier. It must not be called in a section. Any goroutine may call it.
func Barrier() {
	if registered() {
		if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, privateExpedited, 0, 0); errno == 0 {
			return
		}
	}
	stop()
}

// nap sleeps for 20 µs or so by the system's clock.
func nap() {
	t := unix.NsecToTimespec(20_000)
	_ = unix.Nanosleep(&t, nil) // it may end sooner
}
