package unsafeobj

import (
	"iter"
	"unsafe"
)

// Dict is a handle on a dict. It keeps the order of insertion; keys and values are
// its own references.
type Dict struct {
	_ [0]*Dict
	object
}

func (Dict) accepts(h *header) bool { return h.typ == typeDict }

// Dict returns an empty dict, which the caller owns.
func (s *Space) Dict() (Ref[Dict], error) {
	if s.locks {
		h, due, err := s.lockedDict()
		return made[Dict](s, h, due, err)
	}
	h, err := s.newTableObject(typeDict, &s.dicts)
	if s.gc.due() {
		s.collectFor(h)
	}
	return refTo[Dict](h), err
}

func (s *Space) lockedDict() (h *header, due bool, err error) {
	defer s.lockSlow().mu.Unlock()
	h, err = s.newTableObject(typeDict, &s.dicts)
	return h, s.gc.due(), err
}

// newTableObject makes an empty dict or set, with the Space locked.
func (s *Space) newTableObject(t typeID, f *freeList) (*header, error) {
	if !s.open {
		return nil, ErrClosed
	}
	h := f.pop()
	if h != nil {
		h.revive()
	} else {
		var err error
		if h, err = s.newContainer(t, gcBytes+unsafe.Sizeof(tableObject{})); err != nil {
			return nil, err
		}
	}
	o := tableOf(h)
	o.table, o.n = 0, 0
	s.track(h)
	return h, nil
}

// Len returns the number of entries.
func (d Dict) Len() int { return tableLen(d.object) }

func tableLen(o Object) int {
	if o.addr == 0 {
		return 0
	}
	h := at(o.addr)
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	return tableOf(h).n
}

// Set sets the value of a key, both borrowed. A key that is there already stays. A
// key that cannot be hashed, such as a list, is a [TypeError].
func (d Dict) Set(k, v Object) error {
	h, key := at(d.addr), at(k.addr)
	if !fits(h, key) {
		return refusal(d.object, k)
	}
	value := at(v.addr)
	if !fits(h, value) {
		return refusal(d.object, v)
	}
	s := spaceOf(h)
	if s.locks {
		return s.lockedPut(h, key, value)
	}
	var err error
	if asks(key) {
		err = s.putHeld(h, key, value)
	} else if hash, e := hashOf(key, 0); e == nil {
		err = s.put(tableOf(h), hash, key, value)
	} else {
		err = e
	}
	s.settle()
	return err
}

func (s *Space) lockedPut(h, key, value *header) error {
	defer s.lockSlow().unlock()
	return s.putHeld(h, key, value)
}

// putHeld is put where functions of a Class may be called, which may release the value.
func (s *Space) putHeld(h, key, value *header) error {
	incref(value)
	defer s.drop(value)
	hash, err := hashOf(key, 0)
	if err != nil {
		return err
	}
	return s.put(tableOf(h), hash, key, value)
}

// put sets the value of a key, both borrowed, with the Space locked.
func (s *Space) put(o *tableObject, hash uint64, key, value *header) error {
	i, slot, err := o.tab().locate(hash, key)
	if err != nil {
		return err
	}
	if i >= 0 {
		s.replace(o, i, value)
		return nil
	}
	if err := s.insertNew(o, hash, slot, key, value); err != nil {
		return err
	}
	s.hold(&o.header, key)
	s.hold(&o.header, value)
	return nil
}

// replace changes the value of entry i of a dict.
func (s *Space) replace(o *tableObject, i int, value *header) {
	e := o.tab().entry(i)
	old := e.value.object()
	s.hold(&o.header, value)
	e.value.set(value)
	s.lose(old)
}

// SetString sets the value, borrowed, of a str key, which it makes if need be.
func (d Dict) SetString(k string, v Object) error {
	h, value := at(d.addr), at(v.addr)
	if !fits(h, value) {
		return refusal(d.object, v)
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().unlock()
	}
	err := s.putString(tableOf(h), k, value)
	s.settle()
	return err
}

func (s *Space) putString(o *tableObject, k string, value *header) error {
	hash, slot := hashString(k), uint64(0)
	if t := o.tab(); t != nil {
		var i int
		if i, slot = t.locateString(hash, k); i >= 0 {
			s.replace(o, i, value)
			return nil
		}
	}
	key, err := s.newString(typeString, k)
	if err != nil {
		return err
	}
	stringOf(key).hash = hash
	if err := s.insertNew(o, hash, slot, key, value); err != nil {
		s.drop(key)
		return err
	}
	s.hold(&o.header, value)
	return nil
}

// Get returns a new reference to the value of a key, which is borrowed;
// [ErrNotFound] if it is not there.
func (d Dict) Get(k Object) (AnyRef, error) {
	if d.addr == 0 || k.addr == 0 {
		return AnyRef{}, ErrNoObject
	}
	h, key := at(d.addr), at(k.addr)
	if h.space < 0 {
		return lockedGet(h, key)
	}
	return tableGet(h, key)
}

