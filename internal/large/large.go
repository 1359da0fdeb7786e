// Package large serves requests above the largest size class: runs of units
// inside an arena up to half an arena, and above that huge mappings of their own.
//
// Of a huge mapping only the step in which it begins is in the arena map. It begins
// at a multiple of a step, or, once it was moved, at some page; and it takes at least
// a step of addresses, so that no two begin in one. Its size stands in a table of the
// process outside the mapping, so a bad free touches no page of it, and [Usable] needs
// no allocator. Mappings that are freed are retained for a while, up to the
// allocator's RetainBytes, and given to requests of a similar size; a retained
// mapping is in the table still, marked free, so that freeing it twice is
// recognised.
//
// Any goroutine may call everything here; nothing may be called while pinned.
package large

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addrmap"
	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/osmem"
)

// mapping is what the table knows of a huge mapping.
type mapping struct {
	size  int    // bytes, whole pages
	owner uint32 // id of the allocator
	free  bool   // retained
}

// table has all huge mappings of the process, by address.
var table = struct {
	sync.RWMutex
	at map[uintptr]mapping
}{at: map[uintptr]mapping{}}

func lookup(p unsafe.Pointer) (mapping, bool) {
	table.RLock()
	defer table.RUnlock()
	m, ok := table.at[uintptr(p)]
	return m, ok
}

func enter(p unsafe.Pointer, m mapping) {
	table.Lock()
	table.at[uintptr(p)] = m
	table.Unlock()
}

func remove(p unsafe.Pointer) {
	table.Lock()
	delete(table.at, uintptr(p))
	table.Unlock()
}

// Usable returns the size in bytes of the live huge mapping at p, of any
// allocator, or 0 and what a free would find.
func Usable(p unsafe.Pointer) (size int, otherwise Verdict) {
	m, ok := lookup(p)
	switch {
	case !ok:
		return 0, NotOurs
	case m.free:
		return 0, Double
	}
	return m.size, Freed
}

// retainedMapping is a free mapping that is kept for the next request.
type retainedMapping struct {
	p     unsafe.Pointer
	size  int
	since uint32 // the tick of its release
}

// Set is the large blocks of one allocator.
type Set struct {
	arenas *arena.Set
	budget *arena.Budget
	id     uint32
	entry  addrmap.Entry

	conf  Config
	guard int // inaccessible bytes behind every mapping

	mu       sync.Mutex
	live     map[unsafe.Pointer]int // huge mappings, their sizes in bytes
	retained []retainedMapping      // oldest first
	closed   bool
	ticks    uint32

	totals Totals

	Refusals atomic.Uint64 // unmappings that the system refused
}

// Totals are the huge mappings of an allocator at one moment.
type Totals struct {
	Blocks   int    // live
	Bytes    uint64 // in them
	Retained uint64 // bytes in free mappings
	Guards   uint64 // bytes of guard pages behind either
}

// Totals returns the totals.
func (s *Set) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.totals
	t.Guards = uint64(s.guard * (len(s.live) + len(s.retained)))
	return t
}

// Config is what a set is made with.
type Config struct {
	RetainBytes uint64 // the most in free mappings that are kept for reuse
	Keep        bool   // keep the addresses of mappings given back, for later ones
	Wipe        bool   // drop a mapping's contents when it is freed, and keep them out of core dumps
	Guard       bool   // put an inaccessible page behind every mapping
}

// NewSet returns the large blocks of the allocator id, with runs taken from
// arenas.
func NewSet(arenas *arena.Set, budget *arena.Budget, id uint32, conf Config) *Set {
	s := &Set{
		arenas: arenas, budget: budget, id: id, conf: conf,
		entry: addrmap.MakeEntry(addrmap.Huge, 0, id),
		live:  map[unsafe.Pointer]int{},
	}
	if conf.Guard {
		s.guard = osmem.PageSize()
	}
	return s
}

// Alloc returns a block of at least size bytes at a multiple of align, a power
// of two, and whether it is known to be zero.
func (s *Set) Alloc(size, align int) (p unsafe.Pointer, zero bool, err error) {
	tail := s.arenas.Tail
	if size+tail > s.arenas.RunMax() || align > s.arenas.UnitBytes {
		return s.allocHuge(size, align)
	}
	unit := s.arenas.UnitBytes
	usable := roundUp(size+tail, min(osmem.PageSize(), unit)) - tail
	return s.arenas.TakeRun((usable+tail+unit-1)/unit, uintptr(usable))
}

