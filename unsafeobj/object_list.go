package unsafeobj

import (
	"iter"
	"math"
	"unsafe"
)

// tupleObject has its items behind it.
type tupleObject struct {
	header
	n int
}

const tupleBytes = unsafe.Sizeof(tupleObject{})

// emptyTuple is the one tuple without items, immortal.
var emptyTuple = struct {
	gcHead
	tupleObject
}{tupleObject: tupleObject{header: header{refs: immortal, typ: typeTuple}}}

func tupleOf(h *header) *tupleObject { return (*tupleObject)(unsafe.Pointer(h)) }

func (t *tupleObject) item(i int) *link {
	return (*link)(unsafe.Add(unsafe.Pointer(t), tupleBytes+uintptr(i)*ptrBytes))
}

// Tuple is a handle on a tuple: items that cannot be replaced.
type Tuple struct {
	_ [0]*Tuple
	object
}

func (Tuple) accepts(h *header) bool { return h.typ == typeTuple }

// Tuple returns a tuple of items, which are borrowed. The caller owns it.
func (s *Space) Tuple(items ...Object) (Ref[Tuple], error) {
	if len(items) == 0 {
		return refTo[Tuple](&emptyTuple.header), nil
	}
	if err := s.admit(items); err != nil {
		return Ref[Tuple]{}, err
	}
	if s.locks {
		h, due, err := s.lockedTuple(items)
		return made[Tuple](s, h, due, err)
	}
	h, err := s.newTuple(items)
	if s.gc.due() {
		s.collectFor(h)
	}
	return refTo[Tuple](h), err
}

func (s *Space) lockedTuple(items []Object) (h *header, due bool, err error) {
	defer s.lockSlow().mu.Unlock()
	h, err = s.newTuple(items)
	return h, s.gc.due(), err
}

// newTuple makes a tuple, with the Space locked.
func (s *Space) newTuple(items []Object) (h *header, err error) {
	if !s.open {
		return nil, ErrClosed
	}
	if len(items) <= maxFreeTuple {
		h = s.tuples[len(items)].pop()
	}
	if h != nil {
		h.revive()
	} else if h, err = s.newContainer(typeTuple, gcBytes+tupleBytes+uintptr(len(items))*ptrBytes); err != nil {
		return nil, err
	}
	t := tupleOf(h)
	t.n = len(items)
	s.fill(h, t.item(0), items)
	s.track(h)
	return h, nil
}

// fill lets h, a new container of s, refer to items, in a row from first on.
func (s *Space) fill(h *header, first *link, items []Object) {
	to := unsafe.Slice(first, len(items))
	for i, o := range items {
		x := at(o.addr)
		if x.typ < firstContainer {
			incref(x)
		} else {
			s.hold(h, x)
		}
		to[i].set(x)
	}
}

// admit checks objects that are to be put into one of s.
func (s *Space) admit(items []Object) error {
	for _, x := range items {
		if x.addr == 0 || isDead(at(x.addr)) { // as live does, which is not inlined
			return notLive(x)
		}
		if h := at(x.addr); h.space != s.id && h.space != 0 {
			return ErrSpace
		}
	}
	return nil
}

// Len returns the number of items.
func (t Tuple) Len() int {
	if t.addr == 0 {
		return 0
	}
	return tupleOf(at(t.addr)).n
}

// Get returns item i, borrowed from the tuple.
func (t Tuple) Get(i int) (Object, error) {
	if t.addr == 0 {
		return Object{}, ErrNoObject
	}
	o := tupleOf(at(t.addr))
	if uint(i) >= uint(o.n) {
		return Object{}, ErrIndex
	}
	return objectOf(o.item(i).object()), nil
}

// All returns the items, borrowed from the tuple, which the loop keeps.
func (t Tuple) All() iter.Seq2[int, Object] {
	return func(yield func(int, Object) bool) {
		if t.addr == 0 || isDead(at(t.addr)) {
			return
		}
		t := Own(t)
		defer t.Release()
		for i := range t.Get().Len() {
			if !yield(i, objectOf(tupleOf(at(t.addr)).item(i).object())) {
				return
			}
		}
	}
}

type listObject struct {
	header
	items link // block of cap links
	n     uint32
	cap   uint32
}

func listOf(h *header) *listObject { return (*listObject)(unsafe.Pointer(h)) }

func (l *listObject) item(i uint32) *link {
	return (*link)(unsafe.Add(l.items.ptr(), uintptr(i)*ptrBytes))
}

// List is a handle on a list. Its items are its own references.
type List struct {
	_ [0]*List
	object
}

func (List) accepts(h *header) bool { return h.typ == typeList }

