//go:build !(amd64 || arm64 || ppc64 || ppc64le || mips64 || mips64le || riscv64 || s390x || loong64) || pymalloc_goheap || plan9

package vmarray

// maxBytes bounds one array where address space is narrow, or where reserving
// it takes memory (the Go heap as backing).
const maxBytes = 2 << 20