func lockedGet(h, key *header) (AnyRef, error) {
	defer rlock(h).RUnlock()
	return tableGet(h, key)
}

func tableGet(h, key *header) (AnyRef, error) {
	i := -1
	hash, err := hashOf(key, 0)
	if err == nil && !isDead(h) { // as find does, which is not inlined
		i, _, err = tableOf(h).tab().locate(hash, key)
	}
	if i < 0 {
		if err == nil {
			err = ErrNotFound
		}
		if h.space > 0 && asks(key) {
			settleRead(h, key)
		}
		return AnyRef{}, err
	}
	x := tableOf(h).tab().entry(i).value.object()
	incref(x)
	if h.space > 0 && asks(key) {
		settleFound(h, key, x)
	}
	return refTo[Object](x), nil
}

// asks reports whether functions of a Class may be called to hash a key, or to compare it.
func asks(key *header) bool {
	return key.typ >= typeUser || key.typ == typeTuple && (gcOf(key).flags&gcLinks != 0 || tupleOf(key).n > window)
}

// settleFound is settleRead for what has been found, with a reference that is dropped if
// user code ends the goroutine.
func settleFound(h, key, x *header) {
	kept := false
	defer func() {
		if !kept {
			decref(x)
		}
	}()
	settleRead(h, key)
	kept = true
}

// find returns the number of the entry of a dict or set with a key, or -1.
func find(h, key *header) (int, error) {
	hash, err := hashOf(key, 0)
	if err != nil || isDead(h) { // nothing is in a dead one, and its table may be another's
		return -1, err
	}
	i, _, err := tableOf(h).tab().locate(hash, key)
	return i, err
}

// GetString is [Dict.Get] for a str key, which need not be an object.
func (d Dict) GetString(k string) (AnyRef, error) {
	if d.addr == 0 {
		return AnyRef{}, ErrNoObject
	}
	h := at(d.addr)
	hash := hashString(k)
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	if t := tableOf(h).tab(); t != nil && !isDead(h) {
		if i := t.findString(hash, k); i >= 0 {
			x := t.entry(i).value.object()
			incref(x)
			return refTo[Object](x), nil
		}
	}
	return AnyRef{}, ErrNotFound
}

// Delete removes a key, borrowed, and its value; [ErrNotFound] if it is not there.
func (d Dict) Delete(k Object) error { return tableDelete(d.object, k) }

func tableDelete(c, k Object) error {
	h, err := live(c)
	if err != nil {
		return err
	}
	if k.addr == 0 {
		return ErrNoObject
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().unlock()
	}
	i, err := find(h, at(k.addr))
	if err == nil {
		err = s.remove(tableOf(h), i)
	}
	s.settle()
	return err
}

// remove deletes entry i; none if i is negative.
func (s *Space) remove(o *tableObject, i int) error {
	if i < 0 {
		return ErrNotFound
	}
	e := *o.tab().entry(i)
	o.forget(i)
	s.lose(e.key.object())
	if o.typ == typeDict {
		s.lose(e.value.object())
	}
	return nil
}

// DeleteString is [Dict.Delete] for a str key.
func (d Dict) DeleteString(k string) error {
	h, err := live(d.object)
	if err != nil {
		return err
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().unlock()
	}
	t := tableOf(h).tab()
	if t == nil {
		return ErrNotFound
	}
	err = s.remove(tableOf(h), t.findString(hashString(k), k))
	s.settle()
	return err
}

// Clear removes all entries.
func (d Dict) Clear() error { return tableClear(d.object) }

func tableClear(c Object) error {
	h, err := live(c)
	if err != nil {
		return err
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().unlock()
	}
	old := *tableOf(h) // empty before the first of them dies
	tableOf(h).table, tableOf(h).n = 0, 0
	for e, i := old.next(0); e != nil; e, i = old.next(i + 1) {
		s.lose(e.key.object())
		if h.typ == typeDict {
			s.lose(e.value.object())
		}
	}
	if p := old.table.ptr(); p != nil {
		s.free(p)
	}
	s.settle()
	return nil
}

// Contains reports whether a key, borrowed, is there.
func (d Dict) Contains(k Object) (bool, error) { return tableContains(d.object, k) }

func tableContains(c, k Object) (bool, error) {
	if c.addr == 0 || k.addr == 0 {
		return false, ErrNoObject
	}
	h, key := at(c.addr), at(k.addr)
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	i, err := find(h, key)
	if h.space > 0 && asks(key) {
		settleRead(h, key)
	}
	return i >= 0, err
}

// All returns keys and values in the order of insertion. Both are borrowed for their
// round of the loop, which keeps the dict. The loop has as many rounds at most as the
// dict has entries at its beginning, so that one whose body adds keys ends: those of the
// beginning come once each, and the new ones do not come. If the body deletes keys too,
// entries may be missed, or come twice.
func (d Dict) All() iter.Seq2[Object, Object] {
	return func(yield func(k, v Object) bool) {
		tableAll(d.object, func(e entry) bool {
			return yield(objectOf(e.key.object()), objectOf(e.value.object()))
		})
	}
}

