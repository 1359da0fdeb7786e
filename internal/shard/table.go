package shard

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/addrmap"
	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/grace"
	"github.com/pyarena/pyarena/internal/large"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/internal/tagstack"
	"github.com/pyarena/pyarena/internal/vmarray"
	"github.com/pyarena/pyarena/osmem"
)

// View is what the fast path reads of an allocator: one cache line, written
// when the allocator opens and closes. The zero View has no slots, so that the
// fast path of an allocator that was never used, or was closed, finds no shard.
type View struct {
	n       atomic.Uint32  // slots that Take sees; published last, cleared first
	entry   addrmap.Entry  // of the allocator's arenas
	slots   unsafe.Pointer // of the shards, by P
	mask    uintptr        // arena bytes - 1
	unitLog uint8
	hard    atomic.Uint32 // n, where it is that of TakeHard
	table   *Table
}

// slotCount returns what counts the slots of the allocator: n or hard.
func (t *Table) slotCount() *atomic.Uint32 {
	if t.conf.isHard() {
		return &t.view.hard
	}
	return &t.view.n
}

// take takes the shard of the P, or another.
func (t *Table) take(token int) (s *Shard, ok bool) {
	if t.conf.isHard() {
		return t.view.TakeHard(token)
	}
	return t.view.Take(token)
}

// Table returns the table of the life that the view was opened for. Only for
// who is pinned and has found a shard.
func (v *View) Table() *Table { return v.table }

// Slot is where a P's shard is, in a cache line of its own.
type Slot struct {
	atomic.Pointer[Shard]
	sections uint32 // begun and ended by the P, see follow.go
	_        [60 - unsafe.Sizeof(uintptr(0))]byte
}

// slot returns the slot i, below n.
func (v *View) slot(i int) *Slot {
	return (*Slot)(unsafe.Add(v.slots, uintptr(i)*unsafe.Sizeof(Slot{})))
}

// IsMine reports whether p lies in an arena of the allocator.
func (v *View) IsMine(p unsafe.Pointer) bool { return addrmap.Is(uintptr(p), v.entry) }

// HeaderOf returns the header of the unit that p, which is mine, lies in.
func (v *View) HeaderOf(p unsafe.Pointer) *pool.Header {
	off := uintptr(p) & v.mask
	return (*pool.Header)(unsafe.Add(p, off>>(v.unitLog&63)*pool.HeaderBytes-off))
}

// Config is what an allocator is made with.
type Config struct {
	Geometry    arena.Geometry
	LimitBytes  uint64 // 0: none
	RetainBytes uint64
	RetainDelay time.Duration
	Keep        bool // keep the addresses of arenas given back
	Wipe        bool // clear blocks when they are freed
}

// Table is all that belongs to one life of an allocator, from its first use to
// Close: slots and shards, shared stacks, arenas, large blocks.
type Table struct {
	Arenas *arena.Set
	Large  *large.Set
	Budget arena.Budget
	conf   Config

	view   *View // the allocator's own
	closed atomic.Bool
	slots  vmarray.Segment[Slot]

	usable [sizeclass.Count]stack // shared usedpools, by class
	free   stack                  // shared freepools, of one unit
	nfree  atomic.Int32           // how many, about

	armed      atomic.Bool // the janitor is to come
	reclaims   reclaims    // at the limit
	trimming   sync.Mutex  // one drain, trim or close at a time; nobody else unmaps arenas
	mu         sync.Mutex  // guards what follows, and the filling of slots
	heaps      map[*Heap]struct{}
	detached   []*Shard      // that nobody uses, see follow.go
	detachedAt time.Time     // when one was, or they were drained
	detachRest time.Duration // until the next may be
}

// stack is a Stack in a cache line of its own.
type stack struct {
	tagstack.Stack
	_ [56]byte
}

const (
	// maxShards is the largest number of shards in the process: of heaps, and
	// of Ps times allocators.
	maxShards = 1 << 17
	// chunkShards is how many are mapped at a time.
	chunkShards = 8
)

