// Package arena is the set of arenas of one allocator: it maps them, hands out
// their units as pools and large runs, and gives back those that empty.
//
// # Layout
//
// An arena is units of 16 KiB, aligned to its size. All of them hold pools and runs, but for
// the last in a hardened one, which cannot be accessed. What is known of it stands in package
// headers' table: the places in lists and the counts in the header of its first unit, the
// bitmaps, which have a bit for each unit, in those of every 64th. An arena is known by the
// number of the first.
//
// The words of free units are 0. A unit of a pool or run that was given back tells by the
// rest of its header what began in it, until it is used again or its arena goes, so that a
// double free is told from a foreign pointer.
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
//	            map                 last unit given back
//	unmapped ---------> in use  ---------------------> free (retained)
//	    ^                  ^  <---------------------      |
//	    |                  |        unit taken            | Retire: headers cleared
//	    |                  |                              v
//	    +--------------------------------------------- retired
//	                  Unmap, after a grace period
//
// An arena whose unmapping the system refuses stays retired, its pages dropped,
// and is used again or tried again (Retry).
//
// # Who may call
//
// Any goroutine may call any method, but not in a section: they take the set's lock. Retire,
// Unmap, Retry, Purge, Visit and Close have one caller at a time, for all of them together
// (the allocator's trim lock).
package arena

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/invariant"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/osmem"
)

// ErrClosed is returned by a set whose allocator was closed meanwhile.
var ErrClosed error = pool.Error("arena: allocator closed")

// ErrLimit is returned when a mapping would exceed the limit.
var ErrLimit error = pool.Error("arena: memory limit reached")

// Retired is an arena whose headers are cleared, to be unmapped after a grace period.
type Retired struct {
	base unsafe.Pointer
	zero bool // it has no page that was written to
	warm bool // its pages are as another allocator left them
}

// Set is the arenas of one allocator.
type Set struct {
	Geometry
	Shapes [sizeclass.Count]sizeclass.Shape

	// NoDump keeps the arenas out of core dumps where the system can. It is set
	// before the first use.
	NoDump bool

	life  uint32 // of the allocator: in the words of all its units
	limit *Budget

	mu      sync.Mutex
	closed  bool
	byFree  index     // arenas by their number of free units
	byRow   index     // the same, by the longest row of those
	all     []uint32  // numbers of the first units of those in use
	used    int       // units of pools and runs
	out     []Retired // what Retire returned last
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

// NewSet returns an empty set. life is the id of the allocator's life.
func NewSet(g Geometry, life uint32, limit *Budget) *Set {
	s := &Set{Geometry: g, life: life, limit: limit}
	s.Shapes = sizeclass.Shapes(headers.UnitBytes, g.PoolUnits())
	s.byFree, s.byRow = newIndex(0, g.Units), newIndex(1, g.Units)
	return s
}

// Take returns the first of so many free units in a row, at most 64, in the caller's hand.
// The words of the further ones lead to it. Its own is 0, until the pool is formatted.
func (s *Set) Take(units int) (*headers.Header, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.take(units)
	if err != nil {
		return nil, err
	}
	for i := 1; i < units; i++ {
		h.Plus(i).Store(headers.MakeWord(s.life, headers.Inner, 0, i))
	}
	return h, nil
}

// TakeRun returns the block of a large run of units, which has usable bytes, and a canary after
// them where the geometry has a tail, and whether it is known to be zero.
func (s *Set) TakeRun(units int, usable uintptr) (p unsafe.Pointer, zero bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.take(units)
	if err != nil {
		return nil, false, err
	}
	h.Usable = usable
	p = h.First()
	if s.Tail > 0 {
		pool.SetTail(p, usable)
	}
	for i := 1; i < units; i++ {
		h.Plus(i).Store(headers.MakeWord(s.life, headers.Large, headers.RunInner, 0))
	}
	h.Store(s.runWord())
	return p, h.Clean, nil
}

// runWord returns the word of the first unit of a run.
func (s *Set) runWord() headers.Word {
	return headers.MakeWord(s.life, headers.Large, headers.Run, 0)
}

// take returns the first of n free units in a row, with the word 0.
func (s *Set) take(n int) (*headers.Header, error) {
	if s.closed {
		return nil, ErrClosed
	}
	index := &s.byRow
	if n == 1 {
		index = &s.byFree
	}
	a := index.from(n)
	if a == nil {
		var err error
		if a, err = s.mapArena(); err != nil {
			return nil, err
		}
	}
	s.unlink(a)
	var unit int
	unit, a.Arena.Row = s.fit(a, n)
	h := a.Plus(unit)
	h.Number = a.Number + uint32(unit)
	h.Start = base(a) + uintptr(unit)*headers.UnitBytes
	h.Units = uint32(n)
	h.Clean = s.mark(a, unit, n)
	for i := range n {
		remember(h.Plus(i), 0)
	}
	a.Arena.NFree -= uint32(n)
	s.used += n
	s.link(a)
	return h, nil
}

// base returns the address of an arena.
func base(a *headers.Header) uintptr { return uintptr(a.Arena.Base) }

// Put takes back the pools with these numbers, which the caller has in hand, or nothing if
// the set is closed.
func (s *Set) Put(numbers []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range numbers {
		if !s.closed {
			s.put(headers.At(n))
		}
	}
}

// PutRun frees the large run at p, which it clears before if wipe is set, and returns what it
// found.
func (s *Set) PutRun(p unsafe.Pointer, wipe bool) pool.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := headers.Lookup(uintptr(p))
	switch w := h.Load(); {
	case s.closed:
		return pool.NotOurs
	case w == 0 && s.wasFreed(h, p):
		return pool.Double // by another, since the caller looked
	case w != s.runWord() || h.First() != p:
		return pool.NotOurs
	case s.Tail > 0 && !pool.IsTail(p, h.Usable):
		return pool.Overrun
	}
	if wipe {
		clear(unsafe.Slice((*byte)(p), h.Usable))
	}
	s.put(h)
	return pool.OK
}

