// Package pymalloc allocates memory that the Go collector never sees: explicitly
// allocated and freed, from any goroutine, without cgo, and given back to the
// operating system when it empties. Its shape is CPython's object allocator,
// arenas > pools > blocks, rebuilt for many cores.
//
// # Basics
//
//	var a pymalloc.Allocator // ready for use
//	p, err := a.UnsafeMalloc(64)
//	...
//	err = a.UnsafeFree(p)
//
// A block belongs to the caller until it is freed. It is aligned to 16 bytes, is
// not initialised (UnsafeCalloc's is zero), and must not hold Go pointers. Errors
// tell bad pointers and double frees; nothing is damaged by them. A [Heap] is a
// private heap for one goroutine, and faster. [Allocator.Trim] gives back now
// what would go back by itself after a second or two. The slices and addresses of
// modernc.org/memory are there under the same names.
//
// # The cast
//
//	block      what malloc returns: 16 bytes to 32 KiB, one of 76 size classes
//	pool       a stretch of units cut into blocks of one class   internal/pool
//	unit       16 KiB, what an arena is made of
//	arena      1 MiB from the system, aligned to its size        internal/arena
//	large run  units in a row for one block above 32 KiB         internal/large
//	huge       a mapping for one block above half an arena       internal/large
//	shard      the private heap of one P, or of a Heap           internal/shard
//	owner      the shard that a pool belongs to
//	usedpools  a shard's pools with free blocks, by class; and those that are
//	           nobody's, shared by all                           internal/tagstack
//	freepools  empty pools, of a shard, shared, or in their arena
//	arena map  address -> arena, and whose                       internal/addrmap
//	grace      the time after which every pinned goroutine has left the section
//	           that it was in                                    internal/grace
//	osmem      pages from the operating system
//
// # Layout
//
//	arena (1 MiB, aligned to its size)
//	+------------------------+--------+--------+-- … --+---------+
//	| unit 0:                | unit 1 | unit 2 |       | unit 63 |
//	|  arena header          +--------+--------+-- … --+---------+
//	|  63 pool headers, with | a pool of blocks of one class, a pool of several
//	|  a bit per block       | units, or a large run
//	+------------------------+-----------------------------------
//
// The header of any block is a mask and a shift away: arena = p &^ (size-1),
// header = arena + unit × 256. Whether a block is free says a bit in the header,
// not a link in the block, so that free does not have to read the block.
//
// # The path of a malloc
//
//  1. The size becomes a class by a table (internal/sizeclass). Above 32 KiB:
//     internal/large, under its lock.
//  2. The goroutine is pinned to its P, whose shard is now its own
//     (internal/shard, View.Take).
//  3. The block of that class that was freed last, if it is still kept
//     (Shard.TakeHot).
//  4. Else the lowest free block of the first pool of used[class]
//     (pool.Header.Pop). Here the fast path ends.
//  5. Else Table.refill, still pinned: the pool's remote list; the next pool; the
//     shard's inbox; the shared usedpools; an empty pool of the shard; a shared
//     one.
//  6. Else Table.provide, not pinned: a pool from the fullest arena, or from a
//     new one.
//
// # The path of a free
//
//  1. Pinned, the arena map tells whether p is ours (addrmap.Low).
//  2. The pool's ownership word tells whether it is the shard's, and the block's
//     bit whether the block is in use.
//  3. It is kept as the last freed one of its class, if none is; else its bit is
//     set (pool.Header.Push). Here the fast path ends.
//  4. If the pool was full it goes to the front of used[class]; if it is empty
//     it is given up (Table.trip).
//  5. A block of another shard's pool is linked to the pool's remote list by one
//     compare-and-swap; the first onto a full pool posts the pool to its owner's
//     inbox; one of several onto an abandoned pool adopts it (Table.freeRemote).
//
// # Who may touch what
//
// One rule carries everything. A page of an arena is touched only by someone who
//
//  1. holds an allocated block in it, or
//  2. owns its pool, or
//  3. holds the arenas' lock while the arena is in the map, or
//  4. is pinned and saw the arena in the map after pinning.
//
// So an arena is given back in this order: its map entry is cleared, a grace
// period passes, then it is unmapped (Table.giveBack). The same order takes a
// shard away from its P: the slot is emptied, a grace period passes, then it is
// drained (Table.drain). While pinned nothing blocks, calls the system, or checks
// the stack; TestPinnedCode reads the compiler's output for that.
//
// # Memory going back
//
// Frees arm the janitor, one timer for the process. After RetainDelay it drains
// the shards that are idle, drops the pages of free units, and unmaps what has
// not been needed for a whole RetainDelay, or exceeds RetainBytes. Trim does so
// at once, for busy shards too. Each stops the world up to twice, for some 50 µs.
// What the system refuses to take is kept for use and tried again.
//
// # Caveats
//
//   - A stale pointer into memory that was given back is a fault at best. On
//     systems where the Go heap may grow into those addresses they are kept; see
//     [KeepAddresses].
//   - GOMEMLIMIT and the heap profile do not see this memory; Stats does.
//   - Two goroutines that free one block at the same moment may both succeed. The
//     block is not handed out twice for it, except when one of the frees comes
//     after the block was handed out again: no allocator can tell that.
//   - A write to a freed block goes unnoticed mostly; it never misleads the
//     allocator.
//   - Close gives back live blocks too.
//
// # Build tags
//
//	pymalloc_nolinkname  without runtime.procPin: shards are taken by an atomic
//	                     flag, and grace periods count sections. Slower.
//	pymalloc_goheap      arenas from the Go heap, for -race and checkptr.
//	invariants           expensive checks at every step.
package pymalloc
