//go:build (freebsd || dragonfly) && !pymalloc_goheap && (!race || pymalloc_mmap)

package osmem

import "golang.org/x/sys/unix"

const dontDump = unix.MADV_NOCORE
