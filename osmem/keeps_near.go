//go:build (aix || darwin || dragonfly || freebsd || netbsd || openbsd || solaris || windows || (linux && !(amd64 || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x))) && !pymalloc_goheap

package osmem

// The Go heap and the system's mappings share address space.
const keepsAddresses = true
