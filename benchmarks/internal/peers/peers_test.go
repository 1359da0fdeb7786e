package peers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const source = "../../c/workload.c"

func TestFind(t *testing.T) {
	t.Setenv("PYARENA_PEERS", "mimalloc=/some/where.so,mine=/else/where.so")
	found, missing := Find()
	for _, want := range []Peer{{"libc", ""}, {"mimalloc", "/some/where.so"}, {"mine", "/else/where.so"}} {
		if !slices.Contains(found, want) {
			t.Errorf("%v is not in %v", want, found)
		}
	}
	if slices.Contains(missing, "mimalloc") {
		t.Error("mimalloc was named, and is missing")
	}
}

func TestNoCompiler(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("CC", "")
	if _, err := Build(context.Background(), source, t.TempDir()); !errors.Is(err, ErrNoCompiler) {
		t.Errorf("%v, want ErrNoCompiler", err)
	}
}

// built returns the program, or skips the test.
func built(t *testing.T) *Program {
	t.Helper()
	p, err := Build(t.Context(), source, t.TempDir())
	if errors.Is(err, ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRun(t *testing.T) {
	p := built(t)
	var got struct{ Mallocs int }
	if err := p.Run(t.Context(), Peer{Name: "libc"}, &got, "cache-thrash", "1", "1"); err != nil || got.Mallocs == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := p.Run(t.Context(), Peer{Name: "libc"}, &got, "no-such", "1", "1"); err == nil {
		t.Error("a workload that is not there runs")
	}
	// The loader warns of a library that it cannot load, and goes on without it.
	bad := filepath.Join(t.TempDir(), "no.so")
	if err := os.WriteFile(bad, []byte("no library"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context(), Peer{"bad", bad}, &got, "cache-thrash", "1", "1"); err == nil {
		t.Error("a library that cannot be loaded is measured")
	}
}

// A program that does not compile is reported with what the compiler says.
func TestBadSource(t *testing.T) {
	built(t)
	file := filepath.Join(t.TempDir(), "bad.c")
	if err := os.WriteFile(file, []byte("int main("), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), file, t.TempDir()); err == nil {
		t.Error("it compiles")
	}
}
