package unsafeobj

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/blocks"
	"github.com/pyarena/pyarena/internal/invariant"
	"github.com/pyarena/pyarena/pymalloc"
)

// Space is a private heap of objects, with its own allocator and collector.
//
// An owned Space, the default, is used by one goroutine at a time, together with
// all its objects; its counts are plain numbers. A shared Space
// ([SpaceOptions.Shared]) and its objects may be used by any goroutines at once:
// counts are atomic, objects that cannot change need no lock, and lists, dicts,
// sets, Fields, weak references and the collector are guarded by one lock for the
// Space, which reading takes shared. What several goroutines write to at a high
// rate is best spread over several Spaces.
//
// Finalisers and callbacks run after the operation that caused them, outside the
// lock, in a goroutine that was using the Space; they may do everything.
//
// A Space must be closed: the process knows it by number, so it is not garbage.
type Space struct {
	id     int16 // as in headers: negative if shared
	open   bool  // made by NewSpace, and not closed
	shared bool
	locks  bool // shared, or a Class's function is running that must not change a container
	debug  bool

	heap *pymalloc.Heap // of an owned Space
	mem  *pymalloc.Allocator
	mu   sync.RWMutex // of a shared one

	numbers            freeList                             // ints and floats, which are of one size
	strings            [maxFreeString / stringStep]freeList // by the bytes of their blocks
	lists, dicts, sets freeList
	tuples             [maxFreeTuple + 1]freeList // by length
	instances          []*freeList                // by typeID-typeUser

	trash   link       // dead containers, through gcHead.next
	drains  bool       // somebody is emptying trash
	dying   quarantine // of a Debug space
	pending []callback
	corpses link // dead instances whose Dealloc is still to be called, through gcHead.next
	due     bool // there are such, or pending ones
	runs    int  // calls of settle under way

	made []*header // of FromGo, while it is under way

	gc       collector
	interned tableObject // the Intern'ed strings, which it does not count
	weak     map[uintptr][]*weakRef

	refuse   func() bool // of tests, with the tag invariants: should alloc fail?
	report   func(error)
	failures []error // that nobody was told
	failLock sync.Mutex
}

// SpaceOptions shape a Space. The zero value is what most programs want.
type SpaceOptions struct {
	// Shared lets any goroutines use the Space at once.
	Shared bool
	// Debug keeps the blocks of the last 4096 dead objects out of use, so that a
	// reference that is used once too often is noticed, and reported with its type.
	Debug bool
	// Incremental makes automatic collections of the oldest generation work in
	// slices. Its zero value has each done at once.
	Incremental SliceLimit
	// Memory are the options of the Space's allocator: the size of its arenas, a
	// limit.
	Memory pymalloc.Options
	// Report is called with what has no caller to return it to: a *CallbackError or
	// a *CountError, when the operation is over that has found it where it can be. It must
	// not use the Space. If it is nil, the first of these
	// errors are in that of Close.
	Report func(error)
}

// CPython's bounds of the free lists. It has one for ints since 3.14.
const (
	maxFreeNumbers = 100  // ints and floats together
	maxFreeTuple   = 20   // length
	maxFreeTuples  = 2000 // of each length
	maxFreeLists   = 80
	maxFreeDicts   = 80
	maxFreeSets    = 80

	// CPython has none for str.
	maxFreeString  = 64  // bytes of a block
	maxFreeStrings = 100 // of each size
	stringStep     = 16  // from one size to the next
)

const (
	quarantined = 4096
	maxFailures = 16
	spaceChunk  = 256
	maxSpaces   = 1 << 15
)

// spaces are those of the process by number, which is never 0. The first ones, and most
// processes have no more, are one load away.
var (
	spaces     [maxSpaces / spaceChunk]atomic.Pointer[spaceTable]
	firstOnes  spaceTable // spaces[0]
	spacesLock sync.Mutex
)

type spaceTable [spaceChunk]atomic.Pointer[Space]

func spaceByID(id int16) *Space { return ownedByID(max(id, -id)) }

// ownedByID is spaceByID for what is known to be of an owned Space.
func ownedByID(id int16) *Space {
	n := uint16(id) % maxSpaces // which it is anyway, for no check of bounds
	if n < spaceChunk {
		return firstOnes[n].Load()
	}
	return spaces[n/spaceChunk].Load()[n%spaceChunk].Load()
}

