// Command plugin is a host for the program as a plugin: it opens the file that it is
// given, runs the load there while it uses the library itself, and prints ok.
package main

import (
	"fmt"
	"os"
	"plugin"
	"sync"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

func main() {
	a := pymalloc.Default() // the plugin's is the same
	before, err := a.UnsafeMalloc(64)
	check(err)
	*(*int)(before) = 42

	p, err := plugin.Open(os.Args[1])
	check(err)
	load, err := p.Lookup("Load")
	check(err)
	var all sync.WaitGroup
	all.Go(load.(func()))
	all.Go(func() {
		var last unsafe.Pointer
		for range 100_000 {
			next, err := a.UnsafeMalloc(48)
			check(err)
			check(a.UnsafeFree(last))
			last = next
		}
		check(a.UnsafeFree(last))
	})
	all.Wait()

	if n := *(*int)(before); n != 42 {
		panic(fmt.Sprintf("the host's block holds %d, want 42", n))
	}
	check(a.UnsafeFree(before))
	check(a.Close())
	fmt.Println("ok")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
