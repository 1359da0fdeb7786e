// Package huge serves requests above the largest size class: runs of units inside an
// arena up to half an arena, and above that huge mappings of their own.
//
// Only the unit in which a huge mapping begins has a word in its header. A mapping begins at
// a multiple of a unit, or, once it was moved, at some page; and it takes at least a unit of
// addresses, so that no two begin in one. Its size stands in a table of the process, by
// address, so [Usable] needs no allocator. Mappings that are freed are retained for a while,
// up to the allocator's RetainBytes, and given to requests of a similar size; a retained
// mapping is in both tables still, marked free, so that freeing it twice is recognised.
//
// # Blocks that grow
//
// A program that grows one block again and again, a list or a buffer, and frees it,
// finds pages that were touched before. A huge block is the front of its mapping. What
// comes after it is its spare: retained, and for this block to grow into.
//
//	             Alloc of a similar size: all of it
//	retained  ------------------------------------->  block
//	mapping   <-------------------------------------
//	                         free
//	             growth of another block, by a copy
//	          ------------------------------------->  block | spare
//	          <-------------------------------------
//	               free, with the spare
//
//	block | spare   --- growth: the system is not asked --->  larger block | spare
//	block | spare   --- growth beyond it, Resize ---------->  block
//	block           --- it shrinks ------------------------>  block | spare
//	block | spare   --- Tick, or beyond RetainBytes ------->  block, its spare unmapped
//
// A block has one spare at most, which begins where the block ends, a unit or more from
// where the mapping begins. No other request gets it. It is in neither table; it is in the
// list of what is retained, and goes back as free mappings do. While it is on its way back,
// out of the list and not unmapped yet, the block cannot grow in place.
//
// To copy a page costs less than to fault one in. A block is copied only into a mapping
// of at least twice its size, so no more often than a vector that doubles is, and not into
// one of more than sixteen times what is asked for, which is left to larger requests.
// There are no spares where a part of a mapping cannot be given back: where its addresses
// are kept, with guards, on Windows.
//
// # Refusals
//
// What the system refuses to unmap, a mapping or a spare, is retained again. It serves
// requests as what else is retained, but only Retry tries to unmap it again:
//
//	retained --- Tick, or beyond RetainBytes ---> refused --- Retry --> refused, or unmapped
//	         ---------------------------------->  unmapped
//
// # Close
//
// Shut makes every later call fail and forgets all mappings; Release unmaps them, after a
// grace period for those that look at pointers of any allocator.
//
// Any goroutine may call everything here, but not in a section.
package huge

import (
	"cmp"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/osmem"
)

// mapping is what the table knows of a huge mapping.
type mapping struct {
	size  int    // bytes, whole pages
	owner uint32 // id of the allocator's life
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
func Usable(p unsafe.Pointer) (size int, otherwise pool.Outcome) {
	m, ok := lookup(p)
	switch {
	case !ok:
		return 0, pool.NotOurs
	case m.free:
		return 0, pool.Double
	}
	return m.size, pool.OK
}

// Retained is a free mapping that is kept for the next request, or a spare.
type Retained struct {
	p       unsafe.Pointer
	size    int
	of      unsafe.Pointer // the block that it is the spare of, or nil
	since   uint32         // the tick of its release
	dropped bool           // its pages: its unmapping was refused
}

// Set is the large blocks of one allocator.
type Set struct {
	arenas *arena.Set
	budget *arena.Budget
	word   headers.Word // of the units in which its mappings begin

	conf  Config
	guard int // inaccessible bytes after every mapping

	mu       sync.Mutex
	live     map[unsafe.Pointer]int // huge mappings, their sizes in bytes
	retained []Retained             // first those whose unmapping was refused; the others oldest first
	refused  int                    // how many were
	closed   bool
	ticks    uint32

	totals Totals

	Refusals atomic.Uint64 // unmappings that the system refused
}

// Totals are the huge mappings of an allocator at one moment.
type Totals struct {
	Blocks   int    // live
	Bytes    uint64 // in them
	Retained uint64 // bytes in free mappings and spares
	Guards   uint64 // bytes of guard pages after either
}

// Totals returns the totals.
func (s *Set) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.totals
	t.Guards = uint64(s.guard * (len(s.live) + len(s.retained)))
	return t
}

