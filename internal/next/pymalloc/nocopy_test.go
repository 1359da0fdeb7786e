package pymalloc

import (
	"reflect"
	"sync"
	"testing"
)

// holdsLock reports whether go vet refuses copies of values of the type: it has a field,
// or a field of a field, whose pointer has Lock and Unlock.
func holdsLock(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[sync.Locker]()) {
		return true
	}
	for i := range t.NumField() {
		if f := t.Field(i).Type; f.Kind() == reflect.Struct && holdsLock(f) {
			return true
		}
	}
	return false
}

// What must not be copied, go vet finds copies of.
func TestNoCopy(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[Allocator](), reflect.TypeFor[Heap]()} {
		if !holdsLock(typ) {
			t.Errorf("go vet does not report copies of a %v", typ)
		}
	}
}