// allocHuge returns a mapping of its own.
func (s *Set) allocHuge(size, align int) (p unsafe.Pointer, zero bool, err error) {
	size = roundUp(size, osmem.PageSize())
	if p, size := s.reuse(size, align); p != nil {
		return p, false, s.admit(p, size)
	}
	align = max(align, addrmap.StepBytes)
	err = s.budget.Take(uint64(size+s.guard), func() (err error) {
		p, err = arena.MapRange(s.extent(size), align)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if s.conf.Wipe {
		_ = osmem.Advise(p, size, osmem.DontDump) // not all systems know it
	}
	if s.guard > 0 {
		err = osmem.Protect(unsafe.Add(p, size), s.extent(size)-size, osmem.NoAccess)
	}
	if err == nil {
		err = addrmap.Set(uintptr(p), 1, s.entry)
	}
	if err != nil { // it may have no guard: it is not for reuse
		if arena.UnmapRange(p, s.extent(size), s.conf.Keep) != nil {
			s.Refusals.Add(1)
			arena.Orphan(p, s.extent(size), s.conf.Keep)
		}
		s.budget.Give(uint64(size + s.guard))
		return nil, false, err
	}
	return p, true, s.admit(p, size)
}

// admit makes the mapping a live block.
func (s *Set) admit(p unsafe.Pointer, size int) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = s.unmap([]retainedMapping{{p: p, size: size}})
		return arena.ErrClosed
	}
	s.live[p] = size
	enter(p, mapping{size: size, owner: s.id})
	s.totals.Blocks++
	s.totals.Bytes += uint64(size)
	s.mu.Unlock()
	return nil
}

// reuse takes the retained mapping that fits best, wasting at most an eighth.
func (s *Set) reuse(size, align int) (unsafe.Pointer, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := s.fit(size, align)
	if best < 0 {
		return nil, 0
	}
	r := s.retained[best]
	s.retained = append(s.retained[:best], s.retained[best+1:]...)
	s.totals.Retained -= uint64(r.size)
	return r.p, r.size
}

// fit returns the number of the retained mapping that fits best, or -1. The caller
// holds mu.
func (s *Set) fit(size, align int) int {
	best := -1
	for i, r := range s.retained {
		if r.size >= size && r.size <= size+size/8 && uintptr(r.p)&uintptr(align-1) == 0 &&
			(best < 0 || r.size < s.retained[best].size) {
			best = i
		}
	}
	return best
}

// Verdict says what Free found.
type Verdict uint8

// The verdicts of Free.
const (
	Freed  Verdict = iota
	Double         // the mapping is free already
	NotOurs
)

// FreeHuge frees the huge block at p.
func (s *Set) FreeHuge(p unsafe.Pointer) Verdict {
	s.mu.Lock()
	size, ok := s.live[p]
	if !ok {
		s.mu.Unlock()
		if m, ok := lookup(p); ok && m.free && m.owner == s.id {
			return Double
		}
		return NotOurs
	}
	delete(s.live, p)
	if s.conf.Wipe {
		s.wipe(p, size)
	}
	s.totals.Blocks--
	s.totals.Bytes -= uint64(size)
	enter(p, mapping{size: size, owner: s.id, free: true})
	s.retained = append(s.retained, retainedMapping{p, size, s.ticks})
	s.totals.Retained += uint64(size)
	var out []retainedMapping
	for s.totals.Retained > s.conf.RetainBytes {
		out = append(out, s.popOldest())
	}
	s.mu.Unlock()
	_ = s.unmap(out)
	return Freed
}

// wipe drops the pages of a mapping, or clears it where the system refuses.
func (s *Set) wipe(p unsafe.Pointer, size int) {
	if osmem.Advise(p, size, osmem.DontNeed) != nil {
		clear(unsafe.Slice((*byte)(p), size))
	}
}

func (s *Set) popOldest() retainedMapping {
	r := s.retained[0]
	s.retained = s.retained[1:]
	s.totals.Retained -= uint64(r.size)
	return r
}

