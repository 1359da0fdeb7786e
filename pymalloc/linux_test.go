//go:build linux && !pymalloc_goheap && (!race || pymalloc_mmap)

package pymalloc

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pyarena/pyarena/osmem"
)

// smaps returns the number of mappings that overlap [from, to), and the resident
// bytes in them.
func smaps(t *testing.T, ranges map[uintptr]uintptr) (mappings int, resident uint64) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	in := false
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var from, to uintptr
		var kb uint64
		line := sc.Text()
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 && strings.Contains(line, "-") {
			in = false
			for p, size := range ranges {
				if from < p+size && p < to {
					in = true
				}
			}
			if in {
				mappings++
			}
		} else if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kb); n == 1 && in {
			resident += kb << 10
		}
	}
	return mappings, resident
}

// arenasOf returns the arenas that blocks lie in.
func arenasOf(ps []unsafe.Pointer, arenaBytes uintptr) map[uintptr]uintptr {
	all := map[uintptr]uintptr{}
	for _, p := range ps {
		all[uintptr(p)&^(arenaBytes-1)] = arenaBytes
	}
	return all
}

// releasedStays reports whether a mapping is there after osmem has released it.
func releasedStays(t *testing.T) bool {
	t.Helper()
	const size = 1 << 20
	p, err := osmem.MapAligned(size, size)
	if err != nil {
		t.Fatal(err)
	}
	if err := osmem.Release(p, size); err != nil {
		t.Fatal(err)
	}
	n, _ := smaps(t, map[uintptr]uintptr{uintptr(p): size})
	return n != 0
}

// Nothing is mapped where a trimmed allocator's arenas were, except that what the Go
// runtime maps may come to lie there: then it is tried again.
func TestTrimLeavesNoMapping(t *testing.T) {
	a := newAllocator(t, Options{KeepAddresses: KeepNever})
	for tries := 3; ; tries-- {
		var ps []unsafe.Pointer
		for range 20_000 {
			ps = append(ps, mustMalloc(t, a, 1000))
		}
		arenas := arenasOf(ps, 1<<20)
		if n, resident := smaps(t, arenas); n == 0 || resident == 0 {
			t.Fatalf("%d mappings, %d bytes resident while blocks are live", n, resident)
		}
		for _, p := range ps {
			mustFree(t, a, p)
		}
		requireEmpty(t, a)
		n, resident := smaps(t, arenas)
		switch {
		case n == 0:
			return
		case releasedStays(t):
			t.Skip("an emulator keeps a 32-bit program's addresses mapped")
		case tries == 1:
			t.Fatalf("%d mappings with %d resident bytes are left of %d arenas", n, resident, len(arenas))
		}
	}
}

// One live block in each arena: a few pages of each stay, not the arena.
func TestSparseArenas(t *testing.T) {
	a := newAllocator(t, Options{})
	var ps []unsafe.Pointer
	for range 200_000 {
		p := mustMalloc(t, a, 256)
		stamp(p, 256, 1)
		ps = append(ps, p)
	}
	arenas := arenasOf(ps, 1<<20)
	seen := map[uintptr]bool{}
	for _, p := range ps {
		if base := uintptr(p) &^ (1<<20 - 1); !seen[base] {
			seen[base] = true
			continue
		}
		mustFree(t, a, p)
	}
	if err := a.Trim(); err != nil {
		t.Fatal(err)
	}
	if s := a.Stats(); s.Arenas.Current != uint64(len(arenas)) || s.LiveBlocks != uint64(len(arenas)) {
		t.Errorf("%d arenas, %d blocks; want %d", s.Arenas.Current, s.LiveBlocks, len(arenas))
	}
	_, resident := smaps(t, arenas)
	if limit := uint64(len(arenas) * 10 * osmem.PageSize()); resident > limit {
		t.Errorf("%d bytes resident in %d arenas with a block each, more than ten pages per arena", resident, len(arenas))
	}
}

// 64 GiB of arenas, of which little is touched, stay below the number of mappings
// that the system allows.
func TestManyArenas(t *testing.T) {
	if testing.Short() || osmem.PageSize() != 4096 || unsafe.Sizeof(uintptr(0)) == 4 {
		t.Skip("takes 64 GiB of address space and a GiB of memory")
	}
	const arenas = 64 << 10
	if free := availableBytes(t); free < 4<<30 {
		t.Skipf("%d bytes available, takes a GiB", free)
	}
	a := newAllocator(t, Options{KeepAddresses: KeepNever})
	ps := make([]unsafe.Pointer, 0, 2*arenas)
	for a.life.Load() == nil || a.life.Load().Arenas.Counts.Mapped.Load() < arenas {
		ps = append(ps, mustMalloc(t, a, 300_000)) // three to an arena, one page of each touched
		*(*byte)(ps[len(ps)-1]) = 1
	}
	if n := mappings(t); n > 30_000 {
		t.Errorf("%d mappings for %d arenas", n, arenas)
	}
	for _, p := range ps {
		mustFree(t, a, p)
	}
	requireEmpty(t, a)
}

func mappings(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	return strings.Count(string(b), "\n")
}

func availableBytes(t *testing.T) (n uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if k, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &n); k == 1 {
			return n << 10
		}
	}
	return 0
}

// A little process stays little: the first block maps one arena and touches a few
// pages of it.
func TestFirstUseIsSmall(t *testing.T) {
	a := newAllocator(t, Options{})
	p := mustMalloc(t, a, 64)
	if s := a.Stats(); s.MappedBytes != 1<<20 {
		t.Errorf("%d bytes mapped for one block", s.MappedBytes)
	}
	if _, resident := smaps(t, arenasOf([]unsafe.Pointer{p}, 1<<20)); resident > 1<<20 {
		// Neighbouring mappings are merged, so this only bounds it.
		t.Logf("%d bytes resident around the first arena", resident)
	}
	mustFree(t, a, p)
}

// pageFaults returns how many page faults the process has had that needed no disk.
func pageFaults(t *testing.T) int64 {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return int64(u.Minflt)
}

// needsFaultCount skips the test where page faults are not those of the program's pages:
// an emulator whose system has smaller pages counts these, and where huge pages come by
// themselves there are fewer.
func needsFaultCount(t *testing.T) {
	t.Helper()
	const size = 16 << 20
	p, err := osmem.MapAligned(size, osmem.PageSize())
	if err != nil {
		t.Fatal(err)
	}
	before := pageFaults(t)
	clear(unsafe.Slice((*byte)(p), size))
	faults, pages := pageFaults(t)-before, int64(size/osmem.PageSize())
	if err := osmem.Release(p, size); err != nil {
		t.Fatal(err)
	}
	if faults < pages*9/10 || faults > pages*11/10 {
		t.Skipf("the system counts %d page faults for %d fresh pages of %d bytes: they are not one a page", faults, pages, osmem.PageSize())
	}
}

// A fresh page faults once, also where a hardened malloc looks at a block before it hands it
// out.
func TestHardFaults(t *testing.T) {
	needsFaultCount(t)
	for _, o := range []Options{{}, {Hardened: true}, {Canaries: true}} {
		a := newAllocator(t, o)
		mustMalloc(t, a, 48)
		const size = 16 << 20
		before := pageFaults(t)
		for range size / 64 {
			mustMalloc(t, a, 48)
		}
		pages := int64(a.Stats().MappedBytes) / int64(osmem.PageSize())
		if n := pageFaults(t) - before; n > pages*5/4 {
			t.Errorf("hardened: %v, canaries: %v: %d faults for %d pages", o.Hardened, o.Canaries, n, pages)
		}
	}
}
