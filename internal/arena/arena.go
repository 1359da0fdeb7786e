// Package arena is the set of arenas of one allocator: it maps them, hands out
// their units as pools and large runs, and gives back those that empty.
//
// # Layout
//
//	arena (aligned to its size)
//	+----------------------------------+--------+--------+--------+
//	| pool headers 0 … n-1, of 256 B;  | unit k | unit … | unit   |
//	| in the first k, which no pool    |        |        | n - 1  |
//	| needs: arena header, bitmaps     |        |        |        |
//	+----------------------------------+--------+--------+--------+
//	  the first k units                  pools and runs
//
// The header of unit i stands i × 256 bytes from the arena's start. The first k
// headers are zero where a pool has its ownership word, Free, where it counts the
// blocks that it ever handed out, and where a run has its size, so that a bad free of
// an address in the first k units is known for one.
//
// # Which arena
//
// CPython keeps the arenas that have free pools sorted by their number, remembers
// the last arena of each number (nfp2lasta) and takes pools from the fullest, so
// that the emptiest get a chance to empty. A pool of one unit comes from the
// fullest here too. There is one list per number of free units, and a bitmap of
// the lists that are not empty: the same order, O(1) for a step of any width. An
// arena that has just got to a number goes to the end of that number's list, as
// CPython's does.
//
// Pools and runs of several units need them in a row, and the fullest arena that
// has so many would break up a long row where another has one that just fits. So
// there are lists by the longest row of free units too: several units come from
// the arena whose longest row is the shortest that will do. In an arena all come
// from the shortest row that will do. What survives at random scatters free units
// all the same; taken from the fullest arena, several units found room less and less:
// a server whose live blocks grow to 280 MiB and shrink to a tenth, by random ones,
// had 560 MiB mapped after twenty times, and has 360 this way, after two or twenty
// (`go run -C benchmarks . soak -for 4m -cycle 12s`).
//
// # States of an arena
//
//	            map                 last unit freed
//	unmapped ---------> in use  ---------------------> free (retained)
//	    ^                  ^  <---------------------      |
//	    |                  |        unit taken            | Retire: map entry cleared
//	    |                  |                              v
//	    +--------------------------------------------- retired
//	                  Unmap, after a grace period
//
// An arena whose unmapping the system refuses stays retired, its pages dropped,
// and is used again or tried again (Retry).
//
// # Who may call
//
// Every method takes the set's lock, unless it says otherwise; none may be
// called while pinned. Retire and Unmap have one caller at a time (the
// allocator's trim lock), so that whoever holds that lock may read the header
// of any arena that was mapped when it took it.
package arena

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addrmap"
	"github.com/pyarena/pyarena/internal/invariant"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/osmem"
)

// ErrClosed is returned by a set whose allocator was closed meanwhile.
var ErrClosed = errors.New("arena: allocator closed")

// ErrLimit is returned when a mapping would exceed the limit.
var ErrLimit = errors.New("arena: memory limit reached")

// Header begins an arena. It is touched under the lock.
type Header struct {
	_     uint64   // where a pool has its ownership word: Free
	first uint32   // number of unit 0's pool
	nfree uint32   // free units
	row   uint32   // the most of them in a row
	since uint32   // the tick at which the arena became free
	links [2]links // in the lists of byFree and byRow
	_     [headerBytes - 24 - 4*unsafe.Sizeof(uintptr(0))]byte
	_     [2]uint64 // the first words of the bitmaps
	at    uint32    // its place in the set's all
	_     uint32
}

// headerBytes is where the bitmaps begin in a Header.
const headerBytes = 64

var _ [headerBytes + 24]byte = [unsafe.Sizeof(Header{})]byte{}

// Retired is an arena that is out of the map, to be unmapped after a grace
// period.
type Retired struct {
	base  unsafe.Pointer
	first uint32
	zero  bool // it has no page that was written to
}

// Set is the arenas of one allocator.
type Set struct {
	Geometry
	Shapes [sizeclass.Count]sizeclass.Shape
	Entry  addrmap.Entry // of all its arenas

	// NoDump keeps the arenas out of core dumps where the system can. It is set
	// before the first use.
	NoDump bool

	limit  *Budget
	closed bool

	mu      sync.Mutex
	byFree  index     // arenas by their number of free units
	byRow   index     // the same, by the longest row of those
	all     []*Header // in the map
	used    int       // units of pools and runs
	refused []Retired // their unmapping was refused; their pages are dropped
	retired int       // on their way from Retire through Unmap
	ticks   uint32

	Counts Counts
}

