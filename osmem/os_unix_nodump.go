//go:build (aix || darwin || netbsd || openbsd || solaris) && !pymalloc_goheap

package osmem

// dontDump: madvise does not know such a thing here.
const dontDump = 0
