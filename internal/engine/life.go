// Package engine is one life of an allocator, from its first use to Close: what malloc and
// free do when a shard's magazines do not do, and everything that gives memory back.
//
// See internal/README.md for the whole machine.
package engine

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/huge"
	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/internal/shard"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/internal/tagstack"
)

// Config is what an allocator is made with.
type Config struct {
	Geometry    arena.Geometry
	LimitBytes  uint64 // 0: none
	RetainBytes uint64
	RetainDelay time.Duration
	Keep        bool // keep the addresses of arenas given back
	Wipe        bool // clear blocks when they are freed
}

// View is what the fast path of an allocator reads: its shards, by P. The zero View has
// none, and so does that of an allocator that was closed.
type View struct {
	n     atomic.Uint32 // published last, cleared first
	slots unsafe.Pointer
}

// Shard returns the shard of the P whose token that is, or nil if it has none. In a section.
func (v *View) Shard(token int) *shard.Shard {
	if uint32(token) >= v.n.Load() {
		return nil
	}
	return (*slot)(unsafe.Add(atomic.LoadPointer(&v.slots), uintptr(token)*unsafe.Sizeof(slot{}))).Load()
}

type slot struct{ atomic.Pointer[shard.Shard] }

// Heap is the shard of a Heap, nil when it was released, and the life that it belongs to.
type Heap struct {
	*shard.Shard
	Life *Life
}

// Life is one life of an allocator.
type Life struct {
	Arenas *arena.Set
	Huge   *huge.Set
	Budget arena.Budget

	conf   Config
	id     uint32
	mode   uint64 // of its shards
	closed atomic.Bool
	slots  []slot
	under  [spread]counter // slow paths under way

	classes [sizeclass.Count]class
	strange atomic.Uint64 // pools set aside because something about them was impossible
	doubles atomic.Uint64 // double frees that were found when the block came to its pool
	lost    atomic.Uint64 // blocks that were found written to after they were freed

	reclaims reclaims
	armed    atomic.Bool // the janitor is to come
	due      time.Time   // when, see janitor.go
	dueAt    int         // its place in the janitor's heap, or -1

	trimming sync.Mutex      // one trim, tick, check or close at a time
	waiting  atomic.Int32    // arenas in the two lists that follow
	retired  []arena.Retired // no grace period has begun for them
	left     []arena.Retired // theirs is under way: see grace
	found    []*shard.Shard  // of a portion
	mu       sync.Mutex      // guards what follows, and the filling of slots
	shards   []*shard.Shard
	taken    bool // Close has the list
	nextID   uint32
	ids      []uint32 // that may be given again
}

// class is the usedpools of a size class, in a cache line of its own: two stacks, of which a
// sweep moves what stays from the front to the back, see sweep.
type class struct {
	stacks   [2]tagstack.Stack
	front    atomic.Uint32  // pops and pushes go to this one; pops go to the other when it is empty
	empties  atomic.Int32   // empty pools on the stacks, about
	pools    atomic.Int32   // on the stacks after the last sweep
	sweeping atomic.Uint32  // held by whoever does a step of a sweep
	wanted   atomic.Bool    // a sweep is under way, or is to begin
	seen     int32          // pools that the sweep has looked at; guarded by sweeping
	leave    int32          // empty pools that it is to leave
	broken   atomic.Uintptr // address of a block that is still to be told of, see keepBroken
	_        [64 - 40 - 2*unsafe.Sizeof(uintptr(0))]byte
}

// spread is the number of counters of slow paths, so that goroutines rarely share one.
const spread = 16

// counter counts slow paths: those under way in the low half, those that have begun in the
// high one.
type counter struct {
	n atomic.Uint64
	_ [56]byte
}

// begin counts a slow path as under way, and reports whether the life goes on: if so, it
// does until end. The counter is incremented before closed is read.
func (l *Life) begin() (*counter, bool) {
	var here byte
	i := uintptr(unsafe.Pointer(&here)) >> 12 % spread
	n := &l.under[i]
	n.n.Add(1<<32 + 1)
	if l.closed.Load() {
		n.end()
		return nil, false
	}
	return n, true
}

func (n *counter) end() { n.n.Add(^uint64(0)) }

// ways returns how many slow paths are under way, and how many have begun. Once none is under
// way and closed is set, none will be.
func (l *Life) ways() (now, begun uint64) {
	for i := range l.under {
		n := l.under[i].n.Load()
		now += n & (1<<32 - 1)
		begun += n >> 32
	}
	return now, begun
}

// ids are the ids of lives. They come round after a long while only, so that pointers into
// a closed allocator are not taken for another's.
var ids struct {
	sync.Mutex
	last uint32
	used map[uint32]struct{}
}

