package unsafeobj

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// typeID is the number of a type in the process. The built-in ones are constants,
// so that a switch does what a table of functions would do elsewhere.
type typeID uint16

const (
	typeNone typeID = iota
	typeBool
	typeInt
	typeBig // an int beyond 64 bits
	typeFloat
	typeString
	typeBytes

	// From here on objects have a collector header in front.
	typeTuple
	typeList
	typeDict
	typeSet

	typeUser // the first of a Class

	firstContainer = typeTuple
	maxTypes       = 1 << 16
)

// Type describes objects of a kind. Types are never freed.
type Type struct {
	id       typeID
	name     string
	size     uintptr // of an object without items, collector header included
	itemSize uintptr

	// Of a Class.
	payload  reflect.Type
	fields   []uintptr // offsets of its Fields from the header
	free     int       // dead ones kept for the next
	finalize func(Object)
	dealloc  func(unsafe.Pointer)
	repr     func(unsafe.Pointer) string
	hash     func(unsafe.Pointer) uint64
	equal    func(a, b unsafe.Pointer) bool
}

// Name returns the type's name, as Python has it for the built-in ones.
func (t *Type) Name() string { return t.name }

// Size returns the bytes of an object without items: its header, and the collector's
// in front of it.
func (t *Type) Size() int { return int(t.size) }

// ItemSize returns the bytes of each item that the object itself holds: of a
// tuple, str, bytes or big int. It is 0 for the others.
func (t *Type) ItemSize() int { return int(t.itemSize) }

func (t *Type) String() string { return t.name }

// types is replaced as a whole when a Class is made.
var (
	types     = builtinTypes()
	typesLock sync.Mutex
)

func builtinTypes() *atomic.Pointer[[]*Type] {
	list := []*Type{
		typeNone:   {name: "NoneType", size: headerBytes},
		typeBool:   {name: "bool", size: unsafe.Sizeof(intObject{})},
		typeInt:    {name: "int", size: unsafe.Sizeof(intObject{})},
		typeBig:    {name: "int", size: unsafe.Sizeof(bigObject{}), itemSize: ptrBytes},
		typeFloat:  {name: "float", size: unsafe.Sizeof(floatObject{})},
		typeString: {name: "str", size: unsafe.Sizeof(stringObject{}), itemSize: 1},
		typeBytes:  {name: "bytes", size: unsafe.Sizeof(stringObject{}), itemSize: 1},
		typeTuple:  {name: "tuple", size: gcBytes + unsafe.Sizeof(tupleObject{}), itemSize: ptrBytes},
		typeList:   {name: "list", size: gcBytes + unsafe.Sizeof(listObject{})},
		typeDict:   {name: "dict", size: gcBytes + unsafe.Sizeof(tableObject{})},
		typeSet:    {name: "set", size: gcBytes + unsafe.Sizeof(tableObject{})},
	}
	for i, t := range list {
		t.id = typeID(i)
	}
	p := new(atomic.Pointer[[]*Type])
	p.Store(&list)
	return p
}

// register gives a type its number.
func (t *Type) register() error {
	typesLock.Lock()
	defer typesLock.Unlock()
	old := *types.Load()
	if len(old) == maxTypes {
		return ErrSpaces
	}
	t.id = typeID(len(old))
	list := append(slices.Clip(old), t)
	types.Store(&list)
	return nil
}

func typeOf(h *header) *Type { return (*types.Load())[h.typ] }

// TypeOf returns the type of a borrowed object, nil if there is none.
func TypeOf(o Object) *Type {
	if o.addr == 0 {
		return nil
	}
	return typeOf(at(o.addr))
}

