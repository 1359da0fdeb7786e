//go:build race

package pymalloc

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// TestRacesAreSeen: built with -race and no tag, the detector reports what it reports
// of values on the Go heap: two goroutines at a value without order between them, and
// at a Heap, which is for one; and a value that is used beside the free of its block. It
// reports none where they take turns, nor for a free that is refused, nor for frees of one
// block without order, whose blocks nobody touches.
func TestRacesAreSeen(t *testing.T) {
	if !osmem.OnGoHeap {
		t.Skip("arenas are mappings, which the race detector does not know")
	}
	for name, want := range map[string]bool{
		"value": true, "heap": true, "turns": false,
		"write, free": true, "read, free": true, "write, heap's free": true, "write, refused free": false,
		"frees": false, "frees, hardened": false, "frees, canaries": false, "frees, wiping": false,
	} {
		if testing.Short() && strings.HasPrefix(name, "frees, ") {
			continue // each takes some seconds
		}
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestRacy$")
			cmd.Env = append(os.Environ(), "PYMALLOC_RACY="+name, "GORACE=exitcode=66")
			out, err := cmd.CombinedOutput()
			if got := strings.Contains(string(out), "DATA RACE"); got != want {
				t.Errorf("reported: %v, want %v (%v)\n%s", got, want, err, out)
			}
		})
	}
}

// TestRacy is what TestRacesAreSeen runs.
func TestRacy(t *testing.T) {
	kind := os.Getenv("PYMALLOC_RACY")
	if kind == "" {
		t.Skip("races on purpose")
	}
	a, err := NewAllocator(Options{
		Hardened: kind == "frees, hardened", Canaries: kind == "frees, canaries", WipeOnFree: kind == "frees, wiping",
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(kind, "frees") {
		racyFrees(a)
		return
	}
	h := a.AcquireHeap()
	if strings.HasSuffix(kind, "free") {
		racyFree(t, kind, a, h)
		return
	}
	p := mustMalloc(t, a, 64)
	var turns sync.Mutex
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 1000 {
				switch kind {
				case "value":
					*(*int64)(p)++
				case "heap":
					q, _ := h.UnsafeMalloc(32)
					_ = h.UnsafeFree(q)
				case "turns":
					turns.Lock()
					*(*int64)(p)++
					q, _ := h.UnsafeMalloc(32)
					*(*int64)(q)++
					_ = h.UnsafeFree(q)
					turns.Unlock()
				}
			}
		})
	}
	wg.Wait()
}

// racyFree frees a block that another goroutine uses, and allocates nothing afterwards.
func racyFree(t *testing.T, kind string, a *Allocator, h *Heap) {
	p := mustMalloc(t, a, 64)
	if kind == "write, heap's free" {
		var err error
		if p, err = h.UnsafeMalloc(64); err != nil {
			t.Fatal(err)
		}
	}
	var n int64
	var wg sync.WaitGroup
	wg.Go(func() {
		if kind == "read, free" {
			n = *(*int64)(p)
		} else {
			*(*int64)(p) = 1
		}
	})
	time.Sleep(time.Millisecond)
	switch kind {
	case "write, refused free":
		_ = new(Allocator).UnsafeFree(p)
		_ = a.UnsafeFree(unsafe.Add(p, 16))
		UnsafeUsableSize(p)
	case "write, heap's free":
		_ = h.UnsafeFree(p)
	default:
		_ = a.UnsafeFree(p)
	}
	wg.Wait()
	t.Log(n)
}

// racyFrees frees blocks that others have freed, and that are somebody else's by now:
// Close forgets whose they are. Nobody touches them.
func racyFrees(a *Allocator) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				var ps [8]unsafe.Pointer
				if a.UnsafeMallocBatch(ps[:], 64) == nil {
					_ = a.UnsafeFreeBatch(ps[:])
				}
				if p, err := a.UnsafeMalloc(64); err == nil {
					_ = a.UnsafeFree(p)
				}
			}
		})
	}
	for range 20 {
		time.Sleep(time.Millisecond)
		_ = a.Close()
	}
	stop.Store(true)
	wg.Wait()
}
