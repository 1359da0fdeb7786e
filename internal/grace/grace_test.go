package grace_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pyarena/pyarena/internal/grace"
)

// section is a pinned section that lasts until another goroutine has gone on to
// wait for its end, and some time more.
type section struct {
	entered, waiting, left, overlapped atomic.Bool
}

// run only spins while pinned, and for a bounded time: some ten milliseconds at
// most if nobody waits.
//
//go:noinline
func (s *section) run() {
	token := grace.Enter()
	s.entered.Store(true)
	for i := 0; i < 1<<23 && !s.waiting.Load(); i++ {
	}
	overlapped := s.waiting.Load()
	for i := 0; overlapped && i < 1<<17; i++ { // in which a Wait that does not wait returns
		overlapped = s.waiting.Load()
	}
	s.overlapped.Store(overlapped)
	s.left.Store(true)
	grace.Exit(token)
}

// TestWait: Wait does not return before a section that ran when it was called.
func TestWait(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0))))
	overlaps := 0
	for range 20 {
		const sections = 2
		var s [sections]section
		var wg sync.WaitGroup
		for i := range s {
			wg.Go(s[i].run)
			for !s[i].entered.Load() {
				runtime.Gosched()
			}
		}
		for i := range s {
			s[i].waiting.Store(true)
		}
		grace.Wait()
		for i := range s {
			if !s[i].left.Load() {
				t.Fatal("Wait returned while a goroutine was in its section")
			}
			if s[i].overlapped.Load() {
				overlaps++
			}
		}
		wg.Wait()
	}
	if overlaps == 0 {
		t.Skip("no section ran beside a Wait: there is one processor only")
	}
	t.Logf("%d sections delayed a Wait", overlaps)
}

// TestWaitAlone: without sections, and after one, Wait returns; many times, and in
// many goroutines at once.
func TestWaitAlone(t *testing.T) {
	for range 10 {
		grace.Wait()
		grace.Exit(grace.Enter())
		grace.Wait()
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				grace.Wait()
			}
		})
	}
	wg.Wait()
}

// TestReclaim is what the package is for: what is replaced, and is destroyed after
// a grace period, is destroyed in nobody's hands.
func TestReclaim(t *testing.T) {
	const readers, writers = 4, 3
	waits := 100
	if testing.Short() {
		waits = 20
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0))))
	type object struct{ destroyed atomic.Bool }
	var current atomic.Pointer[object]
	current.Store(new(object))
	var done, misused atomic.Bool
	read := func() {
		token := grace.Enter()
		o := current.Load()
		for range 200 {
			if o.destroyed.Load() {
				misused.Store(true)
			}
		}
		grace.Exit(token)
	}
	var reading, writing sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for !done.Load() && !misused.Load() {
				read()
				runtime.Gosched()
			}
		})
	}
	for range writers {
		writing.Go(func() {
			for range waits {
				old := current.Swap(new(object))
				grace.Wait()
				old.destroyed.Store(true)
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	if misused.Load() {
		t.Error("an object was destroyed while a section used it")
	}
}
