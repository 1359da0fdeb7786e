// Package soak puts pymalloc under the load of a server for as long as one likes,
// and looks whether anything goes wrong that takes long to show: content that
// changes, a structure that decays, memory that does not come back.
//
// The load runs in cycles of phases:
//
//	grow     sessions and cache grow to their full size
//	churn    they stay, what is in them is replaced
//	idle     nothing is done
//	shrink   they shrink to a tenth
//
// Whatever the phase, requests are served in between, from buffers that live for
// one request, with messages between goroutines, batches, large runs and huge
// mappings. Every block is stamped over its whole length, and compared when it is
// read, resized and freed.
package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/benchmarks/internal/proc"
	"github.com/pyarena/pyarena/pymalloc"
)

// source is what hands out blocks: an allocator, or one of its heaps.
type source interface {
	UnsafeMalloc(size int) (unsafe.Pointer, error)
	UnsafeCalloc(size int) (unsafe.Pointer, error)
	UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error)
	UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error)
	UnsafeFree(p unsafe.Pointer) error
}

// Allocator is what is soaked: a [pymalloc.Allocator].
type Allocator interface {
	source
	UnsafeMallocBatch(ps []unsafe.Pointer, size int) error
	UnsafeFreeBatch(ps []unsafe.Pointer) error
	AcquireHeap() *pymalloc.Heap
	Check() error
	Stats() pymalloc.Stats
}

// Config is what a run is to be.
type Config struct {
	For        time.Duration // of the load, the warm-up not counted
	Cycle      time.Duration // of its phases, about
	LiveBytes  int           // of sessions and cache, when they are full
	Goroutines int           // that serve
	Growth     float64       // of resident memory that is accepted, in percent
	Seed       uint64

	Show func(what string)         // what is going on
	Step func(what, result string) // a phase is over
}

// Warmups returns how many cycles come before those that count: a tenth as many, one at
// least. The Go runtime's own tables take some to grow to their size.
func (c *Config) Warmups() int { return max(1, c.cycles()/10) }

// cycles returns how many cycles the load has.
func (c *Config) cycles() int { return max(1, int((c.For+c.Cycle/2)/c.Cycle)) }

// phase is a part of a cycle.
type phase struct {
	name     string
	part     float64 // of the cycle
	from, to float64 // of LiveBytes, at its begin and at its end
}

const least = 0.1 // of LiveBytes

var phases = []phase{
	{"grow", 0.25, least, 1},
	{"churn", 0.35, 1, 1},
	{idle, 0.15, 1, 1},
	{"shrink", 0.25, 1, least},
}

const idle = "idle"

const (
	tick       = 20 * time.Millisecond // of who conducts
	checkEvery = time.Second
	procsEvery = 300 * time.Millisecond // another GOMAXPROCS
	gcEvery    = 2 * time.Second        // a collection, besides those that come by themselves
	moreProcs  = 4                      // GOMAXPROCS beyond the number of processors, at most
	maxSamples = 2000
	// settleTime is the longest that free memory may take to go back: it is
	// retained for one or two seconds, and looked for once a second.
	settleTime = 15 * time.Second
	unmapTime  = time.Second // between that and the last page
)

// run is one run.
type run struct {
	Config
	a      Allocator
	report *Report
	memory *proc.GoMemory
	begun  time.Time // of the load
	rand   *rand.Rand

	lastCheck, lastProcs, lastGC, lastSample time.Time

	mu   sync.Mutex
	errs []error
}

// fail notes what went wrong: the first of each goroutine's and some more.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) < 10 {
		r.errs = append(r.errs, err)
	}
}

func (r *run) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errs) > 0
}

// Run soaks the allocator. The report is there even if there is an error, which
// is of what went wrong, or of the context.
//
// It begins with a warm-up, whole cycles of the load, after which everything is
// freed, as at the end: so the tables and stacks that the process needs are there
// before it is measured what is resident.
func Run(ctx context.Context, c Config, a Allocator) (*Report, error) {
	r := &run{Config: c, a: a, memory: proc.NewGoMemory(), rand: rand.New(rand.NewPCG(c.Seed, c.Seed))}
	cycles := c.cycles()
	r.Cycle = c.For / time.Duration(cycles)
	r.report = newReport(c, cycles)
	r.load(ctx, 0)
	r.report.Begin = r.settle(ctx, "warm-up")
	r.begun = time.Now()
	r.load(ctx, cycles)
	r.report.End = r.settle(ctx, "end")
	r.judge()
	err := errors.Join(r.errs...)
	if err != nil {
		r.report.Error = err.Error()
	}
	return r.report, err
}