func takeID() uint32 {
	ids.Lock()
	defer ids.Unlock()
	if ids.used == nil {
		ids.used = map[uint32]struct{}{0: {}}
	}
	for used := true; used; {
		ids.last = (ids.last + 1) & (1<<24 - 1)
		_, used = ids.used[ids.last]
	}
	ids.used[ids.last] = struct{}{}
	return ids.last
}

// giveID gives an id back. No header has it any more, and a section that saw one that had is over
// long before the id comes round.
func giveID(id uint32) {
	ids.Lock()
	defer ids.Unlock()
	delete(ids.used, id)
}

// Open begins a life of the allocator whose fast path reads v, or nobody's if v is nil.
func Open(conf Config, v *View) *Life {
	l := &Life{conf: conf, id: takeID(), dueAt: -1}
	l.Budget.Limit = conf.LimitBytes
	l.Arenas = arena.NewSet(conf.Geometry, l.id, &l.Budget)
	l.Arenas.NoDump = conf.Wipe
	l.Huge = huge.NewSet(l.Arenas, &l.Budget, l.id, huge.Config{
		RetainBytes: conf.RetainBytes, Keep: conf.Keep, Wipe: conf.Wipe, Guard: conf.Geometry.Hardened(),
	})
	if conf.Geometry.Tail > 0 {
		l.mode |= shard.Canaries
	}
	if conf.Wipe {
		l.mode |= shard.Wipes
	}
	if v != nil {
		l.slots = make([]slot, min(max(leastSlots(), pin.Slots()), pin.MaxPs))
		atomic.StorePointer(&v.slots, unsafe.Pointer(&l.slots[0]))
		v.n.Store(uint32(len(l.slots)))
	}
	return l
}

// ID returns the id of the life, which the words of its headers bear.
func (l *Life) ID() uint32 { return l.id }

// Tail returns the bytes of a block of a size class that are not the caller's.
func (l *Life) Tail() int { return l.conf.Geometry.Tail }

// newShard returns an empty shard, entered in the list, for the P with that slot, or for a
// Heap where it is -1. It returns nil if there is no memory.
func (l *Life) newShard(slot int32) (*shard.Shard, error) {
	p, err := metaAlloc(int(unsafe.Sizeof(shard.Shard{})))
	if err != nil {
		return nil, err
	}
	s := (*shard.Shard)(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	var id uint32
	switch n := len(l.ids); {
	case l.closed.Load():
		metaFree(p)
		return nil, arena.ErrClosed
	case slot >= 0 && l.slots[slot].Load() != nil: // another was faster
		metaFree(p)
		return l.slots[slot].Load(), nil
	case n > 0:
		id, l.ids = l.ids[n-1], l.ids[:n-1]
	case l.nextID == MaxShards:
		metaFree(p)
		return nil, ErrTooManyHeaps
	default:
		l.nextID++
		id = l.nextID
	}
	s.Init(l.id, id, slot, l.mode, rand.Uint64())
	s.Position = int32(len(l.shards))
	l.shards = append(l.shards, s)
	if slot >= 0 {
		l.slots[slot].Store(s) // with the list, so that Close finds both or neither
	}
	return s, nil
}

// forget takes a shard off the list, and reports whether it could: when Close has taken the
// list, the shard is Close's.
func (l *Life) forget(s *shard.Shard) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken {
		return false
	}
	last := len(l.shards) - 1
	moved := l.shards[last]
	l.shards[s.Position] = moved
	moved.Position = s.Position
	l.shards[last] = nil
	l.shards = l.shards[:last]
	l.ids = append(l.ids, s.ID())
	return true
}

// install gives the P whose token that was a shard, if there is memory for one.
func (l *Life) install(token int) {
	if uint(token) >= uint(len(l.slots)) || l.slots[token].Load() != nil {
		return
	}
	_, _ = l.newShard(int32(token)) // it works without
}

// NewHeap returns a heap.
func (l *Life) NewHeap() (Heap, error) {
	n, ok := l.begin()
	if !ok {
		return Heap{}, arena.ErrClosed
	}
	defer n.end()
	s, err := l.newShard(-1)
	return Heap{s, l}, err
}

// Release gives the shard of a heap back. The heap's goroutine does not use it any more.
func (l *Life) Release(s *shard.Shard) {
	if n, ok := l.begin(); ok {
		defer n.end()
		if l.forget(s) {
			if s.Claim.CompareAndSwap(shard.Free, shard.Taken) || !s.Claim.CompareAndSwap(shard.Taken, shard.Released) {
				l.bury(s)
				l.arm()
			}
			return
		}
	}
	// Close has the shard, or has had it. Whoever comes second frees the memory.
	if !s.Claim.CompareAndSwap(shard.Free, shard.Released) {
		metaFree(unsafe.Pointer(s))
	}
}

