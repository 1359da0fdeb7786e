package unsafeobj

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"unsafe"
)

// DecodeJSON reads one JSON value straight into objects, which the caller owns. It
// sets d.UseNumber: integers become ints of any size. Names in JSON objects are
// interned. d may stand within an array that the program has opened; its end is an error
// here, so ask d.More first.
func (s *Space) DecodeJSON(d *json.Decoder) (AnyRef, error) {
	d.UseNumber()
	// open are the containers that the next token is in, the innermost last; of a
	// dict with the key that has no value yet.
	type level struct {
		obj AnyRef
		key AnyRef
	}
	var open []level
	fail := func(err error) (AnyRef, error) {
		for i := range open {
			open[i].obj.Release()
			open[i].key.Release()
		}
		return AnyRef{}, err
	}
	for {
		token, err := d.Token()
		if err != nil {
			if err == io.EOF && len(open) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return fail(err)
		}
		var x AnyRef
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '[':
				x, err = anyOf(s.List())
			case '{':
				x, err = anyOf(s.Dict())
			default:
				if len(open) == 0 {
					return AnyRef{}, fmt.Errorf("unsafeobj: DecodeJSON: %v where a value should be", t)
				}
				x = open[len(open)-1].obj
				open = open[:len(open)-1]
			}
			if err == nil && (t == '[' || t == '{') {
				open = append(open, level{obj: x})
				continue
			}
		case string:
			if n := len(open); n > 0 && open[n-1].obj.Object().isDict() && open[n-1].key.IsZero() {
				if open[n-1].key, err = anyOf(s.Intern(t)); err != nil {
					return fail(err)
				}
				continue
			}
			x, err = anyOf(s.String(t))
		default:
			x, err = s.fromGo(t, 0)
		}
		if err != nil {
			return fail(err)
		}
		if len(open) == 0 {
			return x, nil
		}
		top := &open[len(open)-1]
		if top.obj.Object().isDict() {
			err = Dict{object: top.obj.Object()}.Set(top.key.Object(), x.Object())
			top.key.Release()
		} else {
			err = List{object: top.obj.Object()}.Append(x.Object())
		}
		x.Release()
		if err != nil {
			return fail(err)
		}
	}
}

func (o Object) isDict() bool { return at(o.addr).typ == typeDict }

// EncodeJSON writes a borrowed object as JSON, without white space. Tuples and
// lists are arrays; a dict must have str keys. What JSON cannot say, such as a set
// or NaN, is an error, and so is an object that contains itself.
func EncodeJSON(w io.Writer, o Object) error {
	if o.addr == 0 {
		return ErrNoObject
	}
	h := at(o.addr)
	s := rlockOf(h)
	text, err := appendJSON(nil, h, 0)
	runlockOf(s)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func appendJSON(b []byte, h *header, depth int) ([]byte, error) {
	if depth > maxDepth {
		return b, ErrDepth
	}
	switch h.typ {
	case typeNone:
		return append(b, "null"...), nil
	case typeBool:
		return fmt.Append(b, (*intObject)(unsafe.Pointer(h)).v != 0), nil
	case typeInt, typeBig:
		return bigOf(h).Append(b, 10), nil
	case typeFloat:
		if v := floatOf(h); math.IsNaN(v) || math.IsInf(v, 0) {
			return b, fmt.Errorf("unsafeobj: EncodeJSON: %v is not a number in JSON", v)
		}
		return append(b, floatRepr(floatOf(h))...), nil
	case typeString:
		return appendJSONString(b, stringOf(h).value())
	case typeTuple, typeList:
		b = append(b, '[')
		for c, i := childrenOf(h), 0; c.left > 0; i++ {
			if i > 0 {
				b = append(b, ',')
			}
			var x *header
			var err error
			x, c = c.next()
			if b, err = appendJSON(b, x, depth+1); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil
	case typeDict:
		return appendJSONDict(b, tableOf(h), depth)
	}
	return b, &TypeError{Want: "what JSON has", Got: typeOf(h).name}
}

func appendJSONDict(b []byte, o *tableObject, depth int) ([]byte, error) {
	b = append(b, '{')
	first := true
	for e, i := o.next(0); e != nil; e, i = o.next(i + 1) {
		if !first {
			b = append(b, ',')
		}
		first = false
		k := e.key.object()
		if k.typ != typeString {
			return b, &TypeError{Want: "str, as a key in JSON", Got: typeOf(k).name}
		}
		var err error
		if b, err = appendJSONString(b, stringOf(k).value()); err != nil {
			return b, err
		}
		b = append(b, ':')
		if b, err = appendJSON(b, e.value.object(), depth+1); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendJSONString(b []byte, v string) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(slices.Grow(b, len(text)), text...), err
}
