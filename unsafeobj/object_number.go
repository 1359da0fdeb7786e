package unsafeobj

import (
	"math"
	"math/big"
	"unsafe"
)

// The immortal objects of the process lie in its data, not in a Space.
var (
	noneObject  = header{refs: immortal, typ: typeNone}
	boolObjects = [2]intObject{
		{header: header{refs: immortal, typ: typeBool}},
		{header: header{refs: immortal, typ: typeBool}, v: 1},
	}
	smallInts [smallMax - smallMin + 1]intObject
)

// Small ints, as CPython has them.
const (
	smallMin = -5
	smallMax = 256
)

func init() {
	for i := range smallInts {
		smallInts[i] = intObject{header{refs: immortal, typ: typeInt}, int64(i) + smallMin}
	}
}

// None returns the object None. It is immortal and of no Space: it may be put
// everywhere, and need not be released.
func None() Object { return objectOf(&noneObject) }

// Bool is a handle on True or False.
type Bool struct {
	_ [0]*Bool
	object
}

// BoolOf returns True or False, which are immortal as [None] is. They count and
// compare as the ints 1 and 0.
func BoolOf(b bool) Bool {
	if b {
		return Bool{object: objectOf(&boolObjects[1].header)}
	}
	return Bool{object: objectOf(&boolObjects[0].header)}
}

// Value returns the value; false for no object.
func (b Bool) Value() bool { return b.addr != 0 && (*intObject)(unsafe.Pointer(at(b.addr))).v != 0 }

func (Bool) accepts(h *header) bool { return h.typ == typeBool }

// intObject is an int of 64 bits, or a bool.
type intObject struct {
	header
	v int64
}

// bigObject is an int of more than 64 bits: n words follow, the lowest first, of the
// absolute value. n is negative if the int is.
type bigObject struct {
	header
	n int
}

func (b *bigObject) words() []big.Word {
	return unsafe.Slice((*big.Word)(unsafe.Add(unsafe.Pointer(b), unsafe.Sizeof(*b))), max(b.n, -b.n))
}

// big returns the value, which borrows the words.
func (b *bigObject) big() *big.Int {
	v := new(big.Int).SetBits(b.words())
	if b.n < 0 {
		v.Neg(v)
	}
	return v
}

// Int is a handle on an int of any size.
type Int struct {
	_ [0]*Int
	object
}

func (Int) accepts(h *header) bool { return h.typ == typeInt || h.typ == typeBig }

// Int returns an int, which the caller owns. Those from -5 to 256 are immortal.
func (s *Space) Int(v int64) (Ref[Int], error) {
	if uint64(v-smallMin) <= smallMax-smallMin {
		return refTo[Int](&smallInts[v-smallMin].header), nil
	}
	h := s.numbers.pop()
	if h == nil {
		var err error
		if h, err = s.newLeaf(typeInt, unsafe.Sizeof(intObject{})); err != nil {
			return Ref[Int]{}, err
		}
	} else {
		h.refs, h.typ = 1, typeInt
	}
	(*intObject)(unsafe.Pointer(h)).v = v
	return refTo[Int](h), nil
}

// BigInt returns an int of v's value, which is copied. The caller owns it.
func (s *Space) BigInt(v *big.Int) (Ref[Int], error) {
	if v.IsInt64() {
		return s.Int(v.Int64())
	}
	words := v.Bits()
	h, err := s.newLeaf(typeBig, unsafe.Sizeof(bigObject{})+uintptr(len(words))*ptrBytes)
	if err != nil {
		return Ref[Int]{}, err
	}
	b := (*bigObject)(unsafe.Pointer(h))
	b.n = len(words)
	copy(b.words(), words)
	if v.Sign() < 0 {
		b.n = -b.n
	}
	return refTo[Int](h), nil
}

// Int64 returns the value, and whether it has 64 bits at most.
func (i Int) Int64() (int64, bool) {
	if i.addr == 0 || at(i.addr).typ != typeInt {
		return 0, false
	}
	return (*intObject)(unsafe.Pointer(at(i.addr))).v, true
}

// Big returns the value as a new big.Int.
func (i Int) Big() *big.Int {
	if v, ok := i.Int64(); ok || i.addr == 0 {
		return big.NewInt(v)
	}
	return new(big.Int).Set((*bigObject)(unsafe.Pointer(at(i.addr))).big())
}

// floatObject is of the size of an int, for they share a free list.
type floatObject struct {
	header
	v float64
}

var _ [unsafe.Sizeof(intObject{})]byte = [unsafe.Sizeof(floatObject{})]byte{}

// Float is a handle on a float.
type Float struct {
	_ [0]*Float
	object
}

func (Float) accepts(h *header) bool { return h.typ == typeFloat }

// Float returns a float, which the caller owns.
func (s *Space) Float(v float64) (Ref[Float], error) {
	h := s.numbers.pop()
	if h == nil {
		var err error
		if h, err = s.newLeaf(typeFloat, unsafe.Sizeof(floatObject{})); err != nil {
			return Ref[Float]{}, err
		}
	} else {
		h.refs, h.typ = 1, typeFloat
	}
	(*floatObject)(unsafe.Pointer(h)).v = v
	return refTo[Float](h), nil
}

// Value returns the value; NaN for no object.
func (f Float) Value() float64 {
	if f.addr == 0 {
		return math.NaN()
	}
	return (*floatObject)(unsafe.Pointer(at(f.addr))).v
}