// WasFreed reports whether a block of a pool or a run began at p, an address in units that
// were given back, and not used since.
func (s *Set) WasFreed(p unsafe.Pointer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wasFreed(headers.Lookup(uintptr(p)), p)
}

func (s *Set) wasFreed(h *headers.Header, p unsafe.Pointer) bool {
	// The header may be another set's, and change meanwhile, if it does not have our id.
	if h.Load() != 0 || atomic.LoadUint32(&h.Last) != s.life {
		return false
	}
	return h.Usable != 0 && h.First() == p || pool.WasBlock(h, uintptr(p), s.life)
}

// remember notes that the unit was last in use by the given life, or by none.
func remember(h *headers.Header, life uint32) {
	if life == 0 {
		h.Usable = 0
		h.Carved.Store(0)
	}
	atomic.StoreUint32(&h.Last, life)
}

// put makes the units of a pool or run free.
func (s *Set) put(h *headers.Header) {
	unit, n := s.unit(h), int(h.Units)
	a := h.Plus(-unit)
	s.unlink(a)
	free := freeBits(a)
	isRun := h.Load().Kind() == headers.Large
	for i := range n {
		if invariant.Enabled {
			invariant.Check(!free.has(unit+i), "arena: unit freed twice")
		}
		free.set(unit + i)
		u := h.Plus(i)
		u.Store(0)
		if i > 0 && !isRun { // where the pool's blocks began
			u.Start, u.Inverse, u.Rotate = h.Start, h.Inverse, h.Rotate
			u.Carved.Store(h.Carved.Load())
		}
		if i == 0 || !isRun {
			remember(u, s.life)
		}
	}
	a.Arena.NFree += uint32(n)
	s.used -= n
	a.Arena.Row = s.longest(a)
	if int(a.Arena.NFree) == s.Usable() {
		a.Arena.Since = s.ticks
	}
	s.link(a)
}

