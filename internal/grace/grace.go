// Package grace provides pinned sections, and the moment at which all of them
// have ended.
//
// Between [Enter] and [Exit] a goroutine is pinned: it stays on its P, so it is
// the only one to use what belongs to that P. [Wait] returns once every pinned
// section that was running when it was called has ended: a grace period. Memory
// that was made unreachable before Wait can be unmapped after it, and a shard
// that was swapped out before Wait belongs to the swapper after it.
//
// # What may happen while pinned
//
// Nothing that blocks, allocates on the Go heap, panics or calls the operating
// system. A section is short, about a microsecond, for whoever wants to stop the
// world waits until it has ended. A call inside looks whether the goroutine is to be
// preempted: that request is dropped then, and comes again 100 µs later. So the fast
// paths call nothing while they are pinned; on the slow paths such a call is rare.
//
// # How Wait knows
//
// A goroutine that is pinned (runtime.procPin) cannot be stopped, so a
// stop-the-world that began after the call of Wait finds none of those sections
// running, and what they wrote is visible afterwards. runtime.ReadMemStats
// stops the world for some 50 µs.
//
// With the build tag pymalloc_nolinkname there is no procPin: a section counts
// itself in one of two sets of counters, and Wait flips the sets and waits for
// the old one to drain, twice (sleepable RCU: McKenney, "Sleepable
// Read-Copy Update", 2006).
package grace