// ids are the ids of open tables, for the arena map. They come round after a
// long while only, so that pointers into a closed allocator are not taken for
// another's.
var ids struct {
	sync.Mutex
	last uint32
	used map[uint32]struct{}
}

func takeID() uint32 {
	ids.Lock()
	defer ids.Unlock()
	if ids.used == nil {
		ids.used = map[uint32]struct{}{}
	}
	for used := true; used; {
		ids.last = (ids.last + 1) & (1<<24 - 1)
		_, used = ids.used[ids.last]
	}
	ids.used[ids.last] = struct{}{}
	return ids.last
}

func giveID(id uint32) {
	ids.Lock()
	defer ids.Unlock()
	delete(ids.used, id)
}

// Open begins a life of the allocator whose fast path reads v.
func Open(conf Config, v *View) (*Table, error) {
	t := &Table{conf: conf, view: v, heaps: map[*Heap]struct{}{}}
	t.Budget.Limit = conf.LimitBytes
	if err := t.growSlots(min(slotsAtOpen(), t.slots.Cap())); err != nil {
		_ = t.releaseSlots() // nothing is in them; the first error counts
		return nil, err
	}
	id := takeID()
	t.Arenas = arena.NewSet(conf.Geometry, id, &t.Budget)
	t.Arenas.NoDump = conf.Wipe
	t.Large = large.NewSet(t.Arenas, &t.Budget, id, large.Config{
		RetainBytes: conf.RetainBytes, Keep: conf.Keep, Wipe: conf.Wipe, Guard: conf.Geometry.Hardened(),
	})
	v.entry = t.Arenas.Entry
	v.slots = t.slots.Base()
	v.mask = uintptr(conf.Geometry.Bytes) - 1
	v.unitLog = uint8(conf.Geometry.UnitLog)
	v.table = t
	t.slotCount().Store(uint32(slotsInUse(t.slots.Len())))
	return t, nil
}

// shards are the shards of the process, in chunks; a shard's id is its number plus
// pool.FirstShard. They are never unmapped, so that a notice to the inbox of a
// shard that was just drained hits no other memory.
var shards struct {
	mu     sync.Mutex
	spare  []*Shard
	next   int
	chunks [maxShards / chunkShards]uintptr // written before the id of a shard there is known
}

// newShard returns an empty shard.
func (t *Table) newShard() (*Shard, error) {
	s, err := spareShard()
	if err == nil {
		s.wipe, s.hard, s.seals, s.tail = t.conf.Wipe, t.conf.Geometry.Hardened(), t.conf.isHard(), uint8(t.Tail())
	}
	return s, err
}

// Tail returns the bytes of a block of a size class that are not the caller's.
func (t *Table) Tail() int { return t.conf.Geometry.Tail }

// spareShard returns one that was kept, or a new one.
func spareShard() (*Shard, error) {
	shards.mu.Lock()
	defer shards.mu.Unlock()
	if n := len(shards.spare); n > 0 {
		s := shards.spare[n-1]
		shards.spare = shards.spare[:n-1]
		return s, nil
	}
	n := shards.next
	if n == maxShards {
		return nil, fmt.Errorf("there are %d heaps and shards of Ps, the most that a process may have", n)
	}
	if n%chunkShards == 0 {
		p, err := osmem.MapAligned(int(chunkShards*unsafe.Sizeof(Shard{})), osmem.PageSize())
		if err != nil {
			return nil, fmt.Errorf("table of shards: %w", err)
		}
		shards.chunks[n/chunkShards] = uintptr(p)
	}
	id := uint32(n) + pool.FirstShard
	s := shardOf(id)
	s.id, s.word = id, pool.OwnerWord(id)
	s.reset()
	shards.next++
	return s, nil
}

// keepShard takes back a shard that owns nothing.
func keepShard(s *Shard) {
	shards.mu.Lock()
	defer shards.mu.Unlock()
	shards.spare = append(shards.spare, s)
}

