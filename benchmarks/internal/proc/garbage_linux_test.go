//go:build !race

package proc

import "testing"

// A replay reads it thousands of times, beside the Go heap that it measures.
func TestReadLeavesNoGarbage(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Read() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
