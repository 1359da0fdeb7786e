//go:build !pymalloc_nolinkname

// This file is empty: it lets Go functions without a body be declared, which
// the linker binds to the runtime's.
