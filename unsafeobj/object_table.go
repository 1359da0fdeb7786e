package unsafeobj

import (
	"math"
	"math/bits"
	"unsafe"
)

// tableObject is a dict or a set: n entries in a table, which is made with the first.
type tableObject struct {
	header
	table link
	n     int
}

func tableOf(h *header) *tableObject { return (*tableObject)(unsafe.Pointer(h)) }

// tab returns the table, nil if there is none.
func (o *tableObject) tab() *table { return (*table)(o.table.ptr()) }

// table is compact, as in CPython since 3.6: entries in the order of insertion, and
// in front of them an index that is hashed into.
//
//	+--------+------------------------------+---------------------------+
//	| header | 1<<log2 indices of 1<<width  | usableOf(log2) entries    |
//	|        | bytes: 0 free, else tag and  | of step bytes             |
//	|        | number of an entry + 1       |                           |
//	+--------+------------------------------+---------------------------+
//
// An index has log2 bits for the number of an entry, which goes up to two thirds of
// 1<<log2. What is left of its bits is a tag, the bits of the hash above those that
// chose the slot: so that hardly an entry is looked at that is another's, which in a
// large table would be a cache miss.
//
// A deleted entry stays, without a key, until the table is made anew; and so does its
// index, which is not written to: that would be a miss's worth of memory traffic more.
type table struct {
	log2   uint8
	width  uint8 // log2 of the bytes of an index
	step   uint16
	filled int // entries so far
}

// entry is what a set has without the value.
type entry struct {
	hash  uint64
	key   link
	value link
}

const (
	tableHeader = unsafe.Sizeof(table{})
	dictStep    = unsafe.Sizeof(entry{})
	setStep     = unsafe.Offsetof(entry{}.value)

	minLog2     = 3
	growth      = 3 // slots of a new table for each entry: it doubles
	slotFree    = 0
	slotFirst   = 1
	perturbBits = 5
	groupSlots  = 4
)

// usableOf is how many entries a table of a size takes.
func usableOf(log2 uint8) int { return int(uint64(1) << log2 << 1 / 3) }

// widthOf is the log2 of the bytes in which usableOf+slotFirst fits.
func widthOf(log2 uint8) uint8 {
	switch {
	case log2 <= 8:
		return 0
	case log2 <= 16:
		return 1
	case log2 <= 32:
		return 2
	}
	return 3
}

// log2For is the least size that is at least n.
func log2For(n int) uint8 { return uint8(max(bits.Len(uint(max(n, 1)-1)), minLog2)) }

// newTable makes an empty table.
func (s *Space) newTable(log2 uint8, step uintptr) (*table, error) {
	if uintptr(log2) > ptrBytes*8-6 {
		return nil, ErrTooLong
	}
	width := widthOf(log2)
	indices := uintptr(1) << log2 << width
	p, err := s.alloc(tableHeader + indices + uintptr(usableOf(log2))*step)
	if err != nil {
		return nil, err
	}
	t := (*table)(p)
	*t = table{log2: log2, width: width, step: uint16(step)}
	clear(unsafe.Slice((*byte)(unsafe.Add(p, tableHeader)), indices))
	return t, nil
}

// full reports whether there is no room for one more entry.
func (t *table) full() bool { return t.filled == usableOf(t.log2) }

func (t *table) entries() unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(t), tableHeader+uintptr(1)<<t.log2<<t.width)
}

func (t *table) entry(i int) *entry {
	return (*entry)(unsafe.Add(t.entries(), uintptr(i)*uintptr(t.step)))
}

// index returns what is in a slot of the index.
func (t *table) index(slot uint64) uint64 {
	base := unsafe.Add(unsafe.Pointer(t), tableHeader)
	switch t.width {
	case 0:
		return uint64(*(*uint8)(unsafe.Add(base, slot)))
	case 1:
		return uint64(*(*uint16)(unsafe.Add(base, slot<<1)))
	case 2:
		return uint64(*(*uint32)(unsafe.Add(base, slot<<2)))
	}
	return *(*uint64)(unsafe.Add(base, slot<<3))
}

