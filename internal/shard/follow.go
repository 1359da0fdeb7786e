package shard

import (
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/grace"
	"github.com/pyarena/pyarena/internal/pool"
)

// A goroutine that the scheduler moves to another P leaves its shard behind: all
// that it has allocated is another's now, and the shard that it finds has nothing
// of its own. So when a shard frees blocks of one other shard, hardly any of its
// own, and the P of that one has not allocated meanwhile, the two Ps swap shards.
//
// # States and transitions
//
// A P counts in its slot the sections that it begins and ends (begin, end, leave),
// by plain stores: an odd number is a section under way. Only who is pinned on
// the P does so. To swap (follow), under the table's lock:
//
//	both slots -> nil       who begins a section now finds no shard, and waits
//	                        for the lock
//	barrier                 every processor has made visible what it stored
//	                        before: a section that found the shard is counted
//	both counts are even    nobody uses the shards: each into the other slot
//	else                    back into their own
//
// A slot is filled, emptied and swapped under the lock only; its shard's slot
// field is written before it is put there, and read by its user.

const (
	// strayFrees is after how many frees of another shard's blocks the swap is
	// tried. It takes some microseconds.
	strayFrees = 128
	// straySections bounds the beginnings and ends of sections on the P
	// meanwhile: two for each of these frees, two for a malloc beside each, and
	// a quarter more.
	straySections = strayFrees * 4 * 5 / 4
)

// foreign counts the frees of other shards' blocks, by the shard's user.
type foreign struct {
	owner    uint32 // of the blocks
	frees    uint32
	began    uint32 // sections of this P when the count began
	sections uint32 // of the owner's P then
	found    uint32 // the owner, when there were enough; or 0
}

// countForeign counts a free of a block of owner's. Pinned.
//
//go:nosplit
func (s *Shard) countForeign(owner uint32) {
	f := &s.foreign
	if !follows || owner < pool.FirstShard || s.ofP() == nil {
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
		if s.sections()-f.began <= straySections && shardOf(owner).sections() == f.sections {
			f.found = owner
		}
	}
}

// ofP returns the slot of the P whose shard it is, or nil. Anyone may ask who is
// pinned, or has the table's lock: the slot's memory is there as long.
//
//go:nosplit
func (s *Shard) ofP() *Slot { return (*Slot)(atomic.LoadPointer(&s.slot)) }

func (s *Shard) setSlot(slot *Slot) { atomic.StorePointer(&s.slot, unsafe.Pointer(slot)) }

// isBusy reports whether the P is in a section, after a barrier that came after
// the slot was emptied.
func (slot *Slot) isBusy() bool { return atomic.LoadUint32(&slot.sections)%2 == 1 }

// sections returns the number of beginnings and ends of sections on the shard's
// P, or 0 while it has none.
//
//go:nosplit
func (s *Shard) sections() uint32 {
	if slot := s.ofP(); slot != nil {
		return atomic.LoadUint32(&slot.sections)
	}
	return 0
}

// takeForeign returns the shard whose P seems idle while its blocks are freed
// here, once.
//
//go:nosplit
func (s *Shard) takeForeign() *Shard {
	if s == nil {
		return nil
	}
	owner := s.foreign.found
	if owner == 0 {
		return nil
	}
	s.foreign.found = 0
	return shardOf(owner)
}

// follow swaps the shard of a P with that of an idle one, if they are that still.
// Not pinned.
func (t *Table) follow(mine, other *Shard) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return
	}
	var a, b *Slot
	for i := range int(t.view.n.Load()) {
		switch slot := t.view.slot(i); slot.Load() {
		case mine:
			a = slot
		case other:
			b = slot
		}
	}
	if a == nil || b == nil {
		return // drained, or a heap's, or of another table
	}
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
