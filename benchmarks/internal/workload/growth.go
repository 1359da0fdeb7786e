package workload

import (
	"runtime"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/offheap"
	"github.com/pyarena/pyarena/benchmarks/internal/proc"
)

// valueBytes is the size of a value in what follows.
const valueBytes = 64

// Growth is the cost of a block when there are many.
type Growth struct {
	Blocks   int     `json:"blocks"`
	MakeNs   float64 `json:"make_ns"`    // of a block, while they become so many
	SwapNs   float64 `json:"swap_ns"`    // to free a random one and make another
	FreeNs   float64 `json:"free_ns"`    // to free them all, in random order
	Overhead float64 `json:"overhead_b"` // resident bytes of a block beyond its own
}

// values returns a table for n values, where their allocator wants it.
func values(info impl.Info, n int) ([]unsafe.Pointer, error) {
	var table []unsafe.Pointer
	if info.GoHeap {
		table = make([]unsafe.Pointer, n)
	} else {
		var err error
		if table, err = offheap.Slice[unsafe.Pointer](n); err != nil {
			return nil, err
		}
	}
	clear(table) // resident
	return table, nil
}

func fillValues(w impl.Mallocer, table []unsafe.Pointer) error {
	for i := range table {
		p, err := w.UnsafeMalloc(valueBytes)
		if err != nil {
			return err
		}
		*(*uint64)(p) = uint64(i)
		table[i] = p
	}
	return nil
}

// Grow makes n live blocks, replaces random ones, and frees all in random order.
func Grow(info impl.Info, n int) (g Growth, err error) {
	w := info.New(1).Worker()
	defer w.Release()
	table, err := values(info, n)
	if err != nil {
		return g, err
	}
	before := proc.Resident()
	begun := time.Now()
	if err := fillValues(impl.Direct(w), table); err != nil {
		return g, err
	}
	g.Blocks, g.MakeNs = n, perOp(begun, n)
	g.Overhead = (float64(proc.Resident())-float64(before))/float64(n) - valueBytes
	const swaps = 1_000_000
	r, m := rand(1), impl.Direct(w)
	begun = time.Now()
	for range swaps {
		slot := &table[r.below(n)]
		if err := m.UnsafeFree(*slot); err != nil {
			return g, err
		}
		if *slot, err = m.UnsafeMalloc(valueBytes); err != nil {
			return g, err
		}
		*(*uint64)(*slot) = 1
	}
	g.SwapNs = perOp(begun, swaps)
	for i := n - 1; i > 0; i-- {
		j := r.below(i + 1)
		table[i], table[j] = table[j], table[i]
	}
	begun = time.Now()
	for _, p := range table {
		if err := m.UnsafeFree(p); err != nil {
			return g, err
		}
	}
	g.FreeNs = perOp(begun, n)
	clear(table)
	runtime.KeepAlive(table)
	return g, nil
}

func perOp(begun time.Time, n int) float64 {
	return float64(time.Since(begun).Nanoseconds()) / float64(n)
}

// Collector is what a collection takes beside live values.
type Collector struct {
	Values int           `json:"values"`
	Cycle  time.Duration `json:"cycle_ns"` // of the fastest of some collections
	CPU    time.Duration `json:"cpu_ns"`   // of one, on average
}

// Collect makes n live values, and lets the collector run.
func Collect(info impl.Info, n int) (c Collector, err error) {
	w := info.New(1).Worker()
	defer w.Release()
	table, err := values(info, n)
	if err != nil {
		return c, err
	}
	if err := fillValues(impl.Direct(w), table); err != nil {
		return c, err
	}
	const cycles = 5
	before := proc.ReadCollector()
	c.Values, c.Cycle = n, time.Hour
	for range cycles {
		begun := time.Now()
		runtime.GC()
		c.Cycle = min(c.Cycle, time.Since(begun))
	}
	c.CPU = time.Duration((proc.ReadCollector().CPU - before.CPU) / cycles * float64(time.Second))
	runtime.KeepAlive(table)
	return c, nil
}

// Memory is what was resident at a moment.
type Memory struct {
	At       time.Duration `json:"at_ns"` // since all was freed
	Resident uint64        `json:"resident"`
}

const (
	decayBytes = 256 << 20
	decayTime  = 4 * time.Second
	decayStep  = 50 * time.Millisecond
)

// Decay fills memory with values, frees all, and looks how what is resident falls
// while the program does nothing.
func Decay(info impl.Info) ([]Memory, error) {
	w := info.New(1).Worker()
	defer w.Release()
	table, err := values(info, decayBytes/valueBytes)
	if err != nil {
		return nil, err
	}
	if err := fillValues(impl.Direct(w), table); err != nil {
		return nil, err
	}
	out := []Memory{{-decayStep, proc.Resident()}}
	for _, p := range table {
		if err := w.Free(p); err != nil {
			return nil, err
		}
	}
	clear(table)
	runtime.KeepAlive(table)
	for begun := time.Now(); time.Since(begun) < decayTime; time.Sleep(decayStep) {
		out = append(out, Memory{time.Since(begun), proc.Resident()})
	}
	return out, nil
}
