//go:build (aix || darwin || dragonfly || freebsd || linux || netbsd || openbsd || solaris || windows) && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem_test

import (
	"bytes"
	"os"
	"testing"
)

const onGoHeap = false

// mappings counts the process's mappings, where the system tells.
func mappings(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Logf("mappings are not counted: %v", err)
	}
	return bytes.Count(b, []byte{'\n'})
}