// shardOf returns the shard with the given id.
func shardOf(id uint32) *Shard {
	n := (id - pool.FirstShard) % maxShards // for the compiler: it is less
	chunk := (*[chunkShards]Shard)(addr.Pointer(shards.chunks[n/chunkShards]))
	return &chunk[n%chunkShards]
}

// TableBytes returns the memory of all shards.
func TableBytes() uint64 {
	shards.mu.Lock()
	defer shards.mu.Unlock()
	chunks := (shards.next + chunkShards - 1) / chunkShards
	return uint64(chunks) * chunkShards * uint64(unsafe.Sizeof(Shard{}))
}

// growSlots makes the slots below n usable, one for each P: 16,384 at most.
func (t *Table) growSlots(n int) error {
	if err := t.slots.Grow(n); err != nil {
		return fmt.Errorf("slots of Ps: %w", err)
	}
	return nil
}

// SlotBytes returns the memory of the table's slots, and the address space that they take.
func (t *Table) SlotBytes() (memory, reserved uint64) {
	return uint64(t.slots.CommittedBytes()), uint64(t.slots.ReservedBytes())
}

// --- entering and leaving a shard, on the slow paths ---

// enter pins the goroutine and returns the shard to use: that of the heap, or
// of the P if hp is nil. The shard is nil if one has to be installed first.
func (t *Table) enter(hp *Heap) (s *Shard, token int, err error) {
	if hp != nil {
		hp.begin()
		token = grace.Enter()
		if t.closed.Load() {
			grace.Exit(token)
			hp.end()
			return nil, 0, arena.ErrClosed
		}
		return hp.shard.Load(), token, nil
	}
	for {
		token = grace.Enter()
		if t.closed.Load() {
			grace.Exit(token)
			return nil, 0, arena.ErrClosed
		}
		s, taken := t.take(token)
		if taken {
			return s, token, nil
		}
		grace.Exit(token)
		runtime.Gosched() // all shards are taken; only where sections are not pinned
	}
}

// exit ends what enter began, and sends the empty pools that the shard wants
// rid of to the arenas.
func (t *Table) exit(hp *Heap, s *Shard, token int) {
	var out *pool.Header
	if s != nil {
		out, s.outbox = s.outbox, nil
	}
	if hp != nil {
		grace.Exit(token)
		hp.end()
	} else {
		Exit(s, token)
	}
	if out != nil {
		t.Arenas.PutChain(out)
	}
}

// install gives the heap, or the slot of the P that token was for, a shard.
func (t *Table) install(hp *Heap, token int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return arena.ErrClosed
	}
	if hp != nil {
		if _, live := t.heaps[hp]; !live {
			return arena.ErrClosed // released
		}
		return t.fillSlot(&hp.shard, nil)
	}
	count := t.slotCount()
	i := slotIndex(token, int(count.Load()))
	if err := t.growSlots(i + 1); err != nil {
		return err
	}
	if n := uint32(slotsInUse(t.slots.Len())); n > count.Load() {
		count.Store(n)
	}
	slot := t.view.slot(i)
	return t.fillSlot(&slot.Pointer, slot)
}

// fillSlot puts a new shard where there is none.
func (t *Table) fillSlot(to *atomic.Pointer[Shard], slot *Slot) error {
	if to.Load() != nil {
		return nil
	}
	s, err := t.newShard()
	if err == nil {
		s.setSlot(slot)
		to.Store(s)
	}
	return err
}

// --- malloc ---

