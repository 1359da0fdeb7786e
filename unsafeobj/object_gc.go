package unsafeobj

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/invariant"
)

// gcHead stands in front of a container's header: PyGC_Head.
type gcHead struct {
	next, prev link   // in the list of a generation, or of a collection
	refs       int32  // of a collection: references that it has not explained
	flags      uint32 // gc…
}

const gcBytes = unsafe.Sizeof(gcHead{})

const (
	gcYoung     = 1 << iota // in a collection that is done at once
	gcOld                   // in one that works in slices
	gcWhite                 // of these: no reference from outside found
	gcTouched               // of these: a reference came or went meanwhile
	gcFinalized             // its finaliser was called
	gcWeak                  // there are weak references to it
	gcLinks                 // it may refer to containers: else there is nothing to follow
	gcDead                  // its last reference is gone, and it is in no list

	gcCycle = gcYoung | gcOld | gcWhite | gcTouched
)

func gcOf(h *header) *gcHead { return (*gcHead)(unsafe.Add(unsafe.Pointer(h), -int(gcBytes))) }

func (g *gcHead) object() *header { return (*header)(unsafe.Add(unsafe.Pointer(g), gcBytes)) }

// A list is a ring through a head that is no object.

func (l *gcHead) reset() {
	l.next.setGC(l)
	l.prev.setGC(l)
}

func (l *gcHead) empty() bool { return l.next.gc() == l }

// whole reports whether the one after g knows so. A walk on which each does comes back to
// where it began: what it met twice would have two before it.
func (g *gcHead) whole() bool {
	next := g.next.gc()
	return next != nil && next.prev.gc() == g
}

var errBroken = errors.New("unsafeobj: the Space's lists are broken: was an owned Space used by two goroutines at once, or an object after its last Release?")

func (l *gcHead) push(g *gcHead) {
	last := l.prev.gc()
	g.next.setGC(l)
	g.prev.setGC(last)
	last.next.setGC(g)
	l.prev.setGC(g)
}

func (g *gcHead) unlink() {
	next, prev := g.next.gc(), g.prev.gc()
	prev.next.setGC(next)
	next.prev.setGC(prev)
}

// take appends all of another list.
func (l *gcHead) take(from *gcHead) {
	if from.empty() {
		return
	}
	first, last, tail := from.next.gc(), from.prev.gc(), l.prev.gc()
	tail.next.setGC(first)
	first.prev.setGC(tail)
	last.next.setGC(l)
	l.prev.setGC(last)
	from.reset()
}

// children walks over the references that a container has, nil ones included:
//
//	for c := childrenOf(h); c.left > 0; {
//		x, c = c.next()
//
// It has four words, so that the compiler keeps it in registers.
type children struct {
	at     unsafe.Pointer // the next reference; of an instance the header
	left   int
	steps  uint64   // bytes to the one after it, and in the upper half to the one after that
	fields *uintptr // of an instance, offsets in place of the steps
}

func stepsOf(a, b uintptr) uint64 { return uint64(b)<<32 | uint64(a) }

func childrenOf(h *header) children {
	switch h.typ {
	case typeTuple:
		t := tupleOf(h)
		return children{at: unsafe.Add(unsafe.Pointer(t), tupleBytes), left: t.n, steps: stepsOf(ptrBytes, ptrBytes)}
	case typeList:
		l := listOf(h)
		return children{at: l.items.ptr(), left: int(l.n), steps: stepsOf(ptrBytes, ptrBytes)}
	case typeDict, typeSet:
		t := tableOf(h).tab()
		if t == nil {
			return children{}
		}
		first := unsafe.Add(t.entries(), unsafe.Offsetof(entry{}.key))
		if h.typ == typeSet {
			return children{at: first, left: t.filled, steps: stepsOf(setStep, setStep)}
		}
		return children{at: first, left: 2 * t.filled, steps: stepsOf(ptrBytes, dictStep-ptrBytes)}
	}
	f := typeOf(h).fields
	return children{at: unsafe.Pointer(h), left: len(f), fields: unsafe.SliceData(f)}
}

