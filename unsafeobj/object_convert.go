package unsafeobj

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"unsafe"
)

// FromGo makes an object of a Go value, which the caller owns: nil, bools, numbers,
// strings, []byte (as bytes), *big.Int and json.Number; slices, arrays and maps of
// them, and pointers to them, each copied wherever it is found; and handles and Refs, which
// are borrowed. Other values are an error that names their type.
func (s *Space) FromGo(v any) (AnyRef, error) { return s.fromGo(v, 0) }

func (s *Space) fromGo(v any, depth int) (AnyRef, error) {
	if depth > maxDepth {
		return AnyRef{}, ErrDepth
	}
	switch v := v.(type) {
	case nil:
		return refTo[Object](&noneObject), nil
	case bool:
		return Own(BoolOf(v).Object()), nil
	case int:
		return anyOf(s.Int(int64(v)))
	case int64:
		return anyOf(s.Int(v))
	case float64:
		return anyOf(s.Float(v))
	case string:
		return anyOf(s.String(v))
	case []byte:
		return anyOf(s.Bytes(v))
	case *big.Int:
		if v == nil {
			return refTo[Object](&noneObject), nil
		}
		return anyOf(s.BigInt(v))
	case json.Number:
		return s.fromNumber(v)
	case interface{ Object() Object }:
		o := v.Object()
		if err := s.admit([]Object{o}); err != nil {
			return AnyRef{}, err
		}
		return Own(o), nil
	case []any:
		return s.fromItems(len(v), func(i int) any { return v[i] }, depth)
	case map[string]any:
		d, err := s.Dict()
		for k, x := range v {
			if err == nil {
				err = s.bind(d.Get(), k, x, depth)
			}
		}
		return ownedUnless(err, d)
	}
	return s.fromReflect(reflect.ValueOf(v), depth)
}

// anyOf forgets the kind.
func anyOf[T View](r Ref[T], err error) (AnyRef, error) { return r.Any(), err }

// ownedUnless releases what was made if there is an error.
func ownedUnless[T View](err error, r Ref[T]) (AnyRef, error) {
	if err != nil {
		r.Release()
	}
	return r.Any(), err
}

func (s *Space) bind(d Dict, k string, v any, depth int) error {
	x, err := s.fromGo(v, depth+1)
	if err != nil {
		return err
	}
	defer x.Release()
	return d.SetString(k, x.Object())
}

func (s *Space) fromItems(n int, item func(int) any, depth int) (AnyRef, error) {
	l, err := s.List()
	for i := 0; i < n && err == nil; i++ {
		var x AnyRef
		if x, err = s.fromGo(item(i), depth+1); err == nil {
			err = l.Get().Append(x.Object())
			x.Release()
		}
	}
	return ownedUnless(err, l)
}

func (s *Space) fromReflect(v reflect.Value, depth int) (AnyRef, error) {
	switch kind := v.Kind(); {
	case kind == reflect.Bool:
		return s.fromGo(v.Bool(), depth)
	case v.CanInt():
		return anyOf(s.Int(v.Int()))
	case v.CanUint():
		return anyOf(s.BigInt(new(big.Int).SetUint64(v.Uint())))
	case v.CanFloat():
		return anyOf(s.Float(v.Float()))
	case kind == reflect.String:
		return anyOf(s.String(v.String()))
	case kind == reflect.Pointer || kind == reflect.Interface:
		if v.IsNil() {
			return refTo[Object](&noneObject), nil
		}
		return s.fromGo(v.Elem().Interface(), depth+1)
	case kind == reflect.Slice || kind == reflect.Array:
		return s.fromItems(v.Len(), func(i int) any { return v.Index(i).Interface() }, depth)
	case kind == reflect.Map:
		return s.fromMap(v, depth)
	}
	return AnyRef{}, fmt.Errorf("unsafeobj: FromGo: no object for a %v", v.Type())
}

func (s *Space) fromMap(v reflect.Value, depth int) (AnyRef, error) {
	d, err := s.Dict()
	for it := v.MapRange(); it.Next() && err == nil; {
		var k, x AnyRef
		if k, err = s.fromGo(it.Key().Interface(), depth+1); err != nil {
			break
		}
		if x, err = s.fromGo(it.Value().Interface(), depth+1); err == nil {
			err = d.Get().Set(k.Object(), x.Object())
			x.Release()
		}
		k.Release()
	}
	return ownedUnless(err, d)
}

// fromNumber makes an int of any size, or a float.
func (s *Space) fromNumber(n json.Number) (AnyRef, error) {
	if v, err := n.Int64(); err == nil {
		return anyOf(s.Int(v))
	}
	if v, ok := new(big.Int).SetString(n.String(), 10); ok {
		return anyOf(s.BigInt(v))
	}
	v, err := n.Float64()
	if err != nil && !math.IsInf(v, 0) {
		return AnyRef{}, err
	}
	return anyOf(s.Float(v))
}

// ToGo makes a Go value of a borrowed object: nil, bool, int64 or *big.Int, float64,
// string, []byte; []any of a tuple, list or set; and of a dict map[string]any, or
// map[any]any if it has other keys than strings. A container that is in several places
// is one slice or map in all of them. An object that contains itself is [ErrDepth]. An
// instance is an error.
func ToGo(o Object) (any, error) {
	if o.addr == 0 {
		return nil, ErrNoObject
	}
	h := at(o.addr)
	s := rlockOf(h)
	defer runlockOf(s)
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
