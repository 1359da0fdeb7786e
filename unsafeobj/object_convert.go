package unsafeobj

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"unsafe"
)

// FromGo makes an object of a Go value, which the caller owns: nil, bools, numbers,
// strings, slices of bytes (as bytes), *big.Int and json.Number; other slices, arrays and
// maps of them, and pointers to them, each copied wherever it is found; and handles and
// Refs, which are borrowed. Other values are an error that names their type.
//
// A map becomes a dict in the order of its keys: None, numbers, strings, bytes; other keys
// come last, in an order that is not specified. Keys that differ in Go and are equal in
// Python, such as 1, 1.0 and true, are an error that names both.
//
// It is one operation: a shared Space is locked until it is over.
func (s *Space) FromGo(v any) (AnyRef, error) {
	if h, known, err := s.leaf(v); known {
		return refTo[Object](h), err
	}
	h, due, err := s.fromGo(v)
	return made[Object](s, h, due, err)
}

func (s *Space) fromGo(v any) (h *header, due bool, err error) {
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	b := builder{s: s, made: s.made[:0]}
	defer func() {
		b.drop()
		due = s.due || s.gc.due()
	}()
	if err := b.value(v, 0); err != nil {
		return nil, false, err
	}
	return b.pop(), false, nil
}

// builder makes objects of Go values, with the Space locked.
type builder struct {
	s    *Space
	made []*header // that nothing refers to yet, each with a reference: in Space.made
}

// maxMade is how much of Space.made is kept.
const maxMade = 1024

// drop releases what was made, if it does not come to an object.
func (b *builder) drop() {
	for _, h := range b.made {
		b.s.drop(h)
	}
	if b.s.made = b.made[:0]; cap(b.made) > maxMade {
		b.s.made = nil
	}
}

func (b *builder) pop() *header {
	h := b.made[len(b.made)-1]
	b.made = b.made[:len(b.made)-1]
	return h
}

// push takes over what a function has made.
func (b *builder) push(h *header, err error) error {
	if err == nil {
		b.made = append(b.made, h)
	}
	return err
}

// borrower is a handle or a Ref, a pointer to one, or what embeds one. The method is not of a
// user's making, which could call into the Space.
type borrower interface{ borrowed() Object }

// isHandle reports whether a borrower's type is a handle or a Ref, or a pointer to one. What
// embeds one is not: if it embeds a pointer that is nil, the method would panic.
func isHandle(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath() == reflect.TypeFor[Object]().PkgPath() && t.Kind() == reflect.Struct
}

func (o Object) borrowed() Object { return o }

func (r Ref[T]) borrowed() Object { return r.Object() }

// leaf makes an object of a Go value of a common type that becomes no container, and needs
// no lock; it reports whether the value is one.
func (s *Space) leaf(v any) (h *header, known bool, err error) {
	switch v := v.(type) {
	case nil:
		return &noneObject, true, nil
	case bool:
		return at(BoolOf(v).addr), true, nil
	case int:
		r, err := s.Int(int64(v))
		return at(r.addr), true, err
	case int64:
		r, err := s.Int(v)
		return at(r.addr), true, err
	case float64:
		r, err := s.Float(v)
		return at(r.addr), true, err
	case string:
		h, err := s.newString(typeString, v)
		return h, true, err
	case *big.Int:
		if v == nil {
			return &noneObject, true, nil
		}
		r, err := s.BigInt(v)
		return at(r.addr), true, err
	case json.Number:
		h, err := s.number(v)
		return h, true, err
	}
	return nil, false, nil
}