func spaceOf(h *header) *Space { return spaceByID(h.space) }

// NewSpace makes a Space. Any goroutine may call it.
func NewSpace(o SpaceOptions) (*Space, error) {
	if err := o.Incremental.check(); err != nil {
		return nil, err
	}
	mem, err := pymalloc.NewAllocator(o.Memory)
	if err != nil {
		return nil, err
	}
	s := &Space{shared: o.Shared, locks: o.Shared, debug: o.Debug, mem: mem, report: o.Report, weak: map[uintptr][]*weakRef{}}
	if !s.shared {
		s.heap = mem.AcquireHeap()
	}
	if err := s.gc.init(s, o.Incremental); err != nil {
		return nil, errors.Join(err, mem.Close())
	}
	s.interned.typ = typeSet
	s.open = true
	s.setBounds()
	if s.debug {
		s.dying.ring = make([]link, quarantined)
	}
	if err := s.enlist(); err != nil {
		return nil, errors.Join(err, mem.Close())
	}
	return s, nil
}

// setBounds gives the free lists their bounds, which are 0 where dead objects are not
// to be used again at once, or are without a lock: the leaves of a shared Space.
func (s *Space) setBounds() {
	if s.debug {
		return
	}
	s.lists.max, s.dicts.max, s.sets.max = maxFreeLists, maxFreeDicts, maxFreeSets
	for i := range s.tuples {
		s.tuples[i].max = maxFreeTuples
	}
	if s.shared {
		return
	}
	s.numbers.max = maxFreeNumbers
	for i := range s.strings {
		s.strings[i].max = maxFreeStrings
	}
}

// enlist gives s a number that no Space has.
func (s *Space) enlist() error {
	spacesLock.Lock()
	defer spacesLock.Unlock()
	for c := range spaces {
		chunk := spaces[c].Load()
		if chunk == nil {
			if chunk = &firstOnes; c > 0 {
				chunk = new(spaceTable)
			}
			spaces[c].Store(chunk)
		}
		for i := range chunk {
			if id := c*spaceChunk + i; id > 0 && chunk[i].Load() == nil {
				s.id = int16(id)
				if s.shared {
					s.id = -s.id
				}
				chunk[i].Store(s)
				return nil
			}
		}
	}
	return ErrSpaces
}

// Close frees all objects that are left, without finalising them, and gives the
// memory back. If there were any it returns a [LeakError], joined with the errors
// that could not be reported. References into the Space must not be used any more.
// Nobody else may use the Space meanwhile; a function of a Class, a finaliser or a
// callback of the Space gets [ErrBusy].
func (s *Space) Close() (err error) {
	if s.locks && !s.shared {
		return ErrBusy
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return ErrClosed
	}
	if s.runs > 0 || s.gc.busy {
		return ErrBusy
	}
	s.settle() // what died while a function of a Class was running
	s.open = false
	left, broken := s.census()
	for _, refs := range s.weak {
		for _, w := range refs {
			w.addr.Store(0)
		}
	}
	defer func() { // also if a Dealloc ends the goroutine
		errs := s.failures
		if len(left) > 0 {
			errs = append(errs, &LeakError{Objects: left})
		}
		err = s.end(append(errs, broken))
	}()
	s.runs++ // so that a Dealloc cannot close the Space
	s.deallocAll()
	return nil
}

// end gives back all that a Space has, and returns what is to be told, with what goes
// wrong now.
func (s *Space) end(errs []error) error {
	for _, f := range s.freeLists() {
		*f = freeList{}
	}
	s.instances, s.weak, s.pending, s.dying.ring, s.made = nil, nil, nil, nil, nil
	spacesLock.Lock()
	spaces[max(s.id, -s.id)/spaceChunk].Load()[max(s.id, -s.id)%spaceChunk].Store(nil)
	spacesLock.Unlock()
	if s.heap != nil {
		s.heap.Release()
	}
	return errors.Join(append(errs, s.mem.Close())...)
}

