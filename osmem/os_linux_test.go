//go:build linux && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

func TestKeepsAddresses(t *testing.T) {
	heap := uint64(uintptr(unsafe.Pointer(new([64]byte))))
	p, err := Reserve(pageSize)
	if err != nil {
		t.Fatal(err)
	}
	mapped := uint64(uintptr(p))
	if err := Release(p, pageSize); err != nil {
		t.Fatal(err)
	}
	t.Logf("heap at %#x, mappings at %#x, KeepsAddresses() = %v", heap, mapped, KeepsAddresses())
	const terabyte = 1 << 40
	if !KeepsAddresses() && (mapped < heap || mapped-heap < terabyte) {
		t.Errorf("addresses are given back, with the heap at %#x and mappings at %#x", heap, mapped)
	}
	if runtime.GOARCH == "amd64" && mapped>>40 == 0x7f && KeepsAddresses() {
		t.Errorf("addresses are kept, with mappings at %#x", mapped)
	}
}

// TestNeighboursMerge: arenas that adjoin share one mapping, where the kernel maps
// downwards. One that maps upwards, as emulators do, begins behind what was cut off
// the last arena.
func TestNeighboursMerge(t *testing.T) {
	const arenas, arenaBytes = 64, 1 << 20
	before := len(mapsLines(t))
	var all []unsafe.Pointer
	for range arenas {
		p, err := MapAligned(arenaBytes, arenaBytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	n := len(mapsLines(t)) - before
	for _, p := range all {
		if err := Release(p, arenaBytes); err != nil {
			t.Fatal(err)
		}
	}
	if n > arenas/4 {
		if mapsUpwards(t) {
			t.Skipf("this system maps upwards: %d arenas took %d mappings", arenas, n)
		}
		t.Errorf("%d arenas took %d mappings", arenas, n)
	}
}

// mapsUpwards reports whether a large mapping lies above the one before.
func mapsUpwards(t *testing.T) bool {
	const size = 64 << 20
	var at [2]unsafe.Pointer
	for i := range at {
		p, err := Reserve(size)
		if err != nil {
			t.Fatal(err)
		}
		at[i] = p
	}
	for _, p := range at {
		if err := Release(p, size); err != nil {
			t.Fatal(err)
		}
	}
	return uintptr(at[1]) > uintptr(at[0])
}

// TestTrim: no address space is lost beside a region that was cut to alignment.
func TestTrim(t *testing.T) {
	const regions, size, align = 32, 1 << 20, 16 << 20
	total := func() (bytes uint64) {
		for _, line := range mapsLines(t) {
			lo, hi := mapsRange(line)
			bytes += hi - lo
		}
		return bytes
	}
	before := total()
	var all []unsafe.Pointer
	for range regions {
		p, err := MapAligned(size, align)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	// The runtime may take an arena of its own, of 64 MiB, meanwhile.
	if grown := total() - before; grown > regions*size+(64<<20) {
		t.Errorf("%d regions of 1 MiB took %d MiB of address space", regions, grown>>20)
	}
	for _, p := range all {
		if err := Release(p, size); err != nil {
			t.Fatal(err)
		}
	}
}

// mapsRange returns the addresses of a line of /proc/self/maps.
func mapsRange(line string) (lo, hi uint64) {
	from, to, _ := strings.Cut(strings.Fields(line)[0], "-")
	lo, _ = strconv.ParseUint(from, 16, 64)
	hi, _ = strconv.ParseUint(to, 16, 64)
	return lo, hi
}

func mapsLines(t *testing.T) []string {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// TestMappingLimit runs mappingLimit in a process of its own, because the runtime
// too gets no mappings at the limit.
func TestMappingLimit(t *testing.T) {
	const childEnv = "OSMEM_TEST_MAPPING_LIMIT"
	if os.Getenv(childEnv) != "" {
		mappingLimit(t)
		return
	}
	b, err := os.ReadFile("/proc/sys/vm/max_map_count")
	limit, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || limit == 0 || limit > 1<<17 {
		t.Skipf("the limit of mappings is %d (%v)", limit, err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMappingLimit$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1", "GOGC=off")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("an emulator runs this program, and not its children")
	}
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// mappingLimit uses up all mappings, and looks that nothing is lost then and that
// all works again afterwards.
func mappingLimit(t *testing.T) {
	const mib = 1 << 20
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	whole, err := MapAligned(8*mib, mib)
	must(err)
	spare, err := MapAligned(4*mib, mib)
	must(err)
	must(Protect(spare, 4*mib, ReadOnly)) // a mapping of its own
	bytesAt(whole, 8*mib)[5*mib] = 1
	size := 1 << 17 * pageSize
	filler, err := Reserve(size)
	must(err)
	var mapped []unsafe.Pointer // allocated here: at the limit nothing should be
	mapped = make([]unsafe.Pointer, 0, 64)
	var got [7]error

	var at int
	for at = 0; at < size && err == nil; at += 2 * pageSize {
		err = Commit(unsafe.Add(filler, at), pageSize)
	}
	got[0] = err
	got[1] = Release(unsafe.Add(whole, 4*mib), mib) // a hole
	got[2] = Protect(unsafe.Add(whole, 2*mib), mib, ReadOnly)
	got[3] = Decommit(unsafe.Add(whole, 2*mib), mib)
	got[4] = leftovers.add(unsafe.Add(spare, mib), mib)
	kept := leftovers.n.Load()
	_, got[5] = MapAligned(mib, 64*mib) // not before the leftovers are gone
	stillKept := leftovers.n.Load()
	got[6] = TryRelease(unsafe.Add(whole, 4*mib), mib)

	must(Release(filler, size))
	for i, err := range got {
		if !errors.Is(err, ErrNoMemory) {
			t.Errorf("refusal %d is %v, want ErrNoMemory", i, err)
		}
	}
	if kept != 1 || stillKept != 1 {
		t.Errorf("%d, then %d leftovers; want 1 and 1", kept, stillKept)
	}
	if b := bytesAt(whole, 8*mib); b[5*mib] != 1 || b[4*mib] != 0 {
		t.Error("contents were lost at the limit")
	}
	for range 8 {
		p, err := MapAligned(mib, 64*mib)
		must(err)
		mapped = append(mapped, p)
	}
	if n := leftovers.n.Load(); n != 0 {
		t.Errorf("%d leftovers, want 0", n)
	}
	for _, line := range mapsLines(t) {
		lo, hi := mapsRange(line)
		gone := uint64(uintptr(spare)) + mib
		if lo <= gone && gone < hi && !within(mapped, gone) {
			t.Errorf("what was left over at %#x is still mapped: %s", gone, line)
		}
	}
	for _, p := range mapped {
		must(Release(p, mib))
	}
	must(Release(unsafe.Add(whole, 4*mib), mib))
	must(Release(whole, 4*mib))
	must(Release(unsafe.Add(whole, 5*mib), 3*mib))
}

func within(mapped []unsafe.Pointer, at uint64) bool {
	for _, p := range mapped {
		if base := uint64(uintptr(p)); base <= at && at < base+1<<20 {
			return true
		}
	}
	return false
}
