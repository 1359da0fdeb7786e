package pin

import "golang.org/x/sys/windows"

var flush = windows.NewLazySystemDLL("kernel32.dll").NewProc("FlushProcessWriteBuffers")

// Barrier returns after every processor that runs this process has passed a full memory
// barrier. It must not be called in a section. Any goroutine may call it.
func Barrier() {
	if flush.Find() != nil { // every Windows that Go runs on has it
		stop()
		return
	}
	_, _, _ = flush.Call()
}

func nap() {}