// Alloc is the slow path of malloc: it returns a block of class c for the heap,
// or for the P's shard if hp is nil, and whether the block is known to be zero.
func (t *Table) Alloc(hp *Heap, c uint8) (p unsafe.Pointer, zero bool, err error) {
	seen, reclaimed := t.reclaims.seen(), false
	for {
		s, token, err := t.enter(hp)
		if err != nil {
			return nil, false, err
		}
		if s == nil {
			t.exit(hp, s, token)
			if err := t.install(hp, token); err != nil {
				return nil, false, err
			}
			continue
		}
		p, zero, broken := s.take(c)
		if p != nil {
			pool.Unseal(p)
			t.exit(hp, s, token)
			t.reclaims.found(reclaimed)
			return p, zero, nil
		}
		found := foundBlock
		if broken == nil {
			found, broken = t.refill(s, c)
		}
		t.exit(hp, s, token)
		t.limitFreepools()
		if broken != nil {
			return nil, false, &BrokenError{Block: uintptr(broken), Size: sizeclass.Size(c)}
		}
		if found == foundNothing {
			p, zero, err := t.provide(hp, c)
			if err == nil {
				t.reclaims.found(reclaimed)
				return p, zero, nil
			}
			if _, broken := err.(*BrokenError); broken {
				return nil, false, err
			}
			// The limit is reached, or the system refuses.
			if reclaimed || err == arena.ErrClosed || !t.reclaim(seen) {
				return nil, false, err
			}
			reclaimed = true
		}
	}
}

// AllocLarge returns a block for a request that has no size class, and whether it
// is known to be zero.
func (t *Table) AllocLarge(size, align int) (p unsafe.Pointer, zero bool, err error) {
	seen := t.reclaims.seen()
	p, zero, err = t.Large.Alloc(size, align)
	if err == nil || err == arena.ErrClosed || !t.reclaim(seen) {
		return p, zero, err
	}
	if p, zero, err = t.Large.Alloc(size, align); err == nil {
		t.reclaims.found(true)
	}
	return p, zero, err
}

// BrokenError says that a free block was written to after it was freed.
type BrokenError struct {
	Block uintptr
	Size  int
}

func (e *BrokenError) Error() string { return "remote list is corrupted" }

// provide gives the shard a pool of class c from the arenas, and returns the
// pool's first block: where sections are not pinned the caller might not meet
// that shard again.
func (t *Table) provide(hp *Heap, c uint8) (p unsafe.Pointer, zero bool, err error) {
	h, err := t.Arenas.TakePool(c)
	if err != nil {
		return nil, false, err
	}
	t.arm() // a shard that frees on its fast path alone never does
	for {
		s, token, err := t.enter(hp)
		if err != nil {
			return nil, false, err // closed: the pool is gone with its arena
		}
		if s != nil {
			h.Own(s.id)
			s.acquire(h)
			p, zero, broken := s.take(c)
			if p != nil {
				pool.Unseal(p)
			}
			t.exit(hp, s, token)
			if broken != nil { // one that was at hand
				return nil, false, &BrokenError{Block: uintptr(broken), Size: sizeclass.Size(c)}
			}
			return p, zero, nil
		}
		t.exit(hp, s, token)
		if err := t.install(hp, token); err != nil {
			t.Arenas.PutChain(h)
			return nil, false, err
		}
	}
}

// found is what refill has found.
type found uint8

const (
	foundBlock   found = iota // the first pool has a block
	foundMore                 // not yet; there is more to look at
	foundNothing              // the arenas have to be asked
)

