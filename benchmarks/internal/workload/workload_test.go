package workload

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
)

const tiny = 2 // percent

func (w Workload) threadCounts() []int {
	switch w.Threads {
	case 1:
		return []int{1}
	case 2:
		return []int{2, 4}
	}
	return []int{1, 2, 3}
}

// Every allocator is asked for the same, and what is asked for is right while it
// is live.
func TestWorkloads(t *testing.T) {
	impls := append(impl.All(), impl.Hardened(), impl.Canaries(), impl.SyncPool())
	if c, ok := impl.CMalloc(); ok {
		impls = append(impls, c)
	}
	for _, w := range All() {
		for _, threads := range w.threadCounts() {
			t.Run(fmt.Sprintf("%s/%d", w.Name, threads), func(t *testing.T) {
				var want Result
				for _, info := range impls {
					got, err := w.Run(info, threads, tiny)
					if err != nil {
						t.Fatalf("%s: %v", info.Name, err)
					}
					got.Elapsed = 0
					if want == (Result{}) {
						want = got
					}
					if got != want || got.Mallocs == 0 {
						t.Errorf("%s: %+v, others %+v", info.Name, got, want)
					}
				}
			})
		}
	}
}

// After a workload nothing is left.
func TestNothingIsLeft(t *testing.T) {
	for _, w := range All() {
		var used impl.Impl
		info := impl.All()[0]
		create := info.New
		info.New = func(n int) impl.Impl { used = create(n); return used }
		if _, err := w.Run(info, max(w.Threads, 1), tiny); err != nil {
			t.Fatal(err)
		}
		if n := used.LiveBlocks(); n != 0 {
			t.Errorf("%s leaves %d blocks live", w.Name, n)
		}
	}
}

// The programs in C ask for the same blocks.
func TestSameAsC(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler")
	}
	exe := filepath.Join(t.TempDir(), "workload")
	if out, err := exec.Command(cc, "-O1", "-pthread", "-o", exe, filepath.Join("..", "..", "c", "workload.c")).CombinedOutput(); err != nil {
		t.Skipf("%s does not build it: %v\n%s", cc, err, out)
	}
	for _, w := range All() {
		for _, threads := range w.threadCounts() {
			out, err := exec.Command(exe, w.Name, strconv.Itoa(threads), strconv.Itoa(tiny)).Output()
			if err != nil {
				t.Errorf("%s in C: %v", w.Name, err)
				continue
			}
			var c Result
			if err := json.Unmarshal(out, &c); err != nil {
				t.Fatal(err)
			}
			g, err := w.Run(impl.All()[0], threads, tiny)
			if err != nil {
				t.Fatal(err)
			}
			c.Elapsed, g.Elapsed = 0, 0
			if c != g {
				t.Errorf("%s, %d threads: in C %+v, in Go %+v", w.Name, threads, c, g)
			}
		}
	}
}

// What a run cannot do is an error.
func TestBadRuns(t *testing.T) {
	all := All()
	find := func(name string) Workload {
		return all[slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })]
	}
	for _, bad := range []struct {
		name           string
		threads, scale int
	}{{"larson", 0, 1}, {"larson", 1, 0}, {"larson", -1, 1}, {"malloc-large", 2, 1}, {"xmalloc-test", 1, 1}} {
		if _, err := find(bad.name).Run(impl.All()[0], bad.threads, bad.scale); err == nil {
			t.Errorf("%+v runs", bad)
		}
	}
}

func TestRand(t *testing.T) {
	r := rand(0) // the first numbers of the published generator for seed 0
	for i, want := range []uint64{0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f} {
		if got := r.next(); got != want {
			t.Errorf("number %d is %#x, want %#x", i, got, want)
		}
	}
}
