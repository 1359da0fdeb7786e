// Package optimized is for tests of what the compiler's optimisations do: of the
// compiler's output, of what is allocated on the Go heap, of time. They say so by
// [Need], and are skipped in a build without optimisations, as debuggers make it.
package optimized

import (
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// Need skips the test if its binary was built with -gcflags that turn
// optimisations (-N) or inlining (-l) off.
func Need(t testing.TB) {
	t.Helper()
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, s := range info.Settings {
		if s.Key == "-gcflags" && !optimizes(s.Value) {
			t.Skipf("needs a compiler that optimises, and this was built with -gcflags=%q", s.Value)
		}
	}
}

func optimizes(gcflags string) bool {
	_, flags, ok := strings.Cut(gcflags, "=") // a pattern of packages comes first
	if !ok {
		flags = gcflags
	}
	off := func(f string) bool { f = strings.Trim(f, `'"`); return f == "-N" || f == "-l" }
	return !slices.ContainsFunc(strings.Fields(flags), off)
}
