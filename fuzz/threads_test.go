package fuzz

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/pyarena/pyarena/pymalloc"
)

// handRound has n goroutines, all alive at once, that each hand blocks to the
// next, who checks and frees them. Every goroutine calls each first, which says
// whether it wants a heap of its own.
func handRound(t *testing.T, n, rounds int, each func(i int) bool) {
	t.Helper()
	var a pymalloc.Allocator
	mail := make([]chan block, n)
	for i := range mail {
		mail[i] = make(chan block, 1)
	}
	var wg, all sync.WaitGroup
	all.Add(n)
	errs := make(chan error, 3*n)
	for i := range n {
		wg.Go(func() {
			src := source(&a)
			if each(i) {
				h := a.AcquireHeap()
				defer h.Release()
				src = h
			}
			all.Done()
			all.Wait()
			for round := range rounds {
				b := block{size: 1 + (i*37+round*101)%2000, seed: byte(i + round)}
				var err error
				if b.p, err = src.UnsafeMalloc(b.size); err == nil {
					b.stamp()
				} else {
					errs <- err
				}
				mail[(i+1)%n] <- b
				if b = <-mail[i]; b.p == nil {
					return
				}
				if err := b.check(b.size); err != nil {
					errs <- err
					return
				}
				if err := src.UnsafeFree(b.p); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	if err := finish(&a, nil); err != nil {
		t.Fatal(err)
	}
}

// From one goroutine to a hundred thousand.
func TestGoroutineCounts(t *testing.T) {
	most := 100_000
	if testing.Short() || underRace { // the race detector knows 8,128 goroutines at most
		most = 1000
	}
	for n := 1; n <= most; n *= 10 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			handRound(t, n, 5, func(i int) bool { return n <= 1000 && i%3 == 0 })
		})
	}
}

// Goroutines that keep their thread to themselves, and end so: their threads
// die in the middle of the allocator's life.
func TestLockedThreads(t *testing.T) {
	for range 4 {
		handRound(t, 32, 100, func(i int) bool {
			if i%4 != 0 {
				runtime.LockOSThread()
			}
			return i%3 == 0
		})
	}
}
