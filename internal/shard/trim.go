package shard

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/grace"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/internal/tagstack"
)

// A round gives back to the system what tables do not need. Several tables share
// its grace periods, for each may stop the world.
type round []*visit

// visit is a table's part in a round.
type visit struct {
	t       *Table
	drained []*Shard // taken from their users
	slots   []*Slot  // of which some are
	heaps   []*Heap
	retired []arena.Retired
	err     error // the first fault that was found, or what the system still refuses
	check   bool  // look for faults
	all     bool  // try all that the system refused to take before
}

// Trim gives back to the system whatever the allocator does not need: it drains
// all shards, busy ones too, and unmaps all free arenas and mappings.
func (t *Table) Trim() error {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	return t.trim(true)
}

// trim does what Trim does. The caller holds the lock. With all it tries everything that
// the system refused to take before, else as much as the janitor does.
func (t *Table) trim(all bool) error {
	if t.closed.Load() {
		return arena.ErrClosed
	}
	v := &visit{t: t, all: all}
	v.swapOut(func(*Shard) bool { return true })
	r := round{v}
	r.drain()
	v.retire(0, 0)
	r.unmap()
	return v.err
}

// ticking is held by the one tick at a time.
var ticking sync.Mutex

// tick is what the janitor does for the tables that are due: it drains the
// shards that are idle, and gives back what has not been needed for a whole tick
// or exceeds what may be retained. It returns the tables that have something
// left to come for.
func tick(tables []*Table) (again []*Table) {
	// It holds the locks of all its tables at once: two of them, with the same
	// tables in another order, would wait for each other.
	ticking.Lock()
	defer ticking.Unlock()
	idle := idle(tables)
	var r round
	for _, t := range tables {
		t.trimming.Lock()
		if t.closed.Load() {
			t.trimming.Unlock()
			continue
		}
		v := &visit{t: t}
		v.swapOut(idle)
		r = append(r, v)
	}
	r.drain()
	for _, v := range r {
		v.t.Arenas.Tick()
		retain := v.t.conf.RetainBytes
		retain -= min(retain, v.t.Large.Totals().Retained)
		v.retire(2, retain)
	}
	r.unmap() // what is refused is counted, and tried again
	for _, v := range r {
		arenas, _ := v.t.Arenas.HasFree()
		mappings, _ := v.t.Large.HasFree()
		if arenas || mappings || v.t.hasPools() {
			again = append(again, v.t)
		}
		v.t.trimming.Unlock()
	}
	return again
}

// idleSample is how long the janitor watches shards to see which are idle.
const idleSample = 20 * time.Millisecond

// idle returns a function that tells which shards of the tables own something
// and make no slow step for a while. A shard that only repeats fast steps seems
// idle too; draining it costs its P a few slow steps.
func idle(tables []*Table) func(*Shard) bool {
	events := map[*Shard]uint32{}
	for _, t := range tables {
		t.eachShard(func(s *Shard) {
			if s.hasPools() {
				events[s] = load(&s.events)
			}
		})
	}
	if len(events) > 0 {
		time.Sleep(idleSample)
	}
	return func(s *Shard) bool {
		n, ok := events[s]
		return ok && n == load(&s.events)
	}
}

// hasPools reports whether the shard owns pools, or keeps empty ones. Anyone may
// ask.
func (s *Shard) hasPools() bool { return load(&s.nowned) != 0 || load(&s.nempty) != 0 }

// hasPools reports whether a shard of the table has pools.
func (t *Table) hasPools() (has bool) {
	t.eachShard(func(s *Shard) { has = has || s.hasPools() })
	return has
}

// eachShard calls f for all shards in slots and heaps, and those that are detached.
func (t *Table) eachShard(f func(*Shard)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return // the view is that of another life, or of none
	}
	for i := range int(t.slotCount().Load()) {
		if s := t.view.slot(i).Load(); s != nil {
			f(s)
		}
	}
	for hp := range t.heaps {
		if s := hp.shard.Load(); s != nil {
			f(s)
		}
	}
	for _, s := range t.detached {
		f(s)
	}
}

// swapOut empties the slots and heaps whose shards want says yes to. After
// awaitUsers these shards are the round's, and at once those that were detached.
func (v *visit) swapOut(want func(*Shard) bool) {
	t := v.t
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range int(t.slotCount().Load()) {
		slot := t.view.slot(i)
		if s := slot.Load(); s != nil && want(s) {
			slot.Store(nil) // only filled under mu
			v.drained = append(v.drained, s)
			v.slots = append(v.slots, slot)
		}
	}
	for hp := range t.heaps {
		if s := hp.shard.Load(); s != nil && want(s) {
			hp.shard.Store(nil)
			v.drained = append(v.drained, s)
			v.heaps = append(v.heaps, hp)
		}
	}
	v.drained = append(v.drained, t.detached...)
	t.detached = nil
}

// awaitUsers returns once nobody uses the shards that were swapped out: after a
// barrier and the end of the sections under way where these are counted, which
// stops nobody; else after a grace period.
func (r round) awaitUsers() {
	counted := follows && grace.Barrier()
	if !counted {
		grace.Wait()
	}
	for _, v := range r {
		if counted {
			for _, slot := range v.slots {
				slot.await()
			}
		}
		for _, hp := range v.heaps {
			hp.await()
		}
	}
}

