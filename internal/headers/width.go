package headers

import (
	"runtime"

	"github.com/pyarena/pyarena/osmem"
)

// wide is 1 where addresses have 48 bits and more, else 0.
const wide = int(^uintptr(0)>>63) * notWasm

const (
	notWasm = 1 - onWasm
	// Windows may refuse to commit again what it has dropped; the Go heap gets nothing back.
	canDrop = runtime.GOOS != "windows" && !osmem.OnGoHeap
)