// unmap gives free mappings back to the system. What it refuses is retained,
// its pages dropped, and tried again; the first refusal is returned.
func (s *Set) unmap(out []retainedMapping) (first error) {
	for _, r := range out {
		addrmap.Clear(uintptr(r.p), 1)
		remove(r.p)
		if err := s.drop(r.p, r.size); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// drop unmaps memory that is in no table.
func (s *Set) drop(p unsafe.Pointer, size int) error {
	err := arena.UnmapRange(p, s.extent(size), s.conf.Keep)
	if err == nil {
		s.budget.Give(uint64(size + s.guard))
		return nil
	}
	s.Refusals.Add(1)
	_ = osmem.Advise(p, size, osmem.DontNeed) // it will be tried again anyway
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || addrmap.Set(uintptr(p), 1, s.entry) != nil {
		s.budget.Give(uint64(size + s.guard))
		arena.Orphan(p, s.extent(size), s.conf.Keep)
		return err
	}
	enter(p, mapping{size: size, owner: s.id, free: true})
	s.retained = append(s.retained, retainedMapping{p, size, s.ticks})
	s.totals.Retained += uint64(size)
	return err
}

// Resize gives the huge block at p another size without copying it, and returns where
// it is then, or nil if it could not. The caller holds the block. It stays in place if
// there is room behind it. If not, and no free mapping would do, it is moved with its
// pages: what has been touched need not be touched again. Nothing is done that would
// give back addresses that are to be kept.
func (s *Set) Resize(p unsafe.Pointer, size int) unsafe.Pointer {
	size = roundUp(size, osmem.PageSize())
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.live[p]
	keep := s.conf.Keep || arena.IsKept(p)
	if !ok || s.closed || s.guard > 0 || keep && size < old {
		return nil
	}
	q := p
	resize := func() error {
		err := osmem.Grow(p, s.extent(old), s.extent(size))
		if err != nil && size > old && !keep && !errors.Is(err, errors.ErrUnsupported) && s.fit(size, 1) < 0 {
			q, err = s.move(p, old, size)
		}
		return err
	}
	if size > old {
		if s.budget.Take(uint64(size-old), resize) != nil {
			return nil
		}
	} else {
		if resize() != nil {
			return nil
		}
		s.budget.Give(uint64(old - size))
	}
	delete(s.live, p)
	s.live[q] = size
	s.totals.Bytes += uint64(size) - uint64(old)
	enter(q, mapping{size: size, owner: s.id})
	return q
}

// moving is held by the one move at a time, for the spare leaf of the arena map.
var moving sync.Mutex

// move moves a huge mapping to where there is room for size bytes. The caller holds
// mu. Where it is at each moment:
//
//	live at p     in the map, in the table, in live
//	on its way    in live alone. With the last of its pages p is the system's, which
//	              may give it to others at once: so the map must have forgotten it.
//	live at q     in the map; in the table and in live when the caller has seen to it
//	or at p       if the system refuses: as it was
//
// The system moves all pages or none. Nothing may be refused once it has: if q needs
// a new leaf of the map, that is there already.
func (s *Set) move(p unsafe.Pointer, old, size int) (unsafe.Pointer, error) {
	moving.Lock()
	defer moving.Unlock()
	if err := addrmap.Prepare(); err != nil {
		return nil, err
	}
	addrmap.Clear(uintptr(p), 1)
	remove(p)
	q, err := osmem.Remap(p, s.extent(old), s.extent(size))
	if err != nil {
		enter(p, mapping{size: old, owner: s.id})
		q = p
	}
	addrmap.SetPrepared(uintptr(q), s.entry)
	return q, err
}

// Tick ends a tick and gives back what has been free for age ticks.
func (s *Set) Tick(age uint32) error {
	s.mu.Lock()
	s.ticks++
	var out []retainedMapping
	for len(s.retained) > 0 && s.ticks-s.retained[0].since >= age {
		out = append(out, s.popOldest())
	}
	s.mu.Unlock()
	return s.unmap(out)
}

// HasFree reports whether mappings are retained.
func (s *Set) HasFree() bool { return s.Totals().Retained != 0 }

// Close gives back all mappings, live ones too. From now on Alloc of a huge
// block fails.
func (s *Set) Close() error {
	s.mu.Lock()
	s.closed = true
	out := s.retained
	s.retained = nil
	for p, size := range s.live {
		out = append(out, retainedMapping{p: p, size: size})
	}
	s.live = nil
	s.totals = Totals{}
	s.mu.Unlock()
	return s.unmap(out)
}

// extent returns the bytes of addresses that a huge mapping of size bytes takes. What
// is beyond it and the guard page is never touched, and not counted.
func (s *Set) extent(size int) int { return max(size+s.guard, addrmap.StepBytes) }

func roundUp(n, to int) int { return (n + to - 1) &^ (to - 1) }