func (c children) next() (*header, children) {
	c.left--
	p := c.at
	if c.fields != nil {
		p = unsafe.Add(p, *(*uintptr)(unsafe.Add(unsafe.Pointer(c.fields), uintptr(c.left)*ptrBytes)))
	}
	x := (*link)(p).object()
	if c.fields == nil && c.left > 0 { // not to point behind the block
		c.at = unsafe.Add(p, uint32(c.steps))
		c.steps = c.steps<<32 | c.steps>>32
	}
	return x, c
}

// window returns those from number i to before j; of a dict both are even.
func (c children) window(i, j int) children {
	switch {
	case i == j:
		return children{}
	case c.fields != nil:
		c.fields = (*uintptr)(unsafe.Add(unsafe.Pointer(c.fields), uintptr(i)*ptrBytes))
	default: // two steps are those of an entry of a dict
		c.at = unsafe.Add(c.at, uintptr(i/2)*(uintptr(uint32(c.steps))+uintptr(c.steps>>32)))
		if i%2 != 0 {
			c.at = unsafe.Add(c.at, uintptr(uint32(c.steps)))
		}
	}
	c.left = j - i
	return c
}

// SliceLimit bounds the slices of an incremental collection.
type SliceLimit struct {
	// Objects is the most objects and references that a slice looks at. 0 means no
	// slices, if Time is 0 too.
	Objects int
	// Time is the longest that a slice takes, looked at every 128 of them. 0 means
	// no limit.
	Time time.Duration
}

func (l SliceLimit) check() error {
	if l.Objects < 0 || l.Time < 0 || l.Objects > 0 && l.Objects < minSlice {
		return fmt.Errorf("unsafeobj: NewSpace: Incremental is %+v, want Objects 0 or at least %d, Time not negative", l, minSlice)
	}
	return nil
}

func (l SliceLimit) enabled() bool { return l.Objects > 0 || l.Time > 0 }

const (
	generations = 3
	oldest      = generations - 1

	// minSlice is a few times the first threshold, so that slices that come once
	// in so many allocations get ahead of them.
	minSlice  = 4096
	timeEvery = 128
	window    = 128 // references of one container between two looks at the budget
)

// collector finds objects that only refer to each other, as CPython's does.
//
// It is about a set of containers, those of a generation and the younger ones say,
// and takes all references from elsewhere for good reasons to live:
//
//	count     refs = the object's count
//	subtract  refs-- for each reference from the set; what is left is from outside
//	mark      what has refs left, and what can be reached from it, is alive; the
//	          rest is white
//	weak      weak references to white objects that have a callback are cleared, and
//	          the callbacks are called
//	finalize  finalisers of white objects are called, once in a life
//	recount,  count, subtract and mark again, on the white ones alone: callbacks and
//	…         finalisers may have brought some to life
//	cut       references from white objects to others are dropped
//	free      white objects are freed, and weak references to them that are left are
//	          cleared
//
// A weak reference without a callback so lives as long as its object, though nobody gets
// the object through it until the finalisers have been called.
//
// A collection in slices lets the program run between any two steps. Then what was
// garbage at its start is found exactly, for nobody can touch it. What is alive must
// not be taken for garbage: a reference that an object of the set gets or loses
// after it was counted makes its target touched, which counts as alive (shade). A
// reference in a Go variable needs no such care: its holder got it from an object
// that was reachable, and either that still refers to the target, or it lost the
// reference, which shaded it. The second count, over the white objects alone, would
// find what this overlooked.
type collector struct {
	s     *Space
	heads *[listCount]gcHead
	gen   [generations]generation
	slice SliceLimit

	off       bool // Disable
	busy      bool // a collection is under way; one at a time, besides the old one
	pendingN  int  // long_lived_pending: came to the oldest generation since its last collection
	totalN    int  // long_lived_total: survived that
	young     *cycle
	old       *cycle // in slices
	increment IncrementalStats
}

// generation has its list in heads.
type generation struct {
	count, threshold int
	GenerationStats
}

// The lists. Those of a cycle are two: what it works on, and the white ones.
const (
	listFrozen = generations + iota
	listYoungWork
	listYoungWhite
	listOldWork
	listOldWhite
	listCount
)

// GenerationStats are figures of the collections of a generation.
type GenerationStats struct {
	Objects     int // in it now
	Collections int
	Collected   int // objects freed
	Resurrected int // objects that lived on after a finaliser was called
	Time        time.Duration
	Longest     time.Duration // not in slices
}