// census counts the live objects by type.
func (s *Space) census() (map[string]int, error) {
	all := *types.Load()
	left := map[string]int{}
	add := func(t typeID, n int) {
		if n != 0 {
			left[all[t].name] += n
		}
	}
	for t, n := range s.leaves() {
		add(typeID(t), n)
	}
	err := s.gc.each(func(h *header) { add(h.typ, 1) })
	return left, err
}

// leaves counts the live objects without a collector header, which are in no list: of the
// allocator's live blocks those that begin as they do, less the others that happen to, and
// those that are kept dead. The Space is locked; of leaves that come or go meanwhile it is
// a glimpse.
func (s *Space) leaves() (n [firstContainer]int) {
	count := func(first uint64, by int) {
		if h := *(*header)(unsafe.Pointer(&first)); h.space == s.id && h.typ < firstContainer {
			n[h.typ] += by
		}
	}
	blocks.Each(s.mem, func(_ unsafe.Pointer, first uint64) { count(first, 1) })
	other := func(p unsafe.Pointer) {
		if p != nil {
			count(*(*uint64)(p), -1)
		}
	}
	other(unsafe.Pointer(s.gc.heads))
	other(s.interned.table.ptr())
	_ = s.gc.each(func(h *header) { // census tells the error
		other(blockOf(h))
		other(h.rest())
	})
	for _, f := range s.freeLists() {
		f.each(func(h *header) { other(blockOf(h)) })
	}
	s.dying.each(func(h *header) { other(blockOf(h)) })
	for g := s.corpses.gc(); g != nil; g = g.next.gc() {
		other(unsafe.Pointer(g))
	}
	return n
}

// rest returns the block that a container has besides its own, nil if there is none.
func (h *header) rest() unsafe.Pointer {
	switch h.typ {
	case typeList:
		return listOf(h).items.ptr()
	case typeDict, typeSet:
		return tableOf(h).table.ptr()
	}
	return nil
}

// deallocAll calls the Dealloc of what is left.
func (s *Space) deallocAll() {
	_ = s.gc.each(func(h *header) { // census has told the error
		if h.typ >= typeUser && typeOf(h).dealloc != nil {
			gcOf(h).unlink()
			s.layOut(h)
		}
	})
	s.deallocate()
}

// SpaceStats are figures of a Space.
type SpaceStats struct {
	Objects     map[string]int // live objects by type's name
	Generations [3]GenerationStats
	Frozen      int // objects that Freeze took out
	Incremental IncrementalStats
	Interned    int // strings
	Memory      pymalloc.Stats
}

// Stats returns figures: it walks over all objects, some nanoseconds each. Any goroutine
// may call it if the Space is shared.
func (s *Space) Stats() SpaceStats {
	if s.locks {
		defer s.lockSlow().unlock()
	}
	if !s.open {
		return SpaceStats{}
	}
	st := SpaceStats{Interned: s.interned.n, Memory: s.mem.Stats()}
	st.Objects, _ = s.census() // Close tells the error
	s.gc.stats(&st)
	return st
}

// Trim empties the free lists and gives free memory back to the system now.
func (s *Space) Trim() error {
	if err := s.clearAll(); err != nil {
		return err
	}
	return s.mem.Trim()
}

func (s *Space) clearAll() error {
	if s.locks {
		defer s.lockSlow().unlock()
	}
	if !s.open {
		return ErrClosed
	}
	s.clearFreeLists()
	return nil
}

// The brackets of an operation. What changes a container begins with
//
//	if s.locks {
//		defer s.lockSlow().unlock()
//	}
//
// and ends with s.settle, if something may have died in it; what only reads an object
// begins with
//
//	if h.space < 0 {
//		defer rlock(h).RUnlock()
//	}
//
// A panic, or the end of the goroutine in a function of a Class, so leaves no lock
// behind. In an owned Space the compiler makes two tests of these. Constructors have
// functions of their own for shared Spaces, and tell whether it is time to collect.

// lockSlow locks a shared Space. In an owned one it refuses to do what a function of a
// Class has asked for.
func (s *Space) lockSlow() *Space {
	if !s.shared {
		panic(ErrReentered)
	}
	s.mu.Lock()
	return s
}

// lock is lockSlow where it is needed.
func (s *Space) lock() {
	if s.locks {
		s.lockSlow()
	}
}

// unlock ends lock and lockSlow.
func (s *Space) unlock() {
	if s.shared {
		defer s.mu.Unlock()
	}
	if s.due {
		s.settleAll()
	}
}

