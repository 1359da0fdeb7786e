package unsafeobj

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// DecodeJSON reads one JSON value straight into objects, which the caller owns. It
// sets d.UseNumber: integers become ints of any size. Names in JSON objects are
// interned. d may stand within an array that the program has opened; its end is an error
// here, so ask d.More first. d itself puts U+FFFD in the place of what is not UTF-8.
func (s *Space) DecodeJSON(d *json.Decoder) (AnyRef, error) {
	d.UseNumber()
	// open are the containers that the next token is in, the innermost last; of a
	// dict with the key that has no value yet.
	type level struct {
		obj AnyRef
		key AnyRef
	}
	var open []level
	defer func() { // also if what d reads from panics, or ends the goroutine
		for i := range open {
			open[i].obj.Release()
			open[i].key.Release()
		}
	}()
	for {
		token, err := d.Token()
		if err != nil {
			if err == io.EOF && len(open) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return AnyRef{}, err
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
					return AnyRef{}, err
				}
				continue
			}
			x, err = anyOf(s.String(t))
		default:
			var h *header
			h, _, err = s.leaf(t)
			x = refTo[Object](h)
		}
		if err != nil {
			return AnyRef{}, err
		}
		if len(open) == 0 {
			return x, nil
		}
		if err := putInto(&open[len(open)-1].obj, &open[len(open)-1].key, x); err != nil {
			return AnyRef{}, err
		}
	}
}

// putInto gives x to a list, or with a key to a dict, and releases both.
func putInto(r, key *AnyRef, x AnyRef) error {
	o := r.Object()
	defer x.Release()
	if !o.isDict() {
		return List{object: o}.Append(x.Object())
	}
	defer key.Release()
	return Dict{object: o}.Set(key.Object(), x.Object())
}

// anyOf forgets the kind.
func anyOf[T View](r Ref[T], err error) (AnyRef, error) { return r.Any(), err }

func (o Object) isDict() bool { return at(o.addr).typ == typeDict }

// EncodeJSON writes a borrowed object as JSON, without white space. Tuples and
// lists are arrays; a dict must have str keys. What JSON cannot say, such as a set,
// NaN, or text that is not UTF-8, is an error, and so is an object that contains itself. An
// object that is in several places is written in each: more than 1 GiB in all is
// [ErrTooLong].
func EncodeJSON(w io.Writer, o Object) error {
	if o.addr == 0 {
		return ErrNoObject
	}
	text, err := encode(at(o.addr))
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func encode(h *header) ([]byte, error) {
	if h.space < 0 {
		defer rlock(h).RUnlock()
	}
	e := encoder{limit: maxText}
	err := e.value(h, 0)
	return e.text, err
}

// MarshalJSON is [EncodeJSON] for package json.
func (o Object) MarshalJSON() ([]byte, error) {
	if o.addr == 0 {
		return nil, ErrNoObject
	}
	return encode(at(o.addr))
}

// MarshalJSON is [EncodeJSON] for package json.
func (r Ref[T]) MarshalJSON() ([]byte, error) { return r.Object().MarshalJSON() }

// MarshalJSON is [EncodeJSON] of the dict of the names, for package json.
func (n *Namespace) MarshalJSON() ([]byte, error) { return n.names.MarshalJSON() }

// MarshalJSON is an error: the object may be gone.
func (Weak[T]) MarshalJSON() ([]byte, error) {
	return nil, errors.New("unsafeobj: a Weak is not marshalled: Get the object, and marshal that")
}

// MarshalJSON is an error: a Field can be read only through a handle on its owner.
func (Field[T]) MarshalJSON() ([]byte, error) {
	return nil, errors.New("unsafeobj: a Field is not marshalled by itself: Get it, and marshal that")
}

// maxShown is how many bytes of a text are shown in an error.
const maxShown = 64

// maxText is how many bytes of text are made of an object.
const maxText = 1 << 30

// encoder makes JSON.
type encoder struct {
	text  []byte
	limit int
}

func (e *encoder) write(text string) { e.text = append(e.text, text...) }

func (e *encoder) value(h *header, depth int) error {
	if depth > maxDepth {
		return ErrDepth
	}
	if len(e.text) > e.limit {
		return ErrTooLong
	}
	switch h.typ {
	case typeNone:
		e.write("null")
	case typeBool:
		e.text = strconv.AppendBool(e.text, (*intObject)(unsafe.Pointer(h)).v != 0)
	case typeInt:
		e.text = strconv.AppendInt(e.text, (*intObject)(unsafe.Pointer(h)).v, 10)
	case typeBig:
		e.text = bigOf(h).Append(e.text, 10)
	case typeFloat:
		v := floatOf(h)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("unsafeobj: EncodeJSON: %v is not a number in JSON", v)
		}
		e.write(floatRepr(v))
	case typeString:
		return e.string(h)
	case typeTuple, typeList:
		return e.array(h, depth)
	case typeDict:
		return e.object(tableOf(h), depth)
	default:
		return &TypeError{Want: "what JSON has", Got: typeOf(h).name}
	}
	return nil
}

func (e *encoder) comma(i int) {
	if i > 0 {
		e.write(",")
	}
}

func (e *encoder) array(h *header, depth int) error {
	e.write("[")
	for c, i := childrenOf(h), 0; c.left > 0; i++ {
		var x *header
		x, c = c.next()
		e.comma(i)
		if err := e.value(x, depth+1); err != nil {
			return err
		}
	}
	e.write("]")
	return nil
}

func (e *encoder) object(o *tableObject, depth int) error {
	e.write("{")
	n := 0
	for x, i := o.next(0); x != nil; x, i = o.next(i + 1) {
		e.comma(n)
		n++
		k := x.key.object()
		if k.typ != typeString {
			return &TypeError{Want: "str, as a key in JSON", Got: typeOf(k).name}
		}
		if err := e.string(k); err != nil {
			return err
		}
		e.write(":")
		if err := e.value(x.value.object(), depth+1); err != nil {
			return err
		}
	}
	e.write("}")
	return nil
}

func (e *encoder) string(h *header) error {
	if v := stringOf(h).value(); !utf8.ValidString(v) {
		var p printer
		p.quote(v[:min(len(v), maxShown)], false)
		return fmt.Errorf("unsafeobj: EncodeJSON: a str of %d bytes, %s, is not UTF-8, which JSON cannot say: encode it first, in base64 say",
			len(v), p.String())
	}
	text, err := json.Marshal(stringOf(h).value())
	e.text = append(e.text, text...)
	return err
}
