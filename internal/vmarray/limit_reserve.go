//go:build (amd64 || arm64 || ppc64 || ppc64le || mips64 || mips64le || riscv64 || s390x || loong64) && !pymalloc_goheap && !plan9

package vmarray

// maxBytes bounds the address space of one array. Reserving it costs nothing
// where address space is wide.
const maxBytes = 256 << 20
