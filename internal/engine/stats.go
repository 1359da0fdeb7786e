package engine

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/huge"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/shard"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Stats is a picture of a life: exact while nothing is under way, else each figure is that
// of some moment of the call.
type Stats struct {
	Classes    [sizeclass.Count]ClassStats
	Used       int // pools with allocated blocks and free ones
	Full       int // pools without free ones
	Empty      int // pools without allocated ones
	Runs       int
	RunBytes   uint64 // usable
	RunRest    uint64 // of their units, what is not usable
	Arenas     arena.Census
	Huge       huge.Totals
	UnitBytes  uint64 // of pools that are Empty, or just being made
	Doubles    uint64 // double frees that were found late
	Lost       uint64 // blocks that were found damaged
	UnderWay   int64  // slow paths
	Quantum    uint64 // rests of pools that hold no block
	TailBytes  int
	GuardUnits int
}

// ClassStats is one size class.
type ClassStats struct {
	Pools     int
	Live      int // blocks in use
	Available int // the others, of pools that are not empty
	Empty     int // blocks of empty pools
}

// Stats returns the picture. It looks at every pool, and holds the lock that new pools are
// taken under for an arena at a time. It reads the shards as they are, without a claim.
func (l *Life) Stats() (s Stats) {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	if l.closed.Load() {
		return Stats{}
	}
	var free [sizeclass.Count]int
	s.Arenas = l.Arenas.Visit(func(h *headers.Header) {
		all := uint64(h.Units) * headers.UnitBytes
		switch w := h.Load(); {
		case w.Kind() == headers.Large:
			s.Runs++
			s.RunBytes += min(uint64(h.Usable), all)
			s.RunRest += all - min(uint64(h.Usable), all)
		case w.Kind() != headers.Pool || int(w.Class()) >= len(s.Classes):
			s.UnitBytes += all
		default:
			cs := &s.Classes[w.Class()]
			in := max(min(int(h.Count.Load()), int(h.Blocks)), 0)
			switch {
			case in == int(h.Blocks):
				s.Empty++
				s.UnitBytes += all
				return
			case in == 0:
				s.Full++
			default:
				s.Used++
			}
			cs.Pools++
			cs.Live += int(h.Blocks) - in
			cs.Available += in
			s.Quantum += all - uint64(h.Blocks)*uint64(h.Size)
		}
	})
	arrays := meta()
	arrays.trimming.Lock() // so that what shards point to stays mapped
	l.each(func(sh *shard.Shard) {
		for c := range uint8(sizeclass.Count) {
			free[c] += sh.Of(c).Seem()
		}
	})
	arrays.trimming.Unlock()
	for c := range s.Classes {
		n := min(free[c], s.Classes[c].Live)
		s.Classes[c].Live -= n
		s.Classes[c].Available += n
	}
	s.Huge = l.Huge.Totals()
	s.Doubles, s.Lost = l.doubles.Load(), l.lost.Load()
	now, _ := l.ways()
	s.UnderWay = int64(now)
	return s
}

// Blocks calls f for every live block, with its first eight bytes: exactly, when nothing is
// under way. f must not call the life.
func (l *Life) Blocks(f func(p unsafe.Pointer, first uint64)) {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	if l.closed.Load() {
		return
	}
	l.Arenas.Visit(func(h *headers.Header) {
		switch w := h.Load(); w.Kind() {
		case headers.Pool:
			pool.Each(h, f)
		case headers.Large:
			p := h.First()
			f(p, atomic.LoadUint64((*uint64)(p)))
		}
	})
	l.Huge.Blocks(f)
}

// Check returns the first fault in the life's structure: of arenas, shards and pools. It
// claims the shards and drains them, as Trim does, and gives nothing back to the system.
// While slow paths are under way it says nothing of the pools.
func (l *Life) Check() (err error) {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	if l.closed.Load() {
		return nil
	}
	note := func(e error) {
		if err == nil {
			err = e
		}
	}
	l.claim(func(*shard.Shard) bool { return true }, func(s *shard.Shard) {
		note(l.checkShard(s))
		l.drain(s)
	})
	for c := range uint8(sizeclass.Count) {
		if p := l.tell(c); p != 0 {
			l.classes[c].broken.Store(p) // for a malloc
			note(fmt.Errorf("block %#x, of %d bytes, was written to after it was freed", p, sizeclass.Size(c)))
		}
	}
	note(l.Arenas.Check())
	if err != nil {
		return err
	}
	_, before := l.ways()
	l.Arenas.Visit(func(h *headers.Header) {
		if h.Load().Kind() == headers.Pool {
			note(pool.Check(h))
		}
	})
	if now, begun := l.ways(); now != 0 || begun != before {
		return nil // what was seen may have been on its way
	}
	return err
}

// checkShard returns the first fault of a shard that is claimed.
func (l *Life) checkShard(s *shard.Shard) (err error) {
	for c := range uint8(sizeclass.Count) {
		seen := map[uintptr]bool{}
		s.Each(c, func(p uintptr) {
			h, w := find(p)
			switch {
			case err != nil:
			case !w.Is(l.id, headers.Pool) || w.Class() != c || pool.Index(h, p) >= h.Carved.Load() || seen[p]:
				err = fmt.Errorf("shard %d: block %#x, in a magazine for %d bytes, is none that the shard may have", s.ID(), p, sizeclass.Size(c))
			case !pool.IsSealed(p):
				err = fmt.Errorf("shard %d: block %#x, of %d bytes, was written to after it was freed", s.ID(), p, sizeclass.Size(c))
			}
			seen[p] = true
		})
	}
	return err
}
