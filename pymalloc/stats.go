package pymalloc

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/internal/engine"
)

// Stats is a picture of an allocator. While other goroutines allocate and free,
// each figure is that of some moment of the call; the parts of MappedBytes add
// up all the same.
type Stats struct {
	// MappedBytes is the memory that is mapped for blocks: arenas and huge
	// mappings. It is 0 when all is freed and trimmed. It is the sum of Parts.
	MappedBytes uint64
	// RetainedBytes is the part of it in arenas and mappings without a block, and
	// behind huge blocks, for these to grow into.
	RetainedBytes uint64
	// InUseBytes is the size of all live blocks, as UnsafeUsableSize has it.
	InUseBytes uint64
	// LiveBlocks is the number of live blocks.
	LiveBlocks uint64
	// HighWaterBytes is the most that MappedBytes has been.
	HighWaterBytes uint64
	// MetadataBytes is the memory of headers, shards and magazines, of all allocators of the
	// process.
	MetadataBytes uint64
	// ReservedBytes is the address space, in bytes, that these tables take: their
	// memory, and what they grow into. Limits on address space count it (RLIMIT_AS,
	// ulimit -v), beside MappedBytes and KeptAddressBytes.
	ReservedBytes uint64
	// KeptAddressBytes is the address space of former arenas of the process that
	// is kept inaccessible; it takes no memory.
	KeptAddressBytes uint64

	Arenas  ArenaStats
	Pools   PoolStats
	Classes []ClassStats // those with a pool, smallest first
	Runs    LargeStats   // blocks above the largest class, up to half an arena
	Huge    LargeStats   // blocks above half an arena
	Parts   Parts

	// UnmapRefusals counts how often the system refused to take memory back, of this allocator
	// or of those that were closed (vm.max_map_count on Linux), which is tried again: see
	// "Memory going back" in the package documentation.
	UnmapRefusals uint64

	// DroppedAllocators counts the allocators of the process that were dropped with live
	// blocks, without Close, and DroppedBytes is the memory that stays mapped for these.
	DroppedAllocators uint64
	DroppedBytes      uint64
}

// ArenaStats counts arenas.
type ArenaStats struct {
	Current   uint64
	Free      uint64 // of them without a block, to be given back
	Total     uint64 // mapped so far
	Reclaimed uint64 // given back so far
	HighWater uint64 // most at once
	Bytes     uint64 // of one
}

// PoolStats counts pools by state.
type PoolStats struct {
	Used  uint64 // with free blocks
	Full  uint64 // without: the others are live, or in magazines
	Empty uint64 // without a live block, kept for the next use
}

// ClassStats is one size class.
type ClassStats struct {
	Class     int
	Size      uint64 // bytes of a block
	Pools     uint64
	Live      uint64 // blocks in use
	Available uint64 // blocks to be handed out before a new pool is needed
}

// LargeStats counts large blocks.
type LargeStats struct {
	Blocks uint64
	Bytes  uint64 // usable
}

// Parts is what MappedBytes is made of, in bytes.
type Parts struct {
	Blocks       uint64 // live blocks in pools
	Available    uint64 // blocks of pools that are not in use
	UnusedPools  uint64 // units of no pool, and pools without a live block
	Headers      uint64 // guard pages
	Quantization uint64 // rests of pools and runs that hold no block
	Runs         uint64 // large runs
	Huge         uint64 // huge mappings
	Retained     uint64 // free huge mappings and parts of them, and arenas whose unmapping was refused
}

// Sum returns the sum of all parts.
func (p Parts) Sum() uint64 {
	return p.Blocks + p.Available + p.UnusedPools + p.Headers + p.Quantization + p.Runs + p.Huge + p.Retained
}