func (t *table) setIndex(slot, v uint64) {
	base := unsafe.Add(unsafe.Pointer(t), tableHeader)
	switch t.width {
	case 0:
		*(*uint8)(unsafe.Add(base, slot)) = uint8(v)
	case 1:
		*(*uint16)(unsafe.Add(base, slot<<1)) = uint16(v)
	case 2:
		*(*uint32)(unsafe.Add(base, slot<<2)) = uint32(v)
	default:
		*(*uint64)(unsafe.Add(base, slot<<3)) = v
	}
}

// The probe goes through groups of slots that stand in one cache line, and from group
// to group as CPython's: all bits of the hash take part sooner or later.
//
//	slots at, at^1, at^2, at^3;  perturb >>= 5, at = at*5 + perturb + 1;  …

// mask has the bits of a slot, or of a number.
func (t *table) mask() uint64 { return uint64(1)<<t.log2 - 1 }

// tries is how many groups a probe looks at, until it has seen all: the perturbation is
// used up after 64 bits, and then each slot comes once. There is no free slot then, which
// is only so where two goroutines have changed the table at once.
func (t *table) tries() uint64 { return t.mask() + 2 + 64/perturbBits }

// tagOf returns the bits of the hash that an index keeps.
func (t *table) tagOf(hash uint64) uint64 {
	return hash & (uint64(1)<<(8<<t.width) - 1) &^ t.mask()
}

// findString returns the number of the entry with a string as key, or -1.
func (t *table) findString(hash uint64, k string) int {
	i, _ := t.locateString(hash, k)
	return i
}

// locateString is [table.locate] for a string.
func (t *table) locateString(hash uint64, k string) (int, uint64) {
	mask, tag := t.mask(), t.tagOf(hash)
	entries, step := t.entries(), uintptr(t.step)
	tries := t.tries()
	for at, perturb := hash, hash; ; at = at*5 + perturb + 1 {
		for i := range uint64(groupSlots) {
			slot := at&mask ^ i
			v := t.index(slot)
			if n := (v ^ tag) - slotFirst; n < mask {
				e := (*entry)(unsafe.Add(entries, uintptr(n)*step))
				if e.hash == hash {
					if x := e.key.object(); x != nil && x.typ == typeString && stringOf(x).value() == k {
						return int(n), slot
					}
				}
			} else if v == slotFree {
				return -1, slot
			}
		}
		perturb >>= perturbBits
		if tries--; tries == 0 {
			panic(errBroken)
		}
	}
}

// number returns the number of the entry whose key is this object itself, or -1.
func (t *table) number(hash uint64, k link) int {
	mask, tag := t.mask(), t.tagOf(hash)
	tries := t.tries()
	for at, perturb := hash, hash; ; at = at*5 + perturb + 1 {
		for i := range uint64(groupSlots) {
			v := t.index(at&mask ^ i)
			if n := (v ^ tag) - slotFirst; n < mask && t.entry(int(n)).key == k {
				return int(n)
			} else if v == slotFree {
				return -1
			}
		}
		perturb >>= perturbBits
		if tries--; tries == 0 {
			panic(errBroken)
		}
	}
}

// locate returns the number and slot of the entry whose key is k or equal to it; or -1
// and the slot where it would be. t may be nil.
func (t *table) locate(hash uint64, k *header) (int, uint64, error) {
	if t == nil {
		return -1, 0, nil
	}
	mask, tag := t.mask(), t.tagOf(hash)
	entries, step := t.entries(), uintptr(t.step)
	tries := t.tries()
	for at, perturb := hash, hash; ; at = at*5 + perturb + 1 {
		for i := range uint64(groupSlots) {
			slot := at&mask ^ i
			v := t.index(slot)
			if n := (v ^ tag) - slotFirst; n < mask {
				e := (*entry)(unsafe.Add(entries, uintptr(n)*step))
				if e.hash != hash {
					continue
				}
				x := e.key.object()
				if x == k {
					return int(n), slot, nil
				}
				if x == nil {
					continue
				}
				same, err := equalItems(x, k, 0)
				if err != nil {
					return -1, 0, err
				}
				if same {
					return int(n), slot, nil
				}
			} else if v == slotFree {
				return -1, slot, nil
			}
		}
		perturb >>= perturbBits
		if tries--; tries == 0 {
			panic(errBroken)
		}
	}
}