// rlock locks the shared Space of an object for reading.
func rlock(h *header) *sync.RWMutex {
	m := &spaceOf(h).mu
	m.RLock()
	return m
}

// callback is a call of user code that waits for the end of the operation.
type callback struct {
	weak  *weakRef // to be called back for,
	err   error    // or an error to be reported,
	obj   *header  // or an object of which a reference is to be dropped,
	final bool     // after it was finalised
}

// settle ends an operation of an owned Space: it has user code called that waits for that.
// In a shared one unlock does so.
func (s *Space) settle() {
	if s.due {
		s.settleAll()
	}
}

// later has user code called when the operation is over. Neither it nor what calls it for
// dying objects is inlined: that would take registers from those who hardly ever call it.
//
//go:noinline
func (s *Space) later(c callback) {
	s.pending = append(s.pending, c)
	s.due = true
}

// dieLater has a container die when the operation is over: it is to be finalised before, or
// the operation has called a function of a Class, and may be about this one.
//
//go:noinline
func (s *Space) dieLater(h *header, final bool) {
	atomic.StoreInt32(&h.refs, 1)
	s.later(callback{obj: h, final: final})
}

// A callback may cause others, which are run within it, in a shared Space, for each
// goroutine runs its own; but not deeper than maxNested, so that no chain of them is
// too long for the stack. Then they are left to one of the calls that are under way.
const maxNested = 1000

// settleAll runs what is pending. The Space is locked, but while user code is called. If
// that ends the goroutine the rest is run all the same.
func (s *Space) settleAll() {
	if s.runs >= maxNested || !s.shared && s.locks {
		return
	}
	if !s.shared && s.runs > 0 { // in a callback: the others are left to who called it
		s.deallocate()
		return
	}
	s.runs++
	defer s.settled()
	for s.due {
		s.settleSome()
	}
}

func (s *Space) settleSome() {
	s.deallocate() // if that ends the goroutine the rest is still due
	todo := s.pending
	s.pending, s.due = nil, s.corpses != 0
	s.callOut(todo)
}

// settled ends settleAll, also if user code has ended the goroutine, or panics.
func (s *Space) settled() {
	defer func() { s.runs-- }()
	if s.due {
		inTurn(func() bool { return s.due }, s.settleSome)
	}
}

// callOut calls user code, with the Space unlocked. It is locked again also if that
// ends the goroutine.
func (s *Space) callOut(todo []callback) {
	if len(todo) == 0 {
		return
	}
	if s.shared {
		s.mu.Unlock()
		defer s.mu.Lock()
	}
	n := 0
	defer func() {
		if n < len(todo) {
			s.runRest(todo[n:])
		}
	}()
	for n < len(todo) {
		n++
		s.run(todo[n-1])
	}
}

// runRest goes on when user code has ended the goroutine.
func (s *Space) runRest(todo []callback) {
	inTurn(func() bool { return len(todo) > 0 }, func() {
		c := todo[0]
		todo = todo[1:]
		s.run(c)
	})
}

func (s *Space) run(c callback) {
	if w := c.weak; w != nil {
		if !w.over.Swap(true) { // nobody has dropped it
			s.guard("weak reference's callback", w.name, w.callback)
		}
		return
	}
	if c.err != nil {
		s.tell(c.err)
		return
	}
	defer decref(c.obj)
	if c.final {
		t := typeOf(c.obj)
		s.guard("finalizer", t.name, func() { t.finalize(objectOf(c.obj)) })
	}
}

// inTurn calls step while there is more to do, each time in a goroutine of its own, which it
// may end. It is for what is left to do for a goroutine that user code has ended.
func inTurn(more func() bool, step func()) {
	var last any
	for more() {
		if v := apart(step); v != nil {
			last = v
		}
	}
	if last != nil {
		panic(last)
	}
}

// apart calls f in another goroutine, waits for its end, and returns what it panicked with.
// f may end that goroutine.
func apart(f func()) (panicked any) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		f()
	}()
	<-done
	return panicked
}

// guard calls user code, and reports its panic.
func (s *Space) guard(what, typ string, f func()) {
	defer func() {
		if v := recover(); v != nil {
			s.tell(&CallbackError{Type: typ, What: what, Value: v, Stack: debug.Stack()})
		}
	}()
	f()
}

