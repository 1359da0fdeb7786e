//go:build (aix || darwin || netbsd || openbsd || solaris) && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

// dontDump: madvise does not know such a thing here.
const dontDump = 0