// IncrementalStats are figures of collections in slices. In the GenerationStats their
// time is the sum of their slices. Time includes that of finalisers.
type IncrementalStats struct {
	Collections int // finished
	Slices      int
	Longest     time.Duration // slice
	MostObjects int           // objects and references that a slice looked at
}

// cycle is one collection.
type cycle struct {
	work, white *gcHead
	bit         uint32 // gcYoung or gcOld
	gen         int
	phase       phase
	second      bool // after the finalisers
	cursor      link // the next object of the phase
	at          int  // in the middle of that: references looked at, or in marking those left
	marked      int
	calls       []callback
	collected   int
	reached     int
	time        time.Duration
	sliced      bool
}

type phase uint8

const (
	counting phase = iota
	subtracting
	marking
	clearing
	finalizing
	cutting
	freeing
	finished
)

func (c *collector) init(s *Space, l SliceLimit) error {
	p, err := s.alloc(unsafe.Sizeof(*c.heads))
	if err != nil {
		return err
	}
	c.s, c.slice = s, l
	c.heads = (*[listCount]gcHead)(p)
	*c.heads = [listCount]gcHead{}
	for i := range c.heads {
		c.heads[i].reset()
	}
	c.setThresholds(700, 10, 10)
	return nil
}

// track puts a new container under the collector's eyes.
func (s *Space) track(h *header) {
	s.gc.heads[0].push(gcOf(h))
	s.gc.gen[0].count++
}

// untrack takes a dying container out of its list.
func (c *collector) untrack(g *gcHead) {
	if c.young != nil || c.old != nil {
		c.pass(g)
	}
	g.unlink()
	if n := &c.gen[0].count; *n > 0 {
		*n--
	}
}

// pass lets collections go on behind a container that dies.
func (c *collector) pass(g *gcHead) {
	if o := c.young; o != nil && o.cursor.gc() == g {
		o.cursor = g.next
	}
	if o := c.old; o != nil && o.cursor.gc() == g {
		o.cursor, o.at = g.next, 0
	}
}

// each calls f for all containers; f may revive or unlink the one that it is called for.
// Where a list is broken it ends.
func (c *collector) each(f func(*header)) error {
	for i := range c.heads {
		l := &c.heads[i]
		if !l.whole() {
			return errBroken
		}
		for g := l.next.gc(); g != l; {
			if !g.whole() {
				return errBroken
			}
			next := g.next.gc()
			f(g.object())
			g = next
		}
	}
	return nil
}

// size counts the objects of a list, up to where it is broken.
func (l *gcHead) size() int {
	n := 0
	for g := l; g.whole() && g.next.gc() != l; g = g.next.gc() {
		n++
	}
	return n
}

func (c *collector) stats(st *SpaceStats) {
	for i := range c.gen {
		st.Generations[i] = c.gen[i].GenerationStats
		st.Generations[i].Objects = c.heads[i].size()
	}
	st.Generations[0].Objects += c.heads[listYoungWork].size() + c.heads[listYoungWhite].size()
	st.Generations[oldest].Objects += c.heads[listOldWork].size() + c.heads[listOldWhite].size()
	st.Frozen = c.heads[listFrozen].size()
	st.Incremental = c.increment
}

// due reports whether an allocation should be followed by a collection.
func (c *collector) due() bool {
	return c.gen[0].count > c.gen[0].threshold && !c.off && !c.busy
}

// shade is called when a container gets or loses a reference from another. It
// matters to a collection in slices.
func (c *collector) shade(h *header) {
	if g := gcOf(h); g.flags&gcOld != 0 && c.old != nil {
		c.touch(g)
	}
}

func (c *collector) touch(g *gcHead) {
	o := c.old
	switch {
	case g.flags&gcWhite == 0:
		g.flags |= gcTouched
	case o.phase == marking:
		o.revive(g)
	}
	// Between the two marks the second one will see; after it nobody can reach g.
}

// moved is called when the items of a list from i on have moved by n places, up or
// down. A slice may have ended in the middle of that list.
func (c *collector) moved(h *header, i, n int) {
	if o := c.old; o != nil && i < o.at && o.cursor.gc() == gcOf(h) {
		o.at = max(o.at+n, i)
	}
}

