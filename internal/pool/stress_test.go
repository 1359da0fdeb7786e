package pool_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// block is what a holder of a block writes to it.
type block struct {
	link   uint64 // the pool's while the block is free
	holder uint64 // 0 while nobody's
}

// list is a list of pools that passes them between goroutines.
type list struct {
	mu    sync.Mutex
	pools []*pool.Header
}

func (l *list) push(h *pool.Header) {
	l.mu.Lock()
	l.pools = append(l.pools, h)
	l.mu.Unlock()
}

func (l *list) pop() (h *pool.Header) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.pools); n > 0 {
		h, l.pools = l.pools[n-1], l.pools[:n-1]
	}
	return h
}

// world is a few shards that share an arena, and slots through which blocks go
// from one to another.
type world struct {
	*testing.T
	arena        *fake
	class        uint8
	empty        list // Free
	shared       list // Shared
	shards       []*shard
	slots        []atomic.Pointer[block] // as many as two thirds of the blocks
	failed       atomic.Bool
	adopted      atomic.Int64
	posted       atomic.Int64
	remoteFrees  atomic.Int64
	retiredTimes atomic.Int64
}

// fail reports the first failure.
func (w *world) fail(format string, args ...any) {
	if !w.failed.Swap(true) {
		w.Errorf(format, args...)
	}
}

// shard is the owner of some pools, used by one goroutine.
type shard struct {
	*world
	id    uint32
	rng   *rand.Rand
	used  []*pool.Header // they may have blocks to hand out
	full  map[*pool.Header]bool
	inbox list
}

// alloc takes a block from a pool of the shard's, or one that it gets.
func (s *shard) alloc() *block {
	for !s.failed.Load() {
		if len(s.used) == 0 && !s.provide() {
			return nil
		}
		h := s.used[len(s.used)-1]
		if p := h.Pop(); p != nil {
			pool.Unseal(p)
			b := (*block)(p)
			if b.holder != 0 {
				s.fail("block %p was handed out to %d, and %d has it", p, s.id, b.holder)
			}
			b.holder = uint64(s.id)
			return b
		}
		ok, broken := h.Refill(0)
		if broken != nil {
			s.fail("a link at %p is broken", broken)
		}
		if !ok && h.Fill() {
			s.used = s.used[:len(s.used)-1]
			if s.rng.IntN(2) == 0 && h.Abandon() {
				continue
			}
			h.SetTrip(h.Live() - 1)
			s.full[h] = true
		}
	}
	return nil
}

// provide gets the shard a pool: one with notice, a shared one, or an empty one.
func (s *shard) provide() bool {
	s.drainInbox()
	if len(s.used) > 0 {
		return true
	}
	if h := s.shared.pop(); h != nil {
		h.Take(s.id)
		s.used = append(s.used, h)
		return true
	}
	if h := s.empty.pop(); h != nil {
		h.Format(s.class, &s.arena.shapes[s.class])
		h.Own(s.id)
		h.SetTrip(pool.Never)
		s.used = append(s.used, h)
		return true
	}
	return false
}

func (s *shard) drainInbox() {
	for h := s.inbox.pop(); h != nil; h = s.inbox.pop() {
		h.Unpost()
		if s.full[h] {
			s.refurbish(h)
		}
	}
}

// refurbish takes a pool that was full back into use.
func (s *shard) refurbish(h *pool.Header) {
	delete(s.full, h)
	h.SetTrip(pool.Never)
	s.used = append(s.used, h)
}

func (s *shard) free(b *block) {
	p := unsafe.Pointer(b)
	if b.holder == 0 {
		s.fail("block %p came to %d to free, and is nobody's", p, s.id)
	}
	b.holder = 0
	h := s.arena.headerOf(p)
	if state := h.StateOf(p); state != pool.InUse {
		s.fail("block %p, in use, has state %d", p, state)
		return
	}
	if h.Owner() == s.id {
		if h.Push(h.Index(p)) && s.full[h] {
			s.refurbish(h)
		}
		return
	}
	s.remoteFrees.Add(1)
	switch did, number, owner := h.PushRemote(p, s.id, true, false); did {
	case pool.Pushed:
	case pool.Post:
		s.posted.Add(1)
		s.shards[owner-pool.FirstShard].inbox.push(s.arena.header(int(number - 1000)))
	case pool.Adopted:
		s.adopted.Add(1)
		h.SetTrip(pool.Never)
		s.used = append(s.used, h)
	default:
		s.fail("a remote free had outcome %d", did)
	}
}

