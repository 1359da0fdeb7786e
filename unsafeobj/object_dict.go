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
	h, err := s.newTableObject(typeDict, &s.dicts)
	return refTo[Dict](h), err
}

func (s *Space) newTableObject(t typeID, f *freeList) (*header, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	var err error
	h := f.container()
	if h == nil {
		h, err = s.newContainer(t, gcBytes+unsafe.Sizeof(tableObject{}))
	}
	if err == nil {
		o := tableOf(h)
		o.table, o.n = 0, 0
		s.track(h)
	}
	s.leave()
	return h, err
}

// Len returns the number of entries.
func (d Dict) Len() int { return tableLen(d.object) }

func tableLen(o Object) int {
	if o.addr == 0 {
		return 0
	}
	h := at(o.addr)
	s := rlockOf(h)
	n := tableOf(h).n
	runlockOf(s)
	return n
}

// Set sets the value of a key, both borrowed. A key that is there already stays. A
// key that cannot be hashed, such as a list, is a [TypeError].
func (d Dict) Set(k, v Object) error {
	h, key, err := into(d.object, k)
	if err != nil {
		return err
	}
	_, value, err := into(d.object, v)
	if err != nil {
		return err
	}
	s := spaceOf(h)
	s.lock()
	hash, err := hashOf(key, 0)
	if err == nil {
		err = s.put(tableOf(h), hash, key, value)
	}
	s.unlock()
	return err
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
	h, value, err := into(d.object, v)
	if err != nil {
		return err
	}
	s := spaceOf(h)
	s.lock()
	err = s.putString(tableOf(h), k, value)
	s.unlock()
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
	h := at(d.addr)
	s := rlockOf(h)
	hash, err := hashOf(at(k.addr), 0)
	i := -1
	if err == nil {
		i, _, err = tableOf(h).tab().locate(hash, at(k.addr))
	}
	if i < 0 {
		runlockOf(s)
		if err == nil {
			err = ErrNotFound
		}
		return AnyRef{}, err
	}
	x := tableOf(h).tab().entry(i).value.object()
	incref(x)
	runlockOf(s)
	return refTo[Object](x), nil
}

// GetString is [Dict.Get] for a str key, which need not be an object.
func (d Dict) GetString(k string) (AnyRef, error) {
	if d.addr == 0 {
		return AnyRef{}, ErrNoObject
	}
	h := at(d.addr)
	hash := hashString(k)
	s := rlockOf(h)
	if t := tableOf(h).tab(); t != nil {
		if i := t.findString(hash, k); i >= 0 {
			x := t.entry(i).value.object()
			incref(x)
			runlockOf(s)
			return refTo[Object](x), nil
		}
	}
	runlockOf(s)
	return AnyRef{}, ErrNotFound
}

// Delete removes a key, borrowed, and its value; [ErrNotFound] if it is not there.
func (d Dict) Delete(k Object) error { return tableDelete(d.object, k) }

func tableDelete(c, k Object) error {
	if c.addr == 0 || k.addr == 0 {
		return ErrNoObject
	}
	h := at(c.addr)
	s := spaceOf(h)
	s.lock()
	hash, err := hashOf(at(k.addr), 0)
	if err == nil {
		var i int
		if i, _, err = tableOf(h).tab().locate(hash, at(k.addr)); err == nil {
			err = s.remove(tableOf(h), i)
		}
	}
	s.unlock()
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
	if d.addr == 0 {
		return ErrNoObject
	}
	h := at(d.addr)
	s := spaceOf(h)
	s.lock()
	err := ErrNotFound
	if t := tableOf(h).tab(); t != nil {
		err = s.remove(tableOf(h), t.findString(hashString(k), k))
	}
	s.unlock()
	return err
}

// Clear removes all entries.
func (d Dict) Clear() error { return tableClear(d.object) }

func tableClear(c Object) error {
	if c.addr == 0 {
		return ErrNoObject
	}
	h := at(c.addr)
	s := spaceOf(h)
	s.lock()
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
	s.unlock()
	return nil
}

// Contains reports whether a key, borrowed, is there.
func (d Dict) Contains(k Object) (bool, error) { return tableContains(d.object, k) }

func tableContains(c, k Object) (bool, error) {
	if c.addr == 0 || k.addr == 0 {
		return false, ErrNoObject
	}
	h := at(c.addr)
	s := rlockOf(h)
	hash, err := hashOf(at(k.addr), 0)
	i := -1
	if err == nil {
		i, _, err = tableOf(h).tab().locate(hash, at(k.addr))
	}
	runlockOf(s)
	return i >= 0, err
}

// All returns keys and values in the order of insertion. Both are borrowed for their
// round of the loop. If the dict changes meanwhile, entries may be missed or come
// twice.
func (d Dict) All() iter.Seq2[Object, Object] {
	return func(yield func(k, v Object) bool) {
		tableAll(d.object, func(e entry) bool {
			return yield(objectOf(e.key.object()), objectOf(e.value.object()))
		})
	}
}

// tableAll calls f for each entry, holding its references, also if f panics.
func tableAll(c Object, f func(entry) bool) {
	if c.addr == 0 {
		return
	}
	h := at(c.addr)
	o := tableOf(h)
	for i := 0; ; i++ {
		s := rlockOf(h)
		p, j := o.next(i)
		if p == nil {
			runlockOf(s)
			return
		}
		e := entry{key: p.key}
		incref(e.key.object())
		if h.typ == typeDict {
			e.value = p.value
			incref(e.value.object())
		}
		runlockOf(s)
		if !lendEntry(e, f) {
			return
		}
		i = j
	}
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
	h, err := s.newTableObject(typeSet, &s.sets)
	r := refTo[Set](h)
	for _, x := range items {
		if err == nil {
			err = r.Get().Add(x)
		}
	}
	if err != nil {
		r.Release()
	}
	return r, err
}

// Len returns the number of items.
func (v Set) Len() int { return tableLen(v.object) }

// Add adds an item, borrowed, if it is not there. One that cannot be hashed is a
// [TypeError].
func (v Set) Add(k Object) error {
	h, key, err := into(v.object, k)
	if err != nil {
		return err
	}
	s := spaceOf(h)
	s.lock()
	err = s.add(tableOf(h), key)
	s.unlock()
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
// the loop. If the set changes meanwhile, items may be missed or come twice.
func (v Set) All() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		tableAll(v.object, func(e entry) bool { return yield(objectOf(e.key.object())) })
	}
}