// Counts are running totals, readable by anyone.
type Counts struct {
	Mapped    atomic.Uint64 // arenas mapped
	Unmapped  atomic.Uint64 // arenas unmapped
	HighWater atomic.Uint64 // most arenas at once
	Refusals  atomic.Uint64 // unmappings that the system refused
}

// Budget counts the bytes that an allocator has mapped, against its limit.
type Budget struct {
	Limit  uint64 // 0: none
	taken  atomic.Uint64
	mapped atomic.Uint64 // of those taken: the rest the system is being asked for
	High   atomic.Uint64 // the most that were mapped
}

// Take takes n bytes of the budget, and gives them back if get fails, which maps them.
func (b *Budget) Take(n uint64, get func() error) error {
	for {
		old := b.taken.Load()
		if b.Limit != 0 && old+n > b.Limit {
			return ErrLimit
		}
		if b.taken.CompareAndSwap(old, old+n) {
			break
		}
	}
	if err := get(); err != nil {
		b.taken.Add(-n)
		return err
	}
	now := b.mapped.Add(n)
	for high := b.High.Load(); now > high && !b.High.CompareAndSwap(high, now); high = b.High.Load() {
	}
	return nil
}

// Give returns n bytes, which are not mapped any more.
func (b *Budget) Give(n uint64) {
	b.mapped.Add(-n)
	b.taken.Add(-n)
}

// Mapped returns the bytes that are mapped.
func (b *Budget) Mapped() uint64 { return b.mapped.Load() }

// NewSet returns an empty set. id is the allocator's, for the arena map.
func NewSet(g Geometry, id uint32, limit *Budget) *Set {
	s := &Set{Geometry: g, limit: limit}
	s.Entry = addrmap.MakeEntry(addrmap.Arena, g.Log2Bytes, id)
	s.Shapes = sizeclass.Shapes(g.UnitBytes, g.PoolUnits())
	s.byFree, s.byRow = newIndex(0, g.Units), newIndex(1, g.Units)
	return s
}

// TakePool returns an empty pool for blocks of class c, formatted, Free and in
// the caller's hand.
func (s *Set) TakePool(c uint8) (*pool.Header, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, _, err := s.take(int(s.Shapes[c].Units))
	if err == nil {
		h.Format(c, &s.Shapes[c])
	}
	return h, err
}

// TakeRun returns the block of a large run of units, which has usable bytes, and a tail
// behind them if hardened, and whether they are known to be zero. The block may be gone
// already, with its header, if the allocator is closed.
func (s *Set) TakeRun(units int, usable uintptr) (p unsafe.Pointer, zero bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, zero, err := s.take(units)
	if err != nil {
		return nil, false, err
	}
	h.PlaceRun(usable)
	p = h.Start()
	if s.Tail > 0 {
		pool.SetTail(p, usable)
	}
	return p, zero, nil
}

// take returns a stretch of n free units, and whether it is known to be zero.
func (s *Set) take(n int) (*pool.Header, bool, error) {
	if s.closed {
		return nil, false, ErrClosed
	}
	index := &s.byRow
	if n == 1 {
		index = &s.byFree
	}
	a := index.from(n)
	if a == nil {
		var err error
		if a, err = s.mapArena(); err != nil {
			return nil, false, err
		}
	}
	s.unlink(a)
	var unit int
	unit, a.row = s.fit(a, n)
	clean := s.mark(a, unit, n)
	a.nfree -= uint32(n)
	s.used += n
	s.link(a)
	return s.place(a, unit, n, clean), clean, nil
}

func (s *Set) place(a *Header, unit, n int, clean bool) *pool.Header {
	h := s.headerOf(unsafe.Pointer(a), unit)
	h.Place(a.first+uint32(unit), s.distance(unit), n, clean)
	if s.Hardened() {
		h.Harden(s.Tail)
	}
	for i := 1; i < n; i++ {
		s.headerOf(unsafe.Pointer(a), unit+i).PlaceInner(i)
	}
	return h
}

// PutChain takes back the pools that the caller has in hand, chained by Next. It
// does nothing if the set was closed, for then they may be gone.
func (s *Set) PutChain(h *pool.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h != nil && !s.closed {
		next := h.Next
		s.put(h)
		h = next
	}
}

// PutNumber takes back the pool with number n, which the caller has in hand.
func (s *Set) PutNumber(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.put(s.ByNumber(n))
	}
}