// refill looks for a pool with a block of class c. broken is a block that was
// found to have been written to after it was freed. Pinned, and bounded.
func (t *Table) refill(s *Shard, c uint8) (f found, broken unsafe.Pointer) {
	if c >= sizeclass.Count {
		return foundNothing, nil // for the compiler: no index below can be out of range
	}
	store(&s.events, s.events+1)
	for range stepsPinned {
		h := s.used[c]
		if h == &s.none {
			break
		}
		s.Forget()
		if ok, broken := h.Refill(s.hotBlock()); ok || broken != nil {
			return foundBlock, broken
		}
		if h.Fill() {
			s.unlist(h)
			h.SetTrip(h.Live() - 1)
		}
	}
	if s.used[c] != &s.none {
		return foundMore, nil
	}
	t.readInbox(s)
	t.sweepOne(s)
	for s.nempty > maxEmpties { // twice at most: it was no more before
		t.shed(s)
	}
	if s.used[c] != &s.none {
		return foundBlock, nil
	}
	if n := t.usable[c].Pop(arena.Links()); n != 0 {
		h := t.Arenas.ByNumber(n)
		h.Take(s.id)
		s.acquire(h)
		return foundBlock, nil
	}
	// An empty pool at hand is taken before the rest of a long inbox is looked at.
	shape := &t.Arenas.Shapes[c]
	h := (*pool.Header)(nil)
	if shape.Units == 1 {
		h = s.popEmpty()
	}
	if h == nil && s.pending != 0 {
		return foundMore, nil
	}
	if h == nil && shape.Units == 1 {
		if n := t.free.Pop(arena.Links()); n != 0 {
			t.nfree.Add(-1)
			h = t.Arenas.ByNumber(n)
		}
	}
	if h != nil {
		h.Format(c, shape)
		h.Own(s.id)
		s.acquire(h)
		return foundBlock, nil
	}
	return foundNothing, nil
}

// readInbox looks at some of the pools that freers have posted. Pinned.
func (t *Table) readInbox(s *Shard) {
	if s.pending == 0 {
		s.pending = s.inbox.TakeAll()
	}
	for left := blocksPinned; left > 0 && s.pending != 0; {
		n := s.pending
		s.pending = arena.Links().Next(n)
		h := t.Arenas.ByNumber(n)
		left -= int(h.Live()) + blocksPinned/stepsPinned
		h.Unpost()
		s.settle(h)
	}
}

// sweepOne looks at one pool of the shard, in turn, whose blocks may all have
// been freed by others.
func (t *Table) sweepOne(s *Shard) {
	h := s.swept
	if h == nil {
		h = s.owned
	}
	if h == nil {
		return
	}
	s.swept = h.OwnedNext
	if h.Trip() != pool.Never {
		s.retire(h)
	}
}

// --- free ---

// Verdict says what Free found.
type Verdict uint8

// The verdicts of Free.
const (
	Freed   Verdict = iota
	Double          // the block is free already
	NotOurs         // no block of the allocator begins there
	Overrun         // the block was written to beyond its end; it is not freed
	isRun           // a large run: not freed yet
)

// Free frees the block at p, whatever it is. It is for callers that have not
// entered a shard.
func (t *Table) Free(hp *Heap, p unsafe.Pointer) Verdict {
	for {
		s, token, err := t.enter(hp)
		if err != nil {
			return NotOurs
		}
		if s != nil {
			return t.FreeEntered(hp, s, p, token)
		}
		t.exit(hp, s, token)
		if t.install(hp, token) != nil {
			return t.freeWithoutShard(p)
		}
	}
}

// FreeEntered is the slow path of free: it frees the block at p, whatever it is,
// and leaves the shard, which the caller has entered; hp is its heap if it is one.
func (t *Table) FreeEntered(hp *Heap, s *Shard, p unsafe.Pointer, token int) Verdict {
	e := addrmap.Load(uintptr(p))
	verdict := NotOurs
	if e == t.Arenas.Entry {
		verdict = t.freePinned(s, p)
	}
	found := s.takeStray()
	t.exit(hp, s, token)
	t.followOrDetach(s, found)
	if e.Kind() == addrmap.Huge || verdict == isRun {
		verdict = t.freeLarge(e, p)
	}
	if verdict == Freed {
		t.afterGiveUp()
	}
	return verdict
}

// ResizeHuge gives the huge block at p another size without a new block, and returns
// where it is then, or nil if it could not. The caller holds the block.
func (t *Table) ResizeHuge(p unsafe.Pointer, size int) unsafe.Pointer {
	q := t.Large.Resize(p, size)
	if free, _ := t.Large.HasFree(); q != nil && free {
		t.afterGiveUp()
	}
	return q
}

