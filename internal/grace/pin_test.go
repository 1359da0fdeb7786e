//go:build !pymalloc_nolinkname

package grace_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pyarena/pyarena/internal/grace"
)

// TestToken: no two pinned goroutines have the same token.
func TestToken(t *testing.T) {
	if !grace.Pinned {
		t.Fatal("Pinned is false")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	var inside [64]atomic.Int32
	var shared, large atomic.Int32
	enter := func() {
		token := grace.Enter()
		if uint(token) >= uint(len(inside)) { // no panic while pinned
			large.Add(1)
		} else {
			if inside[token].Add(1) != 1 {
				shared.Add(1)
			}
			for i := 0; i < 100 && shared.Load() == 0; i++ {
			}
			inside[token].Add(-1)
		}
		grace.Exit(token)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5_000 {
				enter()
			}
		})
	}
	wg.Wait()
	if shared.Load() != 0 || large.Load() != 0 {
		t.Errorf("%d times two goroutines had one token, %d times it was not below GOMAXPROCS", shared.Load(), large.Load())
	}
}
