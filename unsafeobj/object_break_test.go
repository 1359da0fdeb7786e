package unsafeobj

import (
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"
)

// stubborn is a key whose methods for package fmt use the Space.
type stubborn string

var stubbornCall func()

func (s stubborn) String() string { stubbornCall(); return string(s) }

// What FromGo says of equal keys is found without a lock that it holds, and without a call
// of the keys' methods: these could do anything, in the middle of the operation.
func TestObjectFromGoEqualHandles(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		a, b := objectMust(s.Tuple(BoolOf(true).Object())), objectMust(s.Tuple(BoolOf(true).Object()))
		n, m := objectMust(s.Int(1000)), objectMust(s.Int(1000))
		called := false
		stubbornCall = func() { called = true; s.Stats() }
		for want, v := range map[string]any{
			"(True,)":                    map[any]any{a.Object(): 1, b.Object(): 2},
			"*int(None) and <nil>(None)": map[any]any{nil: 1, (*int)(nil): 2},
			"1000":                       map[any]any{n: 1, m.Get(): 2, 1000: 3},
			"'k'":                        map[any]any{stubborn("k"): 1, "k": 2},
			"'kk":                        map[any]any{stubborn(strings.Repeat("k", 10000)): 1, strings.Repeat("k", 10000): 2},
		} {
			ends(t, func() {
				_, err := s.FromGo(v)
				if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 500 {
					t.Errorf("%v, want an error about %s", err, want)
				}
			})
		}
		if called {
			t.Error("a key's String was called")
		}
		for _, r := range []AnyRef{a.Any(), b.Any(), n.Any(), m.Any()} {
			r.Release()
		}
		noneLeft(t, s)
	})
}

// A struct that embeds a Ref, or nothing where a pointer to one should be, is no handle.
func TestObjectFromGoEmbedded(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		l := objectMust(s.List())
		ref := l.Any()
		for _, v := range []any{
			struct{ *AnyRef }{},
			struct{ *Object }{},
			struct{ *AnyRef }{&ref},
			struct{ AnyRef }{ref},
			struct{ borrower }{},
		} {
			ends(t, func() {
				if _, err := s.FromGo(v); err == nil {
					t.Errorf("%T: no error", v)
				}
			})
		}
		for _, v := range []any{&ref, &l, l, l.Get(), l.Object()} {
			r := objectMust(s.FromGo(v))
			if r.Object() != l.Object() {
				t.Errorf("%T is another object", v)
			}
			r.Release()
		}
		l.Release()
		noneLeft(t, s)
	})
}

// A key that is no number is not found in a Go map.
func TestObjectToGoNaN(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	r := objectMust(s.FromGo(map[any]any{math.NaN(): 1, "a": 2}))
	if v, err := ToGo(r.Object()); !errors.As(err, new(*TypeError)) {
		t.Error(v, err)
	}
	r.Release()
	noneLeft(t, s)
}

// What a Dealloc that ends its goroutine leaves pending is called all the same.
func TestObjectDeallocGoexitLosesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		finalized := 0
		ending := objectMust(NewClass(ClassSpec[int64]{Dealloc: func(*int64) { runtime.Goexit() }}))
		other := objectMust(NewClass(ClassSpec[int64]{Finalize: func(Instance[int64]) { finalized++ }}))
		a, b := objectMust(ending.New(s)), objectMust(other.New(s))
		l := objectMust(s.List(a.Object(), b.Object()))
		a.Release()
		b.Release()
		ends(t, l.Release)
		if finalized != 1 {
			t.Error(finalized, "finalised, want 1")
		}
		noneLeft(t, s)
	})
}