// packed is called when the entries of a table have moved down. Of those that a slice
// in the middle of it will not see now, some may be containers.
func (c *collector) packed(h *header) {
	if o := c.old; o != nil && o.at > 0 && o.cursor.gc() == gcOf(h) {
		gcOf(h).flags |= gcLinks
	}
}

// condemned returns how far a collection is that has found an object to be garbage, which
// it will finalise, or take apart; and false if none has.
func (c *collector) condemned(g *gcHead) (phase, bool) {
	o := c.young
	if g.flags&gcOld != 0 {
		o = c.old
	}
	if o == nil || g.flags&gcWhite == 0 || o.phase < clearing {
		return 0, false
	}
	return o.phase, true
}

// revive moves a white object back to where it is marked.
func (c *cycle) revive(g *gcHead) {
	g.unlink()
	c.work.push(g)
	g.flags &^= gcWhite
	g.refs = 1
	if c.cursor.gc() == c.work {
		c.cursor.setGC(g)
	}
}

// budget is what a slice may do, in objects and references.
type budget struct {
	total int
	left  int // until over is asked
	more  int
	until time.Time
}

// newBudget is that of a slice; without limits it is all there is.
func newBudget(l SliceLimit) *budget {
	b := &budget{total: noLimit, more: noLimit}
	if l.Objects > 0 {
		b.total, b.more = l.Objects, l.Objects
	}
	if l.Time > 0 {
		b.until = time.Now().Add(l.Time)
	}
	b.over()
	b.left = max(b.left, 1) // however short the slice, it gets on
	return b
}

// spend reports whether the slice is over. It is inlined.
func (b *budget) spend(n int) bool {
	b.left -= n
	return b.left <= 0 && b.over()
}

// over looks at the clock, and grants some more.
func (b *budget) over() bool {
	grant := b.more
	if !b.until.IsZero() {
		if grant = min(grant, timeEvery); !time.Now().Before(b.until) {
			grant = 0
		}
	}
	b.left += grant
	b.more -= grant
	return b.left <= 0
}

func (b *budget) limited() bool { return b.total != noLimit || !b.until.IsZero() }

func (b *budget) spent() int { return b.total - b.left - b.more }

const noLimit = int(^uint(0) >> 1)

// begin starts a collection of a generation and the younger ones. The Space is
// locked.
func (c *collector) begin(gen int, sliced bool) *cycle {
	o := &cycle{gen: gen, sliced: sliced, work: &c.heads[listYoungWork], white: &c.heads[listYoungWhite], bit: gcYoung}
	if sliced {
		o.work, o.white, o.bit = &c.heads[listOldWork], &c.heads[listOldWhite], gcOld
		c.old = o
	} else {
		c.young = o
	}
	if gen < oldest {
		c.gen[gen+1].count++
	}
	for i := range gen + 1 {
		c.gen[i].count = 0
		o.work.take(&c.heads[i])
	}
	if gen == oldest {
		c.pendingN = 0
		c.s.clearFreeLists()
	}
	o.cursor = o.work.next
	return o
}

// advance works until the budget is spent or user code is to be called: then calls
// is not empty. The Space is locked.
func (c *collector) advance(o *cycle, b *budget) {
	for o.phase != finished && b.left > 0 && len(o.calls) == 0 {
		switch o.phase {
		case counting:
			o.count(b)
		case subtracting:
			o.subtract(b)
		case marking:
			o.mark(b, c)
		case clearing:
			o.clearWeak(b, c.s)
		case finalizing:
			o.finalize(b, c.s)
		case cutting:
			o.cut(b, c.s)
		case freeing:
			o.free(b, c.s)
		}
	}
}

// to enters the next phase, on a list.
func (o *cycle) to(p phase, list *gcHead) {
	o.phase = p
	o.cursor, o.at = list.next, 0
}

func (o *cycle) count(b *budget) {
	list := o.work
	g := o.cursor.gc()
	if !g.prev.gc().whole() {
		panic(errBroken)
	}
	for ; g != list; g = g.next.gc() {
		if !g.whole() { // the phases that follow would not end
			panic(errBroken)
		}
		g.flags = g.flags&^gcCycle | o.bit
		if g.refs = atomic.LoadInt32(&g.object().refs); g.refs <= 0 {
			g.flags |= gcTouched // immortal
		}
		if b.spend(1) {
			o.cursor = g.next
			return
		}
	}
	o.to(subtracting, list)
}