// tableAll calls f for each entry, holding its references, also if f panics.
func tableAll(c Object, f func(entry) bool) {
	if c.addr == 0 || isDead(at(c.addr)) {
		return
	}
	r := Own(c)
	defer r.Release()
	h, at := at(c.addr), position{}
	for {
		e, ok := at.step(h)
		if !ok || !lendEntry(e, f) {
			return
		}
	}
}

// position is where a loop over a table is: at an entry, of which only hash and key are
// set.
type position struct {
	entry
	i      int // its number
	begun  bool
	rounds int // that are left
}

// step goes on to the next entry, and returns it with references to key and value.
func (p *position) step(h *header) (entry, bool) {
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	o := tableOf(h)
	if isDead(h) {
		return entry{}, false
	}
	if !p.begun {
		p.begun, p.rounds, p.i = true, o.n, -1
	} else if t := o.tab(); t != nil && (p.i >= t.filled || t.entry(p.i).key != p.key) {
		// It was deleted, or is elsewhere in a new table.
		if i := t.number(p.hash, p.key); i >= 0 {
			p.i = i
		}
	}
	e, i := o.next(p.i + 1)
	if e == nil || p.rounds == 0 {
		return entry{}, false
	}
	p.rounds--
	p.i, p.hash, p.key = i, e.hash, e.key
	incref(e.key.object())
	if h.typ == typeSet {
		return entry{key: e.key}, true
	}
	incref(e.value.object())
	return entry{key: e.key, value: e.value}, true
}

func lendEntry(e entry, f func(entry) bool) bool {
	defer func() {
		decref(e.key.object())
		if e.value != 0 {
			decref(e.value.object())
		}
	}()
	return f(e)
}

// Set is a handle on a set: a dict without values, in the order of insertion too.
type Set struct {
	_ [0]*Set
	object
}

func (Set) accepts(h *header) bool { return h.typ == typeSet }

// Set returns a set of items, which are borrowed. The caller owns it.
func (s *Space) Set(items ...Object) (Ref[Set], error) {
	if s.locks || len(items) > 0 {
		if err := s.admit(items); err != nil {
			return Ref[Set]{}, err
		}
		h, due, err := s.setOf(items)
		return made[Set](s, h, due, err)
	}
	h, err := s.newTableObject(typeSet, &s.sets)
	if s.gc.due() {
		s.collectFor(h)
	}
	return refTo[Set](h), err
}

func (s *Space) setOf(items []Object) (h *header, due bool, err error) {
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	h, err = s.newTableObject(typeSet, &s.sets)
	if err == nil && len(items) > 0 {
		err = s.addAll(h, items)
	}
	if err != nil {
		h = nil
	}
	return h, s.due || s.gc.due(), err
}

// addAll adds items to a new set, and holds them before a function of a Class is called.
// If it does not come to its end it releases the set.
func (s *Space) addAll(h *header, items []Object) (err error) {
	done := false
	for _, x := range items {
		incref(at(x.addr))
	}
	defer func() {
		for _, x := range items {
			s.drop(at(x.addr))
		}
		if !done {
			s.drop(h)
		}
	}()
	for _, x := range items {
		if err := s.add(tableOf(h), at(x.addr)); err != nil {
			return err
		}
	}
	done = true
	return nil
}

// Len returns the number of items.
func (v Set) Len() int { return tableLen(v.object) }

// Add adds an item, borrowed, if it is not there. One that cannot be hashed is a
// [TypeError].
func (v Set) Add(k Object) error {
	h, key := at(v.addr), at(k.addr)
	if !fits(h, key) {
		return refusal(v.object, k)
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().unlock()
	}
	err := s.add(tableOf(h), key)
	s.settle()
	return err
}

func (s *Space) add(o *tableObject, key *header) error {
	hash, err := hashOf(key, 0)
	if err != nil {
		return err
	}
	i, slot, err := o.tab().locate(hash, key)
	if i >= 0 || err != nil {
		return err
	}
	if err := s.insertNew(o, hash, slot, key, nil); err != nil {
		return err
	}
	s.hold(&o.header, key)
	return nil
}

// Delete removes an item, borrowed; [ErrNotFound] if it is not there.
func (v Set) Delete(k Object) error { return tableDelete(v.object, k) }

// Clear removes all items.
func (v Set) Clear() error { return tableClear(v.object) }

// Contains reports whether an item, borrowed, is there.
func (v Set) Contains(k Object) (bool, error) { return tableContains(v.object, k) }

// All returns the items in the order of insertion, each borrowed for its round of
// the loop. Of a loop whose body changes the set what [Dict.All] says holds.
func (v Set) All() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		tableAll(v.object, func(e entry) bool { return yield(objectOf(e.key.object())) })
	}
}