// tell reports an error that has no caller.
func (s *Space) tell(err error) {
	if s.report != nil {
		s.report(err)
		return
	}
	s.failLock.Lock()
	defer s.failLock.Unlock()
	if len(s.failures) < maxFailures {
		s.failures = append(s.failures, err)
	}
}

// freeList keeps dead objects of one size, through the word after the header.
// Their blocks count as allocated. The one that died last stands apart: where one
// dies before the next is made nothing is counted, nor linked.
type freeList struct {
	last   link
	head   link
	n, max int // those linked, and the most of all
}

func nextFree(h *header) *link { return (*link)(unsafe.Add(unsafe.Pointer(h), headerBytes)) }

func (f *freeList) pop() *header {
	h := f.last.object()
	if h != nil {
		f.last = 0
	} else if h = f.head.object(); h != nil {
		f.head = *nextFree(h)
		f.n--
	}
	return h
}

func (f *freeList) push(h *header) bool {
	if f.last == 0 && f.max > 0 {
		f.last.set(h)
		return true
	}
	if f.n+1 >= f.max {
		return false
	}
	*nextFree(h) = f.head
	f.head.set(h)
	f.n++
	return true
}

// each calls do for all of them.
func (f *freeList) each(do func(*header)) {
	if h := f.last.object(); h != nil {
		do(h)
	}
	h := f.head.object()
	for range f.n { // no walk without end if the list is broken
		if h == nil {
			return
		}
		do(h)
		h = nextFree(h).object()
	}
}

func (s *Space) freeLists() []*freeList {
	all := []*freeList{&s.numbers, &s.lists, &s.dicts, &s.sets}
	for i := range s.strings {
		all = append(all, &s.strings[i])
	}
	for i := range s.tuples {
		all = append(all, &s.tuples[i])
	}
	for _, f := range s.instances {
		if f != nil {
			all = append(all, f)
		}
	}
	return all
}

// freeInstances returns the free list of a Class, nil if it has none.
func (s *Space) freeInstances(t *Type) *freeList {
	if t.free <= 0 || s.debug {
		return nil
	}
	i := int(t.id - typeUser)
	if i >= len(s.instances) {
		s.instances = append(s.instances, make([]*freeList, i+1-len(s.instances))...)
	}
	if s.instances[i] == nil {
		s.instances[i] = &freeList{max: t.free}
	}
	return s.instances[i]
}

// clearFreeLists frees the blocks in the free lists, and those in quarantine.
func (s *Space) clearFreeLists() {
	for _, f := range s.freeLists() {
		for range f.n + 1 { // one stands apart; no walk without end if the list is broken
			if h := f.pop(); h != nil {
				s.retire(h)
			}
		}
	}
	for range s.dying.ring {
		if h := s.dying.swap(nil); h != nil {
			s.free(blockOf(h))
		}
	}
}

// quarantine keeps the dead objects of a Debug space that died last. Any goroutine may
// use it: leaves of a shared Space die without its lock.
type quarantine struct {
	mu     sync.Mutex
	ring   []link
	oldest int
}

// swap takes the oldest place for h, or for none, and returns what was there.
func (q *quarantine) swap(h *header) (old *header) {
	q.mu.Lock()
	defer q.mu.Unlock()
	old = q.ring[q.oldest].object()
	q.ring[q.oldest].set(h)
	q.oldest = (q.oldest + 1) % len(q.ring)
	return old
}

// each calls f for all that are kept.
func (q *quarantine) each(f func(*header)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.ring {
		if h := q.ring[i].object(); h != nil {
			f(h)
		}
	}
}

// alloc, realloc and free are the Space's memory.
func (s *Space) alloc(n uintptr) (unsafe.Pointer, error) {
	if invariant.Enabled && s.refuse != nil && s.refuse() {
		return nil, errRefused
	}
	if s.heap != nil {
		return s.heap.UnsafeMalloc(int(n))
	}
	return s.mem.UnsafeMalloc(int(n))
}