// freeSlot returns the first free slot of a hash.
func (t *table) freeSlot(hash uint64) uint64 {
	mask := t.mask()
	tries := t.tries()
	for at, perturb := hash, hash; ; at = at*5 + perturb + 1 {
		for i := range uint64(groupSlots) {
			if slot := at&mask ^ i; t.index(slot) == slotFree {
				return slot
			}
		}
		perturb >>= perturbBits
		if tries--; tries == 0 {
			panic(errBroken)
		}
	}
}

// claim lets the next entry stand in a free slot of the hash.
func (t *table) claim(hash, slot uint64) *entry {
	t.setIndex(slot, t.tagOf(hash)|uint64(t.filled)+slotFirst)
	e := t.entry(t.filled)
	e.hash = hash
	t.filled++
	return e
}

// largeTable is the number of entries from which a table grows fourfold: to move its
// entries costs page faults, and what it does not touch yet costs none.
const largeTable = 16 << 10

// insertNew adds a key that is not there, and a value if it is a dict. slot is where
// locate said. It takes over a reference to each.
func (s *Space) insertNew(o *tableObject, hash, slot uint64, k, v *header) error {
	t := o.tab()
	var e *entry
	if t != nil && !t.full() {
		e = t.claim(hash, slot)
	} else {
		size := growth * o.n
		if o.n >= largeTable {
			size *= 2
		}
		t, err := s.rebuild(o, size)
		if err != nil {
			return err
		}
		e = t.claim(hash, t.freeSlot(hash))
	}
	e.key.set(k)
	if o.typ == typeDict {
		e.value.set(v)
	}
	o.n++
	return nil
}

// rebuild replaces the table by one of at least size slots, without the deleted
// entries.
func (s *Space) rebuild(o *tableObject, size int) (*table, error) {
	step := setStep
	if o.typ == typeDict {
		step = dictStep
	}
	t, err := s.newTable(log2For(size), step)
	if err != nil {
		return nil, err
	}
	if old := o.tab(); old != nil {
		t.take(old)
		s.free(unsafe.Pointer(old))
		s.gc.packed(&o.header)
	}
	o.table = link(uintptr(unsafe.Pointer(t)))
	return t, nil
}

// take moves the entries of another table into an empty one. Each is a miss in the
// index: the less there is to do for one, the more of them the processor has under way.
func (t *table) take(old *table) {
	mask, tags := t.mask(), t.tagOf(math.MaxUint64)
	from, to, step := old.entries(), t.entries(), uintptr(t.step)
	n := uint64(0)
	for i := range old.filled {
		e := (*entry)(unsafe.Add(from, uintptr(i)*step))
		if e.key == 0 {
			continue
		}
		slot := e.hash & mask
		if t.index(slot) != slotFree {
			slot = t.freeSlot(e.hash)
		}
		t.setIndex(slot, e.hash&tags|n+slotFirst)
		c := (*entry)(unsafe.Add(to, uintptr(n)*step))
		c.hash, c.key = e.hash, e.key
		if step == dictStep {
			c.value = e.value
		}
		n++
	}
	t.filled = int(n)
}

// forget removes entry i. Its references are the caller's to drop.
func (o *tableObject) forget(i int) {
	t := o.tab()
	e := t.entry(i)
	e.key = 0
	if uintptr(t.step) == dictStep {
		e.value = 0
	}
	o.n--
}

// next returns the first entry from number i on that is not deleted, and its number;
// nil if there is none.
func (o *tableObject) next(i int) (*entry, int) {
	if t := o.tab(); t != nil {
		for ; i < t.filled; i++ {
			if e := t.entry(i); e.key != 0 {
				return e, i
			}
		}
	}
	return nil, 0
}
