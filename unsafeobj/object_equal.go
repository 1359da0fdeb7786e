package unsafeobj

import (
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"unsafe"
)

// maxDepth is how deep objects may be nested to be compared, hashed, printed and
// converted.
const maxDepth = 1000

// Equal reports whether two borrowed objects are equal, as Python says: numbers by
// value, 1 == 1.0 == True, and containers item by item, where one object equals
// itself. Objects of different Spaces may be compared.
func Equal(a, b Object) (bool, error) {
	if a.addr == 0 || b.addr == 0 {
		return false, ErrNoObject
	}
	x, y := at(a.addr), at(b.addr)
	same, err := equalLocked(x, y)
	settleRead(x, y)
	return same, err
}

func equalLocked(x, y *header) (bool, error) {
	if x.space < 0 || y.space < 0 {
		defer unlockBoth(lockBoth(x, y))
	}
	return equal(x, y, 0)
}

// settleRead ends what reads objects, in owned Spaces: what a function of a Class has
// released dies then. Nothing is locked.
func settleRead(x, y *header) {
	for _, h := range [...]*header{x, y} {
		if h.typ >= firstContainer && h.space > 0 {
			ownedByID(h.space).settle()
		}
	}
}

// lockBoth locks the shared Spaces of two objects for reading, in the order of their
// numbers, and returns them.
func lockBoth(x, y *header) (a, b *Space) {
	i, j := min(x.space, y.space), max(x.space, y.space)
	if i < 0 {
		a = spaceByID(i)
		a.mu.RLock()
	}
	if j < 0 && j != i {
		b = spaceByID(j)
		b.mu.RLock()
	}
	return a, b
}

func unlockBoth(a, b *Space) {
	for _, s := range [...]*Space{a, b} {
		if s != nil {
			s.mu.RUnlock()
		}
	}
}

// equalItems is what containers ask: identity first.
func equalItems(x, y *header, depth int) (bool, error) {
	if x == y {
		return true, nil
	}
	if x.typ == y.typ {
		switch x.typ {
		case typeInt:
			return (*intObject)(unsafe.Pointer(x)).v == (*intObject)(unsafe.Pointer(y)).v, nil
		case typeString:
			return stringOf(x).value() == stringOf(y).value(), nil
		}
	}
	return equal(x, y, depth)
}

func equal(x, y *header, depth int) (bool, error) {
	if depth > maxDepth {
		return false, ErrDepth
	}
	if isNumber(x.typ) && isNumber(y.typ) {
		return equalNumbers(x, y), nil
	}
	if x.typ != y.typ {
		return false, nil
	}
	switch x.typ {
	case typeNone:
		return true, nil
	case typeString, typeBytes:
		return stringOf(x).value() == stringOf(y).value(), nil
	case typeTuple, typeList:
		a, b := childrenOf(x), childrenOf(y)
		if a.left != b.left {
			return false, nil
		}
		for a.left > 0 {
			var x, y *header
			x, a = a.next()
			y, b = b.next()
			if same, err := equalItems(x, y, depth+1); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case typeDict, typeSet:
		return equalTables(tableOf(x), tableOf(y), depth)
	}
	if f := typeOf(x).equal; f != nil && x != y {
		return ask(x, y, func() bool { return f(payloadOf(x), payloadOf(y)) })
	}
	return x == y, nil
}

// ask calls a function of the Class of x, in the middle of an operation on x and y.
// Meanwhile an owned Space lets nobody change its containers; a shared one is locked.
func ask[R any](x, y *header, f func() R) (answer R, err error) {
	a, b := spaceOf(x), spaceOf(y)
	before := [2]bool{a.locks, b.locks}
	if !a.shared {
		a.locks = true
	}
	if !b.shared {
		b.locks = true
	}
	defer func() {
		if !b.shared {
			b.locks = before[1]
		}
		if !a.shared {
			a.locks = before[0]
		}
		switch v := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("unsafeobj: a function of class %s panicked: %w", typeOf(x).name, v)
		default:
			err = fmt.Errorf("unsafeobj: a function of class %s panicked: %v", typeOf(x).name, v)
		}
	}()
	return f(), nil
}

