//go:build linux && !pymalloc_goheap && !race

package pymalloc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pyarena/pyarena/osmem"
)

// inChild runs the test again in a process of its own, for what a process does only
// once, or what would harm other tests. It reports whether this is that process.
func inChild(t *testing.T) bool {
	t.Helper()
	const childEnv = "PYMALLOC_TEST_CHILD"
	if os.Getenv(childEnv) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name(), "GOGC=off")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("an emulator runs this program, and not its children")
	}
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

// addressBytes returns the address space that the process takes.
func addressBytes(t *testing.T) (n uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if k, _ := fmt.Sscanf(line, "VmSize: %d kB", &n); k == 1 {
			return n << 10
		}
	}
	t.Skip("/proc/self/status has no VmSize")
	return 0
}

// The first block of a process takes few addresses, and Stats tells those of the tables.
func TestAddressSpace(t *testing.T) {
	if !inChild(t) {
		return
	}
	a := new(Allocator)
	before := addressBytes(t)
	mustMalloc(t, a, 64)
	taken := addressBytes(t) - before
	s := a.Stats()
	t.Logf("%d bytes of addresses are taken, %d by tables and %d by an arena", taken, s.ReservedBytes, s.MappedBytes)
	if taken > 32<<20 || s.ReservedBytes > 32<<20 {
		t.Errorf("%d bytes of addresses are taken for one block, %d by tables; want 32 MiB at most", taken, s.ReservedBytes)
	}
	if s.ReservedBytes < s.MetadataBytes || s.ReservedBytes+s.MappedBytes > taken {
		t.Errorf("%d bytes of addresses are taken, but there are %d in tables, with %d of memory, and %d in arenas",
			taken, s.ReservedBytes, s.MetadataBytes, s.MappedBytes)
	}
	b := new(Allocator)
	if n := b.Stats().ReservedBytes; n != s.ReservedBytes {
		t.Errorf("an unused allocator tells %d bytes, one with a block %d: tables are the process's", n, s.ReservedBytes)
	}
}

// A process whose address space is limited to little more than it uses gets blocks.
func TestAddressLimit(t *testing.T) {
	if !inChild(t) {
		return
	}
	most := addressBytes(t) + 64<<20
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		t.Skip(err)
	}
	a := new(Allocator)
	for _, size := range []int{64, 64, 100_000, 3 << 20} {
		mustMalloc(t, a, size)
	}
	h := a.AcquireHeap()
	if _, err := h.UnsafeMalloc(64); err != nil {
		t.Error(err)
	}
}

// A refusal says which table of the process could not be had, and leaves nothing that
// keeps the next request from success.
func TestRefusedTables(t *testing.T) {
	if !inChild(t) {
		return
	}
	a := new(Allocator)
	for _, c := range []struct {
		op   osmem.Op
		from int // the first call that is refused
		name string
	}{
		{osmem.OpMap, 1, "osmem: map 1048576 bytes: "},
	} {
		calls := 0
		restore := osmem.SetFault(func(op osmem.Op, _ int) error {
			if op == c.op {
				if calls++; calls >= c.from {
					return osmem.ErrNoMemory
				}
			}
			return nil
		})
		_, err := a.UnsafeMalloc(64)
		restore()
		want := "pymalloc: UnsafeMalloc(64): no memory for 64 B: " + c.name
		if !errors.Is(err, osmem.ErrNoMemory) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: %v, want %q", c.op, err, want)
		}
	}
	mustFree(t, a, mustMalloc(t, a, 64))
	requireEmpty(t, a)
}

// At the system's limit of mappings a free costs what it costs elsewhere, and what was
// refused is given back by Trim as soon as it is no hole any more.
func TestMappingLimit(t *testing.T) {
	if testing.Short() || unsafe.Sizeof(uintptr(0)) == 4 {
		t.Skip("takes 134 GiB of address space and all mappings of a process")
	}
	b, err := os.ReadFile("/proc/sys/vm/max_map_count")
	limit, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || limit == 0 || limit > 1<<17 {
		t.Skipf("the limit of mappings is %d (%v)", limit, err)
	}
	if !inChild(t) {
		return
	}
	// The runtime gets no mappings at the limit either: it has what it needs before.
	ballast := make([]byte, 64<<20)
	runtime.KeepAlive(ballast)
	ballast = nil
	runtime.GC()
	a, err := NewAllocator(Options{RetainBytes: -1, RetainDelay: time.Hour, KeepAddresses: KeepNever})
	if err != nil {
		t.Fatal(err)
	}
	frees := uint64(limit + 1000)
	ps := make([]unsafe.Pointer, 2*frees)
	for i := range ps {
		if ps[i], err = a.UnsafeMalloc(1 << 20); err != nil {
			t.Skip(err)
		}
	}
	// At the limit there is nothing but frees, for the runtime may want a mapping.
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	for _, odd := range []int{0, 1} {
		for i := odd; i < len(ps); i += 2 {
			if err := a.UnsafeFree(ps[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	refusals, allocations := a.Stats().UnmapRefusals, after.Mallocs-before.Mallocs
	err = a.Trim()
	t.Logf("%d frees in %v, %d refusals, %d allocations", len(ps), took, refusals, allocations)
	if refusals == 0 || refusals > frees || allocations > frees/100 {
		t.Errorf("%d frees had %d refusals, and made %d allocations", len(ps), refusals, allocations)
	}
	if s := a.Stats(); err != nil || s.MappedBytes != 0 {
		t.Errorf("Trim = %v, %d bytes are mapped", err, s.MappedBytes)
	}
}