// List returns a list of items, which are borrowed. The caller owns it.
func (s *Space) List(items ...Object) (Ref[List], error) {
	if s.locks || len(items) > 0 {
		if err := s.admit(items); err != nil {
			return Ref[List]{}, err
		}
		h, due, err := s.listOf(items)
		return made[List](s, h, due, err)
	}
	h, err := s.newList()
	if s.gc.due() {
		s.collectFor(h)
	}
	return refTo[List](h), err
}

func (s *Space) listOf(items []Object) (h *header, due bool, err error) {
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	if h, err = s.newList(); err == nil && len(items) > 0 {
		h, err = s.fillNew(h, items)
	}
	return h, s.gc.due(), err
}

// fillNew fills a new list, or drops it.
func (s *Space) fillNew(h *header, items []Object) (*header, error) {
	if err := s.fillList(listOf(h), items); err != nil {
		s.drop(h)
		return nil, err
	}
	return h, nil
}

// newList makes an empty list, with the Space locked.
func (s *Space) newList() (*header, error) {
	if !s.open {
		return nil, ErrClosed
	}
	h := s.lists.pop()
	if h != nil {
		h.revive()
	} else {
		var err error
		if h, err = s.newContainer(typeList, gcBytes+unsafe.Sizeof(listObject{})); err != nil {
			return nil, err
		}
	}
	l := listOf(h)
	l.items, l.n, l.cap = 0, 0, 0
	s.track(h)
	return h, nil
}

// fillList puts the items into a new list, with no room for more.
func (s *Space) fillList(l *listObject, items []Object) error {
	if uint64(len(items)) > math.MaxUint32 {
		return ErrTooLong
	}
	if err := s.setCap(l, uint32(len(items))); err != nil {
		return err
	}
	s.fill(&l.header, l.item(0), items)
	l.n = uint32(len(items))
	return nil
}

// largeList is the number of items from which a list that grows doubles: their block is
// of whole pages then. To move them costs a page fault for each page, and what the list
// does not touch yet costs none.
const largeList = 4 << 10

// resize changes the capacity for n items, as CPython does: with an eighth more, and
// less only when half is unused.
func (s *Space) resize(l *listObject, n uint64) error {
	if n <= uint64(l.cap) && n >= uint64(l.cap)/2 {
		return nil
	}
	c := (n + n>>3 + 6) &^ 3
	switch {
	case n == 0:
		c = 0
	case n > math.MaxUint32:
		return ErrTooLong
	case n >= largeList && n > uint64(l.cap):
		c = n * 2
	}
	return s.setCap(l, uint32(min(c, math.MaxUint32)))
}

// setCap gives a list room for c items.
func (s *Space) setCap(l *listObject, c uint32) error {
	old := l.items.ptr()
	if c == 0 {
		l.items, l.cap = 0, 0
		if old != nil {
			s.free(old)
		}
		return nil
	}
	var p unsafe.Pointer
	var err error
	if size := uintptr(c) * ptrBytes; old == nil {
		p, err = s.alloc(size)
	} else {
		p, err = s.realloc(old, size)
	}
	if err != nil {
		return err
	}
	l.items, l.cap = link(uintptr(p)), c
	return nil
}

// Append adds v, borrowed, at the end.
func (l List) Append(v Object) error {
	if l.addr == 0 || v.addr == 0 {
		return ErrNoObject
	}
	o, x := listOf(at(l.addr)), at(v.addr)
	// In an owned Space, for what is no container, if there is room: no call.
	if o.space > 0 && o.n < o.cap && x.typ < firstContainer {
		if s := ownedByID(o.space); !s.locks {
			switch {
			case x.space == o.space && uint32(x.refs-1) < maxRefs:
				x.refs++
				fallthrough
			case x.space == 0:
				o.item(o.n).set(x)
				o.n++
				return nil
			}
		}
	}
	return l.Insert(math.MaxInt, v)
}

// Insert adds v, borrowed, before item i. As in Python i counts from the end if it
// is negative, and stands for the end that it is beyond.
func (l List) Insert(i int, v Object) error {
	h, x := at(l.addr), at(v.addr)
	if !fits(h, x) {
		return refusal(l.object, v)
	}
	s := spaceOf(h)
	if s.locks {
		return s.lockedInsert(h, x, i)
	}
	return s.insert(h, x, i)
}

func (s *Space) lockedInsert(h, x *header, i int) error {
	defer s.lockSlow().unlock()
	return s.insert(h, x, i)
}

// insert is [List.Insert] with the Space locked.
func (s *Space) insert(h, x *header, i int) error {
	o := listOf(h)
	if err := s.resize(o, uint64(o.n)+1); err != nil {
		return err
	}
	n := int(o.n)
	if i < 0 {
		i = max(i+n, 0)
	}
	i = min(i, n)
	items := unsafe.Slice((*link)(o.items.ptr()), n+1)
	copy(items[i+1:], items[i:])
	s.gc.moved(h, i, 1)
	s.hold(h, x)
	items[i].set(x)
	o.n++
	return nil
}