// A slice may end in the middle of a container, and the program change it then. What
// it puts in is touched. What is in there may move: of a list, the cycle is told where
// to (moved); in a table only down. So up is for subtracting: what moves down past it
// counts as alive. And down is for marking: it may meet again what moves.

// up returns the next references of a container, from the first to the last, and
// whether there are more.
func (o *cycle) up(h *header) (c children, more bool) {
	c = childrenOf(h)
	if o.at == 0 && (c.left <= window || !o.sliced) {
		return c, false
	}
	i := min(o.at, c.left)
	j := min(i+window, c.left)
	if o.at, more = j, j < c.left; !more {
		o.at = 0
	}
	return c.window(i, j), more
}

// down returns the next references of a container, from the last to the first, and
// whether there are more.
func (o *cycle) down(h *header) (c children, more bool) {
	c = childrenOf(h)
	if o.at == 0 && (c.left <= window || !o.sliced) {
		return c, false
	}
	j := c.left
	if o.at > 0 {
		j = min(j, o.at)
	}
	o.at = max(j-window, 0)
	return c.window(o.at, j), o.at > 0
}

func (o *cycle) subtract(b *budget) {
	list, bit := o.work, o.bit
	for g := o.cursor.gc(); g != list; {
		n, more := 1, false
		if g.flags&gcLinks != 0 || o.at > 0 {
			if o.at == 0 {
				g.flags &^= gcLinks
			}
			var c children
			c, more = o.up(g.object())
			n += c.left
			links := uint32(0)
			for c.left > 0 {
				var x *header
				if x, c = c.next(); x != nil && x.typ >= firstContainer {
					links = gcLinks
					if y := gcOf(x); y.flags&bit != 0 {
						y.refs--
					}
				}
			}
			g.flags |= links
		}
		if !more {
			g = g.next.gc()
		}
		if b.spend(n) {
			o.cursor.setGC(g)
			return
		}
	}
	o.to(marking, list)
}

func (o *cycle) mark(b *budget, c *collector) {
	list, bit := o.work, o.bit
	for g := o.cursor.gc(); g != list; {
		if g.refs <= 0 && g.flags&gcTouched == 0 {
			next := g.next.gc()
			g.unlink()
			o.white.push(g)
			g.flags |= gcWhite
			g = next
			o.cursor.setGC(g)
			if b.spend(1) {
				return
			}
			continue
		}
		o.cursor.setGC(g) // what is revived goes behind it
		n, more := 1, false
		if g.flags&gcLinks != 0 {
			var k children
			k, more = o.down(g.object())
			n += k.left
			for k.left > 0 {
				var x *header
				if x, k = k.next(); x != nil && x.typ >= firstContainer {
					if y := gcOf(x); y.flags&bit != 0 {
						if y.flags&gcWhite != 0 {
							o.revive(y)
						} else if y.refs <= 0 {
							y.refs = 1
						}
					}
				}
			}
		}
		if !more {
			g.flags &^= gcCycle
			o.marked++
			g = g.next.gc()
			o.cursor.setGC(g)
		}
		if b.spend(n) {
			return
		}
	}
	o.survive(c)
	switch {
	case o.white.empty():
		o.phase = finished
	case o.second || !o.sliced && !c.s.hasCallbacks(o.white):
		o.to(cutting, o.white)
	default:
		o.to(clearing, o.white)
	}
}

// survive gives what was marked to the next generation.
func (o *cycle) survive(c *collector) {
	switch o.gen {
	case oldest:
		o.reached += o.marked
	case oldest - 1:
		c.pendingN += o.marked
	}
	if o.second {
		c.gen[o.gen].Resurrected += o.marked
	}
	o.marked = 0
	c.heads[min(o.gen+1, oldest)].take(o.work)
}

// hasCallbacks reports whether white objects have finalisers or weak references.
func (s *Space) hasCallbacks(white *gcHead) bool {
	for g := white.next.gc(); g != white; g = g.next.gc() {
		if g.flags&gcWeak != 0 || s.wantsFinalizer(g) {
			return true
		}
	}
	return false
}

func (s *Space) wantsFinalizer(g *gcHead) bool {
	h := g.object()
	return h.typ >= typeUser && g.flags&gcFinalized == 0 && typeOf(h).finalize != nil
}

