//go:build pymalloc_goheap || (race && !pymalloc_mmap) || !(aix || darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris || windows)

package osmem_test

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// onGoHeap: regions are always accessible.
const onGoHeap = true

func mappings(testing.TB) int { return 0 }

// TestGoHeapRegistry: only what was obtained and not released is a region.
func TestGoHeapRegistry(t *testing.T) {
	p := got(t)(osmem.MapAligned(8*page, 1<<20))
	must(t, osmem.Release(unsafe.Add(p, 3*page), 2*page))
	for name, err := range map[string]error{
		"released twice":       osmem.Release(unsafe.Add(p, 3*page), page),
		"across the hole":      osmem.Release(p, 8*page),
		"into the hole":        osmem.Decommit(p, 4*page),
		"in the hole":          osmem.Commit(unsafe.Add(p, 4*page), page),
		"beyond the end":       osmem.Advise(unsafe.Add(p, 7*page), 2*page, osmem.DontNeed),
		"protected in a hole":  osmem.Protect(unsafe.Add(p, 3*page), page, osmem.NoAccess),
		"larger than a region": osmem.Decommit(unsafe.Add(p, 5*page), 4*page),
	} {
		if !errors.Is(err, osmem.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	must(t, osmem.Release(unsafe.Add(p, 5*page), 3*page))
	must(t, osmem.Release(p, 3*page))
	if err := osmem.Release(p, page); !errors.Is(err, osmem.ErrInvalid) {
		t.Errorf("released all: %v, want ErrInvalid", err)
	}
	if !osmem.KeepsAddresses() {
		t.Error("KeepsAddresses() = false on the Go heap")
	}
}