// ErrOverrun is returned for a run that was written to beyond its end, ErrFreeRun
// for one that is free, ErrNoRun where none begins.
var (
	ErrOverrun = errors.New("arena: run was written to beyond its end")
	ErrFreeRun = errors.New("arena: run is free already")
	ErrNoRun   = errors.New("arena: no run begins there")
)

// PutRun frees the large run at p, which it clears before if wipe is set. The
// caller is not pinned: the lock and the arena map protect the header.
func (s *Set) PutRun(p unsafe.Pointer, wipe bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || addrmap.Load(uintptr(p)) != s.Entry {
		return ErrNoRun
	}
	h := s.PoolOf(p)
	if h.Owner() == pool.Free && h.WasBlock(p) {
		return ErrFreeRun // by another, since the caller looked
	}
	if h.Owner() != pool.Run || h.Start() != p {
		return ErrNoRun
	}
	if s.Tail > 0 && !pool.IsTail(p, h.Usable()) {
		return ErrOverrun
	}
	if wipe {
		clear(unsafe.Slice((*byte)(p), h.Usable()))
	}
	s.put(h)
	return nil
}

func (s *Set) put(h *pool.Header) {
	base := s.baseOf(unsafe.Pointer(h))
	a := (*Header)(base)
	unit := s.unitOfHeader(h)
	n := h.Units()
	s.unlink(a)
	free := freeBits(a)
	for i := unit; i < unit+n; i++ {
		if invariant.Enabled {
			invariant.Check(!free.has(i), "arena: unit freed twice")
		}
		free.set(i)
	}
	h.Unplace() // the others tell a double free where the block was
	a.nfree += uint32(n)
	s.used -= n
	_, a.row = s.fit(a, s.Units)
	if int(a.nfree) == s.Usable() {
		a.since = s.ticks
	}
	s.link(a)
}

// mark takes n units from unit on, and reports whether all were clean. They are
// dirty from now on.
func (s *Set) mark(a *Header, unit, n int) (clean bool) {
	free, dirty := freeBits(a), dirtyBits(a)
	clean = true
	for i := unit; i < unit+n; i++ {
		free.clear(i)
		clean = clean && !dirty.has(i)
		dirty.set(i)
	}
	return clean
}

// --- mapping ---

// mapArena maps an arena and enters it into the map and the lists.
func (s *Set) mapArena() (*Header, error) {
	r, err := s.obtain()
	if err != nil {
		return nil, err
	}
	if err = s.guard(r.base); err == nil {
		err = addrmap.Set(uintptr(r.base), uintptr(s.Bytes), s.Entry)
	}
	if err != nil {
		r.zero = true // mapped, and untouched
		s.refused = append(s.refused, r)
		return nil, err
	}
	if s.NoDump {
		_ = osmem.Advise(r.base, s.end()*s.UnitBytes, osmem.DontDump) // not all systems know it
	}
	a := (*Header)(r.base)
	a.first = r.first
	a.nfree = uint32(s.Usable())
	a.row = a.nfree
	a.since = s.ticks
	free := freeBits(a)
	for i := s.HeaderUnits; i < s.end(); i++ {
		free.set(i)
	}
	a.at = uint32(len(s.all))
	s.all = append(s.all, a)
	s.Counts.Mapped.Add(1)
	if n := uint64(len(s.all)); n > s.Counts.HighWater.Load() {
		s.Counts.HighWater.Store(n)
	}
	s.link(a)
	return a, nil
}

// guard makes the guard units of a new arena inaccessible, if it has any.
func (s *Set) guard(base unsafe.Pointer) error {
	if s.GuardUnits == 0 {
		return nil
	}
	return osmem.Protect(unsafe.Add(base, s.end()*s.UnitBytes), s.GuardUnits*s.UnitBytes, osmem.NoAccess)
}

// obtain returns zeroed memory for an arena, with its numbers: one whose
// unmapping was refused, or a new one.
func (s *Set) obtain() (r Retired, err error) {
	if n := len(s.refused); n > 0 {
		r, s.refused = s.refused[n-1], s.refused[:n-1]
		return r, nil
	}
	err = s.limit.Take(uint64(s.Bytes), func() (err error) {
		if r.first, err = numbers.take(s.Units); err != nil {
			return err
		}
		if r.base, err = addresses.take(s.Log2Bytes); err != nil {
			numbers.give(r.first, s.Units)
			return err
		}
		numbers.enter(r.first, s.Units, r.base)
		return nil
	})
	return r, err
}