// bury frees a shard that nobody else has.
func (l *Life) bury(s *shard.Shard) {
	l.drain(s)
	metaFree(unsafe.Pointer(s))
}

// HeapCount returns the number of heaps that were not released. It is for tests.
func (l *Life) HeapCount() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shards {
		if s.Slot < 0 {
			n++
		}
	}
	return n
}

// enter begins a section of the heap, or of the P if hp is nil. The shard may be nil.
func (l *Life) enter(hp *Heap) (s *shard.Shard, token int) {
	if hp != nil {
		hp.Begin()
		return hp.Shard, -1
	}
	token = pin.Enter()
	if uint(token) < uint(len(l.slots)) {
		s = l.slots[token].Load()
	}
	return s, token
}

// leave ends the section.
func (l *Life) leave(hp *Heap, token int) {
	if hp != nil {
		hp.End()
	} else {
		pin.Exit(token)
	}
}

// usable reports whether a section may touch the magazines of s.
func usable(s *shard.Shard) bool {
	return s != nil && s.State.Load()&(shard.Claimed|shard.Closed) == 0
}

// Close ends the life: no call reaches it any more when Close returns. Its pages are another's, or
// unmapped, soon after: see bury. v is what Open was told.
func (l *Life) Close(v *View) {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	before := dug()
	if open, waited := l.shut(v); open {
		bury(l, slices.Concat(l.left, l.retired, l.Arenas.Close()), l.Huge.Shut())
		if waited {
			unearth(before, 2)
		}
	}
}

// Drop is for a life that nobody can call any more, and that was not closed: it gives back all
// but the arenas and mappings that hold live blocks, for the program may have their addresses.
func (l *Life) Drop() {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	_ = l.trim(true) // what is refused is what is left
	if open, _ := l.shut(nil); !open {
		return
	}
	if left := l.Budget.Mapped(); left > 0 {
		drops.Add(1)
		droppedBytes.Add(left)
		return
	}
	bury(l, slices.Concat(l.left, l.retired, l.Arenas.Close()), l.Huge.Shut())
}

var drops, droppedBytes atomic.Uint64

// Dropped returns how many lives were dropped with live blocks, and the bytes that these hold
// mapped.
func Dropped() (lives, bytes uint64) { return drops.Load(), droppedBytes.Load() }

// shut sees to it that no call reaches the life any more, and reports whether it was open, and
// whether it had to wait for a grace period. What its magazines hold is lost to its pools. The
// caller holds trimming.
func (l *Life) shut(v *View) (open, waited bool) {
	if l.closed.Swap(true) {
		return false, false
	}
	if v != nil {
		v.n.Store(0)
	}
	l.disarm()
	l.mu.Lock()
	all := l.shards
	l.shards, l.taken = nil, true
	l.mu.Unlock()
	hidden := l.hide(all)
	for _, s := range all {
		s.State.Or(shard.Closed)
	}
	for i := range l.slots {
		l.slots[i].Store(nil) // for callers that have found the life and come late
	}
	if waited = !hidden; waited {
		pin.Wait()
		for _, s := range all {
			s.Await()
		}
	}
	for n := 0; ; n++ {
		if now, _ := l.ways(); now == 0 {
			break
		}
		pin.Yield(n)
	}
	for _, s := range all {
		for c := range uint8(sizeclass.Count) {
			if old := s.Remove(c); old != 0 {
				metaFreeAt(old)
			}
		}
		if s.Slot >= 0 || !s.Claim.CompareAndSwap(shard.Free, shard.Dead) {
			metaFree(unsafe.Pointer(s))
		}
	}
	return true, waited
}

// hide hides a life whose only shard, if there is one, is that of the P that the caller is on, and
// reports whether it is one. Slots are filled with the list, under its lock, and the list is
// closed: so no other P has a way to a shard of the life, and no section has to be waited for. A
// section that has read the number of slots, and reads the slots of the allocator's next life,
// finds as many there: hence the least number. Else each Close would be a barrier on every
// processor, which a program feels that closes an allocator for each request.
func (l *Life) hide(all []*shard.Shard) bool {
	if len(l.slots) != leastSlots() || len(all) > 1 || len(all) == 1 && all[0].Slot < 0 {
		return false
	}
	token := pin.Enter()
	here := len(all) == 0 || int(all[0].Slot) == token
	if here && len(all) == 1 {
		l.slots[token].Store(nil)
	}
	pin.Exit(token)
	return here
}

// leastSlots is how many every life has.
func leastSlots() int { return min(max(64, 2*runtime.NumCPU()), pin.MaxPs) }
