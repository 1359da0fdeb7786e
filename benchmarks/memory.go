package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
	"unsafe"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/benchmarks/internal/report"
	"github.com/pyarena/pyarena/pymalloc"
)

// runMemory looks what an allocator holds beyond what lives, when its blocks go in ways that
// leave holes.
func runMemory(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("memory", flag.ContinueOnError)
	live := f.String("live", "64MiB", "`bytes` that live at most")
	wait := f.Duration("wait", 10*time.Second, "how `long` to wait for what shards have used to go back")
	if err := parse(f, args, stderr); err != nil {
		return err
	}
	bytes, err := humanize.ParseBytes(*live)
	if err != nil || bytes < 1<<20 {
		return usageError{fmt.Errorf("memory: -live is %s, want at least 1MiB", *live)}
	}
	p := newProgress(stderr, 0)
	defer p.close()
	rows := [][]string{{"", "blocks from", "live", "held", "held / live"}}
	for _, s := range []struct {
		name string
		run  func(h *holes, bytes int) held
	}{
		{"90 % of a peak freed at random, each of the rest replaced 20 times, trimmed", ninetyPercent},
		{"sizes that drift from 24 bytes to 9 KiB and back, 90 % freed 48 times: the peaks", drift},
	} {
		for _, heap := range []bool{false, true} {
			h := newHoles(heap)
			p.show(s.name + ", " + h.name)
			got := s.run(h, int(bytes))
			if err := h.close(); err != nil {
				return err
			}
			p.step(s.name+", "+h.name, fmt.Sprintf("%.2f", got.ratio()))
			rows = append(rows, []string{
				s.name, h.name, humanize.IBytes(got.live), humanize.IBytes(got.held),
				fmt.Sprintf("%.2f", got.ratio()),
			})
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	const what = "64 heaps that have used all sizes, and hold nothing"
	p.show(what)
	left, err := usedHeaps(64, *wait)
	if err != nil {
		return err
	}
	p.step(what, humanize.IBytes(left))
	rows = append(rows, []string{what + ", after " + wait.String(), "Heap", "0 B", humanize.IBytes(left), ""})
	_, err = fmt.Fprint(stdout, "What is held for what lives: the units of pools. In the last row all that is mapped, with shards and magazines.\n\n",
		report.Table("llr", rows))
	return err
}

// held is what an allocator had when live bytes lived.
type held struct{ live, held uint64 }

func (h held) ratio() float64 { return float64(h.held) / float64(max(h.live, 1)) }

// holes makes and frees blocks of an allocator, or of a Heap.
type holes struct {
	name   string
	a      *pymalloc.Allocator
	h      *pymalloc.Heap
	blocks []unsafe.Pointer
	r      *rand.Rand
	live   int
	err    error
}

func newHoles(heap bool) *holes {
	h := &holes{name: "Allocator", a: new(pymalloc.Allocator), r: rand.New(rand.NewPCG(5, 7))}
	if heap {
		h.name, h.h = "Heap", h.a.AcquireHeap()
	}
	return h
}

func (h *holes) malloc(size int) {
	var p unsafe.Pointer
	var err error
	if h.h != nil {
		p, err = h.h.UnsafeMalloc(size)
	} else {
		p, err = h.a.UnsafeMalloc(size)
	}
	if err != nil {
		h.fail(err)
		return
	}
	*(*uint64)(p) = 1
	h.live += pymalloc.UnsafeUsableSize(p)
	h.blocks = append(h.blocks, p)
}

func (h *holes) fail(err error) {
	if h.err == nil {
		h.err = err
	}
}

// freeOne frees a random block.
func (h *holes) freeOne() {
	i, last := h.r.IntN(len(h.blocks)), len(h.blocks)-1
	p := h.blocks[i]
	h.blocks[i] = h.blocks[last]
	h.blocks = h.blocks[:last]
	h.live -= pymalloc.UnsafeUsableSize(p)
	var err error
	if h.h != nil {
		err = h.h.UnsafeFree(p)
	} else {
		err = h.a.UnsafeFree(p)
	}
	if err != nil {
		h.fail(err)
	}
}

func (h *holes) look() held {
	s := h.a.Stats()
	return held{uint64(h.live), s.MappedBytes - s.Parts.UnusedPools - s.Parts.Retained}
}

func (h *holes) close() error {
	if h.h != nil {
		h.h.Release()
	}
	if err := h.a.Close(); err != nil {
		h.fail(err)
	}
	return h.err
}

// ninetyPercent makes blocks of 16 bytes to 4 KiB, frees nine of ten, replaces random ones, twenty
// times as many as are left, and trims.
func ninetyPercent(h *holes, bytes int) held {
	size := func() int { return 16<<h.r.IntN(8) + h.r.IntN(16<<7)>>h.r.IntN(8) }
	for h.live < bytes && h.err == nil {
		h.malloc(size())
	}
	for n := len(h.blocks) / 10; len(h.blocks) > n; {
		h.freeOne()
	}
	for range 20 * len(h.blocks) {
		h.freeOne()
		h.malloc(size())
	}
	if err := h.a.Trim(); err != nil {
		h.fail(err)
	}
	return h.look()
}

// drift fills memory with blocks of sizes about a centre, frees nine of ten, and goes on with
// another centre. It returns the worst peak.
func drift(h *holes, bytes int) (worst held) {
	for tooth := range 48 {
		centre := 24.0
		for range min(tooth, 47-tooth) {
			centre *= 1.28
		}
		for h.live < bytes && h.err == nil {
			h.malloc(int(centre/2) + h.r.IntN(int(centre)) + 1)
		}
		if now := h.look(); now.ratio() > worst.ratio() {
			worst = now
		}
		for h.live > bytes/10 {
			h.freeOne()
		}
	}
	return worst
}

// usedHeaps lets n heaps malloc and free blocks of all sizes, and returns what is mapped for these
// after a while, with their shards and magazines.
func usedHeaps(n int, wait time.Duration) (uint64, error) {
	a := new(pymalloc.Allocator)
	defer a.Close()
	before := a.Stats().MetadataBytes
	heaps := make([]*pymalloc.Heap, n)
	for i := range heaps {
		heaps[i] = a.AcquireHeap()
		for size := 16; size <= 32<<10; size += max(16, size/8) {
			var ps [100]unsafe.Pointer
			if err := heaps[i].UnsafeMallocBatch(ps[:], size); err != nil {
				return 0, err
			}
			if err := heaps[i].UnsafeFreeBatch(ps[:]); err != nil {
				return 0, err
			}
		}
	}
	time.Sleep(wait)
	s := a.Stats()
	for _, h := range heaps {
		h.Release()
	}
	return s.MappedBytes + s.MetadataBytes - before, nil
}
