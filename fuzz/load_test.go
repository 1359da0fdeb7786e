package fuzz

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pyarena/pyarena/pymalloc"
)

// load is actors that run random programs until they are told to stop.
type load struct {
	a      *pymalloc.Allocator
	actors []*actor
	errs   []error
	stop   atomic.Bool
	wg     sync.WaitGroup
}

func startLoad(n int) *load {
	l := &load{a: new(pymalloc.Allocator), errs: make([]error, n)}
	var mail []chan block
	for range n {
		mail = append(mail, make(chan block, 256))
	}
	for i := range n {
		ac := &actor{a: l.a, seed: byte(i), mail: mail, me: i}
		if i%2 == 1 {
			ac.heap = l.a.AcquireHeap()
		}
		l.actors = append(l.actors, ac)
		l.wg.Go(func() { l.errs[i] = ac.work(&l.stop, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	return l
}

// work runs random programs. It frees some when it has many blocks. Between two it lets
// others run: on wasm nobody is preempted, and who is to set stop never would.
func (ac *actor) work(stop *atomic.Bool, r *rand.Rand) error {
	for ; !stop.Load(); runtime.Gosched() {
		ac.in = make(input, 512)
		for i := range ac.in {
			ac.in[i] = byte(r.Uint32())
		}
		for len(ac.in) > 0 {
			if err := ac.step(); err != nil {
				return err
			}
		}
		for len(ac.own) > 1000 {
			if err := ac.free(ac.take()); err != nil {
				return err
			}
		}
	}
	return nil
}

// end stops the actors. Contents and statistics must be right, and all can be
// given back.
func (l *load) end() error {
	l.stop.Store(true)
	l.wg.Wait()
	if err := errors.Join(l.errs...); err != nil {
		return err
	}
	return finish(l.a, l.actors)
}

// loadTime is how long a load runs beside what disturbs it.
func loadTime() time.Duration {
	if testing.Short() {
		return 200 * time.Millisecond
	}
	return time.Second
}

// disturb calls f again and again beside a load.
func disturb(t *testing.T, f func(r *rand.Rand)) {
	t.Helper()
	l := startLoad(4)
	r := rand.New(rand.NewPCG(3, 3))
	for end := time.Now().Add(loadTime()); time.Now().Before(end); {
		f(r)
	}
	if err := l.end(); err != nil {
		t.Fatal(err)
	}
}

// The number of Ps goes up and down, beyond what a table of shards begins with.
func TestProcs(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	disturb(t, func(r *rand.Rand) {
		runtime.GOMAXPROCS(1 + r.IntN(1<<r.IntN(9)))
		time.Sleep(time.Millisecond)
	})
}