// ClassSpec describes a Class. Finalize is called outside of any operation, and may do
// everything but close the Space ([ErrBusy]). Hash, Equal and Repr are called in the middle
// of one, and must do no more than read the payload: in an owned Space what changes a
// container then panics with [ErrReentered], and a container whose last reference is
// released dies when the operation is over; in a shared one, which is locked, either waits
// for ever. Dealloc is called at the end of an operation: in an owned Space it is refused
// what these are; a shared one is not locked then.
//
// A panic of Hash or Equal is the error of the operation. After one of Repr an instance
// is printed as if it had none. One of Finalize or Dealloc is reported, and all is as if
// it had returned. One that ends its goroutine ends it, and leaves nothing behind: the
// operation has changed nothing then, or is over, and no lock is held.
type ClassSpec[P any] struct {
	// Name is the type's name, "Node" say. If empty it is that of P.
	Name string
	// Finalize is called once in an instance's life, before it dies or is
	// collected. It may make the instance live on by cloning a reference to it.
	// The instance is borrowed.
	Finalize func(Instance[P])
	// Dealloc is called when the instance's block is about to be freed, to free
	// what the payload holds besides Fields.
	Dealloc func(*P)
	// Repr returns what [Repr] prints.
	Repr func(*P) string
	// Hash and Equal make instances of equal payload equal keys. Without them an
	// instance equals itself alone. Equal without Hash makes instances unhashable.
	Hash  func(*P) uint64
	Equal func(a, b *P) bool
	// FreeList is how many blocks of dead instances a Space keeps for the next
	// ones, until a full collection.
	FreeList int
}

// Class makes objects of a user's type: a struct P, which holds no Go pointers, and
// refers to other objects by fields of type [Field]. The collector finds these by
// itself. A Class is for all Spaces of the process, and any goroutine.
type Class[P any] struct {
	_ [0]*P
	t *Type
}

// Instance is a borrowed handle on an object with a payload P.
type Instance[P any] struct {
	_ [0]P
	object
}

// NewClass registers a type. It lives as long as the process; make each once.
func NewClass[P any](spec ClassSpec[P]) (*Class[P], error) {
	p := reflect.TypeFor[P]()
	t := &Type{name: spec.Name, payload: p, free: spec.FreeList, size: gcBytes + payloadOffset + max(p.Size(), ptrBytes)}
	if t.name == "" {
		t.name = p.String()
	}
	if p.Align() > 8 {
		return nil, fmt.Errorf("unsafeobj: %v: alignment %d, at most 8", p, p.Align())
	}
	if err := t.findFields(p, p.String(), payloadOffset); err != nil {
		return nil, err
	}
	if f := spec.Finalize; f != nil {
		t.finalize = func(o Object) { f(Instance[P]{object: o}) }
	}
	if f := spec.Dealloc; f != nil {
		t.dealloc = func(p unsafe.Pointer) { f((*P)(p)) }
	}
	if f := spec.Repr; f != nil {
		t.repr = func(p unsafe.Pointer) string { return f((*P)(p)) }
	}
	if f := spec.Hash; f != nil {
		t.hash = func(p unsafe.Pointer) uint64 { return f((*P)(p)) }
	}
	if f := spec.Equal; f != nil {
		t.equal = func(a, b unsafe.Pointer) bool { return f((*P)(a), (*P)(b)) }
	}
	if err := t.register(); err != nil {
		return nil, err
	}
	return &Class[P]{t: t}, nil
}

// payloadOffset is where a payload begins, from the header.
const payloadOffset = headerBytes

func payloadOf(h *header) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(h), payloadOffset) }

// A Field and a Ref tell what they are, for every T. A struct that embeds one has the
// method too, but is not of that type.
type (
	isField interface{ fieldType() reflect.Type }
	isRef   interface{ refType() reflect.Type }
)

func (*Field[T]) fieldType() reflect.Type { return reflect.TypeFor[Field[T]]() }

func (*Ref[T]) refType() reflect.Type { return reflect.TypeFor[Ref[T]]() }

// findFields notes the Fields in a payload, and refuses Go pointers and what owns
// objects without the collector's knowledge.
func (t *Type) findFields(p reflect.Type, path string, offset uintptr) error {
	zero := reflect.New(p).Interface()
	field, _ := zero.(isField)
	ref, _ := zero.(isRef)
	switch kind := p.Kind(); {
	case field != nil && field.fieldType() == p:
		t.fields = append(t.fields, offset)
	case ref != nil && ref.refType() == p:
		return fmt.Errorf("unsafeobj: %s: a payload cannot own a %v: the collector would not see it; use unsafeobj.Field", path, p)
	case kind <= reflect.Complex128:
	case kind == reflect.Array:
		for i, before := 0, len(t.fields); i < p.Len(); i++ {
			if err := t.findFields(p.Elem(), fmt.Sprintf("%s[%d]", path, i), offset+uintptr(i)*p.Elem().Size()); err != nil {
				return err
			}
			if len(t.fields) == before {
				break // nor do the others have any
			}
		}
	case kind == reflect.Struct:
		for i := range p.NumField() {
			f := p.Field(i)
			if err := t.findFields(f.Type, path+"."+f.Name, offset+f.Offset); err != nil {
				return err
			}
		}
	default:
		return &GoPointerError{path, p, "unsafeobj.Field of an object"}
	}
	return nil
}