// What a function of a Class releases dies when the operation is over, whether that changes
// something or not; and if it ends the goroutine then, a new object is released.
func TestObjectDiesAfterReading(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	var drop AnyRef
	class := objectMust(NewClass(ClassSpec[int64]{
		Hash:  func(*int64) uint64 { return 1 },
		Equal: func(a, b *int64) bool { drop.Release(); return *a == *b },
		Repr:  func(*int64) string { drop.Release(); return "x" },
	}))
	a, b, c := objectMust(class.New(s)), objectMust(class.New(s)), objectMust(class.New(s))
	*c.Get().Payload() = 1
	l, d, set := objectMust(s.List(a.Object())), objectMust(s.Dict()), objectMust(s.Set(a.Object()))
	objectOK(t, d.Get().Set(a.Object(), None()))
	for name, f := range map[string]func(){
		"Equal":         func() { objectMust(Equal(a.Object(), b.Object())) },
		"Equal of list": func() { m := objectMust(s.List(b.Object())); objectMust(Equal(l.Object(), m.Object())); m.Release() },
		"Repr":          func() { _ = Repr(l.Object()) },
		"Contains":      func() { objectMust(l.Get().Contains(b.Object())) },
		"Dict.Get":      func() { objectMust(d.Get().Get(b.Object())) },
		"Dict.Get none": func() { _, _ = d.Get().Get(c.Object()) },
		"Dict.Contains": func() { objectMust(d.Get().Contains(b.Object())) },
		"Set.Contains":  func() { objectMust(set.Get().Contains(b.Object())) },
		"Dict.Delete":   func() { _ = d.Get().Delete(c.Object()) },
		"Dict.Set":      func() { objectOK(t, d.Get().Set(b.Object(), None())) },
		"Set.Add":       func() { objectOK(t, set.Get().Add(b.Object())) },
	} {
		x := objectMust(s.List())
		called := false
		objectMust(NewWeak(x.Get(), func() { called = true }))
		drop = x.Any()
		f()
		if !called {
			t.Errorf("%s: what it released is not dead", name)
		}
		drop.Release()
	}
	ending := objectMust(NewClass(ClassSpec[int64]{Finalize: func(Instance[int64]) { runtime.Goexit() }}))
	constructors := map[string]func(){
		"Set":    func() { r := objectMust(s.Set(a.Object(), b.Object())); r.Release() },
		"FromGo": func() { r := objectMust(s.FromGo(map[any]any{a: 1, c: 2})); r.Release() },
	}
	for name, f := range constructors {
		drop = objectMust(ending.New(s)).Any()
		ended := true
		ends(t, func() {
			f()
			ended = false
		})
		if !ended {
			t.Error(name, "does not end")
		}
		drop.Release()
	}
	for _, r := range []AnyRef{a.Any(), b.Any(), c.Any(), l.Any(), d.Any(), set.Any()} {
		r.Release()
	}
	noneLeft(t, s)
}

// A Report that panics, or ends its goroutine, does so when the operation is over, and
// leaves nothing undone.
func TestObjectReportPanics(t *testing.T) {
	for _, end := range []func(){func() { panic("report") }, runtime.Goexit} {
		onBoth(t, func(t *testing.T, s *Space) {
			reported := 0
			s.report = func(error) { reported++; end() }
			try := func(f func()) {
				t.Helper()
				ends(t, func() {
					defer func() { _ = recover() }()
					f()
				})
			}
			deallocs := 0
			class := objectMust(NewClass(ClassSpec[int64]{Dealloc: func(*int64) { deallocs++; panic("dealloc") }}))
			for name, f := range map[string]func(l List){
				"Release": func(l List) { r := Ref[List]{addr: l.addr}; r.Release() },
				"Delete":  func(l List) { try(func() { _ = l.Delete(0, l.Len()) }); r := Ref[List]{addr: l.addr}; r.Release() },
				"Collect": func(l List) {
					objectOK(t, l.Append(l.Object()))
					r := Ref[List]{addr: l.addr}
					r.Release()
					_, _ = s.Collect(2)
				},
			} {
				reported = 0
				x, y := objectMust(s.Tuple(None(), None(), None())), objectMust(s.List())
				alive := objectMust(s.Int(1000))
				l := objectMust(s.List(alive.Object(), y.Object(), x.Object(), alive.Object(), y.Object()))
				stale := x
				x.Release()
				try(stale.Release) // once too often: l still has it
				y.Release()
				try(func() { f(l.Get()) })
				if reported == 0 {
					t.Error(name, "reports nothing")
				}
				for range 3 { // nor does this, if a collection is to be done
					try(func() { _, _ = s.Collect(2) })
				}
				if n := RefCount(alive.Object()); n != 1 {
					t.Errorf("%s: %d references, want 1", name, n)
				}
				try(alive.Release)
				noneLeft(t, s)
			}
			l := objectMust(s.List())
			for range 5 {
				r := objectMust(class.New(s))
				objectOK(t, l.Get().Append(r.Object()))
				r.Release()
			}
			try(l.Release)
			if deallocs != 5 {
				t.Error(deallocs, "died, want 5")
			}
			ends(t, func() {
				r := objectMust(s.List())
				objectOK(t, r.Get().Append(None()))
				r.Release()
			})
			noneLeft(t, s)
		})
	}
}