// value pushes the object of a Go value.
func (b *builder) value(v any, depth int) error {
	if depth > maxDepth {
		return ErrDepth
	}
	s := b.s
	if h, known, err := s.leaf(v); known {
		return b.push(h, err)
	}
	switch v := v.(type) {
	case []any:
		return b.list(len(v), func(i int) any { return v[i] }, depth)
	case map[string]any:
		return b.names(v, depth)
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Pointer && r.IsNil() {
		return b.push(&noneObject, nil)
	}
	if v, ok := v.(borrower); ok && isHandle(r.Type()) {
		o := v.borrowed()
		if err := s.admit([]Object{o}); err != nil {
			return err
		}
		incref(at(o.addr))
		return b.push(at(o.addr), nil)
	}
	return b.reflected(r, depth)
}

func (b *builder) reflected(v reflect.Value, depth int) error {
	s := b.s
	switch kind := v.Kind(); {
	case kind == reflect.Bool:
		return b.value(v.Bool(), depth)
	case v.CanInt():
		return b.value(v.Int(), depth)
	case v.CanUint():
		return b.value(new(big.Int).SetUint64(v.Uint()), depth)
	case v.CanFloat():
		return b.value(v.Float(), depth)
	case kind == reflect.String:
		return b.value(v.String(), depth)
	case kind == reflect.Pointer:
		return b.value(v.Elem().Interface(), depth+1)
	case kind == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		r, err := s.Bytes(v.Bytes())
		return b.push(at(r.addr), err)
	case kind == reflect.Slice || kind == reflect.Array:
		return b.list(v.Len(), func(i int) any { return v.Index(i).Interface() }, depth)
	case kind == reflect.Map:
		return b.dict(v, depth)
	}
	return fmt.Errorf("unsafeobj: FromGo: no object for a %v", v.Type())
}

func (b *builder) list(n int, item func(int) any, depth int) error {
	l, err := b.s.newList()
	if err := b.push(l, err); err != nil {
		return err
	}
	for i := range n {
		if err := b.value(item(i), depth+1); err != nil {
			return err
		}
		if err := b.s.insert(l, b.made[len(b.made)-1], math.MaxInt); err != nil {
			return err
		}
		b.s.drop(b.pop())
	}
	return nil
}

// names pushes a dict of a map with strings as keys.
func (b *builder) names(m map[string]any, depth int) error {
	d, err := b.s.newTableObject(typeDict, &b.s.dicts)
	if err := b.push(d, err); err != nil {
		return err
	}
	var few [8]string
	keys := few[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if err := b.value(m[k], depth+1); err != nil {
			return err
		}
		if err := b.s.putString(tableOf(d), k, b.made[len(b.made)-1]); err != nil {
			return err
		}
		b.s.drop(b.pop())
	}
	return nil
}

// mapKey is a key of a Go map.
type mapKey struct {
	obj  *header
	key  any
	item any
}

// dict pushes a dict of any map. All keys are made first, and sorted.
func (b *builder) dict(m reflect.Value, depth int) error {
	s := b.s
	d, err := s.newTableObject(typeDict, &s.dicts)
	if err := b.push(d, err); err != nil {
		return err
	}
	keys := make([]mapKey, 0, m.Len())
	first := len(b.made)
	for it := m.MapRange(); it.Next(); {
		k := mapKey{key: it.Key().Interface(), item: it.Value().Interface()}
		if err := b.value(k.key, depth+1); err != nil {
			return err
		}
		k.obj = b.made[len(b.made)-1]
		keys = append(keys, k)
	}
	slices.SortFunc(keys, mapKey.compare)
	for _, k := range keys {
		hash, err := hashOf(k.obj, 0)
		if err != nil {
			return err
		}
		i, _, err := tableOf(d).tab().locate(hash, k.obj)
		if err != nil {
			return err
		}
		if i >= 0 {
			return sameKeys(m, keys, tableOf(d).tab().entry(i).key.object(), k)
		}
		if err := b.value(k.item, depth+1); err != nil {
			return err
		}
		if err := s.put(tableOf(d), hash, k.obj, b.made[len(b.made)-1]); err != nil {
			return err
		}
		s.drop(b.pop())
	}
	for len(b.made) > first {
		s.drop(b.pop())
	}
	return nil
}

// sameKeys says which two keys of a map are equal.
func sameKeys(m reflect.Value, keys []mapKey, first *header, k mapKey) error {
	i := slices.IndexFunc(keys, func(k mapKey) bool { return k.obj == first })
	return fmt.Errorf("unsafeobj: FromGo: a %v has the keys %s and %s, which are equal in Python: leave one out, or make strings of them",
		m.Type(), keys[i], k)
}

// goType is the name of the type that the key has in Go.
func (k mapKey) goType() string { return fmt.Sprintf("%T", k.key) }

// String names the key, by what became of it: its own methods are not called.
func (k mapKey) String() string {
	p := printer{open: map[*header]struct{}{}, limit: maxShown}
	p.object(k.obj)
	text := p.String()
	if len(text) > 2*maxShown {
		text = strings.ToValidUTF8(text[:2*maxShown], "") + "…"
	}
	return fmt.Sprintf("%s(%s)", k.goType(), text)
}

// compare sorts keys by kind, and by value; equal ones by their types in Go, so that of two
// the same one is found to be there already.
func (k mapKey) compare(other mapKey) int {
	x, y := k.obj, other.obj
	if x.typ == typeInt && y.typ == typeInt { // most
		if v, w := (*intObject)(unsafe.Pointer(x)).v, (*intObject)(unsafe.Pointer(y)).v; v != w {
			return cmp.Compare(v, w)
		}
	}
	if c := cmp.Compare(keyRank(x), keyRank(y)); c != 0 {
		return c
	}
	c := 0
	switch {
	case isNumber(x.typ):
		c = compareNumbers(x, y)
	case x.typ == typeString || x.typ == typeBytes:
		c = cmp.Compare(stringOf(x).value(), stringOf(y).value())
	}
	if c == 0 && keyRank(x) < unsorted {
		c = cmp.Compare(k.goType(), other.goType())
	}
	return c
}

const unsorted = 4 // the rank of keys that are not sorted among themselves

func keyRank(h *header) int {
	switch {
	case h.typ == typeNone:
		return 0
	case isNumber(h.typ):
		return 1
	case h.typ == typeString:
		return 2
	case h.typ == typeBytes:
		return 3
	}
	return unsorted
}

// compareNumbers is exact. NaN comes first.
func compareNumbers(x, y *header) int {
	switch {
	case x.typ == typeFloat && y.typ == typeFloat:
		return cmp.Compare(floatOf(x), floatOf(y))
	case x.typ < typeBig && y.typ < typeBig: // bools too
		return cmp.Compare((*intObject)(unsafe.Pointer(x)).v, (*intObject)(unsafe.Pointer(y)).v)
	}
	if x.typ == typeFloat && floatOf(x) != floatOf(x) {
		return -1
	}
	if y.typ == typeFloat && floatOf(y) != floatOf(y) {
		return 1
	}
	return exact(x).Cmp(exact(y))
}

// exact returns a number that is no NaN.
func exact(h *header) *big.Float {
	if h.typ == typeFloat {
		return big.NewFloat(floatOf(h))
	}
	return new(big.Float).SetInt(bigOf(h))
}

// number makes an int of any size, or a float.
func (s *Space) number(n json.Number) (*header, error) {
	if v, err := n.Int64(); err == nil {
		r, err := s.Int(v)
		return at(r.addr), err
	}
	if v, ok := new(big.Int).SetString(n.String(), 10); ok {
		r, err := s.BigInt(v)
		return at(r.addr), err
	}
	v, err := n.Float64()
	if err != nil && !math.IsInf(v, 0) {
		return nil, err
	}
	r, err := s.Float(v)
	return at(r.addr), err
}

// ToGo makes a Go value of a borrowed object: nil, bool, int64 or *big.Int, float64,
// string, []byte; []any of a tuple, list or set; and of a dict map[string]any, or
// map[any]any if it has other keys than strings. A container that is in several places
// is one slice or map in all of them. An object that contains itself is [ErrDepth]. An
// instance is an error, and so is a key that would not be found in a Go map: bytes, a
// tuple, NaN, an int of more than 64 bits.
func ToGo(o Object) (any, error) {
	if o.addr == 0 {
		return nil, ErrNoObject
	}
	h := at(o.addr)
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	return converter{}.value(h, 0)
}

// converter has what was made of the containers with several references: were each
// converted as often as it is referred to, that could be 2^depth times.
type converter map[*header]any

func (c converter) value(h *header, depth int) (any, error) {
	if depth > maxDepth {
		return nil, ErrDepth
	}
	switch h.typ {
	case typeNone:
		return nil, nil
	case typeBool:
		return (*intObject)(unsafe.Pointer(h)).v != 0, nil
	case typeInt:
		return (*intObject)(unsafe.Pointer(h)).v, nil
	case typeBig:
		return Int{object: objectOf(h)}.Big(), nil
	case typeFloat:
		return floatOf(h), nil
	case typeString:
		return String{object: objectOf(h)}.Value(), nil
	case typeBytes:
		return Bytes{object: objectOf(h)}.Value(), nil
	}
	if v, known := c[h]; known {
		return v, nil
	}
	v, err := c.container(h, depth)
	if err == nil && RefCount(objectOf(h)) > 1 {
		c[h] = v
	}
	return v, err
}

func (c converter) container(h *header, depth int) (any, error) {
	switch h.typ {
	case typeTuple, typeList:
		k := childrenOf(h)
		items := make([]any, 0, k.left)
		for k.left > 0 {
			var x *header
			x, k = k.next()
			v, err := c.value(x, depth+1)
			if err != nil {
				return nil, err
			}
			items = append(items, v)
		}
		return items, nil
	case typeSet:
		o := tableOf(h)
		items := make([]any, 0, o.n)
		for e, i := o.next(0); e != nil; e, i = o.next(i + 1) {
			v, err := c.value(e.key.object(), depth+1)
			if err != nil {
				return nil, err
			}
			items = append(items, v)
		}
		return items, nil
	case typeDict:
		return c.dict(tableOf(h), depth)
	}
	return nil, &TypeError{Want: "a built-in type", Got: typeOf(h).name}
}

func (c converter) dict(o *tableObject, depth int) (any, error) {
	named, other := map[string]any{}, map[any]any(nil)
	for e, i := o.next(0); e != nil; e, i = o.next(i + 1) {
		switch k := e.key.object(); {
		case k.typ == typeBig: // a *big.Int is found by its address
			return nil, &TypeError{Want: "a key that Go can compare, of 64 bits at most", Got: "int"}
		case k.typ == typeFloat && math.IsNaN(floatOf(k)):
			return nil, &TypeError{Want: "a key that Go finds, and NaN is not", Got: "float"}
		}
		k, err := c.value(e.key.object(), depth+1)
		if err != nil {
			return nil, err
		}
		v, err := c.value(e.value.object(), depth+1)
		if err != nil {
			return nil, err
		}
		if name, ok := k.(string); ok && other == nil {
			named[name] = v
			continue
		}
		if other == nil {
			other = map[any]any{}
			for name, v := range named {
				other[name] = v
			}
		}
		if k != nil && !reflect.TypeOf(k).Comparable() {
			return nil, &TypeError{Want: "a key that Go can compare", Got: typeOf(e.key.object()).name}
		}
		other[k] = v
	}
	if other != nil {
		return other, nil
	}
	return named, nil
}
