package unsafeobj

import (
	"errors"
	"fmt"
	"math/big"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

type (
	checkUser    struct{ Name string }
	checkSession struct {
		ID   int
		User checkUser
	}
	checkGood struct {
		A bool
		B [3]struct{ C, D int16 }
		E Str
		F Slice[Slice[Str]]
		G Ptr[checkGood]
		H Slice[checkGood]
		I uintptr
		J atomic.Int64
		K sync.Mutex
		L [0]*int
		M [0]string
		N complex128
		_ [7]byte
	}
	checkList        []checkList
	checkNext        struct{ Next *checkNext }
	checkString      string
	checkPair[T any] struct{ A, B T }
	checkForeign     struct{ Balance big.Int }
	checkEmbeds      struct{ os.ProcAttr }
)

func TestTypedCheck(t *testing.T) {
	for _, v := range []any{
		false, int(0), int8(0), int16(0), int32(0), int64(0), uint(0), uint8(0), uint16(0), uint32(0), uint64(0),
		uintptr(0), float32(0), float64(0), complex64(0), complex128(0),
		struct{}{},
		[0]string{},
		[0]any{},
		[4][5]int{},
		[1]struct{}{},
		time.Duration(0),
		checkPair[int8]{},
		Str{},
		Slice[int]{},
		Slice[string]{},
		Ptr[string]{},
		checkGood{},
		[3]checkGood{},
	} {
		if err := verdictOn(reflect.TypeOf(v)); err != nil {
			t.Errorf("%T: %v", v, err)
		}
	}
	const inGo = "an index into a Go slice that holds it"
	for _, c := range []struct {
		typ  reflect.Type
		path string
		what string
		fix  string
	}{
		{reflect.TypeFor[string](), "string", "string", "unsafeobj.Str"},
		{reflect.TypeFor[checkString](), "checkString", "unsafeobj.checkString", "unsafeobj.Str"},
		{reflect.TypeFor[*int](), "*int", "*int", "unsafeobj.Ptr[int]"},
		{reflect.TypeFor[*string](), "*string", "*string", "unsafeobj.Ptr[unsafeobj.Str]"},
		{reflect.TypeFor[[]int](), "[]int", "[]int", "unsafeobj.Slice[int]"},
		{reflect.TypeFor[[]string](), "[]string", "[]string", "unsafeobj.Slice[unsafeobj.Str]"},
		{reflect.TypeFor[[][]*string](), "[][]*string", "[][]*string", "unsafeobj.Slice[unsafeobj.Slice[unsafeobj.Ptr[unsafeobj.Str]]]"},
		{reflect.TypeFor[checkList](), "checkList", "unsafeobj.checkList", "unsafeobj.Slice[unsafeobj.checkList]"},
		{reflect.TypeFor[checkNext](), "checkNext.Next", "*unsafeobj.checkNext", "unsafeobj.Ptr[unsafeobj.checkNext]"},
		{reflect.TypeFor[any](), "interface {}", "interface {}", inGo},
		{reflect.TypeFor[error](), "error", "error", inGo},
		{reflect.TypeFor[func()](), "func()", "func()", inGo},
		{reflect.TypeFor[chan int](), "chan int", "chan int", inGo},
		{reflect.TypeFor[map[int]int](), "map[int]int", "map[int]int", "a sorted unsafeobj.Slice of keys and values, or keep the map in Go and its index here"},
		{reflect.TypeFor[unsafe.Pointer](), "Pointer", "unsafe.Pointer", "unsafeobj.Ptr, or a uintptr"},
		{reflect.TypeFor[time.Time](), "Time", "time.Time", "an int64 of UnixNano"},
		{reflect.TypeFor[struct{ At time.Time }](), "struct { At time.Time }.At", "time.Time", "an int64 of UnixNano"},
		{reflect.TypeFor[checkSession](), "checkSession.User.Name", "string", "unsafeobj.Str"},
		{reflect.TypeFor[[2]checkSession](), "[2]unsafeobj.checkSession[].User.Name", "string", "unsafeobj.Str"},
		{reflect.TypeFor[struct{ A [2][3]checkUser }](), "struct { A [2][3]unsafeobj.checkUser }.A[][].Name", "string", "unsafeobj.Str"},
		{reflect.TypeFor[checkPair[any]](), "checkPair[interface {}].A", "interface {}", inGo},
		{reflect.TypeFor[struct {
			int
			_ [1]chan int
		}](), "struct { int; _ [1]chan int }._[]", "chan int", inGo},
		{reflect.TypeFor[atomic.Value](), "Value.v", "interface {}", inGo},
		{reflect.TypeFor[checkForeign](), "checkForeign.Balance.abs", "big.nat", "numbers and unsafeobj.Strs that the big.Int can be made from"},
		{reflect.TypeFor[checkPair[big.Rat]](), "checkPair[math/big.Rat].A.a.abs", "big.nat", "numbers and unsafeobj.Strs that the big.Rat can be made from"},
		{reflect.TypeFor[checkEmbeds](), "checkEmbeds.ProcAttr.Dir", "string", "unsafeobj.Str"},
	} {
		err := verdictOn(c.typ)
		if verdictOn(c.typ) != err {
			t.Errorf("%v: checked again", c.typ)
		}
		want := fmt.Sprintf("unsafeobj: %s: %s holds a Go pointer; use %s", c.path, c.what, c.fix)
		if err == nil || err.Error() != want {
			t.Errorf("%v:\n got %v\nwant %s", c.typ, err, want)
		}
		if !errors.Is(err, ErrGoPointer) {
			t.Errorf("%v: not an ErrGoPointer", c.typ)
		}
		if bad, ok := errors.AsType[*GoPointerError](err); !ok || bad.Path != c.path || bad.Fix != c.fix {
			t.Errorf("%v: %#v", c.typ, err)
		}
	}
}

// The check agrees with the compiler, which writes into the description of a type
// how many bytes the collector has to scan.
func TestTypedCheckAgreesWithCompiler(t *testing.T) {
	types := []reflect.Type{
		reflect.TypeFor[checkGood](), reflect.TypeFor[checkSession](), reflect.TypeFor[checkNext](), reflect.TypeFor[checkList](),
		reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[sync.Mutex](), reflect.TypeFor[sync.Map](),
		reflect.TypeFor[sync.WaitGroup](), reflect.TypeFor[[0]map[string]any](), reflect.TypeFor[Str](), reflect.TypeFor[Ptr[*int]](),
		reflect.TypeFor[Slice[error]](), reflect.TypeFor[reflect.Value](), reflect.TypeFor[testing.B](), reflect.TypeFor[uintptr](),
		reflect.TypeFor[struct{ _ [0]func() }](), reflect.TypeFor[struct{ _ [1]func() }](), reflect.TypeFor[[1 << 20]byte](),
	}
	for _, typ := range types {
		description := *(**[2]uintptr)(unsafe.Add(unsafe.Pointer(&typ), unsafe.Sizeof(uintptr(0))))
		if description[0] != typ.Size() {
			t.Skip("types are described in another way")
		}
		if scanned, err := description[1], verdictOn(typ); (scanned == 0) != (err == nil) {
			t.Errorf("%v: the collector scans %d bytes, the check says: %v", typ, scanned, err)
		}
	}
}

// No Go type asks for more than the alignment of blocks.
func TestTypedAlignment(t *testing.T) {
	for _, typ := range []reflect.Type{
		reflect.TypeFor[complex128](), reflect.TypeFor[atomic.Int64](), reflect.TypeFor[atomic.Uint64](),
		reflect.TypeFor[checkGood](), reflect.TypeFor[Slice[int]](), reflect.TypeFor[[2]float64](),
	} {
		if typ.Align() > 16 {
			t.Errorf("%v is aligned to %d bytes", typ, typ.Align())
		}
	}
}

// Of types that share a slot the first one has it, and all are found.
func TestTypedCheckSharedSlots(t *testing.T) {
	slots := map[uint32]bool{}
	for n := range 2000 {
		typ := reflect.ArrayOf(n, reflect.TypeFor[checkPair[int32]]())
		key := keyOf(reflect.Zero(reflect.PointerTo(typ)).Interface())
		slot := slotOf(key)
		slots[slot] = true
		want := passed[slot].Load()
		if want == 0 {
			want = key
		}
		for range 2 {
			if err := checkSlow(typ, key); err != nil || passed[slot].Load() != want {
				t.Fatalf("%v: %v, and the slot has %#x, want %#x", typ, err, passed[slot].Load(), want)
			}
		}
	}
	if len(slots) < 500 {
		t.Errorf("2000 types in %d slots of %d", len(slots), len(passed))
	}
}

func TestTypedCheckFromManyGoroutines(t *testing.T) {
	type fresh struct{ A, B int }
	type bad struct{ A, B []int }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if check[fresh]() != nil || !errors.Is(check[bad](), ErrGoPointer) {
					t.Error("wrong verdict")
					return
				}
			}
		})
	}
	wg.Wait()
}

// One op is the check of a type that has passed before.
func BenchmarkTypedCheck(b *testing.B) {
	b.Run("impl=check", func(b *testing.B) {
		for b.Loop() {
			_ = check[checkGood]()
		}
	})
	b.Run("impl=sync.Map", func(b *testing.B) { // what check would cost without its slots
		for b.Loop() {
			_, _ = verdicts.Load(reflect.TypeFor[checkGood]())
		}
	})
	b.Run("impl=none", func(b *testing.B) { // the loop
		for b.Loop() {
		}
	})
}
