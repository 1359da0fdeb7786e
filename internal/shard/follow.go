package shard

import (
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/grace"
	"github.com/pyarena/pyarena/internal/pool"
)

// A goroutine that the scheduler moves to another P leaves its shard behind: all
// that it has allocated is another's now, and the shard that it finds has nothing
// of its own. So when a shard frees blocks of one other shard, hardly any of its
// own, and the P of that one has not allocated meanwhile, the two Ps swap shards.
//
// A goroutine that was moved to and fro while it allocated finds its blocks in both
// shards, and a swap would not help. Then the other shard is detached from its
// idle P, for the janitor to drain. Who frees a block of a pool that was full adopts
// the pool then, and who needs one with free blocks takes it from the shared ones.
//
// # States and transitions
//
// A P counts in its slot the sections that it begins and ends (begin, end, leave),
// by plain stores: an odd number is a section under way. Only who is pinned on
// the P does so. To swap, under the table's lock:
//
//	both slots -> nil       who begins a section now finds no shard, and waits
//	                        for the lock
//	barrier                 every processor has made visible what it stored
//	                        before: a section that found the shard is counted
//	both counts are even    nobody uses the shards: each into the other slot
//	else                    back into their own
//
// To detach a shard: the same with its slot alone. To drain those of busy Ps (trim.go):
// slot -> nil under the lock; the barrier; and once the count is even, or has changed,
// nobody uses the shard.
//
// A slot is filled, emptied and swapped under the lock only; its shard's slot
// field is written before it is put there, and read by its user.

const (
	// strayFrees is after how many frees of another shard's blocks something is
	// tried. A swap takes some microseconds.
	strayFrees = 128
	// straySections bounds the beginnings and ends of sections on the P
	// meanwhile, for a swap: two for each of these frees, two for a malloc beside
	// each, and a quarter more.
	straySections = strayFrees * 4 * 5 / 4
	// minDetached is the least time between two shards of a table that are
	// detached: to drain one takes some 100 ns for each of its pools.
	minDetached = 100 * time.Millisecond
)

// foreign counts the frees of other shards' blocks, by the shard's user.
type foreign struct {
	owner    uint32 // of the blocks
	frees    uint32
	began    uint32 // sections of this P when the count began
	sections uint32 // of the owner's P then
	found    uint32 // the owner, when there were enough; or 0
	alone    bool   // and hardly any were of blocks of its own
}

// countForeign counts a free of a block of owner's. Pinned.
func (s *Shard) countForeign(owner uint32) {
	f := &s.foreign
	if !follows || owner < pool.FirstShard || s.ofP() == nil || shardOf(owner).ofP() == nil {
		return
	}
	if f.owner != owner {
		f.owner, f.frees = owner, 0
	}
	if f.frees++; f.frees == 1 {
		f.began, f.sections = s.sections(), shardOf(owner).sections()
	}
	if f.frees == strayFrees {
		f.frees = 0
		if shardOf(owner).sections() == f.sections {
			f.found, f.alone = owner, s.sections()-f.began <= straySections
		}
	}
}

// ofP returns the slot of the P whose shard it is, or nil. Anyone may ask who is
// pinned, or has the table's lock: the slot's memory is there as long.
func (s *Shard) ofP() *Slot { return (*Slot)(atomic.LoadPointer(&s.slot)) }

func (s *Shard) setSlot(slot *Slot) { atomic.StorePointer(&s.slot, unsafe.Pointer(slot)) }

// isBusy reports whether the P is in a section, after a barrier that came after
// the slot was emptied.
func (slot *Slot) isBusy() bool { return atomic.LoadUint32(&slot.sections)%2 == 1 }

// await returns once the section has ended that isBusy reports.
func (slot *Slot) await() {
	n := atomic.LoadUint32(&slot.sections)
	poll(func() bool { return n%2 == 0 || atomic.LoadUint32(&slot.sections) != n })
}

// sections returns the number of beginnings and ends of sections on the shard's
// P, or 0 while it has none.
func (s *Shard) sections() uint32 {
	if slot := s.ofP(); slot != nil {
		return atomic.LoadUint32(&slot.sections)
	}
	return 0
}

// stray is what a shard's user has found out about another shard.
type stray struct {
	other *Shard // nil: nothing
	alone bool   // its user frees hardly any blocks but the other's
}

// takeStray returns the shard whose P seems idle while its blocks are freed here,
// once.
func (s *Shard) takeStray() (found stray) {
	if s != nil && s.foreign.found != 0 {
		found = stray{shardOf(s.foreign.found), s.foreign.alone}
		s.foreign.found = 0
	}
	return found
}

// followOrDetach does what is to be done about what the user of the shard mine has
// found, if both are of a P still. Not pinned.
func (t *Table) followOrDetach(mine *Shard, found stray) {
	if found.other == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return
	}
	var a, b *Slot
	for i := range int(t.slotCount().Load()) {
		switch slot := t.view.slot(i); slot.Load() {
		case mine:
			a = slot
		case found.other:
			b = slot
		}
	}
	switch {
	case a == nil || b == nil: // drained, or a heap's, or of another table
	case found.alone:
		swap(a, b)
	default:
		t.detach(b)
	}
}

// swap swaps the shards of two Ps. The caller holds mu.
func swap(a, b *Slot) {
	mine, other := a.Load(), b.Load()
	a.Store(nil)
	b.Store(nil)
	if grace.Barrier() && !a.isBusy() && !b.isBusy() {
		mine.setSlot(b)
		other.setSlot(a)
		a, b = b, a
	}
	a.Store(mine)
	b.Store(other)
}

// detach takes the shard of a P, which is idle, for the janitor to drain, if the last
// time is long ago. The caller holds mu.
func (t *Table) detach(slot *Slot) {
	now := time.Now()
	if now.Sub(t.detachedAt) < t.detachRest || inBubble(now) {
		return
	}
	s := slot.Load()
	slot.Store(nil)
	if !grace.Barrier() || slot.isBusy() {
		slot.Store(s)
		return
	}
	s.setSlot(nil)
	t.detached = append(t.detached, s)
	t.detachedAt, t.detachRest = now, minDetached
	callDetached(t, now)
}

// drainDetached drains the detached shards.
func (t *Table) drainDetached() {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	if t.closed.Load() {
		return
	}
	v := &visit{t: t}
	v.swapOut(func(*Shard) bool { return false })
	begun := time.Now()
	round{v}.drainShards()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detachedAt, t.detachRest = time.Now(), max(minDetached, 20*time.Since(begun))
}