func (s *Space) realloc(p unsafe.Pointer, n uintptr) (unsafe.Pointer, error) {
	if invariant.Enabled && s.refuse != nil && s.refuse() {
		return nil, errRefused
	}
	if s.heap != nil {
		return s.heap.UnsafeRealloc(p, int(n))
	}
	return s.mem.UnsafeRealloc(p, int(n))
}

func (s *Space) free(p unsafe.Pointer) {
	var err error
	if s.heap != nil {
		err = s.heap.UnsafeFree(p)
	} else {
		err = s.mem.UnsafeFree(p)
	}
	if err != nil {
		s.notFreed(err)
	}
}

func (s *Space) notFreed(err error) {
	s.tell(fmt.Errorf("unsafeobj: a dead object's block: %w", err))
}

// newLeaf makes an object without a collector header, with one reference. In a
// shared Space it needs no lock.
func (s *Space) newLeaf(t typeID, size uintptr) (*header, error) {
	if !s.open {
		return nil, ErrClosed
	}
	var p unsafe.Pointer
	var err error
	if s.shared && !invariant.Enabled {
		p, err = s.mem.UnsafeMalloc(int(size))
	} else {
		p, err = s.alloc(size)
	}
	if err != nil {
		return nil, err
	}
	h := (*header)(p)
	h.begin(header{refs: 1, typ: t, space: s.id})
	return h, nil
}

// freeLeaf frees a dead object without a collector header. Where the Space is
// shared it needs no lock, but for an interned string.
func (s *Space) freeLeaf(h *header) {
	switch h.typ {
	case typeInt, typeFloat:
		if s.numbers.push(h) {
			return
		}
	case typeString:
		if isInterned(h) {
			s.unintern(h)
		}
		if f := s.freeStrings(stringBytes + uintptr(stringOf(h).n)); f != nil && f.push(h) {
			return
		}
	}
	s.retire(h)
}

// retire frees a dead object's block, or in a Debug space the one that died
// quarantined objects ago.
func (s *Space) retire(h *header) {
	if s.debug {
		if h = s.dying.swap(h); h == nil {
			return
		}
	}
	s.free(blockOf(h))
}

// blockOf returns the block that an object is.
func blockOf(h *header) unsafe.Pointer {
	if h.typ >= firstContainer {
		return unsafe.Pointer(gcOf(h))
	}
	return unsafe.Pointer(h)
}

// newContainer makes an object with a collector header and one reference, not yet
// tracked.
func (s *Space) newContainer(t typeID, size uintptr) (*header, error) {
	p, err := s.alloc(size)
	if err != nil {
		return nil, err
	}
	g := (*gcHead)(p)
	g.flags = 0
	h := g.object()
	*h = header{refs: 1, typ: t, space: s.id}
	return h, nil
}

// revive makes of a container from a free list what newContainer makes. It is inlined, as pop
// is.
func (h *header) revive() {
	gcOf(h).flags = 0
	h.refs = 1
}

// dead ends an object whose count is 0. A container waits in trash, so that a chain
// of any length dies without recursion.
func (s *Space) dead(h *header) {
	if h.typ < firstContainer {
		s.freeLeaf(h)
		return
	}
	g := gcOf(h)
	if g.flags&gcDead != 0 { // two goroutines have dropped the last reference
		s.misusedLater(h, "is released")
		return
	}
	if h.typ >= typeUser && g.flags&gcFinalized == 0 {
		if t := typeOf(h); t.finalize != nil {
			g.flags |= gcFinalized
			s.dieLater(h, true)
			return
		}
	}
	g.flags |= gcDead
	if g.flags&gcWeak != 0 {
		s.clearWeak(h, false)
	}
	s.gc.untrack(g)
	if s.drains {
		g.next = s.trash
		s.trash.setGC(g)
		return
	}
	s.drains = true
	for {
		for c := childrenOf(h); c.left > 0; {
			var x *header
			if x, c = c.next(); x != nil {
				s.lose(x)
			}
		}
		s.freeContainer(h)
		g := s.trash.gc()
		if g == nil {
			break
		}
		s.trash = g.next
		h = g.object()
	}
	s.drains = false
}

