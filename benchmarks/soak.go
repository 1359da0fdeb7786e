package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/benchmarks/internal/report"
	"github.com/pyarena/pyarena/benchmarks/internal/soak"
	"github.com/pyarena/pyarena/pymalloc"
)

// runSoak runs pymalloc under the load of a server, and fails if anything is wrong.
func runSoak(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	out := f.String("o", "report/soak", "write the report into this `folder`")
	c := soak.Config{}
	f.DurationVar(&c.For, "for", 30*time.Minute, "how `long`, after a warm-up, a tenth as many cycles, that is not counted")
	f.DurationVar(&c.Cycle, "cycle", time.Minute, "`length` of a cycle of phases, about")
	live := f.String("live", "256MiB", "`bytes` of sessions and cache when they are full")
	f.IntVar(&c.Goroutines, "goroutines", 2*runtime.GOMAXPROCS(0)+2, "`number` that serve")
	f.Float64Var(&c.Growth, "growth", 5, "`percent` that resident memory may have grown by at the end")
	f.Uint64Var(&c.Seed, "seed", 1, "`number` that the load is drawn from")
	hardened := f.Bool("hardened", false, "with Options.Hardened")
	quick := f.Bool("quick", false, "two seconds with 16 MiB, after a warm-up of one; 25 percent of growth are accepted")
	if err := parse(f, args, stderr); err != nil {
		return err
	}
	if *quick {
		c.For, c.Cycle, *live = 2*time.Second, time.Second, "16MiB"
		c.Growth = max(c.Growth, 25) // what the process needs is not all there after one second
	}
	bytes, err := humanize.ParseBytes(*live)
	if err != nil {
		return usageError{fmt.Errorf("soak: -live: %w", err)}
	}
	c.LiveBytes = int(bytes)
	if c.For < time.Second || c.Cycle < time.Second || c.LiveBytes < 1<<20 || c.Goroutines < 1 || c.Growth < 0 {
		return usageError{fmt.Errorf("soak: -for is %v, -cycle %v, -live %s, -goroutines %d and -growth %v, want at least 1s, 1s, 1MiB, 1 and 0",
			c.For, c.Cycle, *live, c.Goroutines, c.Growth)}
	}
	a, err := pymalloc.NewAllocator(pymalloc.Options{Hardened: *hardened})
	if err != nil {
		return err
	}
	p := newProgress(stderr, c.For+time.Duration(c.Warmups())*c.Cycle)
	c.Show, c.Step = p.show, p.step
	r, failure := soak.Run(ctx, c, a)
	p.close()
	if err := report.WriteFolder(*out, r); err != nil {
		return errors.Join(failure, err)
	}
	return errors.Join(failure, r.WriteMarkdown(stdout), tellFolder(stdout, *out))
}