// tidy gives one of the shard's pools away, if it can.
func (s *shard) tidy() {
	s.drainInbox()
	if len(s.used) == 0 {
		return
	}
	i := s.rng.IntN(len(s.used))
	h := s.used[i]
	switch {
	case h.Retire(0):
		s.retiredTimes.Add(1)
		s.empty.push(h)
	case s.rng.IntN(4) == 0 && h.Share():
		s.shared.push(h)
	default:
		return
	}
	s.used = append(s.used[:i], s.used[i+1:]...)
}

func (s *shard) work(steps int) {
	for n := range steps {
		if s.failed.Load() {
			return
		}
		slot := &s.slots[s.rng.IntN(len(s.slots))]
		var b *block
		if s.rng.IntN(8) < 5 {
			b = s.alloc()
		}
		if b = slot.Swap(b); b != nil {
			s.free(b)
		}
		if s.rng.IntN(16) == 0 {
			s.tidy()
		}
		if n%64 == 0 {
			runtime.Gosched()
		}
	}
}

// TestStress: several shards pass blocks to each other and pools too. No block has
// two holders, none is lost, and in the end every pool can be retired.
func TestStress(t *testing.T) {
	steps := 30_000
	if testing.Short() {
		steps = 5_000
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	var adopted, posted int64
	for _, size := range []int{64, 256, 512, 1024} {
		w := &world{T: t, arena: newFake(t, 4<<10, 60), class: sizeclass.Of(size)}
		units := int(w.arena.shapes[w.class].Units)
		w.slots = make([]atomic.Pointer[block], 8*w.arena.shapes[w.class].Blocks)
		var all []*pool.Header
		for n := range 12 {
			h := w.arena.place(w.arena.headerUnits+n*units, units, true)
			all = append(all, h)
			w.empty.push(h)
		}
		for i := range 4 {
			w.shards = append(w.shards, &shard{
				world: w, id: uint32(pool.FirstShard + i),
				rng: rand.New(rand.NewPCG(uint64(i), uint64(size))), full: map[*pool.Header]bool{},
			})
		}
		var wg sync.WaitGroup
		for _, s := range w.shards {
			wg.Go(func() { s.work(steps) })
		}
		wg.Wait()
		if w.failed.Load() {
			return
		}

		for i := range w.slots {
			if b := w.slots[i].Swap(nil); b != nil {
				w.shards[i%4].free(b)
			}
		}
		for _, s := range w.shards {
			s.drainInbox()
		}
		for _, h := range all {
			if n := h.InUse(); n != 0 {
				t.Errorf("pool %d, of %d: %d blocks are in use", h.Number(), h.Owner(), n)
			}
			switch h.Owner() {
			case pool.Free:
				continue
			case pool.Abandoned:
				t.Errorf("pool %d is still abandoned, with %d blocks on its remote list", h.Number(), h.Word().Len())
			case pool.Shared:
				h.Take(me)
			}
			if !h.Retire(0) {
				t.Errorf("pool %d, of %d, post %d: not retired", h.Number(), h.Owner(), h.Word().Post())
			}
		}
		t.Logf("%d bytes: %d remote frees, %d posted, %d adopted, %d retired",
			size, w.remoteFrees.Load(), w.posted.Load(), w.adopted.Load(), w.retiredTimes.Load())
		adopted += w.adopted.Load()
		posted += w.posted.Load()
	}
	if adopted == 0 || posted == 0 {
		t.Errorf("%d posted, %d adopted: the test does not test", posted, adopted)
	}
}
