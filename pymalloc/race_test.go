//go:build race

package pymalloc

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/pyarena/pyarena/osmem"
)

// TestRacesAreSeen: built with -race and no tag, the detector reports what it reports
// of values on the Go heap: two goroutines at a value without order between them, and
// at a Heap, which is for one. And it reports neither where they take turns.
func TestRacesAreSeen(t *testing.T) {
	if !osmem.OnGoHeap {
		t.Skip("arenas are mappings, which the race detector does not know")
	}
	for name, want := range map[string]bool{"value": true, "heap": true, "turns": false} {
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
	var a Allocator
	p, err := a.UnsafeMalloc(64)
	if err != nil {
		t.Fatal(err)
	}
	h := a.AcquireHeap()
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