// load serves for so many cycles, 0 being the warm-up, and frees all.
func (r *run) load(ctx context.Context, cycles int) {
	if r.failed() {
		return
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	counts := &r.report.Counts
	if cycles == 0 {
		counts = new(Counts)
	}
	s := &server{a: r.a, fail: r.fail, counts: counts}
	s.start(r.Goroutines, r.Seed+uint64(cycles))
	defer s.end()
	if cycles == 0 {
		for range r.Warmups() {
			r.cycle(ctx, s, 0)
		}
	}
	for n := range cycles {
		r.cycle(ctx, s, n+1)
	}
}

// cycle conducts the phases of the n-th cycle.
func (r *run) cycle(ctx context.Context, s *server, n int) {
	for _, p := range phases {
		what := fmt.Sprintf("cycle %d of %d, %s", n, r.report.Cycles, p.name)
		if n == 0 {
			what = "warm-up, " + p.name
		}
		length := time.Duration(p.part * float64(r.Cycle))
		s.idle.Store(p.name == idle)
		for begun := time.Now(); ; time.Sleep(tick) {
			done := min(float64(time.Since(begun))/float64(length), 1)
			s.target.Store(int64((p.from + (p.to-p.from)*done) * float64(r.LiveBytes)))
			if ctx.Err() != nil {
				r.fail(ctx.Err())
			}
			if r.failed() {
				return
			}
			if done == 1 {
				break
			}
			r.disturb(p.name, what, n > 0)
		}
		last := r.sample(p.name)
		r.Step(what, last.String())
		if n > 0 {
			r.report.Phases = append(r.report.Phases, Phase{n, p.name, last})
		}
	}
}

// due tells whether it is time again, and notes when it was.
func due(last *time.Time, every time.Duration) bool {
	now := time.Now()
	if now.Sub(*last) < every {
		return false
	}
	*last = now
	return true
}

// disturb does what is done beside the load: looking, checking, another
// GOMAXPROCS, a collection. While the load is idle it only looks: a check would
// give back what the janitor has to find by itself.
func (r *run) disturb(phase, what string, keep bool) {
	if due(&r.lastSample, max(5*tick, r.For/maxSamples)) {
		s := r.sample(phase)
		if keep {
			r.report.add(s)
		}
		r.Show(what + ": " + s.String())
	}
	if phase == idle {
		return
	}
	if due(&r.lastCheck, min(checkEvery, r.Cycle/10)) {
		r.check()
	}
	if due(&r.lastProcs, procsEvery) {
		runtime.GOMAXPROCS(1 + r.rand.IntN(runtime.NumCPU()+moreProcs))
	}
	if due(&r.lastGC, gcEvery) {
		runtime.GC()
	}
}

// check looks at the structure of the allocator.
func (r *run) check() {
	r.report.Checks++
	if err := r.a.Check(); err != nil {
		r.fail(err)
	}
}

// sample looks at the memory.
func (r *run) sample(phase string) Sample {
	stats := r.a.Stats()
	s := Sample{
		Phase: phase, Resident: proc.Read().Resident, RSS: proc.Resident(), Go: r.memory.Mapped(), Objects: r.memory.Objects(),
		Mapped: stats.MappedBytes, InUse: stats.InUseBytes, Live: stats.LiveBlocks, Tables: stats.MetadataBytes,
	}
	if !r.begun.IsZero() {
		s.At = time.Since(r.begun)
	}
	return s
}

// settle waits until the janitor has given back what is free, gives back what is
// free on the Go heap, and measures. Nothing else helps: no Trim, and no Check
// before it has measured.
func (r *run) settle(ctx context.Context, what string) (s Sample) {
	if r.failed() {
		return s
	}
	r.Show(what + ": everything is freed")
	runtime.GC() // finds heaps that were not released
	stats := r.a.Stats()
	for until := time.Now().Add(10 * time.Second); stats.LiveBlocks != 0 && time.Now().Before(until); stats = r.a.Stats() {
		time.Sleep(time.Millisecond) // what these have in hand is on its way to the pools
	}
	if stats.LiveBlocks != 0 || stats.InUseBytes != 0 {
		r.fail(fmt.Errorf("%s: %d blocks of %s are live after all were freed", what, stats.LiveBlocks, humanize.IBytes(stats.InUseBytes)))
		return s
	}
	begun := time.Now()
	for r.a.Stats().MappedBytes != 0 && time.Since(begun) < settleTime && ctx.Err() == nil {
		time.Sleep(tick)
	}
	waited := time.Since(begun)
	// An arena counts as mapped no more when it is out of the map; its pages go
	// after a grace period.
	time.Sleep(unmapTime)
	for range 2 { // what the first one frees, of pools and by cleanups, is the second one's
		debug.FreeOSMemory()
	}
	s = r.sample(what)
	s.Pymalloc = proc.NoReserve()
	r.report.add(s)
	r.Step(what, fmt.Sprintf("%v, %v after everything was freed", s, waited.Round(tick)))
	r.check()
	return s
}

// judge compares the end with the begin.
func (r *run) judge() {
	if r.failed() {
		return
	}
	begin, end := r.report.Begin, r.report.End
	if end.Mapped != 0 {
		r.fail(fmt.Errorf("%s are still mapped %v after everything was freed", humanize.IBytes(end.Mapped), settleTime))
	}
	if all, pymalloc, objects := r.report.Growth(); pymalloc+objects > r.Config.Growth {
		r.fail(fmt.Errorf("%s are resident at the end, %s at the begin: %.1f %% more, of which %.1f are pymalloc's and %.1f objects on the Go heap, of these at most %.1f accepted",
			humanize.IBytes(end.Resident), humanize.IBytes(begin.Resident), all, pymalloc, objects, r.Config.Growth))
	}
}
