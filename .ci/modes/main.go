// Command modes uses the library as a service does, and checks every byte and every
// object that it gets back: goroutines allocate blocks and others free them, a Heap
// is filled by one goroutine and emptied by others, objects are made, linked into
// cycles and collected in a Space, Trim runs beside all of that, and Close ends it.
// It prints ok, or panics with what was wrong.
//
// The program is built in each mode that Go has (see run), also as a library for C
// (clib.go, c) and as a plugin (plugin).
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

func main() {
	atLeast := flag.Duration("for", 0, "repeat for at least this long")
	profile := flag.String("cpuprofile", "", "write a profile of the processor's time to this `file`")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		check(err)
		check(pprof.StartCPUProfile(f))
		defer func() {
			pprof.StopCPUProfile()
			check(f.Close())
		}()
	}
	for begun, again := time.Now(), true; again; again = time.Since(begun) < *atLeast {
		Load()
	}
	fmt.Println("ok")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}
