//go:build linux && (amd64 || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x) && !pymalloc_goheap

package osmem

// The Go heap begins at 0xc000000000 and grows upwards; the kernel maps
// downwards from below the stack, at the other end of 47 or 48 bits.
const keepsAddresses = false