// freeLarge frees a large block, or what looks like one.
func (t *Table) freeLarge(e addrmap.Entry, p unsafe.Pointer) Verdict {
	if e.Kind() == addrmap.Huge {
		return Verdict(t.Large.FreeHuge(p))
	}
	switch t.Arenas.PutRun(p, t.conf.Wipe) {
	case nil:
		return Freed
	case arena.ErrOverrun:
		return Overrun
	case arena.ErrFreeRun:
		return Double
	}
	return NotOurs
}

// freeWithoutShard frees a block where there is no memory for a shard: the
// block goes to its pool's remote list.
func (t *Table) freeWithoutShard(p unsafe.Pointer) Verdict {
	token := grace.Enter()
	verdict := NotOurs
	e := addrmap.Load(uintptr(p))
	if !t.closed.Load() && e == t.Arenas.Entry {
		verdict = t.freeRemote(nil, t.Arenas.PoolOf(p), p)
	}
	grace.Exit(token)
	if e.Kind() == addrmap.Huge || verdict == isRun {
		verdict = t.freeLarge(e, p)
	}
	if verdict == Freed {
		t.afterGiveUp()
	}
	return verdict
}

// freePinned frees the block at p, an address in one of the allocator's arenas.
func (t *Table) freePinned(s *Shard, p unsafe.Pointer) Verdict {
	h := t.Arenas.PoolOf(p)
	if h.Owner() != s.id {
		return t.freeRemote(s, h, p)
	}
	if s.Keeps(p) {
		return Double // a program that frees twice may have broken its seal
	}
	switch h.StateOf(p) {
	case pool.Foreign:
		return NotOurs
	case pool.Freed:
		return Double
	}
	if h.Overrun(p) {
		return Overrun
	}
	s.Forget()
	if t.conf.Wipe {
		h.Wipe(p)
	}
	if h.IsHard() {
		pool.Seal(p)
	}
	i := h.Index(p)
	tripped := h.Push(i)
	if !tripped && h.Listed() {
		h.Quieten(s.hotBlock())
		tripped = h.Live() == h.Trip()
	}
	if tripped {
		t.trip(s, h, i)
	}
	return Freed
}

// freeRemote frees the block at p onto a pool that the shard does not own. The
// shard is nil where the caller has none. The pool may become another one meanwhile, if
// the pointer is stale: what is read of it then makes the pointer a bad one either way,
// and the race detector is not shown it.
//
//go:norace
func (t *Table) freeRemote(s *Shard, h *pool.Header, p unsafe.Pointer) Verdict {
	switch h.Owner() {
	case pool.Run:
		return isRun
	case pool.Free:
		if h.WasBlock(p) {
			return Double
		}
		return NotOurs
	}
	switch h.StateInBits(p) {
	case pool.Foreign:
		return NotOurs
	case pool.Freed:
		return Double
	}
	if h.Overrun(p) && !h.IsFreed(p) {
		return Overrun
	}
	me := uint32(pool.Nobody)
	if s != nil {
		me = s.id
	}
	c := h.Class()
	if c >= sizeclass.Count {
		return NotOurs // for the compiler
	}
	did, number, owner := h.PushRemote(p, me, s != nil, t.conf.Wipe)
	if s != nil {
		s.countForeign(owner)
	}
	switch did {
	case pool.Refused, pool.Double: // refused: freed by another, and with it the pool
		return Double
	case pool.Post:
		shardOf(owner).inbox.Push(arena.Links(), number, number)
	case pool.Adopted:
		s.acquire(h)
	case pool.Unclaimed:
		t.usable[c].Push(arena.Links(), number, number)
	}
	return Freed
}

// trip is the rest of a free of block i whose push has tripped: the pool was full, or it is
// empty now. It reports whether a pool was given up. Pinned.
func (t *Table) trip(s *Shard, h *pool.Header, i uint32) (gaveUp bool) {
	store(&s.events, s.events+1)
	before := s.nowned
	if !h.Listed() {
		h.SetCurrent(i)
		s.list(h)
	}
	if h.Live() == 0 && h.Trip() == 0 {
		s.retire(h)
	}
	if s.nempty > maxEmpties {
		t.shed(s)
	}
	return s.nowned != before
}