// Len returns the number of items.
func (l List) Len() int {
	if l.addr == 0 {
		return 0
	}
	h := at(l.addr)
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	return int(listOf(h).n)
}

// Get returns a new reference to item i.
func (l List) Get(i int) (AnyRef, error) {
	if l.addr == 0 {
		return AnyRef{}, ErrNoObject
	}
	h := at(l.addr)
	if h.space < 0 {
		return lockedItem(h, i)
	}
	o := listOf(h)
	if uint(i) >= uint(o.n) {
		return AnyRef{}, ErrIndex
	}
	x := o.item(uint32(i)).object()
	incref(x)
	return refTo[Object](x), nil
}

// lockedItem is [List.Get] in a shared Space. What is called more often has no defer, not
// even one that is not reached.
func lockedItem(h *header, i int) (AnyRef, error) {
	defer rlock(h).RUnlock()
	o := listOf(h)
	if uint(i) >= uint(o.n) {
		return AnyRef{}, ErrIndex
	}
	return Own(objectOf(o.item(uint32(i)).object())), nil
}

// Set replaces item i by v, borrowed.
func (l List) Set(i int, v Object) error {
	h, x := at(l.addr), at(v.addr)
	if !fits(h, x) {
		return refusal(l.object, v)
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().unlock()
	}
	o := listOf(h)
	if uint(i) >= uint(o.n) {
		return ErrIndex
	}
	p := o.item(uint32(i))
	old := p.object()
	s.hold(h, x)
	p.set(x)
	s.lose(old)
	s.settle()
	return nil
}

// Pop takes item i out of the list; -1 is the last one. The caller owns it.
func (l List) Pop(i int) (AnyRef, error) {
	h, err := live(l.object)
	if err != nil {
		return AnyRef{}, err
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	o := listOf(h)
	n := int(o.n)
	if i == -1 {
		i = n - 1
	}
	if uint(i) >= uint(n) {
		return AnyRef{}, ErrIndex
	}
	items := unsafe.Slice((*link)(o.items.ptr()), n)
	x := items[i].object()
	if x.typ >= firstContainer {
		s.gc.shade(x)
	}
	copy(items[i:], items[i+1:])
	o.n--
	s.gc.moved(h, i, -1)
	s.shrink(o)
	return refTo[Object](x), nil
}

// Delete removes the items from i to before j.
func (l List) Delete(i, j int) error {
	h, err := live(l.object)
	if err != nil {
		return err
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().unlock()
	}
	o := listOf(h)
	n := int(o.n)
	if i < 0 || j < i || j > n {
		return ErrIndex
	}
	if i < j {
		// The list is as it will be before the first of them dies.
		items := unsafe.Slice((*link)(o.items.ptr()), n)
		dead := append([]link(nil), items[i:j]...)
		copy(items[i:], items[j:])
		o.n = uint32(n - (j - i))
		s.gc.moved(h, i, i-j)
		s.shrink(o)
		for k := range dead {
			s.lose(dead[k].object())
		}
		s.settle()
	}
	return nil
}

// shrink gives back capacity that is no longer used. If there is no memory to do it
// in, the list stays large.
func (s *Space) shrink(l *listObject) { _ = s.resize(l, uint64(l.n)) }

// Contains reports whether an item is v, borrowed, or equal to it.
func (l List) Contains(v Object) (bool, error) {
	if l.addr == 0 || v.addr == 0 {
		return false, ErrNoObject
	}
	h, x := at(l.addr), at(v.addr)
	same, err := listContains(h, x)
	settleRead(h, x)
	return same, err
}

func listContains(h, x *header) (same bool, err error) {
	if h.space < 0 || x.space < 0 {
		defer unlockBoth(lockBoth(h, x))
	}
	o := listOf(h)
	for i := range o.n {
		if same, err = equalItems(o.item(i).object(), x, 0); same || err != nil {
			break
		}
	}
	return same, err
}

// All returns the items. Each is borrowed for its round of the loop, in which the
// list may change; the loop ends at the length that it has then, so that one whose body
// adds an item in each round is the body's to end. The loop keeps the list.
func (l List) All() iter.Seq2[int, Object] {
	return func(yield func(int, Object) bool) {
		if l.addr == 0 || isDead(at(l.addr)) {
			return
		}
		l := Own(l)
		defer l.Release()
		for i := 0; ; i++ {
			x, err := l.Get().Get(i)
			if err != nil {
				return
			}
			if !lend(x, func() bool { return yield(i, x.Object()) }) {
				return
			}
		}
	}
}

// lend calls the body of a loop, and releases what it has borrowed then, also if it
// panics.
func lend(x AnyRef, body func() bool) bool {
	defer x.Release()
	return body()
}