// Retire takes free arenas out of the lists and the map, and returns them for
// Unmap: those that have been free for age ticks, and those beyond retain bytes. One
// caller at a time.
func (s *Set) Retire(age uint32, retain uint64) []Retired {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Retired
	var kept uint64
	for a := s.byFree.lists[s.Usable()].head; a != nil; {
		next := s.byFree.next(a)
		if s.ticks-a.since >= age || kept+uint64(s.Bytes) > retain {
			s.unlink(a)
			out = append(out, s.leave(a))
		} else {
			kept += uint64(s.Bytes)
		}
		a = next
	}
	s.retired += len(out)
	return out
}

// leave takes the arena out of the map.
func (s *Set) leave(a *Header) Retired {
	last := s.all[len(s.all)-1]
	s.all[a.at], last.at = last, a.at
	s.all[len(s.all)-1] = nil
	s.all = s.all[:len(s.all)-1]
	addrmap.Clear(uintptr(unsafe.Pointer(a)), uintptr(s.Bytes))
	return Retired{base: unsafe.Pointer(a), first: a.first}
}

// Unmap gives retired arenas back to the system, after a grace period: from the lowest
// address up, so that the system need not cut what adjoins. What the system refuses to
// take is kept, its pages dropped, to be used again or tried again; the first refusal is
// returned. keep decommits the arenas and keeps their addresses for later arenas of this
// process. One caller at a time.
func (s *Set) Unmap(arenas []Retired, keep bool) (first error) {
	slices.SortFunc(arenas, func(a, b Retired) int { return cmp.Compare(uintptr(a.base), uintptr(b.base)) })
	for _, r := range arenas {
		if err := s.unmap(r, keep); err != nil && first == nil {
			first = Refused(r.base, s.Bytes, keep, err)
		}
	}
	return first
}