// Type returns the class's Type.
func (c *Class[P]) Type() *Type { return c.t }

// New makes an instance with a zero payload in s. The caller owns it.
func (c *Class[P]) New(s *Space) (Ref[Instance[P]], error) {
	h, due, err := s.newInstance(c.t)
	if due {
		s.collectFor(h)
	}
	return refTo[Instance[P]](h), err
}

// As returns a borrowed object as an instance of this class, or a [TypeError].
func (c *Class[P]) As(o Object) (Instance[P], error) {
	if o.addr == 0 {
		return Instance[P]{}, ErrNoObject
	}
	if h := at(o.addr); h.typ != c.t.id {
		return Instance[P]{}, &TypeError{Want: c.t.name, Got: typeOf(h).name}
	}
	return Instance[P]{object: o}, nil
}

func (Instance[P]) accepts(h *header) bool {
	return h.typ >= typeUser && typeOf(h).payload == reflect.TypeFor[P]()
}

// Payload returns the payload, which lives as long as the object; nil if there is
// none. In a shared Space who writes to it keeps others out; Fields do so by
// themselves. Do not copy Fields.
func (i Instance[P]) Payload() *P {
	if i.addr == 0 {
		return nil
	}
	return (*P)(payloadOf(at(i.addr)))
}

// Field is a reference from a payload to an object of the same Space: the payload
// owns it. The zero Field refers to nothing.
type Field[T View] struct {
	_   [0]T
	ref link
}

// within reports whether f is in owner's payload.
func (f *Field[T]) within(owner Object) error {
	h, err := live(owner)
	if err != nil {
		return err
	}
	if h.typ < typeUser || uintptr(unsafe.Pointer(f))-owner.addr >= typeOf(h).size-gcBytes {
		return ErrField
	}
	return nil
}

// Get returns a new reference to the object that the field of owner, borrowed,
// refers to; the zero Ref if there is none.
func (f *Field[T]) Get(owner Object) (Ref[T], error) {
	if err := f.within(owner); err != nil {
		return Ref[T]{}, err
	}
	if h := at(owner.addr); h.space < 0 {
		defer rlock(h).RUnlock()
	}
	h := f.ref.object()
	if h != nil {
		incref(h)
	}
	return refTo[T](h), nil
}

// Set makes the field of owner refer to v, both borrowed; to nothing if v is zero.
// What it referred to is released.
func (f *Field[T]) Set(owner Object, v T) error {
	if err := f.within(owner); err != nil {
		return err
	}
	h := at(owner.addr)
	x := v.Object()
	if x.addr != 0 {
		if !fits(h, at(x.addr)) {
			return refusal(owner, x)
		}
	}
	s := spaceOf(h)
	if s.locks {
		defer s.lockSlow().unlock()
	}
	old := f.ref.object()
	if x.addr == 0 {
		f.ref = 0
	} else {
		s.hold(h, at(x.addr))
		f.ref.set(at(x.addr))
	}
	if old != nil {
		s.lose(old)
		s.settle()
	}
	return nil
}

// newInstance makes an object of a Class.
func (s *Space) newInstance(t *Type) (h *header, due bool, err error) {
	if s.locks {
		defer s.lockSlow().mu.Unlock()
	}
	if !s.open {
		return nil, false, ErrClosed
	}
	if f := s.freeInstances(t); f != nil {
		h = f.pop()
	}
	if h != nil {
		h.revive()
	} else if h, err = s.newContainer(t.id, t.size); err != nil {
		return nil, false, err
	}
	clear(unsafe.Slice((*byte)(payloadOf(h)), t.size-gcBytes-payloadOffset))
	s.track(h)
	return h, s.gc.due(), nil
}

// viewName names a view's kind for an error.
func viewName(v any) string {
	t := reflect.TypeOf(v)
	switch v.(type) {
	case Bool:
		return "bool"
	case Int:
		return "int"
	case Float:
		return "float"
	case String:
		return "str"
	case Bytes:
		return "bytes"
	case Tuple:
		return "tuple"
	case List:
		return "list"
	case Dict:
		return "dict"
	case Set:
		return "set"
	}
	return t.Name()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