// drainShards drains the shards that were swapped out.
func (r round) drainShards() {
	wait := false
	for _, v := range r {
		wait = wait || len(v.slots)+len(v.heaps) > 0
	}
	if wait {
		r.awaitUsers()
	}
	for _, v := range r {
		for _, s := range v.drained {
			acquired(unsafe.Pointer(s))
			v.checkShard(s)
			v.t.drain(s)
		}
	}
}

// drain drains the shards that were swapped out, and the shared stacks.
func (r round) drain() {
	r.drainShards()
	for _, v := range r {
		for c := range v.t.usable {
			v.drainUsable(&v.t.usable[c])
		}
		v.t.drainFreepools(0)
	}
}

// retire gives up arenas and mappings that have been free for age ticks or
// exceed retain bytes.
func (v *visit) retire(age uint32, retain uint64) {
	_ = v.t.Large.Tick(age) // what is refused is tried again in unmap
	v.retired = v.t.Arenas.Retire(age, retain)
}

// unmap unmaps the retired arenas, after a grace period that includes the heaps, tries
// again what the system refused to take, and drops the pages of free units.
func (r round) unmap() {
	wait := false
	for _, v := range r {
		wait = wait || len(v.retired) > 0
	}
	if wait {
		grace.Wait()
	}
	for _, v := range r {
		if len(v.retired) > 0 {
			v.t.awaitHeaps()
			_ = v.t.Arenas.Unmap(v.retired, v.t.conf.Keep) // the same
		}
	}
	all := false
	for _, v := range r {
		for _, err := range []error{v.t.Large.Retry(v.all), v.t.Arenas.Retry(v.t.conf.Keep, v.all)} {
			if v.err == nil {
				v.err = err
			}
		}
		v.t.Arenas.Purge()
		all = all || v.all
	}
	arena.RetryOrphans(all)
}

// awaitHeaps returns once every heap was seen not busy, after a grace period.
func (t *Table) awaitHeaps() {
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
	s.empty(&t.Arenas.Geometry)
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
	s.setSlot(nil)
	store(&s.nempty, 0)
	keepShard(s)
}

// dispose gives up a pool of a drained shard. It reports false if the pool is
// posted and has to come out of the inbox first.
func (t *Table) dispose(h *pool.Header) bool {
	number, c := h.Number(), h.Class()
	for h.Word().Post() != pool.Posted {
		switch {
		case h.Retire(0):
			t.Arenas.PutNumber(number)
			return true
		case h.HasBlock() || h.Collect():
			if h.Retire(0) {
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
func (v *visit) drainUsable(st *stack) {
	t, links := v.t, arena.Links()
	var first, last uint32
	for n := st.TakeAll(); n != 0; {
		next := links.Next(n)
		h := t.Arenas.ByNumber(n)
		h.Take(pool.Hand)
		v.checkPool(h)
		if h.Retire(0) {
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

// Undrained calls f while no shard is drained: what shards have at hand is theirs or their
// pools', and not on the way. It waits for a trim that is under way.
func (t *Table) Undrained(f func()) {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	f()
}

// Blocks calls f for every live block, with its first eight bytes: exactly, when nothing
// is under way. f must not call the table.
func (t *Table) Blocks(f func(p unsafe.Pointer, first uint64)) {
	t.Undrained(func() {
		t.Arenas.Visit(func(h *pool.Header) {
			switch h.Owner() {
			case pool.Free:
			case pool.Run:
				f(h.Start(), atomic.LoadUint64((*uint64)(h.Start())))
			default:
				h.EachInUse(h.Units()*t.Arenas.UnitBytes, f)
			}
		})
		t.Large.Blocks(f)
	})
}

// KeptBlocks adds to n, by class, the blocks that shards have at hand for mallocs:
// they count as in use in their pools.
func (t *Table) KeptBlocks(n *[sizeclass.Count]int) {
	t.eachShard(func(s *Shard) {
		if c := load(&s.hot.class); c != noClass {
			n[c]++
		}
		for c := range uint8(sizeclass.Count) {
			n[c] += s.Magazine(c).Len()
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
	n := t.slotCount().Swap(0)
	heaps := t.heaps
	t.heaps = nil
	out := t.detached
	t.detached = nil
	for hp := range heaps {
		if s := hp.shard.Swap(nil); s != nil {
			out = append(out, s)
		}
	}
	t.mu.Unlock()
	retired := t.Arenas.Close()
	t.disarm()
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
		s.private, s.inbox = private{id: s.id, word: s.word}, tagstack.Stack{}
		s.reset()
		keepShard(s)
	}
	if e := t.releaseSlots(); err == nil {
		err = e
	}
	giveID(t.Arenas.Entry.ID())
	arena.RetryOrphans(false)
	return err
}

// releaseSlots gives the slots back, at last.
func (t *Table) releaseSlots() error {
	err := t.slots.Release()
	if err != nil {
		arena.Orphan(t.slots.Base(), t.slots.ReservedBytes(), false)
	}
	return err
}
