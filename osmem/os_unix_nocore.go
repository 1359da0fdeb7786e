//go:build (freebsd || dragonfly) && !pymalloc_goheap

package osmem

import "golang.org/x/sys/unix"

const dontDump = unix.MADV_NOCORE