// unmap gives one back, or returns the bare cause of the system's refusal.
func (s *Set) unmap(r Retired, keep bool) error {
	err := addresses.give(r.base, s.Log2Bytes, keep)
	if err != nil {
		s.Counts.Refusals.Add(1)
		// Where even that is refused the pages are cleared by hand: an arena
		// that is used again must be zero.
		if !r.zero && osmem.Advise(r.base, s.Bytes, osmem.DontNeed) != nil {
			clear(unsafe.Slice((*byte)(r.base), s.end()*s.UnitBytes))
		}
		r.zero = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired--
	if err != nil && !s.closed {
		s.refused = append(s.refused, r)
		return err
	}
	numbers.give(r.first, s.Units)
	s.limit.Give(uint64(s.Bytes))
	if err != nil {
		Orphan(r.base, s.Bytes, keep)
	} else {
		s.Counts.Unmapped.Add(1)
	}
	return err
}

// Retry tries again to unmap the arenas that were refused before: all of them, from the
// highest address down, or the oldest until [Patience] in a row are refused again. The
// first refusal is returned. One caller at a time.
func (s *Set) Retry(keep, all bool) (first error) {
	s.mu.Lock()
	if all {
		slices.SortFunc(s.refused, func(a, b Retired) int { return cmp.Compare(uintptr(b.base), uintptr(a.base)) })
	}
	left := len(s.refused)
	s.mu.Unlock()
	for row := 0; left > 0 && (all || row < Patience); left-- {
		s.mu.Lock()
		if len(s.refused) == 0 { // they were used meanwhile
			s.mu.Unlock()
			break
		}
		r := s.refused[0]
		s.refused = s.refused[1:]
		s.retired++
		s.mu.Unlock()
		err := s.unmap(r, keep)
		switch {
		case err == nil:
			row = 0
			continue
		case first == nil:
			first = Refused(r.base, s.Bytes, keep, err)
		}
		row++
	}
	return first
}

// Tick ends a tick, and begins the next.
func (s *Set) Tick() {
	s.mu.Lock()
	s.ticks++
	s.mu.Unlock()
}

// HasFree reports whether arenas wait to be given back, and whether there are some among
// them that the system has not refused to take.
func (s *Set) HasFree() (some, untried bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	untried = s.byFree.lists[s.Usable()].head != nil
	return untried || len(s.refused) != 0, untried
}

// UsedUnits returns the number of units that are handed out, in pools, empty ones
// too, and runs.
func (s *Set) UsedUnits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Close takes all arenas, live blocks or not, out of the map and returns them
// for Unmap. From now on every call that would hand out memory fails.
func (s *Set) Close() []Retired {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	out := s.refused
	s.refused = nil
	for len(s.all) > 0 {
		out = append(out, s.leave(s.all[0]))
	}
	s.retired += len(out)
	s.byFree.clear()
	s.byRow.clear()
	return out
}

// each calls f for every arena in the map, under the lock, which it gives up after each,
// for there may be many: who waits for it gets it within the millisecond after which
// sync.Mutex is fair. Arenas that come meanwhile are left out.
func (s *Set) each(f func(a *Header)) {
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()
	for _, a := range all {
		s.mu.Lock()
		if addrmap.Load(uintptr(unsafe.Pointer(a))) == s.Entry { // else it is not there any more
			f(a)
		}
		s.mu.Unlock()
	}
}

// Purge drops the pages of free units that were written to, in arenas that are
// in use, and returns how many bytes.
func (s *Set) Purge() (dropped uint64) {
	s.each(func(a *Header) { dropped += s.purge(a) })
	return dropped
}

func (s *Set) purge(a *Header) (dropped uint64) {
	free, dirty := freeBits(a), dirtyBits(a)
	page := osmem.PageSize()
	for i := s.HeaderUnits; i < s.end(); i++ {
		if !free.has(i) || !dirty.has(i) {
			continue
		}
		end := i + 1
		for end < s.Units && free.has(end) && dirty.has(end) {
			end++
		}
		// Where pages are larger than units, only whole pages.
		from := roundUp(i*s.UnitBytes, page)
		to := end * s.UnitBytes &^ (page - 1)
		if from < to && osmem.Advise(unsafe.Add(unsafe.Pointer(a), from), to-from, osmem.DontNeed) == nil {
			dropped += uint64(to - from)
			for u := roundUp(from, s.UnitBytes) / s.UnitBytes; u < to/s.UnitBytes; u++ {
				dirty.clear(u)
			}
		}
		i = end
	}
	return dropped
}

func roundUp(n, to int) int { return (n + to - 1) &^ (to - 1) }

// --- lists ---

func (s *Set) link(a *Header) {
	s.byFree.add(a, a.nfree)
	s.byRow.add(a, a.row)
}

func (s *Set) unlink(a *Header) {
	s.byFree.remove(a, a.nfree)
	s.byRow.remove(a, a.row)
}

// Census is what the arenas are made of.
type Census struct {
	Arenas    int // in the map
	Free      int // of them without a pool or run
	Refused   int // mapped, but out of use: about to be unmapped, or that was refused
	FreeUnits int
}

// Visit calls f for every pool and run that is handed out, empty ones that
// shards keep among them, and returns the census: an arena's pools are those of one
// moment, under the lock. f must not call the set.
func (s *Set) Visit(f func(h *pool.Header)) (c Census) {
	s.mu.Lock()
	c.Refused = len(s.refused) + s.retired
	s.mu.Unlock()
	s.each(func(a *Header) {
		c.Arenas++
		c.FreeUnits += int(a.nfree)
		if int(a.nfree) == s.Usable() {
			c.Free++
			return
		}
		free := freeBits(a)
		for u := s.HeaderUnits; u < s.end(); {
			if free.has(u) {
				u++
				continue
			}
			h := s.headerOf(unsafe.Pointer(a), u)
			f(h)
			u += h.Units()
		}
	})
	return c
}

// Check returns what is wrong with the lists and bitmaps of the arenas.
func (s *Set) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range []*index{&s.byFree, &s.byRow} {
		n := 0
		for i, l := range x.lists {
			if (l.head != nil) != (x.some[i/64]>>(i%64)&1 == 1) {
				return fmt.Errorf("arenas in list %d: the bitmap of lists is wrong", i)
			}
			for a := l.head; a != nil; a = x.next(a) {
				n++
				free := freeBits(a).count(s.Units)
				_, row := s.fit(a, s.Units)
				at := [2]int{free, int(row)}[x.which]
				if int(a.nfree) != free || a.row != row || at != i {
					return fmt.Errorf("arena at %p: its bitmap has %d free units, %d in a row, it counts %d and %d, it is in list %d of index %d",
						a, free, row, a.nfree, a.row, i, x.which)
				}
			}
		}
		if n != len(s.all) {
			return fmt.Errorf("%d arenas in lists, %d are in use", n, len(s.all))
		}
	}
	return nil
}
