package optimized

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

func TestOptimizes(t *testing.T) {
	for gcflags, want := range map[string]bool{
		"all=-N -l": false, "-N": false, "all=-l": false, "all='-N' '-l'": false,
		"": true, "-m": true, "all=-d=checkptr": true, "-lang=go1.26": true,
	} {
		if optimizes(gcflags) != want {
			t.Errorf("-gcflags=%q: optimises = %v, want %v", gcflags, !want, want)
		}
	}
}

// TestOptimized is what TestNeed runs.
func TestOptimized(t *testing.T) { Need(t) }

// TestNeed: a test binary knows how it was built.
func TestNeed(t *testing.T) {
	host, err := exec.Command("go", "env", "GOHOSTOS", "GOHOSTARCH").Output()
	if err != nil || string(host) != runtime.GOOS+"\n"+runtime.GOARCH+"\n" {
		t.Skip("no go command that builds for this system and processor")
	}
	for gcflags, want := range map[string]string{"": "--- PASS", "-N": "--- SKIP", "-l": "--- SKIP"} {
		out, err := exec.Command("go", "test", "-v", "-run", "^TestOptimized$", "-gcflags="+gcflags, ".").CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("-gcflags=%s: want %s, got %v\n%s", gcflags, want, err, out)
		}
	}
}