func equalTables(a, b *tableObject, depth int) (bool, error) {
	if a.n != b.n {
		return false, nil
	}
	for e, i := a.next(0); e != nil; e, i = a.next(i + 1) {
		j, _, err := b.tab().locate(e.hash, e.key.object())
		if j < 0 || err != nil {
			return false, err
		}
		if a.typ == typeDict {
			same, err := equalItems(e.value.object(), b.tab().entry(j).value.object(), depth+1)
			if !same || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

func isNumber(t typeID) bool { return t >= typeBool && t <= typeFloat }

func equalNumbers(x, y *header) bool {
	if x.typ == typeFloat && y.typ == typeFloat {
		return floatOf(x) == floatOf(y)
	}
	if x.typ == typeFloat {
		x, y = y, x
	}
	if y.typ == typeFloat {
		f := floatOf(y)
		if math.IsInf(f, 0) || f != math.Trunc(f) { // a NaN too
			return false
		}
		v, _ := big.NewFloat(f).Int(nil)
		return v.Cmp(bigOf(x)) == 0
	}
	if x.typ == typeBig || y.typ == typeBig {
		return x.typ == y.typ && bigOf(x).Cmp(bigOf(y)) == 0
	}
	return (*intObject)(unsafe.Pointer(x)).v == (*intObject)(unsafe.Pointer(y)).v
}

func floatOf(h *header) float64 { return (*floatObject)(unsafe.Pointer(h)).v }

// bigOf returns the value of a bool or int.
func bigOf(h *header) *big.Int {
	if h.typ == typeBig {
		return (*bigObject)(unsafe.Pointer(h)).big()
	}
	return big.NewInt((*intObject)(unsafe.Pointer(h)).v)
}

// Hash returns the hash of a borrowed object: Python's for numbers, None's and
// tuples' of them; another in each process for str and bytes. A list, dict or set,
// or what contains one, has none, which is a [TypeError].
func Hash(o Object) (uint64, error) {
	if o.addr == 0 {
		return 0, ErrNoObject
	}
	h := at(o.addr)
	v, err := hashOf(h, 0)
	settleRead(h, h)
	return v, err
}

func hashOf(h *header, depth int) (uint64, error) {
	switch h.typ {
	case typeString, typeBytes:
		return stringOf(h).hashed(), nil
	case typeInt, typeBool:
		return hashInt((*intObject)(unsafe.Pointer(h)).v), nil
	case typeFloat:
		return hashFloat(floatOf(h), h), nil
	case typeBig:
		return hashBig((*bigObject)(unsafe.Pointer(h))), nil
	case typeNone:
		return 0xfca86420, nil // as in CPython since 3.12
	case typeTuple:
		return hashTuple(h, depth)
	case typeList, typeDict, typeSet:
		return 0, &TypeError{Want: "hashable", Got: typeOf(h).name}
	}
	switch t := typeOf(h); {
	case t.hash != nil:
		return ask(h, h, func() uint64 { return t.hash(payloadOf(h)) })
	case t.equal != nil:
		return 0, &TypeError{Want: "hashable", Got: t.name}
	}
	return hashPointer(h), nil
}

// hashPointer turns the low bits, which are 0, to the top.
func hashPointer(h *header) uint64 {
	return bits.RotateLeft64(uint64(uintptr(unsafe.Pointer(h))), -4)
}

// Numbers hash to their value modulo 2^61-1, so that equal ones of different types
// have the same hash. -1 is kept out, as in CPython, where it stands for an error.
const hashModulus = 1<<61 - 1

func signedHash(m uint64, negative bool) uint64 {
	if negative {
		m = -m
	}
	if m == math.MaxUint64 {
		m--
	}
	return m
}

func hashInt(v int64) uint64 {
	m := uint64(v)
	if v < 0 {
		m = -m
	}
	if m >= hashModulus {
		m %= hashModulus
	}
	return signedHash(m, v < 0)
}

func hashBig(b *bigObject) uint64 {
	m := new(big.Int).Mod(new(big.Int).SetBits(b.words()), big.NewInt(hashModulus))
	return signedHash(m.Uint64(), b.n < 0)
}

func hashFloat(v float64, h *header) uint64 {
	switch {
	case math.IsInf(v, 0):
		return signedHash(314159, v < 0)
	case v != v:
		return hashPointer(h)
	}
	// As CPython's: 28 bits at a time, then the exponent, which is modulo 61.
	m, e := math.Frexp(math.Abs(v))
	var x uint64
	for m != 0 {
		x = x<<28&hashModulus | x>>33
		m *= 1 << 28
		e -= 28
		y := uint64(m)
		m -= float64(y)
		if x += y; x >= hashModulus {
			x -= hashModulus
		}
	}
	e = (e%61 + 61) % 61
	x = x<<e&hashModulus | x>>(61-e)
	return signedHash(x, v < 0)
}

// hashTuple is CPython's: xxHash with the items' hashes as lanes.
func hashTuple(h *header, depth int) (uint64, error) {
	if depth > maxDepth {
		return 0, ErrDepth
	}
	const p1, p2, p5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
	acc := uint64(p5)
	t := tupleOf(h)
	for i := range t.n {
		lane, err := hashOf(t.item(i).object(), depth+1)
		if err != nil {
			return 0, err
		}
		acc = bits.RotateLeft64(acc+lane*p2, 31) * p1
	}
	acc += uint64(t.n) ^ (p5 ^ 3527539)
	if acc == math.MaxUint64 {
		acc = 1546275796
	}
	return acc, nil
}