func (o *cycle) clearWeak(b *budget, s *Space) {
	for g := o.cursor.gc(); g != o.white; g = g.next.gc() {
		if g.flags&gcWeak != 0 {
			s.clearWeak(g.object(), true)
		}
		if b.spend(1) {
			o.cursor = g.next
			return
		}
	}
	o.calls, s.pending = s.pending, nil
	o.to(finalizing, o.white)
}

// finalize collects the finalisers to be called, each with a reference to its object.
func (o *cycle) finalize(b *budget, s *Space) {
	for g := o.cursor.gc(); g != o.white; g = g.next.gc() {
		if s.wantsFinalizer(g) {
			incref(g.object())
			g.flags |= gcFinalized
			o.calls = append(o.calls, callback{obj: g.object(), final: true})
		}
		if b.spend(1) {
			o.cursor = g.next
			return
		}
	}
	// The calls, if any, come before the second count.
	o.second = true
	o.work.take(o.white)
	o.to(counting, o.work)
}

func (o *cycle) cut(b *budget, s *Space) {
	bit := o.bit | gcWhite
	for g := o.cursor.gc(); g != o.white; {
		c, more := o.up(g.object())
		n := c.left + 1
		for c.left > 0 {
			var x *header
			if x, c = c.next(); x == nil || x.typ >= firstContainer && gcOf(x).flags&bit == bit {
				continue
			}
			s.lose(x)
		}
		if !more {
			g = g.next.gc()
		}
		if b.spend(n) {
			o.cursor.setGC(g)
			return
		}
	}
	o.to(freeing, o.white)
}

func (o *cycle) free(b *budget, s *Space) {
	g := o.white.next.gc()
	for g != o.white {
		next, h := g.next.gc(), g.object()
		h.refs = 0
		if g.flags&gcWeak != 0 {
			s.clearWeak(h, false)
		}
		s.freeContainer(h)
		o.collected++
		if g = next; b.spend(1) {
			break
		}
	}
	o.white.next.setGC(g)
	if g.prev.setGC(o.white); g == o.white {
		o.phase = finished
	}
}

// run advances a collection by a budget, and reports whether the collection is
// finished. The Space is locked, but while user code is called, and busy is set.
func (c *collector) run(o *cycle, b *budget) bool {
	s := c.s
	start := time.Now()
	for {
		c.advance(o, b)
		calls := o.calls
		o.calls = nil
		if len(calls) == 0 {
			break
		}
		s.callOut(calls)
	}
	spent := time.Since(start)
	o.time += spent
	if o.sliced && b.limited() { // not one that Collect finishes
		c.increment.Slices++
		c.increment.Longest = max(c.increment.Longest, spent)
		c.increment.MostObjects = max(c.increment.MostObjects, b.spent())
	}
	done := o.phase == finished
	if done {
		c.finish(o)
	}
	return done
}

// runWhole runs a new collection of a generation to its end.
func (c *collector) runWhole(gen int) *cycle {
	o := c.begin(gen, false)
	c.run(o, newBudget(SliceLimit{}))
	return o
}

// alone calls f with the Space locked, as the one that collects, unless somebody does so
// already, or the Space is closed.
func (s *Space) alone(f func()) error {
	c := &s.gc
	if s.locks {
		defer s.lockSlow().unlock()
	} else {
		defer s.settle()
	}
	if !s.open {
		return ErrClosed
	}
	if !c.busy {
		c.busy = true
		defer func() { c.busy = false }()
		if c.young != nil { // a finaliser ended the goroutine of the last one
			c.run(c.young, newBudget(SliceLimit{}))
		}
		f()
	}
	return nil
}

// finish books a collection.
func (c *collector) finish(o *cycle) {
	g := &c.gen[o.gen]
	g.Collections++
	g.Collected += o.collected
	g.Time += o.time
	if o.gen == oldest {
		c.totalN = o.reached
		if invariant.Enabled {
			if err := c.s.check(); err != nil {
				panic("invariant violated: " + err.Error())
			}
		}
	}
	if o.sliced {
		c.increment.Collections++
		c.old = nil
		return
	}
	g.Longest = max(g.Longest, o.time)
	c.young = nil
}

// made ends a constructor, unlocked.
func made[T View](s *Space, h *header, due bool, err error) (Ref[T], error) {
	if due {
		s.collectFor(h)
	}
	return refTo[T](h), err
}