// Blocks calls f for every live huge mapping, with its first eight bytes. f must not
// call the set.
func (s *Set) Blocks(f func(p unsafe.Pointer, first uint64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.live {
		f(p, atomic.LoadUint64((*uint64)(p)))
	}
}

// Config is what a set is made with.
type Config struct {
	RetainBytes uint64 // the most in free mappings and spares that are kept for reuse
	Keep        bool   // keep the addresses of mappings given back, for later ones
	Wipe        bool   // drop a mapping's contents when it is freed, and keep them out of core dumps
	Guard       bool   // put an inaccessible page after every mapping
}

// NewSet returns the large blocks of an allocator's life, with runs taken from arenas.
func NewSet(arenas *arena.Set, budget *arena.Budget, life uint32, conf Config) *Set {
	s := &Set{
		arenas: arenas, budget: budget, conf: conf,
		word: headers.MakeWord(life, headers.Large, headers.Huge, 0),
		live: map[unsafe.Pointer]int{},
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
	if size+tail > s.arenas.RunMax() || align > headers.UnitBytes {
		return s.allocHuge(size, align)
	}
	const unit = headers.UnitBytes
	usable := roundUp(size+tail, min(osmem.PageSize(), unit)) - tail
	return s.arenas.TakeRun((usable+tail+unit-1)/unit, uintptr(usable))
}

// allocHuge returns a mapping of its own.
func (s *Set) allocHuge(size, align int) (p unsafe.Pointer, zero bool, err error) {
	size = roundUp(size, osmem.PageSize())
	if p, size := s.reuse(size, align); p != nil {
		return p, false, s.admit(p, size)
	}
	align = max(align, headers.UnitBytes)
	err = s.budget.Take(uint64(size+s.guard), func() (err error) {
		if err = arena.Mappings.Take(s.guards()); err != nil {
			return err
		}
		if p, err = arena.MapRange(s.extent(size), align); err != nil {
			arena.Mappings.Give(s.guards())
		}
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
		err = s.publish(p)
	}
	if err != nil { // it may have no guard: it is not for reuse
		if arena.UnmapRange(p, s.extent(size), s.conf.Keep) != nil {
			s.Refusals.Add(1)
			arena.Orphan(p, s.extent(size), s.conf.Keep)
		}
		s.repay(size)
		return nil, false, err
	}
	return p, true, s.admit(p, size)
}

// admit makes the mapping a live block.
func (s *Set) admit(p unsafe.Pointer, size int) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.unmap([]Retained{{p: p, size: size}})
		return arena.ErrClosed
	}
	s.settle(p, size, size)
	s.mu.Unlock()
	return nil
}

// settle makes a block of the first size bytes of the mapping at p, and its spare of the
// rest of the whole bytes. The caller holds mu.
func (s *Set) settle(p unsafe.Pointer, size, whole int) {
	if size < whole {
		size = min(max(size, headers.UnitBytes), whole)
	}
	s.live[p] = size
	enter(p, mapping{size: size, owner: s.word.Life()})
	s.totals.Blocks++
	s.totals.Bytes += uint64(size)
	if size < whole {
		s.retain(unsafe.Add(p, size), whole-size, p)
	}
}

// unsettle undoes that, and returns the size of the block and of the whole, which is
// in no list then. The caller holds mu.
func (s *Set) unsettle(p unsafe.Pointer) (size, whole int, ok bool) {
	size, ok = s.live[p]
	if !ok {
		return 0, 0, false
	}
	delete(s.live, p)
	s.totals.Blocks--
	s.totals.Bytes -= uint64(size)
	whole = size
	if i := slices.IndexFunc(s.retained, func(r Retained) bool { return r.of == p }); i >= 0 {
		whole += s.take(i).size
	}
	return size, whole, true
}

// reuse takes the retained mapping that fits best, wasting at most an eighth.
func (s *Set) reuse(size, align int) (unsafe.Pointer, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := s.fit(size, size+size/8, align)
	if best < 0 {
		return nil, 0
	}
	r := s.take(best)
	return r.p, r.size
}

// fit returns the number of the smallest retained mapping of at least and at most so many
// bytes, or -1. The caller holds mu.
func (s *Set) fit(least, most, align int) int {
	best := -1
	for i, r := range s.retained {
		if r.of == nil && r.size >= least && r.size <= most && uintptr(r.p)&uintptr(align-1) == 0 &&
			(best < 0 || r.size < s.retained[best].size) {
			best = i
		}
	}
	return best
}

// retain adds a free mapping, or the spare of a block, to what is retained. The caller
// holds mu.
func (s *Set) retain(p unsafe.Pointer, size int, of unsafe.Pointer) {
	s.retained = append(s.retained, Retained{p: p, size: size, of: of, since: s.ticks})
	s.totals.Retained += uint64(size)
}

// take takes number i out of what is retained. The caller holds mu.
func (s *Set) take(i int) Retained {
	r := s.retained[i]
	s.cut(i, i+1)
	return r
}

// cut takes numbers from to to-1 out of what is retained: refused ones, or others. The
// caller holds mu.
func (s *Set) cut(from, to int) {
	for _, r := range s.retained[from:to] {
		s.totals.Retained -= uint64(r.size)
	}
	if from < s.refused {
		s.refused -= to - from
	}
	s.retained = slices.Delete(s.retained, from, to)
}

// oldest moves what has been retained longest, as long as too says, to out, for unmap.
// What was refused before is left to Retry. The caller holds mu.
func (s *Set) oldest(out []Retained, too func(r Retained, left uint64) bool) []Retained {
	n, left := s.refused, s.totals.Retained
	for n < len(s.retained) && too(s.retained[n], left) {
		left -= uint64(s.retained[n].size)
		n++
	}
	out = append(out, s.retained[s.refused:n]...)
	s.cut(s.refused, n)
	return out
}

// excess moves what is beyond RetainBytes to out, for unmap. The caller holds mu.
func (s *Set) excess(out []Retained) []Retained {
	return s.oldest(out, func(_ Retained, left uint64) bool { return left > s.conf.RetainBytes })
}

// FreeHuge frees the huge block at p.
func (s *Set) FreeHuge(p unsafe.Pointer) pool.Outcome {
	s.mu.Lock()
	size, whole, ok := s.unsettle(p)
	if !ok {
		s.mu.Unlock()
		if m, ok := lookup(p); ok && m.free && m.owner == s.word.Life() {
			return pool.Double
		}
		return pool.NotOurs
	}
	if s.conf.Wipe {
		s.wipe(p, size)
	}
	enter(p, mapping{size: whole, owner: s.word.Life(), free: true})
	s.retain(p, whole, nil)
	var few [4]Retained // on the stack
	out := s.excess(few[:0])
	s.mu.Unlock()
	s.unmap(out) // what is refused is counted, and tried again
	return pool.OK
}

// wipe drops the pages of a mapping, or clears it where the system refuses.
func (s *Set) wipe(p unsafe.Pointer, size int) {
	if osmem.Advise(p, size, osmem.DontNeed) != nil {
		clear(unsafe.Slice((*byte)(p), size))
	}
}

// refusal is what the system refused to take, and the cause.
type refusal struct {
	p     unsafe.Pointer
	size  int
	cause error // nil: it refused nothing
}

// errorOf returns the error of a refusal, or nil.
func (s *Set) errorOf(f refusal) error {
	if f.cause == nil {
		return nil
	}
	return arena.Refused(f.p, f.size, s.conf.Keep, f.cause)
}

// unmap gives back to the system what was retained, and returns how many it took. What it
// refuses is retained again, its pages dropped, to be reused or tried again; the first
// refusal is returned. A refusal allocates nothing.
func (s *Set) unmap(out []Retained) (given int, first refusal) {
	for _, r := range out {
		if r.of == nil {
			forget(r.p)
		}
		switch f := s.drop(r); {
		case f.cause == nil:
			given++
		case first.cause == nil:
			first = f
		}
	}
	return given, first
}

// drop unmaps memory that is in no table.
func (s *Set) drop(r Retained) refusal {
	extent := r.size
	var err error
	if r.of == nil {
		extent = s.extent(r.size)
		err = arena.UnmapRange(r.p, extent, s.conf.Keep)
	} else {
		err = osmem.TryRelease(r.p, extent) // a part of a mapping, which is counted still
	}
	if err == nil {
		s.repay(r.size)
		return refusal{}
	}
	s.Refusals.Add(1)
	if !r.dropped {
		_ = osmem.Advise(r.p, r.size, osmem.DontNeed) // it will be tried again anyway
		r.dropped = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.restore(r) {
		s.repay(r.size)
		if r.of != nil {
			arena.Mappings.Give(-1) // it is one of its own from now on
		}
		arena.Orphan(r.p, extent, s.conf.Keep)
	}
	return refusal{r.p, extent, err}
}

// restore retains again what was refused, if it can. The caller holds mu.
func (s *Set) restore(r Retained) bool {
	switch {
	case s.closed:
		return false
	case r.of == nil:
		if s.publish(r.p) != nil {
			return false
		}
		enter(r.p, mapping{size: r.size, owner: s.word.Life(), free: true})
	case unsafe.Add(r.of, s.live[r.of]) != r.p: // the block is gone, or ends elsewhere
		return false
	}
	s.retained = slices.Insert(s.retained, s.refused, r)
	s.refused++
	s.totals.Retained += uint64(r.size)
	return true
}

// Retry tries again to unmap what was refused before: all of it, from the highest address
// down, or the oldest until [arena.Patience] in a row are refused again. The first refusal
// is returned. A free retries nothing, or at the system's limit of mappings each would try
// all that the others could not give back.
func (s *Set) Retry(all bool) error {
	s.mu.Lock()
	if all {
		slices.SortFunc(s.retained[:s.refused], func(a, b Retained) int { return cmp.Compare(uintptr(b.p), uintptr(a.p)) })
	}
	left := s.refused
	s.mu.Unlock()
	var first refusal
	var batch [arena.Patience]Retained
	for given := 1; left > 0 && (all || given > 0); {
		s.mu.Lock()
		n := copy(batch[:], s.retained[:min(left, s.refused)]) // fewer if some were used meanwhile
		s.cut(0, n)
		s.mu.Unlock()
		if n == 0 {
			break
		}
		left -= n
		var f refusal
		if given, f = s.unmap(batch[:n]); first.cause == nil {
			first = f
		}
	}
	return s.errorOf(first)
}

// Resize gives the huge block at p another size, and returns where it is then, or nil if
// it could not. The caller holds the block. It grows into its spare; or it is copied to a
// retained mapping that has room for more; or it grows where it is, if there is room
// after it, or, if no free mapping would do, is moved with its pages: what has been
// touched need not be touched again. Nothing is done that would give back addresses that
// are to be kept.
func (s *Set) Resize(p unsafe.Pointer, size int) unsafe.Pointer {
	if s.guard > 0 {
		return nil
	}
	size = roundUp(size, osmem.PageSize())
	s.mu.Lock()
	old, whole, ok := s.unsettle(p)
	if !ok {
		s.mu.Unlock()
		return nil
	}
	q := p
	switch {
	case size > whole:
		if i := s.roomier(old, size); i >= 0 {
			r := s.take(i)
			s.settle(p, old, whole)
			s.settle(r.p, size, r.size)
			s.mu.Unlock()
			return s.replace(p, old, r.p)
		}
		if q = s.stretch(p, whole, size); q != nil {
			whole = size
		}
	case size < old && !s.divisible(p):
		q = nil
	case size < old && s.conf.Wipe:
		s.wipe(unsafe.Add(p, size), old-size)
	}
	if q == nil {
		s.settle(p, old, whole)
	} else {
		s.settle(q, size, whole)
	}
	var few [4]Retained // on the stack
	out := s.excess(few[:0])
	s.mu.Unlock()
	s.unmap(out)
	return q
}

// divisible reports whether a part of the mapping at p can be given back.
func (s *Set) divisible(p unsafe.Pointer) bool {
	return s.guard == 0 && !s.conf.Keep && runtime.GOOS != "windows" && !arena.IsKept(p)
}

// roomier returns the number of the retained mapping to which a block of old bytes is
// copied to grow to size, or -1. The caller holds mu.
func (s *Set) roomier(old, size int) int {
	if s.conf.Wipe {
		return -1 // its pages are dropped
	}
	i := s.fit(max(size, 2*old), 16*min(size, math.MaxInt/16), 1)
	if i >= 0 && !s.divisible(s.retained[i].p) {
		return -1
	}
	return i
}

// replace copies the first size bytes of the block at p to that at q, and frees it. It
// returns q, or nil, with q free, if somebody else has freed p.
func (s *Set) replace(p unsafe.Pointer, size int, q unsafe.Pointer) unsafe.Pointer {
	copy(unsafe.Slice((*byte)(q), size), unsafe.Slice((*byte)(p), size))
	if s.FreeHuge(p) != pool.OK {
		s.FreeHuge(q)
		return nil
	}
	return q
}

// stretch makes the mapping at p, of whole bytes, size bytes, and returns where it is
// then, or nil. The caller holds mu.
func (s *Set) stretch(p unsafe.Pointer, whole, size int) (q unsafe.Pointer) {
	_ = s.budget.Take(uint64(size-whole), func() error {
		err := osmem.Grow(p, s.extent(whole), s.extent(size))
		if err == nil {
			q = p
			return nil
		}
		if s.conf.Keep || arena.IsKept(p) || errors.Is(err, errors.ErrUnsupported) || s.fit(size, size+size/8, 1) >= 0 {
			return err
		}
		q, err = s.move(p, whole, size)
		return err
	})
	return q
}

// moving is held by the one move at a time, for what headers.Prepare has made.
var moving sync.Mutex

// move moves a huge mapping to where there is room for size bytes, and returns where it
// is then, or nil. The caller holds mu. Where it is at each moment:
//
//	live at p     in both tables
//	on its way    nowhere. With the last of its pages p is the system's, which may give
//	              it to others at once: so the tables must have forgotten it.
//	live at q     in the table of headers; in the other and in live when the caller has
//	              settled it
//	or at p       if the system refuses: the same
//
// The system moves all pages or none. Nothing may be refused once it has: if the header of q
// needs a new leaf, that is there already.
func (s *Set) move(p unsafe.Pointer, whole, size int) (unsafe.Pointer, error) {
	moving.Lock()
	defer moving.Unlock()
	if err := headers.Prepare(); err != nil {
		return nil, err
	}
	forget(p)
	q, err := osmem.Remap(p, s.extent(whole), s.extent(size))
	if err != nil {
		s.show(headers.Lookup(uintptr(p)), p)
		return nil, err
	}
	s.show(headers.GrowPrepared(uintptr(q)), q)
	return q, nil
}

// Tick ends a tick and gives back what has been free for age ticks.
func (s *Set) Tick(age uint32) error {
	s.mu.Lock()
	s.ticks++
	out := s.oldest(nil, func(r Retained, _ uint64) bool { return s.ticks-r.since >= age })
	s.mu.Unlock()
	return s.unmapAll(out)
}

// unmapAll is unmap from the lowest address up, so that the system need not cut what
// adjoins.
func (s *Set) unmapAll(out []Retained) error {
	slices.SortFunc(out, func(a, b Retained) int { return cmp.Compare(uintptr(a.p), uintptr(b.p)) })
	_, first := s.unmap(out)
	return s.errorOf(first)
}

// HasFree reports whether mappings or spares are retained, and whether there are some
// among them that the system has not refused to take.
func (s *Set) HasFree() (some, untried bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.retained) != 0, len(s.retained) > s.refused
}

// Shut ends the set: from now on Alloc of a huge block fails, and no mapping is known any
// more. It returns all, live ones too, for Release.
func (s *Set) Shut() []Retained {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	out := s.retained
	s.retained, s.refused = nil, 0
	for p, size := range s.live {
		out = append(out, Retained{p: p, size: size})
	}
	s.live = nil
	s.totals = Totals{}
	for _, r := range out {
		if r.of == nil {
			forget(r.p)
		}
	}
	return out
}

// Release unmaps what Shut has returned. What the system refuses to take is an orphan; the
// first refusal is returned.
func (s *Set) Release(out []Retained) error { return s.unmapAll(out) }

// publish makes the table of headers know the mapping at p.
func (s *Set) publish(p unsafe.Pointer) error {
	h, err := headers.Grow(uintptr(p), 1)
	if err == nil {
		s.show(h, p)
	}
	return err
}

// show makes h, the header of the unit of p, say that a mapping begins at p.
func (s *Set) show(h *headers.Header, p unsafe.Pointer) {
	h.Start = uintptr(p)
	h.Store(s.word)
}

// forget takes the mapping at p, whose addresses are ours still, out of both tables.
func forget(p unsafe.Pointer) {
	headers.Lookup(uintptr(p)).Store(0)
	remove(p)
}

// extent returns the bytes of addresses that a huge mapping of size bytes takes. What
// is beyond it and the guard page is never touched, and not counted.
func (s *Set) extent(size int) int { return max(size+s.guard, headers.UnitBytes) }

// guards returns how many of the process's mappings the guard page is.
func (s *Set) guards() int { return min(s.guard, 1) }

// repay gives back what a mapping of size bytes, or a spare, was counted for.
func (s *Set) repay(size int) {
	s.budget.Give(uint64(size + s.guard))
	arena.Mappings.Give(s.guards())
}

func roundUp(n, to int) int { return (n + to - 1) &^ (to - 1) }
