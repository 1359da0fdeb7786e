package shard

import (
	"runtime"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/grace"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Trim gives back to the system whatever the allocator does not need: it drains
// all shards, busy ones too, and unmaps all free arenas and mappings.
func (t *Table) Trim() error {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	if t.closed.Load() {
		return arena.ErrClosed
	}
	t.drainAll(t.swapOut(func(*Shard) bool { return true }))
	return t.giveBack(0, 0)
}

// tick is what the janitor does: it drains the shards that are idle, and gives
// back what has not been needed for a whole tick or exceeds what may be
// retained. It reports whether there is something left to come for.
func (t *Table) tick() (again bool) {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	if t.closed.Load() {
		return false
	}
	t.drainAll(t.swapOut(t.idle()))
	t.Arenas.Tick()
	retain := t.conf.RetainBytes
	retain -= min(retain, t.Large.Totals().Retained)
	_ = t.giveBack(2, retain) // what is refused is counted, and tried again
	return t.Arenas.HasFree() || t.Large.HasFree()
}

// idleSample is how long the janitor watches shards to see which are idle.
const idleSample = 20 * time.Millisecond

// idle returns a function that tells which shards own something and make no slow
// step for a while. A shard that only repeats fast steps seems idle too; draining
// it costs its P a few slow steps.
func (t *Table) idle() func(*Shard) bool {
	events := map[*Shard]uint32{}
	t.eachShard(func(s *Shard) {
		if load(&s.nowned) != 0 || load(&s.nempty) != 0 {
			events[s] = load(&s.events)
		}
	})
	if len(events) == 0 {
		return func(*Shard) bool { return false }
	}
	time.Sleep(idleSample)
	return func(s *Shard) bool {
		n, ok := events[s]
		return ok && n == load(&s.events)
	}
}

// eachShard calls f for all shards in slots and heaps.
func (t *Table) eachShard(f func(*Shard)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range int(t.view.n.Load()) {
		if s := t.view.slot(i).Load(); s != nil {
			f(s)
		}
	}
	for hp := range t.heaps {
		if s := hp.shard.Load(); s != nil {
			f(s)
		}
	}
}

// swapOut empties the slots and heaps whose shards want says yes to, and returns
// these shards after a grace period: they are the caller's now.
func (t *Table) swapOut(want func(*Shard) bool) []*Shard {
	t.mu.Lock()
	var out []*Shard
	var heaps []*Heap
	for i := range int(t.view.n.Load()) {
		slot := t.view.slot(i)
		if s := slot.Load(); s != nil && want(s) {
			slot.Store(nil) // only filled under mu
			out = append(out, s)
		}
	}
	for hp := range t.heaps {
		if s := hp.shard.Load(); s != nil && want(s) {
			hp.shard.Store(nil)
			out = append(out, s)
			heaps = append(heaps, hp)
		}
	}
	t.mu.Unlock()
	if len(out) > 0 {
		grace.Wait()
		for _, hp := range heaps {
			hp.await()
		}
	}
	for _, s := range out {
		acquired(unsafe.Pointer(s))
	}
	return out
}

// drainAll drains shards that nobody uses any more, and the shared stacks.
func (t *Table) drainAll(out []*Shard) {
	for _, s := range out {
		t.drain(s)
	}
	for c := range t.usable {
		t.drainUsable(&t.usable[c])
	}
	t.drainFreepools(0)
}

// giveBack unmaps arenas and mappings that have been free for age ticks or
// exceed retain bytes, and drops the pages of free units.
func (t *Table) giveBack(age uint32, retain uint64) error {
	err := t.Large.Tick(age)
	if retired := t.Arenas.Retire(age, retain); len(retired) > 0 {
		t.wait()
		if e := t.Arenas.Unmap(retired, t.conf.Keep); err == nil {
			err = e
		}
	}
	t.Arenas.Purge()
	arena.RetryOrphans()
	return err
}

// wait returns after a grace period that includes the heaps.
func (t *Table) wait() {
	grace.Wait()
	t.mu.Lock()
	heaps := make([]*Heap, 0, len(t.heaps))
	for hp := range t.heaps {
		heaps = append(heaps, hp)
	}
	t.mu.Unlock()
	for _, hp := range heaps {
		hp.await()
	}
}

// drain takes everything from a shard that nobody uses: pools with free blocks
// become shared, full ones abandoned, empty ones go back to their arenas. A pool
// that a freer has posted, or is about to, comes out of the inbox. Then the
// shard is kept for another use.
func (t *Table) drain(s *Shard) {
	for c := range uint8(sizeclass.Count) {
		if p := s.TakeHot(c); p != nil {
			h := t.Arenas.PoolOf(p)
			h.Push(h.Index(p))
		}
	}
	posted := 0
	for s.owned != nil {
		h := s.owned
		if h.Listed() {
			s.unlist(h)
		}
		s.release(h)
		if !t.dispose(h) {
			posted++
		}
	}
	for posted > 0 {
		if s.pending == 0 {
			s.pending = s.inbox.TakeAll()
		}
		if s.pending == 0 {
			runtime.Gosched() // the freer is between its push and its post
			continue
		}
		h := t.Arenas.ByNumber(s.pending)
		s.pending = arena.Links().Next(s.pending)
		h.Unpost()
		t.dispose(h)
		posted--
	}
	t.Arenas.PutChain(s.empties)
	t.Arenas.PutChain(s.outbox)
	s.empties, s.outbox, s.swept = nil, nil, nil
	store(&s.nempty, 0)
	keepShard(s)
}

// dispose gives up a pool of a drained shard. It reports false if the pool is
// posted and has to come out of the inbox first.
func (t *Table) dispose(h *pool.Header) bool {
	number, c := h.Number(), h.Class()
	for h.Word().Post() != pool.Posted {
		switch {
		case h.Retire():
			t.Arenas.PutNumber(number)
			return true
		case h.HasBlock() || h.Collect():
			if h.Retire() {
				t.Arenas.PutNumber(number)
				return true
			}
			if h.Share() {
				t.usable[c].Push(arena.Links(), number, number)
				return true
			}
		case h.Abandon():
			return true
		}
	}
	return false
}

// drainUsable gives the pools of a shared stack back that have become empty.
func (t *Table) drainUsable(st *stack) {
	links := arena.Links()
	var first, last uint32
	for n := st.TakeAll(); n != 0; {
		next := links.Next(n)
		h := t.Arenas.ByNumber(n)
		h.Take(pool.Hand)
		if h.Retire() {
			t.Arenas.PutNumber(n)
		} else {
			h.Share()
			links.Link(n, first)
			if first == 0 {
				last = n
			}
			first = n
		}
		n = next
	}
	if first != 0 {
		st.Push(links, first, last)
	}
}

// HotBlocks adds to n, by class, the blocks that shards keep for the next malloc:
// they count as in use in their pools.
func (t *Table) HotBlocks(n *[sizeclass.Count]int) {
	t.eachShard(func(s *Shard) {
		for c := range uint8(hotClasses) {
			if loadPtr(s.hotSlot(c)) != 0 {
				n[c]++
			}
		}
	})
}

// Close ends this life of the allocator: everything is unmapped, live blocks
// too. Slow paths that are under way find the table closed when they enter a
// shard or take the arenas' lock again.
func (t *Table) Close() error {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	if t.closed.Swap(true) {
		return nil
	}
	t.mu.Lock()
	n := t.view.n.Swap(0)
	heaps := t.heaps
	t.heaps = nil
	var out []*Shard
	for hp := range heaps {
		if s := hp.shard.Swap(nil); s != nil {
			out = append(out, s)
		}
	}
	t.mu.Unlock()
	retired := t.Arenas.Close()
	grace.Wait()
	for hp := range heaps {
		hp.await()
	}
	for i := range int(n) {
		if s := t.view.slot(i).Load(); s != nil {
			out = append(out, s)
		}
	}
	err := t.Arenas.Unmap(retired, t.conf.Keep)
	if e := t.Large.Close(); err == nil {
		err = e
	}
	for _, s := range out {
		acquired(unsafe.Pointer(s))
		id := s.id
		*s = Shard{}
		s.reset(id)
		keepShard(s)
	}
	if e := t.slots.Release(); err == nil {
		err = e
	}
	arena.RetryOrphans()
	return err
}
