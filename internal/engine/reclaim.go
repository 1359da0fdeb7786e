package engine

import (
	"sync/atomic"
	"time"

	"github.com/pyarena/pyarena/internal/pin"
)

// A request for which there is no room, at the limit or where the system refuses,
// tries to find some by giving back what is idle, as Trim does, and then asks once
// more. That looks at every pool, so a service that stays at its limit must not pay it
// for every request that is refused.
//
// A try takes the pools of all shards. What is freed after it, and could be given
// back by another, is freed on a slow path, or on the fast path of a shard that has
// got a pool since: both are a stir. Without a stir another try would be in vain,
// and is not made. Where tries are in vain for all that, each waits for twice as
// many stirs as the one before: who frees one block after the other until there is
// room frees at most twice as many as it had to, and the traffic of others brings
// few tries. Whole free arenas and mappings are always worth one, but those that the
// system has refused to take.

// maxStirs bounds the stirs that a try waits for.
const maxStirs = 1 << 20

// patience is how long a try waits for heaps that were descheduled in the middle of a call.
const patience = 50 * time.Millisecond

// reclaims says when a try is due.
type reclaims struct {
	tries  atomic.Uint32 // begun and ended: odd while there is one
	stirs  atomic.Uint32 // since the last one began, as far as enough
	enough atomic.Uint32 // stirs until the next
}

// seen is what a request remembers, before it looks for room, for reclaim.
func (r *reclaims) seen() uint32 { return r.tries.Load() }

// stir notes that something may have been freed. Before the first try, and once
// there are enough, it only reads.
func (r *reclaims) stir() {
	if r.stirs.Load() < r.enough.Load() {
		r.stirs.Add(1)
	}
}

// found notes that a request got a block, and whether it was after a try. The
// shard may have got a pool for it.
func (r *reclaims) found(afterTry bool) {
	if afterTry {
		r.enough.Store(1)
	}
	r.stir()
}

// mayHelp reports whether a try may help. It waits for no more stirs than an eighth of
// the units that are in use: each pool that is idle took a stir, so if no more than
// an eighth of them has a live block, or none, there is a try. What the tries cost,
// which look at every pool, is in proportion to the stirs.
func (l *Life) mayHelp() bool {
	enough := min(l.reclaims.enough.Load(), uint32(l.Arenas.UsedUnits()/8+1))
	_, mappings := l.Huge.HasFree()
	_, arenas := l.Arenas.HasFree()
	return l.reclaims.stirs.Load() >= enough || mappings || arenas || l.waiting.Load() > 0
}

// reclaim gives back what is idle, if that may help a request that has found no
// room since it called seen, and reports whether it should look again.
func (l *Life) reclaim(seen uint32) bool {
	r := &l.reclaims
	// In this order: whoever begins a try counts it before it resets the stirs.
	if !l.mayHelp() && r.tries.Load() == seen && seen%2 == 0 {
		return false
	}
	l.trimming.Lock()
	defer l.trimming.Unlock()
	if r.tries.Load() != seen {
		return true // another request has done it
	}
	if !l.mayHelp() {
		return false
	}
	r.tries.Add(1)
	r.enough.Store(min(max(1, 2*r.enough.Load()), maxStirs))
	r.stirs.Store(0)  // before the pools are taken: what is freed from now on counts
	_ = l.trim(false) // what the system refuses to take is there to be used
	for n, begun := 0, time.Now(); l.waiting.Load() > 0 && n < 16 && time.Since(begun) < patience; n++ {
		pin.Yield(n) // heaps in the middle of a call keep arenas that are free
		_ = l.unmap(nil, false)
	}
	r.tries.Add(1)
	return true
}
