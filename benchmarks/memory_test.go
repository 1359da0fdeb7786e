package main

import (
	"strings"
	"testing"
)

// The tables of what is held, and of a bystander, have a row for each load.
func TestMemory(t *testing.T) {
	code, out, errs := program(t, t.Context(), "memory", "-live", "1MiB", "-wait", "10ms")
	if code != 0 || strings.Count(out, "\n|") != 7 || !strings.Contains(out, "held / live") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
	if code, _, _ := program(t, t.Context(), "memory", "-live", "1kB"); code != 2 {
		t.Errorf("-live 1kB: exit code %d, want 2", code)
	}
}

func TestRequests(t *testing.T) {
	code, out, errs := program(t, t.Context(), "requests", "-for", "10ms", "-rounds", "1")
	if code != 0 || strings.Count(out, "\n|") != 8 || !strings.Contains(out, "a Space") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
	if code, _, _ := program(t, t.Context(), "requests", "-rounds", "0"); code != 2 {
		t.Errorf("-rounds 0: exit code %d, want 2", code)
	}
}

// What is held for what lives is bounded, whatever holes the frees leave.
func TestHeldIsBounded(t *testing.T) {
	for _, heap := range []bool{false, true} {
		for name, load := range map[string]struct {
			run  func(h *holes, bytes int) held
			most float64
		}{"ninety percent": {ninetyPercent, 3}, "drift": {drift, 2.5}} {
			h := newHoles(heap)
			got := load.run(h, 32<<20)
			if err := h.close(); err != nil {
				t.Fatal(err)
			}
			if got.ratio() > load.most || got.ratio() < 1 {
				t.Errorf("%s, %s: %d bytes are held for %d, want at most %v times", name, h.name, got.held, got.live, load.most)
			}
		}
	}
}