// Stats returns a picture of the allocator: exact while nothing is under way, else each
// arena is that of a moment. It looks at every pool, some nanoseconds each, and holds the
// lock that new pools are taken under for an arena at a time.
func (a *Allocator) Stats() Stats {
	var s Stats
	s.MetadataBytes, s.ReservedBytes = engine.MetaBytes()
	s.KeptAddressBytes = engine.KeptBytes()
	s.UnmapRefusals = engine.Refusals()
	s.DroppedAllocators, s.DroppedBytes = engine.Dropped()
	l := a.life.Load()
	if l == nil {
		return s
	}
	e := l.Stats()
	tail := uint64(l.Tail())
	for c, cs := range e.Classes {
		if cs.Pools == 0 {
			continue
		}
		size, live, available := uint64(engine.ClassSize(uint8(c))), uint64(cs.Live), uint64(cs.Available)
		s.Classes = append(s.Classes, ClassStats{Class: c, Size: size, Pools: uint64(cs.Pools), Live: live, Available: available})
		s.LiveBlocks += live
		s.InUseBytes += live * (size - tail)
		s.Parts.Blocks += live * size
		s.Parts.Available += available * size
	}
	s.Pools = PoolStats{Used: uint64(e.Used), Full: uint64(e.Full), Empty: uint64(e.Empty)}
	s.Runs = LargeStats{uint64(e.Runs), e.RunBytes}
	s.Parts.Runs = e.RunBytes
	s.Parts.Quantization = e.Quantum + e.RunRest
	g := &l.Arenas.Geometry
	unit := uint64(g.Bytes / g.Units)
	counts := &l.Arenas.Counts
	s.Arenas = ArenaStats{
		Current: uint64(e.Arenas.Arenas), Free: uint64(e.Arenas.Free), Bytes: uint64(g.Bytes),
		Total: counts.Mapped.Load(), Reclaimed: counts.Unmapped.Load(), HighWater: counts.HighWater.Load(),
	}
	s.Parts.Headers = uint64(e.Arenas.Arenas*g.GuardUnits) * unit
	s.Parts.UnusedPools = e.UnitBytes + uint64(e.Arenas.FreeUnits)*unit

	s.Huge = LargeStats{uint64(e.Huge.Blocks), e.Huge.Bytes}
	s.Parts.Huge = e.Huge.Bytes
	s.Parts.Headers += e.Huge.Guards
	s.Parts.Retained = e.Huge.Retained + uint64(e.Arenas.Refused*g.Bytes)
	s.InUseBytes += s.Runs.Bytes + s.Huge.Bytes
	s.LiveBlocks += s.Runs.Blocks + s.Huge.Blocks

	s.MappedBytes = s.Parts.Sum()
	s.RetainedBytes = s.Parts.Retained + uint64(e.Arenas.Free*g.Bytes)
	s.HighWaterBytes = max(l.Budget.High.Load(), s.MappedBytes)
	s.UnmapRefusals += counts.Refusals.Load() + l.Huge.Refusals.Load()
	return s
}

// WriteTo writes the picture for people, in the form of CPython's
// sys._debugmallocstats.
func (s Stats) WriteTo(w io.Writer) (int64, error) {
	out := &countingWriter{w: w}
	fmt.Fprintf(out, "Small block threshold = %d, in %d size classes.\n\n", engine.SmallMax, engine.Classes)
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "class\tsize\tpools\tblocks in use\tavail blocks\t")
	fmt.Fprintln(tw, "-----\t----\t-----\t-------------\t------------\t")
	for _, c := range s.Classes {
		fmt.Fprintf(tw, "%d\t%d\t%d\t%d\t%d\t\n", c.Class, c.Size, c.Pools, c.Live, c.Available)
	}
	_ = tw.Flush() // errors are kept by out
	line := func(name string, n uint64) { fmt.Fprintf(out, "%-42s = %20s\n", name, humanize.Comma(int64(n))) }
	fmt.Fprintln(out)
	line("# arenas allocated total", s.Arenas.Total)
	line("# arenas reclaimed", s.Arenas.Reclaimed)
	line("# arenas highwater mark", s.Arenas.HighWater)
	line("# arenas allocated current", s.Arenas.Current)
	line("# unmappings refused", s.UnmapRefusals)
	fmt.Fprintf(out, "%d arenas * %d bytes/arena, pools: %d used, %d full, %d empty\n\n",
		s.Arenas.Current, s.Arenas.Bytes, s.Pools.Used, s.Pools.Full, s.Pools.Empty)
	part := func(name string, n uint64) {
		fmt.Fprintf(out, "%-42s = %20s  %9s\n", name, humanize.Comma(int64(n)), humanize.IBytes(n))
	}
	part("# bytes in allocated blocks", s.Parts.Blocks)
	part("# bytes in available blocks", s.Parts.Available)
	part("# bytes in unused pools", s.Parts.UnusedPools)
	part("# bytes lost to guard pages", s.Parts.Headers)
	part("# bytes lost to quantization", s.Parts.Quantization)
	part("# bytes in large runs", s.Parts.Runs)
	part("# bytes in huge mappings", s.Parts.Huge)
	part("# bytes in free mappings", s.Parts.Retained)
	part("Total", s.MappedBytes)
	part("# bytes of tables", s.MetadataBytes)
	part("# bytes of addresses that tables take", s.ReservedBytes)
	return out.n, out.err
}

// String returns what WriteTo writes.
func (s Stats) String() string {
	var b strings.Builder
	_, _ = s.WriteTo(&b) // never fails
	return b.String()
}

// countingWriter counts, and keeps the first error.
type countingWriter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *countingWriter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.err = err
	return n, err
}
