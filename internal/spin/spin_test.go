//go:build !windows

package spin

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func write(t *testing.T, name, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMissing(t *testing.T) {
	const model = `
#ifndef SIZE
#define SIZE 2
#endif
#ifdef NO_LOCK
#define lock() skip
#else
#define lock() x == 0
#endif
#if defined(WEAK) && !defined(NO_FENCE)
#endif
`
	if got, want := missing(model), []string{"NO_FENCE", "NO_LOCK", "WEAK"}; !slices.Equal(got, want) {
		t.Errorf("missing = %v, want %v", got, want)
	}
}

func TestWriters(t *testing.T) {
	dir := write(t, "p.go", `package p

import "sync/atomic"

type T struct{ n atomic.Uint32; more []atomic.Uint32 }

func (t *T) Get() uint32 { return t.n.Load() }
func (t *T) Set() { t.n.Store(1) }
func (t *T) Both() bool { if t.Get() != 0 { return t.at(3).CompareAndSwap(1, 2) }; return false }
func (t *T) at(i int) *atomic.Uint32 { return &t.more[i] }
func helper(p *uint32) { atomic.StoreUint32(p, 1); atomic.AddUint32(p, 1) }
func nested(t *T) func() { return func() { t.n.Add(1) } }
`)
	if got, want := Writers(t, dir), []string{"Both", "Set", "nested"}; !slices.Equal(got, want) {
		t.Errorf("Writers = %v, want %v", got, want)
	}
}

// TestSearch: the outcomes of a search: no error, one, and not all states seen.
func TestSearch(t *testing.T) {
	need(t)
	dir := write(t, "m.pml", `
byte n, done;
active [2] proctype Adder() {
	byte old;
#ifdef TWO_STEPS
	old = n;
	n = old + 1;
#else
	n++;
#endif
	done++;
	if
	:: done == 2 -> assert(n == 2)
	:: else
	fi
}
#ifdef LONG
active proctype Long() { int i; do :: i < 500000 -> i++ :: else -> break od }
#endif
`)
	file := filepath.Join(dir, "m.pml")
	if out := search(t, twin, file); out.errors != 0 || out.states < 10 || out.incomplete != "" {
		t.Errorf("the model: %+v", out)
	}
	if out := search(t, twin, file, "TWO_STEPS"); out.errors != 1 {
		t.Errorf("the twin: %+v", out)
	}
	if out := search(t, twin, file, "LONG"); out.incomplete == "" {
		t.Errorf("a path that is too long: %+v", out)
	}
}
