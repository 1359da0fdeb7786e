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
// what would go back by itself after a second or two. The functions of
// modernc.org/memory, with slices and addresses, are there under the same names; its
// counters are not: see [Stats].
//
// # Sizes
//
//	16 bytes to 32 KiB      a block of one of 76 size classes, in a pool: 16 KiB or more of an
//	                        arena, cut into blocks of one class
//	to half an arena        a large run: units of 16 KiB of an arena, in a row
//	above                   a huge mapping of its own
//
// An arena is 1 MiB, or [Options.ArenaBytes]. How all this works, and why nothing
// waits for anything, tells internal/README.md in the repository.
//
// # What is checked
//
// A free looks whether a block begins at the pointer that this allocator has handed out, and
// whether it is free already: a free block bears a seal in its first eight bytes, a secret of the
// process mixed with its address. A malloc looks whether the seal of the block that it is
// about to hand out is whole, and clears it. If not, the program has written to the block
// after its free, and the call returns [ErrCorrupted] for once; the block is not used any more.
// These checks are always on. [Options.Hardened], [Options.Canaries] and
// [Options.WipeOnFree] add more, and .github/SECURITY.md has a table of what is found in which
// mode.
//
// # Memory going back
//
// A free arms the janitor, one timer for the process; no goroutine waits for it. After
// [Options.RetainDelay] it takes back what idle Ps and heaps have in hand, drops the
// pages of free units, so that one live block does not hold a whole arena in memory, and unmaps
// what has not been needed for a whole RetainDelay, or exceeds [Options.RetainBytes]. It
// comes at most once a second, for all allocators that are due, and no more once nothing is free.
// Trim does so at once. Neither stops the world on Linux and Windows. Elsewhere, and where Linux
// has no membarrier, grace periods are stops of the world, some 50 µs each, or as long as a
// goroutine copies or clears a large slice (20 ms for some 100 MB: Go's runtime cannot interrupt
// that), and there are at most a hundred a second in a process.
//
// A system may refuse to take memory back: on Linux where a hole would need one mapping
// more than vm.max_map_count allows. What was refused has no pages any more, and waits.
// Requests use it again; the janitor tries up to 64 of an allocator's in a round, and goes
// on as long as one succeeds; Trim tries all. A free tries only what it gives back itself.
// [Stats.UnmapRefusals] counts the refusals. Of its own accord the process never has more than
// nine tenths of vm.max_map_count in mappings: a request that needs one more gets
// [ErrTooManyMappings].
//
// Close takes its time by the calls that are under way, not by what is mapped: the pages go
// within 100 ms. Up to four arenas of the default kind are another allocator's until then, as they
// are, if one asks; not those of hardened or wiping allocators. An allocator costs no mapping
// until it needs an arena, so one may be made and closed for each request of a server.
//
// # Address space
//
// Headers stand outside the arenas, in tables of 16 MiB of addresses for each GiB of addresses
// in which there are arenas, of which pages are touched as they are needed: 256 bytes for each 16
// KiB. [Stats.ReservedBytes] tells what the tables take in addresses, [Stats.MetadataBytes]
// in memory. A process whose address space is limited (RLIMIT_AS, ulimit -v) needs some
// 20 MiB of it for its first block.
//
// # Caveats
//
//   - No string, slice, map, interface, function, channel or pointer to the Go heap
//     in a block: the collector does not look, and frees what it points to.
//   - A slice or pointer that outlives its block is stale. The block may be
//     somebody else's by then, and nothing warns of it.
//   - append to a slice beyond its capacity moves it to the Go heap. The block
//     must still be freed, through the slice as it was.
//   - A double free is noticed until the block is handed out again; after that it
//     frees somebody else's block.
//   - If goroutines free one block at the same moment, one succeeds, and the
//     others get ErrDoubleFree. Two may succeed if they come within nanoseconds and one of them
//     frees on the P, or the Heap, that the block's pool is at home with. Mostly the malloc that
//     would hand the block out for the second time returns ErrCorrupted then; if the block was
//     handed out between a free's look and its store, it may have two owners, and its
//     pool may be given back under it. So it is with a second free that is under way while a Trim,
//     or the janitor, gives the block's pool back. No allocator that does not lock can tell that.
//   - An Allocator or a Heap must not be copied. A Heap is for one goroutine at a time.
//   - A stale pointer into memory that was given back is a fault at best. On
//     systems where the Go heap may grow into those addresses they are kept; see
//     [KeepAddresses].
//   - GOMEMLIMIT and the heap profile do not see this memory; Stats does.
//   - A write to a freed block beyond its first eight bytes, or beyond the end of a block, goes
//     unnoticed mostly; it never misleads the allocator, whose structures stand elsewhere.
//   - Close gives back live blocks too. An allocator that is dropped without Close gives back what
//     holds no live block.
//   - An address below 4,096 in an unsafe.Pointer may end the process before any call
//     sees it: Go's runtime does so when it copies a stack that holds one. Calls that
//     take a uintptr refuse every bad address.
//
// # Build tags
//
//	pymalloc_nolinkname  without runtime.procPin: sections take a record by a compare-and-swap.
//	                     Slower.
//	pymalloc_goheap      arenas from the Go heap, where checkptr sees them; so it is
//	                     also where there is neither mmap nor VirtualAlloc (js,
//	                     wasip1, plan9), and in programs built with -race, whose
//	                     detector sees races on values in blocks then.
//	pymalloc_mmap        arenas from the system with -race too: the detector sees
//	                     nothing of blocks then.
//	invariants           panics where a pool that changes hands is not consistent, where a
//	                     unit of an arena is given back twice and, in unsafeobj, where the
//	                     objects of a Space are not consistent after a full collection; for
//	                     tests.
package pymalloc