// mark takes n units from unit on, and reports whether all were clean. They are
// dirty from now on.
func (s *Set) mark(a *headers.Header, unit, n int) (clean bool) {
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

// mapArena maps an arena and enters it into the lists.
func (s *Set) mapArena() (*headers.Header, error) {
	r, err := s.obtain()
	if err != nil {
		return nil, err
	}
	a, err := headers.Grow(uintptr(r.base), s.Bytes)
	if err == nil {
		err = s.guard(r.base)
	}
	if err != nil {
		if r.warm {
			s.clear(r.base)
		}
		s.refused = append(s.refused, Retired{base: r.base, zero: true})
		return nil, err
	}
	if s.NoDump {
		_ = osmem.Advise(r.base, s.Usable()*headers.UnitBytes, osmem.DontDump) // not all systems know it
	}
	n := uint32(s.Usable())
	a.Arena = headers.Arena{
		Base: uint64(uintptr(r.base)), NFree: n, Row: n, Since: s.ticks, Position: uint32(len(s.all)),
	}
	freeBits(a).fill(s.Usable(), s.Units)
	dirtyBits(a).fill(0, s.Units)
	if r.warm {
		dirtyBits(a).fill(s.Usable(), s.Units)
	}
	s.all = append(s.all, a.Number)
	s.Counts.Mapped.Add(1)
	headerBytes.Add(int64(s.Units * headers.Bytes))
	if n := uint64(len(s.all)); n > s.Counts.HighWater.Load() {
		s.Counts.HighWater.Store(n)
	}
	s.link(a)
	return a, nil
}

// headerBytes are those of the units of all arenas of the process.
var headerBytes atomic.Int64

// HeaderBytes returns the memory of the headers of all arenas, in bytes.
func HeaderBytes() uint64 { return uint64(headerBytes.Load()) }

// guard makes the guard units of a new arena inaccessible, if it has any.
func (s *Set) guard(base unsafe.Pointer) error {
	if s.GuardUnits == 0 {
		return nil
	}
	if err := Mappings.Take(1); err != nil {
		return err
	}
	err := osmem.Protect(unsafe.Add(base, s.Usable()*headers.UnitBytes), s.GuardUnits*headers.UnitBytes, osmem.NoAccess)
	if err != nil {
		Mappings.Give(1)
	}
	return err
}

// obtain returns memory for an arena: one whose unmapping was refused, a warm one, or a new one. It
// is zero unless it is warm.
func (s *Set) obtain() (r Retired, err error) {
	if n := len(s.refused); n > 0 {
		r, s.refused = s.refused[n-1], s.refused[:n-1]
		return r, nil
	}
	err = s.limit.Take(uint64(s.Bytes), func() (err error) {
		if r.base = s.takeWarm(); r.base != nil {
			r.warm = true
			return nil
		}
		r.base, err = addresses.take(s.Log2Bytes)
		return err
	})
	return r, err
}

// Retire takes free arenas out of the lists, and returns them for Unmap: those that have been
// free for age ticks, and those beyond retain bytes. The slice is the caller's until the next
// call. One caller at a time.
func (s *Set) Retire(age uint32, retain uint64) []Retired {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = s.out[:0]
	var kept uint64
	for a := s.byFree.first(s.Usable()); a != nil; {
		next := s.byFree.next(a)
		if s.ticks-a.Arena.Since >= age || kept+uint64(s.Bytes) > retain {
			s.unlink(a)
			s.out = append(s.out, s.leave(a))
		} else {
			kept += uint64(s.Bytes)
		}
		a = next
	}
	s.retired += len(s.out)
	return s.out
}

// leave takes the arena off the list of all, and clears its headers.
func (s *Set) leave(a *headers.Header) Retired {
	last := headers.At(s.all[len(s.all)-1])
	s.all[a.Arena.Position], last.Arena.Position = last.Number, a.Arena.Position
	s.all = s.all[:len(s.all)-1]
	for i := range s.Units {
		// Most were never written to: that stays so.
		if h := a.Plus(i); h.Load() != 0 || h.Last != 0 {
			h.Store(0)
			remember(h, 0)
		}
	}
	Mappings.Give(min(s.GuardUnits, 1))
	headerBytes.Add(-int64(s.Units * headers.Bytes))
	return Retired{base: addr.Pointer(base(a))}
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
	if !r.zero { // else that was done before
		headers.Drop(uintptr(r.base), s.Bytes) // while the addresses are ours
	}
	err := addresses.give(r.base, s.Log2Bytes, keep)
	if err != nil {
		s.Counts.Refusals.Add(1)
		if !r.zero {
			s.clear(r.base)
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
	s.limit.Give(uint64(s.Bytes))
	if err != nil {
		Orphan(r.base, s.Bytes, keep)
	} else {
		s.Counts.Unmapped.Add(1)
	}
	return err
}

// clear makes an arena zero that is to be used again. Where the system does not drop its pages they
// are cleared by hand.
func (s *Set) clear(base unsafe.Pointer) {
	if osmem.Advise(base, s.Bytes, osmem.DontNeed) != nil {
		clear(unsafe.Slice((*byte)(base), s.Usable()*headers.UnitBytes))
	}
}

// Leave keeps arenas of a set that is closed for the next allocator, as they are, and returns
// those for which there is no room, for Unmap. It needs no grace period: they stay mapped.
func (s *Set) Leave(arenas []Retired, keep bool) (rest []Retired) {
	for _, r := range arenas {
		if keep || r.zero || !s.keepWarm(r.base) {
			rest = append(rest, r)
			continue
		}
		s.mu.Lock()
		s.retired--
		s.mu.Unlock()
		s.limit.Give(uint64(s.Bytes))
		s.Counts.Unmapped.Add(1)
	}
	return rest
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
	untried = s.byFree.first(s.Usable()) != nil
	return untried || len(s.refused) != 0, untried
}

// UsedUnits returns the number of units that are handed out, in pools, empty ones
// too, and runs.
func (s *Set) UsedUnits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Close clears the headers of all arenas, live blocks or not, and returns the arenas for
// Unmap. From now on every call that would hand out memory fails. One caller at a time.
func (s *Set) Close() []Retired {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	out := s.refused
	s.refused = nil
	for len(s.all) > 0 {
		out = append(out, s.leave(headers.At(s.all[len(s.all)-1])))
	}
	s.retired += len(out)
	s.byFree.clear()
	s.byRow.clear()
	return out
}

// each calls f for every arena, under the lock, which it gives up after each, for there may be
// many: whoever waits for it gets it within the millisecond after which sync.Mutex is fair.
// Arenas that come meanwhile are left out, and none goes: there is one caller at a time.
func (s *Set) each(f func(a *headers.Header)) {
	s.mu.Lock()
	all := len(s.all)
	s.mu.Unlock()
	for i := range all {
		s.mu.Lock()
		f(headers.At(s.all[i]))
		s.mu.Unlock()
	}
}

// Purge drops the pages of free units that were written to, in arenas that are
// in use, and returns how many bytes. One caller at a time.
func (s *Set) Purge() (dropped uint64) {
	s.each(func(a *headers.Header) { dropped += s.purge(a) })
	return dropped
}

func (s *Set) purge(a *headers.Header) (dropped uint64) {
	free, dirty := freeBits(a), dirtyBits(a)
	page := osmem.PageSize()
	for i := 0; i < s.Usable(); i++ {
		if !free.has(i) || !dirty.has(i) {
			continue
		}
		end := i + 1
		for end < s.Usable() && free.has(end) && dirty.has(end) {
			end++
		}
		// Where pages are larger than units, only whole pages.
		from := roundUp(i*headers.UnitBytes, page)
		to := end * headers.UnitBytes &^ (page - 1)
		if from < to && osmem.Advise(addr.Pointer(base(a)+uintptr(from)), to-from, osmem.DontNeed) == nil {
			dropped += uint64(to - from)
			for u := roundUp(from, headers.UnitBytes) / headers.UnitBytes; u < to/headers.UnitBytes; u++ {
				dirty.clear(u)
			}
		}
		i = end
	}
	return dropped
}

func roundUp(n, to int) int { return (n + to - 1) &^ (to - 1) }

// --- lists ---

func (s *Set) link(a *headers.Header) {
	s.byFree.add(a, a.Arena.NFree)
	s.byRow.add(a, a.Arena.Row)
}

func (s *Set) unlink(a *headers.Header) {
	s.byFree.remove(a, a.Arena.NFree)
	s.byRow.remove(a, a.Arena.Row)
}

// Census is what the arenas are made of.
type Census struct {
	Arenas    int // in use
	Free      int // of them without a pool or run
	Refused   int // mapped, but out of use: about to be unmapped, or that was refused
	FreeUnits int
}

// Visit calls f for the first unit of every pool and run that is handed out, under the lock,
// and returns the census. What an arena has is that of one moment. The word of a pool that is
// just being made is 0. f must not call the set. One caller at a time.
func (s *Set) Visit(f func(h *headers.Header)) (c Census) {
	s.mu.Lock()
	c.Refused = len(s.refused) + s.retired
	s.mu.Unlock()
	s.each(func(a *headers.Header) {
		c.Arenas++
		c.FreeUnits += int(a.Arena.NFree)
		if int(a.Arena.NFree) == s.Usable() {
			c.Free++
			return
		}
		free := freeBits(a)
		for u := 0; u < s.Usable(); {
			if free.has(u) {
				u++
				continue
			}
			h := a.Plus(u)
			f(h)
			u += int(h.Units)
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
			if (l.head != 0) != (x.some[i/64]>>(i%64)&1 == 1) {
				return fmt.Errorf("arenas in list %d: the bitmap of lists is wrong", i)
			}
			for a := x.first(i); a != nil; a = x.next(a) {
				n++
				free := freeBits(a).count(s.Units)
				row := s.longest(a)
				at := [2]int{free, int(row)}[x.which]
				if int(a.Arena.NFree) != free || a.Arena.Row != row || at != i {
					return fmt.Errorf("arena at %#x: its bitmap has %d free units, %d in a row, it counts %d and %d, it is in list %d of index %d",
						base(a), free, row, a.Arena.NFree, a.Arena.Row, i, x.which)
				}
			}
		}
		if n != len(s.all) {
			return fmt.Errorf("%d arenas in lists, %d are in use", n, len(s.all))
		}
	}
	return nil
}
