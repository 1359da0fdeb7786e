// Package blocks is what pymalloc shows to unsafeobj, and to nobody outside: which
// blocks of an allocator are live.
package blocks

import "unsafe"

// Each calls f for every live block of an allocator, a *pymalloc.Allocator, with its
// first eight bytes: exactly while nothing is under way; of a block that comes or goes
// meanwhile either way. It looks at every block, some nanoseconds each. f must not call
// the allocator. pymalloc sets Each when it is initialised.
//
// Whoever writes to the first eight bytes of a block meanwhile does so atomically.
var Each func(allocator any, f func(p unsafe.Pointer, first uint64))
