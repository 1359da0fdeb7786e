package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/benchmarks/internal/report"
	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

// runRequests looks what becomes of a bystander, a goroutine that has nothing to do with the
// library, beside workers that make an allocator, or a Space, for each request.
func runRequests(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("requests", flag.ContinueOnError)
	length := f.Duration("for", time.Second, "how `long` each measurement takes")
	rounds := f.Int("rounds", 3, "`times` that each is made; the bystander's best counts")
	if err := parse(f, args, stderr); err != nil {
		return err
	}
	if *length < 10*time.Millisecond || *rounds < 1 {
		return usageError{fmt.Errorf("requests: -for is %v and -rounds %d, want at least 10ms and 1", *length, *rounds)}
	}
	p := newProgress(stderr, 0)
	defer p.close()
	loads := requestLoads()
	best := make([]beside, len(loads))
	for range *rounds {
		for i, l := range loads {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			p.show(l.name)
			b, err := besideBystander(l, *length)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			if b.bystander > best[i].bystander {
				best[i] = b
			}
			p.step(l.name, humanize.Comma(int64(b.bystander))+" steps a second beside it")
		}
	}
	rows := [][]string{{"workers, and what each request is", "requests a second", "bystander's speed", "stops of the world a second"}}
	for i, l := range loads {
		against := best[0].bystander
		if l.workers > 1 {
			against = best[1].bystander
		}
		rows = append(rows, []string{
			l.name, humanize.Comma(int64(best[i].requests)), fmt.Sprintf("%.0f %%", 100*best[i].bystander/against),
			humanize.Comma(int64(best[i].stops)),
		})
	}
	_, err := fmt.Fprint(stdout, "A bystander's speed beside workers, relative to that beside as many workers that do arithmetic.\n\n", report.Table("lr", rows))
	return err
}

type requestLoad struct {
	name    string
	workers int
	request func() error
}

func requestLoads() []requestLoad {
	arithmetic := func() error { requestSink.Add(work(1)); return nil }
	allocator := func() error {
		a := new(pymalloc.Allocator)
		for range 64 {
			if _, err := a.UnsafeMalloc(64); err != nil {
				return err
			}
		}
		return a.Close()
	}
	space := func() error {
		s, err := unsafeobj.NewSpace(unsafeobj.SpaceOptions{})
		if err != nil {
			return err
		}
		l, err := s.List()
		if err != nil {
			return err
		}
		for i := range int64(64) {
			n, err := s.Int(1000 + i)
			if err != nil {
				return err
			}
			if err := l.Get().Append(n.Object()); err != nil {
				return err
			}
			n.Release()
		}
		l.Release()
		return s.Close()
	}
	return []requestLoad{
		{"1, arithmetic", 1, arithmetic},
		{"8, arithmetic", 8, arithmetic},
		{"1, an allocator", 1, allocator},
		{"8, an allocator", 8, allocator},
		{"1, a Space", 1, space},
		{"8, a Space", 8, space},
	}
}

// beside is what a load and its bystander did, in a second.
type beside struct{ requests, bystander, stops float64 }

var requestSink atomic.Uint64

// work computes for some microseconds.
func work(x uint64) uint64 {
	for range 10_000 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

func besideBystander(l requestLoad, length time.Duration) (b beside, err error) {
	var stop atomic.Bool
	var requests, steps atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	wg.Go(func() {
		x := uint64(1)
		for !stop.Load() {
			x = work(x)
			steps.Add(1)
		}
		requestSink.Add(x)
	})
	for range l.workers {
		wg.Go(func() {
			for !stop.Load() {
				if err := l.request(); err != nil {
					failed.Store(&err)
					return
				}
				requests.Add(1)
			}
		})
	}
	before, begun := stopsOfTheWorld(), time.Now()
	time.Sleep(length)
	stop.Store(true)
	wg.Wait()
	if e := failed.Load(); e != nil {
		return b, *e
	}
	s := time.Since(begun).Seconds()
	return beside{float64(requests.Load()) / s, float64(steps.Load()) / s, float64(stopsOfTheWorld()-before) / s}, nil
}

// stopsOfTheWorld returns how many there were that are not the collector's.
func stopsOfTheWorld() (n uint64) {
	s := []metrics.Sample{{Name: "/sched/pauses/total/other:seconds"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0
	}
	for _, c := range s[0].Value.Float64Histogram().Counts {
		n += c
	}
	return n
}