// shed moves half of the shard's empty pools to the shared freepools. Pinned.
func (t *Table) shed(s *Shard) {
	links := arena.Links()
	first := s.popEmpty()
	last := first
	for range maxEmpties/2 - 1 {
		h := s.popEmpty()
		links.Link(last.Number(), h.Number())
		last = h
	}
	t.free.Push(links, first.Number(), last.Number())
	t.nfree.Add(maxEmpties / 2)
}

// Trip finishes a free of block i whose push has tripped. The caller has entered the shard,
// hp being its heap if it is one; Trip leaves it.
func (t *Table) Trip(hp *Heap, s *Shard, h *pool.Header, i uint32, token int) {
	gaveUp := t.trip(s, h, i)
	t.exit(hp, s, token)
	if gaveUp {
		t.afterGiveUp()
	}
}

// afterGiveUp sees to it that what a shard has given up goes back to the arenas,
// and to the system in time. Not pinned.
func (t *Table) afterGiveUp() {
	t.limitFreepools()
	t.arm()
	t.reclaims.stir()
}

// limitFreepools returns pools to the arenas if many are in the freepools.
func (t *Table) limitFreepools() {
	if t.nfree.Load() > maxFreepools {
		t.drainFreepools(maxFreepools / 2)
	}
}

// SizeOf returns the usable size of the allocator's live block at p, or, if
// there is none, 0 and what Free would say. hp is the caller's heap if it has one.
func (t *Table) SizeOf(hp *Heap, p unsafe.Pointer) (size int, otherwise Verdict) {
	s, token, err := t.enter(hp)
	if err != nil {
		return 0, NotOurs
	}
	e := addrmap.Load(uintptr(p))
	otherwise = NotOurs
	switch {
	case s != nil && s.Keeps(p):
		otherwise = Double // as in freePinned
	case e == t.Arenas.Entry:
		size, otherwise = sizeAt(&t.conf.Geometry, p)
	}
	t.exit(hp, s, token)
	if e.Kind() == addrmap.Huge && e.ID() == t.Arenas.Entry.ID() {
		n, v := large.Usable(p)
		return n, Verdict(v)
	}
	return size, otherwise
}

// UsableSize returns the usable size of the live block at p, of any allocator, or
// 0 if there is none.
func UsableSize(p unsafe.Pointer) int {
	token := grace.Enter()
	e := addrmap.Load(uintptr(p))
	size := 0
	if e.Kind() == addrmap.Arena {
		size, _ = sizeAt(arena.GeometryOf(e.Log2Bytes()), p)
	}
	grace.Exit(token)
	if e.Kind() == addrmap.Huge {
		size, _ = large.Usable(p)
	}
	return size
}

// sizeAt returns the size of the live block at p, an address of an arena in the
// map, or 0 and what Free would say. Pinned. See freeRemote.
//
//go:norace
func sizeAt(g *arena.Geometry, p unsafe.Pointer) (int, Verdict) {
	h := g.PoolOf(p)
	switch h.Owner() {
	case pool.Free:
		if h.WasBlock(p) {
			return 0, Double
		}
		return 0, NotOurs
	case pool.Run:
		if h.Start() != p {
			return 0, NotOurs
		}
		return int(h.Usable()), Freed
	}
	switch h.StateOf(p) {
	case pool.Foreign:
		return 0, NotOurs
	case pool.Freed:
		return 0, Double
	}
	return h.Size() - h.Tail(), Freed
}

// drainFreepools returns pools from the shared freepools to their arenas until
// keep are left.
func (t *Table) drainFreepools(keep int32) {
	for t.nfree.Load() > keep {
		n := t.free.Pop(arena.Links())
		if n == 0 {
			return
		}
		t.nfree.Add(-1)
		t.Arenas.PutNumber(n)
	}
}
