package unsafeobj

import (
	"hash/maphash"
	"math"
	"sync/atomic"
	"unsafe"
)

// stringObject is a str or bytes. Its n bytes follow.
type stringObject struct {
	header
	hash     uint64 // 0 until it is asked for; of sync/atomic from then on
	n        uint32
	interned uint32 // 1 if it is in Space.interned
}

const stringBytes = unsafe.Sizeof(stringObject{})

var stringSeed = maphash.MakeSeed()

// hashString is never 0, nor anything that anybody outside can foresee.
func hashString(v string) uint64 { return max(maphash.String(stringSeed, v), 1) }

func (o *stringObject) value() string {
	return unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(o), stringBytes)), o.n)
}

// hashed returns the hash. It is inlined.
func (o *stringObject) hashed() uint64 {
	if v := atomic.LoadUint64(&o.hash); v != 0 {
		return v
	}
	return o.hashNow()
}

func (o *stringObject) hashNow() uint64 {
	v := hashString(o.value())
	atomic.StoreUint64(&o.hash, v)
	return v
}

func stringOf(h *header) *stringObject { return (*stringObject)(unsafe.Pointer(h)) }

func isInterned(h *header) bool { return h.typ == typeString && stringOf(h).interned != 0 }

// freeStrings returns the free list for a str of so many bytes, nil if there is none.
func (s *Space) freeStrings(size uintptr) *freeList {
	if size > maxFreeString {
		return nil
	}
	return &s.strings[(size-1)/stringStep]
}

func (s *Space) newString(t typeID, v string) (*header, error) {
	if uint64(len(v)) > math.MaxUint32 {
		return nil, ErrTooLong
	}
	size := stringBytes + uintptr(len(v))
	var h *header
	if f := s.freeStrings(size); f != nil && t == typeString {
		size = (size + stringStep - 1) &^ (stringStep - 1)
		h = f.pop()
	}
	if h == nil {
		var err error
		if h, err = s.newLeaf(t, size); err != nil {
			return nil, err
		}
	} else {
		h.refs = 1
	}
	o := stringOf(h)
	o.hash, o.n, o.interned = 0, uint32(len(v)), 0
	copy(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(o), stringBytes)), len(v)), v)
	return h, nil
}

// String is a handle on a str: an immutable string of bytes, UTF-8 by convention as
// in Go. Its hash is computed once.
type String struct {
	_ [0]*String
	object
}

func (String) accepts(h *header) bool { return h.typ == typeString }

// String returns a str with a copy of v, at most 4 GiB long. The caller owns it.
func (s *Space) String(v string) (Ref[String], error) {
	h, err := s.newString(typeString, v)
	return refTo[String](h), err
}

// Intern returns the one str of this value that is interned, so that equal ones
// are identical. The caller owns it; it is forgotten with its last reference.
func (s *Space) Intern(v string) (Ref[String], error) {
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	if !s.open {
		return Ref[String]{}, ErrClosed
	}
	h, err := s.intern(v)
	return refTo[String](h), err
}

// intern is Intern with the Space locked.
func (s *Space) intern(v string) (*header, error) {
	hash, slot := hashString(v), uint64(0)
	if t := s.interned.tab(); t != nil {
		var i int
		if i, slot = t.locateString(hash, v); i >= 0 {
			h := t.entry(i).key.object()
			incref(h)
			return h, nil
		}
	}
	h, err := s.newString(typeString, v)
	if err != nil {
		return nil, err
	}
	stringOf(h).hash = hash
	if err := s.insertNew(&s.interned, hash, slot, h, nil); err != nil {
		h.refs = 0
		s.freeLeaf(h)
		return nil, err
	}
	stringOf(h).interned = 1
	return h, nil
}

// unintern takes a dead string out of the table.
func (s *Space) unintern(h *header) {
	o, t := stringOf(h), s.interned.tab()
	if i := t.findString(o.hash, o.value()); i >= 0 {
		s.interned.forget(i)
	}
	o.interned = 0
}

// Value returns a copy of the string; "" for no object.
func (v String) Value() string {
	if v.addr == 0 {
		return ""
	}
	return string([]byte(stringOf(at(v.addr)).value()))
}

// Unsafe returns the string without copying it: it is borrowed, as v is.
func (v String) Unsafe() string {
	if v.addr == 0 {
		return ""
	}
	return stringOf(at(v.addr)).value()
}

// Len returns the length in bytes.
func (v String) Len() int { return len(v.Unsafe()) }

// Bytes is a handle on bytes, which cannot be changed.
type Bytes struct {
	_ [0]*Bytes
	object
}

func (Bytes) accepts(h *header) bool { return h.typ == typeBytes }

// Bytes returns bytes with a copy of v, at most 4 GiB long. The caller owns it.
func (s *Space) Bytes(v []byte) (Ref[Bytes], error) {
	h, err := s.newString(typeBytes, unsafe.String(unsafe.SliceData(v), len(v)))
	return refTo[Bytes](h), err
}

// Value returns a copy of the bytes.
func (v Bytes) Value() []byte {
	if v.addr == 0 {
		return nil
	}
	return []byte(stringOf(at(v.addr)).value())
}

// Len returns the length.
func (v Bytes) Len() int {
	if v.addr == 0 {
		return 0
	}
	return int(stringOf(at(v.addr)).n)
}