// collectFor is called after an allocation that reached the threshold, unlocked. If user
// code ends the goroutine, so that nobody gets the new object, it is released.
func (s *Space) collectFor(h *header) {
	kept := false
	defer func() {
		if !kept && h != nil {
			decref(h)
		}
	}()
	_ = s.alone(s.collectDue) // a closed Space needs none
	kept = true
}

func (s *Space) collectDue() {
	c := &s.gc
	gen := -1
	for i := oldest; i >= 0 && gen < 0 && !c.off; i-- {
		if c.gen[i].count > c.gen[i].threshold && (i < oldest || c.pendingN >= c.totalN/4) {
			gen = i
		}
	}
	switch {
	case gen < 0: // somebody else came first
	case !c.slice.enabled():
		c.runWhole(gen)
	default:
		// The young go at once, and some of the old.
		if gen == oldest && c.old == nil {
			c.begin(oldest, true)
		} else {
			c.runWhole(min(gen, oldest-1))
		}
		if c.old != nil {
			c.run(c.old, newBudget(c.slice))
		}
	}
}

// Collect collects a generation, 0 to 2, and the younger ones, and returns how many
// objects were freed; 2 is a full collection, which also empties the free lists. It
// finishes a collection in slices first. While another collection is under way,
// as when a finaliser calls it, it does nothing.
func (s *Space) Collect(generation int) (int, error) {
	if generation < 0 || generation > oldest {
		return 0, fmt.Errorf("unsafeobj: Collect: generation %d, want 0 to %d", generation, oldest)
	}
	c, freed := &s.gc, 0
	err := s.alone(func() {
		if o := c.old; o != nil && generation == oldest {
			c.run(o, newBudget(SliceLimit{}))
			freed = o.collected
		}
		freed += c.runWhole(generation).collected
	})
	return freed, err
}

// CollectSlice does one slice of a collection of the oldest generation, as allocation
// does by itself, and reports whether the collection is finished: for a program that
// knows when it is idle. Without SpaceOptions.Incremental it is a full collection. While
// another collection is under way it does nothing, and reports false: a finaliser must
// not wait for it.
func (s *Space) CollectSlice() (done bool, err error) {
	c := &s.gc
	if !c.slice.enabled() {
		_, err := s.Collect(oldest)
		return true, err
	}
	err = s.alone(func() {
		if c.old == nil {
			c.begin(oldest, true)
		}
		done = c.run(c.old, newBudget(c.slice))
	})
	return done, err
}

// Disable stops collections that come by themselves. Counts still free what they can.
func (s *Space) Disable() { s.setOff(true) }

// Enable allows collections to come by themselves, as they do at first.
func (s *Space) Enable() { s.setOff(false) }

func (s *Space) setOff(off bool) {
	if s.locks {
		defer s.lockSlow().unlock()
	}
	s.gc.off = off
}

// SetThreshold sets when collections come by themselves: one of generation 0 when
// so many more containers were made than freed, and one of 1 and of 2 after so many
// of the generation below; one of 2 moreover only when a quarter has come to it.
// At first they are 700, 10 and 10. With 0, or less, each is followed by one; to have
// none, [Space.Disable] them.
func (s *Space) SetThreshold(g0, g1, g2 int) {
	if s.locks {
		defer s.lockSlow().unlock()
	}
	s.gc.setThresholds(g0, g1, g2)
}

func (c *collector) setThresholds(all ...int) {
	for i, n := range all {
		c.gen[i].threshold = n
	}
}

// Freeze takes all containers out of the collector's sight until Unfreeze: what a
// program has loaded and keeps for ever. It finishes a collection in slices first.
// While another collection is under way it does nothing.
func (s *Space) Freeze() {
	c := &s.gc
	_ = s.alone(func() { // a closed Space has none
		if c.old != nil {
			c.run(c.old, newBudget(SliceLimit{}))
		}
		for i := range c.gen {
			c.heads[listFrozen].take(&c.heads[i])
			c.gen[i].count = 0
		}
	})
}

// Unfreeze puts what Freeze took out into the oldest generation.
func (s *Space) Unfreeze() {
	if s.locks {
		defer s.lockSlow().unlock()
	}
	if s.open {
		s.gc.heads[oldest].take(&s.gc.heads[listFrozen])
	}
}
