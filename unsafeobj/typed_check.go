package unsafeobj

import (
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// The check that a type holds no Go pointer is made once for each type, by
// reflection. Its outcome is in verdicts, and a type that passed is in passed
// too, where check finds it in about a nanosecond: the address of a description
// stands for the type, and its hash is the slot. Two types that share a slot do
// not push each other out; the later one is looked up in verdicts, in some ten
// nanoseconds.
var (
	passed   [1 << passedBits]atomic.Uintptr
	verdicts sync.Map // reflect.Type -> error, nil if it passed
)

const passedBits = 10

// check returns nil if T holds no Go pointer, else a *GoPointerError.
func check[T any]() error {
	key := keyOf((*T)(nil))
	if passed[slotOf(key)].Load() == key {
		return nil
	}
	return checkSlow(reflect.TypeFor[T](), key)
}

// keyOf returns the address of the description of p's type, which is never freed
// or moved: the first word of an interface. p is a nil *T, for a T itself would
// have to be made.
func keyOf(p any) uintptr { return uintptr((*[2]unsafe.Pointer)(unsafe.Pointer(&p))[0]) }

// slotOf hashes by multiplication: the golden ratio spreads addresses that are
// close together.
func slotOf(key uintptr) uint32 { return uint32(key>>3) * 0x9E3779B9 >> (32 - passedBits) }

// checkSlow is check for a type that is not in its slot, where it puts it.
func checkSlow(t reflect.Type, key uintptr) error {
	err := verdictOn(t)
	if slot := &passed[slotOf(key)]; err == nil && slot.Load() == 0 {
		slot.Store(key)
	}
	return err
}

// verdictOn looks up what was found in t, or finds it.
func verdictOn(t reflect.Type) error {
	if v, ok := verdicts.Load(t); ok {
		err, _ := v.(error)
		return err
	}
	if bad := findPointer(t, nameOf(t), t.PkgPath()); bad != nil {
		verdicts.Store(t, error(bad))
		return bad
	}
	verdicts.Store(t, nil)
	return nil
}

// findPointer returns the first Go pointer in a t, or nil. home is the package of
// the type that is checked, whose author reads the error.
func findPointer(t reflect.Type, path, home string) *GoPointerError {
	switch {
	case t.Kind() <= reflect.Complex128: // booleans and numbers, uintptr too
		return nil
	case t.Kind() == reflect.Array:
		if t.Len() == 0 {
			return nil
		}
		return findPointer(t.Elem(), path+"[]", home)
	case t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]():
		for i := range t.NumField() {
			f := t.Field(i)
			bad := findPointer(f.Type, path+"."+f.Name, home)
			if bad == nil {
				continue
			}
			if home != "" && f.PkgPath != "" && f.PkgPath != home { // not the author's to change
				bad.Fix = fmt.Sprintf("numbers and unsafeobj.Strs that the %v can be made from", t)
			}
			return bad
		}
		return nil
	}
	return &GoPointerError{path, t, fixFor(t)}
}

// fixFor returns what to use in place of a t, which holds a Go pointer.
func fixFor(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String, reflect.Slice, reflect.Pointer:
		return offHeapName(t)
	case reflect.Struct: // time.Time, which has a pointer to its location
		return "an int64 of UnixNano"
	case reflect.UnsafePointer:
		return "unsafeobj.Ptr, or a uintptr"
	case reflect.Map:
		return "a sorted unsafeobj.Slice of keys and values, or keep the map in Go and its index here"
	}
	return "an index into a Go slice that holds it" // channel, function, interface
}

// offHeapName returns the spelling of what stands for a t off heap.
func offHeapName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "unsafeobj.Str"
	case reflect.Slice:
		return "unsafeobj.Slice[" + elemName(t) + "]"
	case reflect.Pointer:
		return "unsafeobj.Ptr[" + elemName(t) + "]"
	}
	return t.String()
}

// elemName goes into unnamed types only: named ones may contain themselves.
func elemName(t reflect.Type) string {
	if e := t.Elem(); e.Name() != "" && e.Kind() != reflect.String {
		return e.String()
	}
	return offHeapName(t.Elem())
}

// nameOf returns the name of t without its package, as fields are said.
func nameOf(t reflect.Type) string {
	if t.Name() != "" {
		return t.Name()
	}
	return t.String()
}
