package objects

import (
	"context"
	"errors"
	"testing"
)

// The work runs, leaves nothing behind, and is what Python does.
func TestWork(t *testing.T) {
	for _, shared := range []bool{false, true} {
		got, err := Go(context.Background(), 1000, 1, shared)
		if err != nil {
			t.Fatal(err)
		}
		python, version, err := Python(context.Background(), 1000, 1)
		if err != nil {
			t.Fatal(err)
		}
		if version == "" {
			continue // the work has run
		}
		c, err := PythonC(context.Background(), 1000, 1)
		if err != nil && !errors.Is(err, ErrNoHeaders) {
			t.Error(err)
		}
		for i := range c {
			if c[i].Name != python[i].Name || c[i].Value <= 0 {
				t.Errorf("figure %d is %+v in C, and %q in Python", i, c[i], python[i].Name)
			}
		}
		if len(got) != len(python) {
			t.Fatalf("%d figures, Python has %d", len(got), len(python))
		}
		for i := range got {
			if got[i].Name != python[i].Name {
				t.Errorf("figure %d is %q, Python's %q", i, got[i].Name, python[i].Name)
			}
		}
	}
}

func TestCollection(t *testing.T) {
	if _, _, err := Collection(context.Background(), 10_000); err != nil {
		t.Error(err)
	}
}
