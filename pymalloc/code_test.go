package pymalloc

import (
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/pyarena/pyarena/internal/optimized"
)

// assembly returns the compiler's output for a package, by function. It leaves
// out what the linker adds.
func assembly(t *testing.T, pkg string) map[string]string {
	t.Helper()
	optimized.Need(t)
	if runtime.GOARCH != "amd64" || runtime.GOOS == "windows" {
		t.Skip("reads amd64 assembly")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command")
	}
	out, err := exec.Command(goTool, "build", "-gcflags=-S", pkg).CombinedOutput()
	if err != nil {
		t.Skipf("go build: %v\n%s", err, out)
	}
	funcs := map[string]string{}
	name := ""
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "\t") {
			name, _, _ = strings.Cut(line, " ")
			name = name[strings.LastIndex(name, "/")+1:]
		}
		funcs[name] += line
	}
	return funcs
}

var calls = regexp.MustCompile(`\bCALL\t([^\s(]+(?:\([^)]*\)[^\s(]*)*)\(SB\)`)

// The fast path calls nothing but the pinning of the runtime, and has no bounds
// check and no write barrier: a panic while pinned would end the process, and
// each costs time.
func TestFastPathCode(t *testing.T) {
	funcs := assembly(t, "github.com/pyarena/pyarena/pymalloc")
	allowed := map[string]bool{
		"runtime.procPin": true, "runtime.procUnpin": true, "runtime.morestack_noctxt": true,
		// In the section, for what the fast path does not do:
		"engine.Get": true, "engine.Keep": true,
		// Leaving the fast path:
		"pymalloc.(*Allocator).allocSlow": true, "pymalloc.(*Heap).allocSlow": true, "pymalloc.(*Allocator).freeSlow": true, "pymalloc.(*Heap).freeSlow": true, "pymalloc.freeError": true,
	}
	for _, name := range []string{
		"pymalloc.(*Allocator).UnsafeMalloc", "pymalloc.(*Allocator).UnsafeFree",
		"pymalloc.(*Allocator).mallocSome", "pymalloc.(*Allocator).freeSome",
		"pymalloc.(*Heap).UnsafeMalloc", "pymalloc.(*Heap).UnsafeFree",
		"pymalloc.(*Heap).mallocSome", "pymalloc.(*Heap).freeSome",
	} {
		text, ok := funcs[name]
		if !ok {
			t.Fatalf("%s is not in the compiler's output", name)
		}
		for _, m := range calls.FindAllStringSubmatch(text, -1) {
			callee := m[1][strings.LastIndex(m[1], "/")+1:]
			// The caller's slice is on the Go heap.
			if barrier := strings.HasPrefix(callee, "runtime.gcWriteBarrier") && strings.HasSuffix(name, "mallocSome"); !allowed[callee] && !barrier {
				t.Errorf("%s calls %s", name, callee)
			}
		}
	}
}

// What runs pinned on the slow paths has no bounds check and does not allocate: a panic
// while pinned would end the process.
func TestPinnedCode(t *testing.T) {
	const module = "github.com/pyarena/pyarena/internal/"
	funcs := assembly(t, module+"shard")
	for _, pkg := range []string{"pool", "engine"} {
		for name, text := range assembly(t, module+pkg) {
			funcs[name] = text
		}
	}
	leaves := map[string]bool{"shard.(*Class).Swap": true, "shard.(*Class).TakeOut": true}
	for _, name := range []string{
		"shard.(*Class).Flush", "shard.(*Class).TakeOut", "shard.(*Class).TakeAny", "shard.(*Class).Put", "shard.(*Class).Swap",
		"shard.(*Shard).Rotate", "shard.(*Shard).Install", "shard.(*Shard).Remove", "shard.(*Shard).Shuffle",
		"pool.State", "pool.Examine", "pool.Wipe", "engine.Get", "engine.Keep",
		"engine.(*Life).pop", "engine.(*Life).freeBlock", "engine.(*Life).refill", "engine.(*Life).grow", "engine.sizeOf",
	} {
		text, ok := funcs[name]
		if !ok {
			t.Errorf("%s is not in the compiler's output", name)
			continue
		}
		if leaves[name] && calls.MatchString(text) {
			t.Errorf("%s calls something: %q", name, calls.FindString(text))
		}
		for _, bad := range []string{"runtime.panic", "runtime.newobject"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %s", name, bad)
			}
		}
	}
}
