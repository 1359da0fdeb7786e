//go:build !linux && !windows

package pin

// Barrier returns after every processor that runs this process has passed a full memory
// barrier. It must not be called in a section. Any goroutine may call it.
func Barrier() { stop() }

func nap() {}
