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
// counters are not: see Stats.
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
//	magazine   a shard's last freed blocks of a class             internal/pool
//	usedpools  a shard's pools with free blocks, by class; and those that are
//	           nobody's, shared by all                           internal/tagstack
//	freepools  empty pools, of a shard, shared, or in their arena
//	inbox      where a shard hears that a full pool of its has free blocks again
//	arena map  address -> arena, and whose                       internal/addrmap
//	grace      the time after which every pinned goroutine has left the section
//	           that it was in                                    internal/grace
//	janitor    a timer that gives back what is idle              internal/shard
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
// header = arena + unit × 256. A bit in the header says whether a block is
// free, not a link in the block, so that free does not have to read the block. Only
// what other shards have freed is linked through the blocks' first eight bytes:
// the link is the distance from the pool's header, sealed, so that a block that
// was written to after its free is noticed before its link is followed.
//
// [Options.ArenaBytes] changes the sizes: 256 KiB arenas have units of 4 KiB, the
// first four of them headers; arenas above 1 MiB have more units. Huge mappings
// keep their size in a table outside, so a bad free of one touches no page of it.
//
// # The path of a malloc
//
//  1. The size becomes a class by a table (internal/sizeclass). Above 32 KiB:
//     internal/large, under a lock.
//  2. The goroutine is pinned to its P, whose shard is now its own
//     (internal/shard, View.Take).
//  3. The block that the last malloc took and a free has given back since, if it is of
//     that class (Shard.TakeHot). Else the one on top of the class's magazine, of up to
//     sixteen that were freed last (pool.Magazine).
//  4. Else the lowest free block of the first pool of used[class]
//     (pool.Header.Pop). Here the fast path ends.
//  5. Else Table.refill, still pinned, a few pools at a time: the rest of the
//     pool's bitmap; its remote list; the next pool; the shard's inbox; the
//     shared usedpools; an empty pool of the shard; a shared one. A pool that has
//     nothing left is full: it stays the shard's, and is in no list.
//  6. Else Table.provide, not pinned: a pool of one unit from the fullest arena, of
//     several from the one whose longest free row is the shortest that will do; or
//     from a new one. Arenas stand in lists by both, so none is searched. Where the
//     system refuses, or LimitBytes is reached, all that is idle is given back, if
//     anything may have been freed since the last time, and it is tried once more.
//
// # The path of a free
//
//  1. Pinned, the shard looks whether p is the block that malloc took from a magazine
//     last: then p is ours and in use, unless others have freed it, which the pool's
//     ownership word tells, and it is kept for the next malloc (Shard.Keep).
//  2. Else the arena map tells whether p is ours (addrmap.Is), the pool's
//     ownership word whether it is the shard's, and the block's bit whether the
//     block is in use. An own pool onto which others have freed blocks is first
//     made quiet again (pool.Header.Quieten).
//  3. It goes on top of the magazine of its class, its bit set, or, if that is full, to
//     its pool (pool.Header.Push). Here the fast path ends.
//  4. If the pool was full it goes to the front of used[class], as in CPython; if
//     it is empty, and not the first of its list, the shard keeps it for any
//     class. If it keeps more than 16, half go to the shared freepools, and what is
//     too many there to the arenas (Table.trip). A pool of several units goes to its arena
//     at once.
//  5. A block of another shard's pool is linked to the pool's remote list by one
//     compare-and-swap of the word that names the owner, and the freer touches the
//     pool no more; the first onto a full pool posts the pool to its owner's
//     inbox; an abandoned pool is adopted by its first freer (Table.freeRemote).
//  6. A large run gives its units back, and a huge mapping is kept for a request
//     of a similar size, or for a huge block that grows, which gets all of it and so
//     finds pages that were touched: not pinned, under a lock.
//
// # Who may touch what
//
// One rule carries everything. A page of an arena is touched only by someone who
//
//  1. holds an allocated block in it, or
//  2. owns its pool, or
//  3. holds the arenas' lock while the arena is in the map, or
//  4. is pinned and saw the arena in the map after pinning (how a bad pointer is
//     examined); a [Heap] does not pin, it marks itself busy, and is waited for.
//
// So an arena is given back in this order: its map entry is cleared, a grace
// period passes, then it is unmapped (round.unmap). The same order takes a
// shard away from its P: the slot is emptied, a grace period passes, or a barrier and
// the section under way, then it is drained (Table.drain). While pinned nothing blocks,
// calls the system, or checks the stack; TestPinnedCode reads the compiler's output for
// that.
//
// # Shards that follow
//
// The scheduler moves goroutines between Ps. One that comes to another P finds a
// shard with nothing of its own, and every free of its blocks is one of another
// shard's. So each P counts in its slot the sections that it begins and ends; a
// shard that frees the blocks of one other shard, hardly any of its own, while
// that one's P begins no section, swaps places with it, by a barrier that the
// system makes for all processors (membarrier; on Linux, internal/shard/follow.go).
// Where blocks of its own are among them, the other is detached from its P, and drained.
// It costs each call two increments of a word of its P's own.
//
// # Hardened allocators
//
// With [Options.Hardened] the fast path finds no shard, for the slots are counted apart
// (shard.View), and looks for one there then. So it costs the others nothing, and a
// hardened malloc and free are one call more each (Shard.TakeHard, Shard.FreeHard). A
// free seals the block, and a malloc takes it if the seal is whole. What is not at hand is
// drawn from a word of the first pool's bitmap (pool.Header.Draw). A drain marks what was at
// hand and was written to, so that the pool finds it (pool.Header.Break). With [Options.Canaries] a
// free looks at the word after the block first. [Options.WipeOnFree] goes the same way.
// The last units of a hardened arena are inaccessible.
//
// # Memory going back
//
// New pools, and frees beyond the fast path, arm the janitor, one timer for the
// process; no goroutine waits for it. After RetainDelay it drains the shards that
// are idle, drops the pages of free units, so that one live block does not hold a
// whole arena in memory, and unmaps what has not been needed for a whole
// RetainDelay, or exceeds RetainBytes. It comes at most once a second, for
// all allocators that are due, again where shards were busy, and no more once
// nothing is free. Trim does so at once, for busy shards too.
//
// To unmap arenas it stops the world for some 50 µs, which is the grace period: a
// pinned goroutine cannot be stopped, so when the world stands still none is pinned. The
// stop takes longer where a goroutine is copying or clearing a large slice: Go's runtime
// cannot interrupt that, and waits.
// To drain shards it stops the world once more, except on Linux on amd64, where a barrier
// and the end of the section under way will do.
//
// A system may refuse to take memory back: on Linux where a hole would need one mapping
// more than vm.max_map_count allows. What was refused has no pages any more, and waits.
// Requests use it again; the janitor tries up to 64 of an allocator's in a round, and goes
// on as long as one succeeds; Trim tries all. A free tries only what it gives back itself.
// [Stats.UnmapRefusals] counts the refusals.
//
// A shard that is drained passes its pools on: those with free blocks to the
// shared usedpools, full ones to nobody (they are abandoned), empty ones to their
// arenas. The next goroutine that finds the slot empty puts a shard there.
//
// Close ends one life of the allocator, which is a shard.Table: no fast path
// finds a shard any more, the arenas leave the map, a grace period passes, and
// all is unmapped. A slow path that is under way sees that its table is closed
// when it pins again, or takes the lock, and begins the next life.
//
// # Address space
//
// The tables of the process take addresses as they grow, 1 MiB at a time, so that a
// process whose address space is limited (RLIMIT_AS, ulimit -v) can use an allocator: with
// its first block it takes 4 MiB for tables and an arena. Each further allocator takes 1
// MiB, and arenas of the default size 1 MiB for each 4 GiB of them. [Stats.ReservedBytes]
// tells what the tables take. It is not memory: what of it is, [Stats.MetadataBytes] tells.
//
// # What a call costs
//
// In three runs of `go test -C benchmarks -bench 'Pair|Batch|Replace'` (2 cores of an older
// AMD EPYC VM, before Zen 5, Go 1.26.8; the least of each, in nanoseconds):
//
//	                            Heap  Allocator  modernc  behind a mutex
//	malloc and free, 64 bytes    5.4        9.7      5.4              31
//	mixed batch of 256           8.8       13.2     10.7              32
//	replace 1 of 50,000, 16     13.2       16.4     12.7              32
//	                     64     14.9       18.8     15.8              33
//	                    256     19.5       26.1     23.8              53
//
// Two calls that do nothing but store a word take 2.8. So no allocator behind two calls can
// be twice as fast as modernc.org/memory at the first: the calls alone are half of it, and
// Go does not inline a fast path that ends in a call (that alone is 57 of the 80 which its
// inliner allows). What an Allocator has on top of a Heap is procPin and procUnpin, four
// more calls, and the count of sections. A free of a block that was not the last one handed
// out looks at map, header, ownership word, index and bit, which is what makes bad frees
// errors, and what C allocators leave out.
//
// # Beside C allocators
//
// What was aimed at and what was reached, relative to mimalloc 2.0 (Debian's), in the
// medians of `go run -C benchmarks . suite -rounds 3` on the same machine:
//
//	                                       aim   Allocator   Heap (aim)
//	pair                                   1.0         1.8   1.1  (0.4)
//	batch                                  1.2         1.9   1.6  (0.9)
//	time, one thread, geometric mean       1.1         1.2   1.03
//	    the largest                        1.6         2.4   2.0
//	time, two threads, geometric mean      1.1        0.99   0.97
//	    the largest                        1.6         2.3   2.1
//	memory, geometric means                1.1        0.79   0.77
//	    the largest, below 1 MiB           1.5         2.0   1.6
//	    the largest of the others          1.5         1.3   1.1
//	Go heap's time, one thread               3         2.7   3.1
//	                two threads              3         2.3   2.3
//	two goroutines' pairs beside one's     1.9         1.8   1.9
//	replacing, 10^7 live beside 10^4      (32)          12   12
//
// In another run batch took 2.6, beside a faster mimalloc. On an AMD EPYC VM with Zen 5 the
// geometric means in time are 1.65 and 1.25 by one thread, 1.35 and 1.26 by two: a newer
// processor shows every instruction.
// The last line has mimalloc's figure for its aim, and the one before it is of the
// microbenchmark ParallelPair. The Go heap's time holds less in workloads that allocate next
// to nothing, or large blocks. Its memory is more but in cache-scratch and cache-thrash, where
// both take about 100 KiB.
//
// The largest in time are glibc-thread, glibc-simple, batch and pair: loops of nothing but
// malloc and free. What a free looks at (see above) is most of the difference, then the two
// stores that keep a block's bit, then Go's calls and the nops that it leaves where it has
// inlined one. The largest in memory is xmalloc-test,
// 800 KiB with mimalloc, 1.6 MiB here, 1.3 with glibc: batches of 256 KiB that are under way,
// or that the other thread has freed and the first has not found again.
//
// In two runs of `go run -C benchmarks . suite -impl '^pymalloc(-hardened|-canaries)?$'
// -rounds 7` (2 cores of an Intel Xeon VM) hardened allocators took 1.12 and 1.14 times as
// long over these workloads by one thread, 1.15 and 1.19 by two, and with canaries 1.13 to
// 1.29: up to 1.5 by one thread, where nothing but malloc and free is done to many small
// blocks, which the default does not touch, and 1.9 to 2.5 by two in xmalloc-test.
//
// If one goroutine has made a million blocks on two Ps, as the scheduler moved it, a
// random one is replaced in 136 ns on an Allocator and in 89 on a Heap, of ten million
// in 419 and 252 (mimalloc: 125 and 382; the growth table of the suite): those of the P that
// it has left are freed by a compare-and-swap each, until that P's shard is drained, which
// it is soon. Beside a hundred million (`-max 100000000`) it takes 1.9 µs, and 0.8 with mimalloc:
// the headers, 100 MiB of them, are in no cache either.
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
//   - An Allocator or a Heap must not be copied. A Heap is for one goroutine at a time.
//   - A stale pointer into memory that was given back is a fault at best. On
//     systems where the Go heap may grow into those addresses they are kept; see
//     [KeepAddresses].
//   - GOMEMLIMIT and the heap profile do not see this memory; Stats does.
//   - If goroutines free one block at the same moment, one succeeds, and the
//     others get ErrDoubleFree. Only where one of them is the pool's owner may two
//     succeed within some nanoseconds: then a later malloc may say ErrCorrupted, for
//     the block's link is gone, and blocks linked behind it may be lost. The block is
//     not handed out twice for it, except when one of the frees comes after the block
//     was handed out again, or while it is: no allocator can tell that.
//   - A write to a freed block, or beyond the end of one, goes unnoticed mostly; it
//     never misleads the allocator. [Options.Hardened] notices most of the former,
//     [Options.Canaries] of the latter.
//   - Close gives back live blocks too.
//   - An address below 4,096 in an unsafe.Pointer may end the process before any call
//     sees it: Go's runtime does so when it copies a stack that holds one. Calls that
//     take a uintptr refuse every bad address.
//
// # Build tags
//
//	pymalloc_nolinkname  without runtime.procPin: shards are taken by an atomic
//	                     flag, and grace periods count sections. Slower.
//	pymalloc_goheap      arenas from the Go heap, where checkptr sees them; so it is
//	                     also where there is neither mmap nor VirtualAlloc (js,
//	                     wasip1, plan9), and in programs built with -race, whose
//	                     detector sees races on values in blocks then.
//	pymalloc_mmap        arenas from the system with -race too: the detector sees
//	                     nothing of blocks then.
//	invariants           panics where a unit of an arena is given back twice and, in
//	                     unsafeobj, where the objects of a Space are not consistent
//	                     after a full collection; for tests.
package pymalloc