// freeContainer frees a dead container whose references are gone.
func (s *Space) freeContainer(h *header) {
	var f *freeList
	switch h.typ {
	case typeTuple:
		if n := (*tupleObject)(unsafe.Pointer(h)).n; n <= maxFreeTuple {
			f = &s.tuples[n]
		}
	case typeList:
		l := listOf(h)
		if p := l.items.ptr(); p != nil {
			s.free(p)
			l.items, l.n, l.cap = 0, 0, 0 // for who has a stale handle
		}
		f = &s.lists
	case typeDict, typeSet:
		t := tableOf(h)
		if p := t.table.ptr(); p != nil {
			s.free(p)
			t.table, t.n = 0, 0
		}
		if f = &s.sets; h.typ == typeDict {
			f = &s.dicts
		}
	default:
		t := typeOf(h)
		if t.dealloc != nil {
			s.layOut(h)
			return
		}
		f = s.freeInstances(t)
	}
	if f == nil || !f.push(h) {
		s.retire(h)
	}
}

// layOut has the Dealloc of a dead instance called when the operation is over.
func (s *Space) layOut(h *header) {
	g := gcOf(h)
	g.next = s.corpses
	s.corpses.setGC(g)
	s.due = true
}

// deallocate calls the Dealloc of dead instances and then frees their blocks. The Space is
// locked, but while user code is called; if it is owned it refuses changes meanwhile. If
// user code ends the goroutine the rest is done all the same.
func (s *Space) deallocate() {
	first := s.corpses.gc()
	if first == nil {
		return
	}
	s.corpses = 0
	if s.shared {
		s.mu.Unlock()
	} else {
		s.locks = true
	}
	g := first
	defer s.freeCorpses(first)
	defer func() {
		if g != nil { // user code has ended the goroutine
			s.dismissRest(g)
		}
	}()
	for g != nil {
		h := g.object()
		g = g.next.gc()
		s.dismiss(h)
	}
}

// dismiss calls a dead instance's Dealloc.
func (s *Space) dismiss(h *header) {
	t := typeOf(h)
	s.guard("Dealloc", t.name, func() { t.dealloc(payloadOf(h)) })
}

func (s *Space) dismissRest(g *gcHead) {
	inTurn(func() bool { return g != nil }, func() {
		h := g.object()
		g = g.next.gc()
		s.dismiss(h)
	})
}

// freeCorpses ends deallocate.
func (s *Space) freeCorpses(g *gcHead) {
	if s.shared {
		s.mu.Lock()
	} else {
		s.locks = false
	}
	for g != nil {
		h := g.object()
		g = g.next.gc()
		if f := s.freeInstances(typeOf(h)); f == nil || !f.push(h) {
			s.retire(h)
		}
	}
}

// sameSpace reports whether x may be put into an object of h's Space.
func sameSpace(h, x *header) bool { return x.space == h.space || x.space == 0 }

// live returns an object that is to be changed, or put into another, unless there is none,
// or it is seen to be dead, which is told.
func live(o Object) (*header, error) {
	if o.addr != 0 {
		if h := at(o.addr); !isDead(h) {
			return h, nil
		}
	}
	return nil, notLive(o)
}

func notLive(o Object) error {
	if o.addr == 0 {
		return ErrNoObject
	}
	return misused(at(o.addr), "is used")
}

func isDead(h *header) bool { return atomic.LoadInt32(&h.refs) == 0 }

// fits reports whether an object may be put into a container: both are alive, and of one Space.
// It is inlined; refusal tells what is wrong.
func fits(h, x *header) bool {
	return h != nil && x != nil && !isDead(h) && !isDead(x) && sameSpace(h, x)
}

func refusal(container, item Object) error {
	for _, o := range [...]Object{container, item} {
		if _, err := live(o); err != nil {
			return err
		}
	}
	return ErrSpace
}

// hold adds the reference that h, a container of s, has to x.
func (s *Space) hold(h, x *header) {
	incref(x)
	if x.typ >= firstContainer {
		gcOf(h).flags |= gcLinks
		s.gc.shade(x)
	}
}

// lose drops the reference that an object of s had to x. It is inlined; only what is
// a container, shared or dead now is called.
func (s *Space) lose(x *header) {
	if x.typ < firstContainer && x.space > 0 && x.refs > 1 {
		x.refs--
		return
	}
	s.loseSlow(x)
}

func (s *Space) loseSlow(x *header) {
	if x.typ >= firstContainer {
		s.gc.shade(x)
	}
	s.drop(x)
}
