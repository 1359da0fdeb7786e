package unsafeobj

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// onBoth runs a test in an owned and in a shared Space.
func onBoth(t *testing.T, f func(t *testing.T, s *Space)) {
	t.Helper()
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) { f(t, objectSpace(t, SpaceOptions{Shared: shared})) })
	}
}

// ends runs f in a goroutine that it may end, and waits for that end, but not for ever.
func ends(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

// What a constructor borrows lives until it is over, though the collection that it brings
// about has a callback that drops the owner.
func TestObjectHoldsArguments(t *testing.T) {
	constructors := map[string]func(*Space, Object) (AnyRef, error){
		"set":    func(s *Space, x Object) (AnyRef, error) { return anyOf(s.Set(x)) },
		"list":   func(s *Space, x Object) (AnyRef, error) { return anyOf(s.List(x)) },
		"tuple":  func(s *Space, x Object) (AnyRef, error) { return anyOf(s.Tuple(x)) },
		"fromGo": func(s *Space, x Object) (AnyRef, error) { return s.FromGo([]any{[]any{1}, x}) },
		"map":    func(s *Space, x Object) (AnyRef, error) { return s.FromGo(map[any]any{1: []any{}, "k": x}) },
	}
	for name, construct := range constructors {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s *Space) {
				owner := objectMust(s.List())
				x := objectMust(s.Tuple(BoolOf(true).Object()))
				objectOK(t, owner.Get().Append(x.Object()))
				item := x.Object()
				x.Release()
				g := objectMust(s.List())
				objectOK(t, g.Get().Append(g.Object()))
				called := false
				objectMust(NewWeak(g.Get(), func() {
					called = true
					objectOK(t, owner.Get().Delete(0, 1))
				}))
				g.Release()
				s.SetThreshold(0, 0, 0)
				made := objectMust(construct(s, item))
				s.Disable()
				if !called {
					t.Error("nothing was collected")
				}
				other := objectMust(s.Tuple(BoolOf(false).Object()))
				if text := Repr(made.Object()); !strings.Contains(text, "(True,)") {
					t.Error(text)
				}
				made.Release()
				if n := RefCount(other.Object()); n != 1 {
					t.Errorf("another object has %d references, want 1", n)
				}
				other.Release()
				owner.Release()
				noneLeft(t, s)
			})
		})
	}
}

// A function of a Class that ends its goroutine leaves no lock, nor anything half made.
func TestObjectGoexit(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		var when string
		exit := func(what string) {
			if what == when {
				runtime.Goexit()
			}
		}
		class := objectMust(NewClass(ClassSpec[int64]{
			Name:     "Ends",
			Hash:     func(*int64) uint64 { exit("hash"); return 1 },
			Equal:    func(a, b *int64) bool { exit("equal"); return *a == *b },
			Repr:     func(*int64) string { exit("repr"); return "x" },
			Dealloc:  func(*int64) { exit("dealloc") },
			Finalize: func(Instance[int64]) { exit("finalize") },
		}))
		a, b := objectMust(class.New(s)), objectMust(class.New(s))
		*b.Get().Payload() = 1
		l, d, set := objectMust(s.List(a.Object())), objectMust(s.Dict()), objectMust(s.Set(a.Object()))
		objectOK(t, d.Get().Set(a.Object(), None()))
		operations := map[string]func(){
			"Equal":          func() { objectMust(Equal(a.Object(), b.Object())) },
			"Hash":           func() { objectMust(Hash(a.Object())) },
			"Repr":           func() { _ = Repr(l.Object()) },
			"Contains":       func() { objectMust(l.Get().Contains(b.Object())) },
			"Dict.Set":       func() { _ = d.Get().Set(b.Object(), None()) },
			"Dict.Get":       func() { _, _ = d.Get().Get(b.Object()) },
			"Dict.Delete":    func() { _ = d.Get().Delete(b.Object()) },
			"Dict.Contains":  func() { objectMust(d.Get().Contains(b.Object())) },
			"Set.Add":        func() { _ = set.Get().Add(b.Object()) },
			"NewSet":         func() { r := objectMust(s.Set(a.Object(), b.Object())); r.Release() },
			"FromGo":         func() { r := objectMust(s.FromGo([]any{1000, map[any]any{a: 1, b: []any{}}})); r.Release() },
			"Release":        func() { r := objectMust(class.New(s)); r.Release() },
			"Delete of five": func() { five(s, class) },
		}
		for _, what := range []string{"hash", "equal", "repr", "dealloc", "finalize"} {
			for _, name := range slices.Sorted(maps.Keys(operations)) {
				when = what
				ends(t, operations[name])
				when = ""
				ends(t, func() { // which it does not do if a lock is held, or changes are refused
					r := objectMust(s.List())
					objectOK(t, r.Get().Append(None()))
					r.Release()
				})
			}
		}
		if n := RefCount(a.Object()); n != 4 {
			t.Errorf("%d references, want 4", n)
		}
		for _, r := range []AnyRef{a.Any(), b.Any(), l.Any(), d.Any(), set.Any()} {
			r.Release()
		}
		noneLeft(t, s)
	})
}

func five(s *Space, class *Class[int64]) {
	l := objectMust(s.List())
	defer l.Release()
	for range 5 {
		r := objectMust(class.New(s))
		_ = l.Get().Append(r.Object())
		r.Release()
	}
	_ = l.Get().Delete(0, 5)
}

// All of what waits for the end of an operation is run, though each ends the goroutine: the
// others run in goroutines of their own, not nested in each other.
func TestObjectGoexitOfMany(t *testing.T) {
	n := 50_000
	if testing.Short() || raceEnabled {
		n = 2_000
	}
	onBoth(t, func(t *testing.T, s *Space) {
		finalized, died := 0, 0
		class := objectMust(NewClass(ClassSpec[int64]{
			Finalize: func(Instance[int64]) { finalized++; runtime.Goexit() },
			Dealloc:  func(*int64) { died++; runtime.Goexit() },
		}))
		l := objectMust(s.List())
		for range n {
			r := objectMust(class.New(s))
			objectOK(t, l.Get().Append(r.Object()))
			r.Release()
		}
		ends(t, func() { _ = l.Get().Delete(0, n) })
		l.Release()
		if finalized != n || died != n {
			t.Errorf("%d finalised, %d died, want %d", finalized, died, n)
		}
		noneLeft(t, s)
	})
}

// A finaliser that ends its goroutine, in a collection that a constructor has brought about,
// does not lose the new object.
func TestObjectGoexitLosesNothing(t *testing.T) {
	constructors := map[string]func(*Space) (AnyRef, error){
		"list":   func(s *Space) (AnyRef, error) { return anyOf(s.List()) },
		"tuple":  func(s *Space) (AnyRef, error) { return anyOf(s.Tuple(None())) },
		"dict":   func(s *Space) (AnyRef, error) { return anyOf(s.Dict()) },
		"set":    func(s *Space) (AnyRef, error) { return anyOf(s.Set(None())) },
		"new":    func(s *Space) (AnyRef, error) { return anyOf(objectNodes.New(s)) },
		"fromGo": func(s *Space) (AnyRef, error) { return s.FromGo([]any{1000, []any{}}) },
		"json": func(s *Space) (AnyRef, error) {
			return s.DecodeJSON(json.NewDecoder(strings.NewReader(`[{"a": [1000]}]`)))
		},
	}
	for name, construct := range constructors {
		t.Run(name, func(t *testing.T) {
			onCollectors(t, func(t *testing.T, s *Space) {
				calls := 0
				r := ring(t, s, objectClass(t, func(Instance[objectNode]) { calls++; runtime.Goexit() }), 3)
				r.Release()
				s.SetThreshold(0, 0, 0)
				ended := false
				for i := 0; i < 10 && calls == 0; i++ {
					ends(t, func() {
						ended = true
						x := objectMust(construct(s))
						ended = false
						x.Release()
					})
				}
				if !ended {
					t.Error("the goroutine goes on")
				}
				s.Disable()
				for i := 0; i < 10 && len(s.Stats().Objects) > 0; i++ {
					ends(t, func() { collectAll(t, s) })
				}
				if calls != 3 {
					t.Error(calls, "calls, want 3")
				}
				noneLeft(t, s)
			})
		})
	}
}

// What is done to a dead container is an error where that is noticed, and leaves no lock.
func TestObjectDeadContainer(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		var told []error
		s.report = func(err error) { told = append(told, err) }
		x := objectMust(s.Int(1000))
		// Others died before, so that the free list leads on to them.
		for range 2 {
			l, d := objectMust(s.List(x.Object())), objectMust(s.Dict())
			objectOK(t, d.Get().SetString("k", x.Object()))
			k, e := objectMust(s.List(x.Object())), objectMust(s.Dict())
			objectOK(t, e.Get().SetString("k", x.Object()))
			sl, sd := l.Get(), d.Get()
			k.Release()
			e.Release()
			l.Release()
			d.Release()
			told = nil
			uses := []error{
				sl.Append(x.Object()), sl.Insert(0, x.Object()), sl.Set(0, x.Object()), sl.Delete(0, 0),
				sd.SetString("k", x.Object()), sd.Set(x.Object(), x.Object()), sd.Clear(), sd.DeleteString("k"), sd.Delete(x.Object()),
			}
			for i, err := range uses {
				if !errors.As(err, new(*CountError)) {
					t.Errorf("use %d: %v, want a CountError", i, err)
				}
			}
			if _, err := sl.Pop(0); !errors.As(err, new(*CountError)) {
				t.Error(err)
			}
			if _, err := sl.Get(0); err != ErrIndex {
				t.Error(err)
			}
			if _, err := sd.GetString("k"); err != ErrNotFound {
				t.Error(err)
			}
			if _, err := sd.Get(x.Object()); err != ErrNotFound {
				t.Error(err)
			}
			for range sd.All() {
				t.Error("a dead dict has entries")
			}
			if len(told) != len(uses)+1 {
				t.Errorf("%d told, want %d", len(told), len(uses)+1)
			}
			ends(t, func() { m := objectMust(s.List(x.Object())); m.Release() })
			if n := RefCount(x.Object()); n != 1 {
				t.Error(n, "references, want 1")
			}
		}
		// A panic in the middle of an operation: a list that is broken.
		l := objectMust(s.List(None(), None()))
		listOf(at(l.addr)).cap = 4
		items := listOf(at(l.addr)).items
		listOf(at(l.addr)).items = 0
		for name, f := range map[string]func(){
			"Get":      func() { _, _ = l.Get().Get(0) },
			"Append":   func() { _ = l.Get().Insert(1, x.Object()) },
			"Pop":      func() { _, _ = l.Get().Pop(0) },
			"Contains": func() { _, _ = l.Get().Contains(x.Object()) },
			"Repr":     func() { _ = Repr(l.Object()) },
			"ToGo":     func() { _, _ = ToGo(l.Object()) },
			"JSON":     func() { _, _ = json.Marshal(l.Object()) },
			"Equal":    func() { _, _ = Equal(l.Object(), l.Object()) },
		} {
			if raceEnabled && (name == "Append" || name == "Pop") {
				continue // unsafe.Slice of nil is no panic there, but the end
			}
			ends(t, func() {
				defer func() { _ = recover() }()
				f()
			})
			ends(t, func() { m := objectMust(s.List(x.Object())); m.Release() })
		}
		listOf(at(l.addr)).items, listOf(at(l.addr)).n = items, 2
		l.Release()
		x.Release()
		noneLeft(t, s)
	})
}

// A list of the collector that does not come back to its beginning is an error, and no walk
// without end.
func TestObjectBrokenLists(t *testing.T) {
	s := objectMust(NewSpace(SpaceOptions{}))
	var all []Ref[List]
	for range 10 {
		all = append(all, objectMust(s.List()))
	}
	g, h := gcOf(at(all[7].addr)), gcOf(at(all[3].addr))
	g.next.setGC(h) // as two goroutines leave it
	ends(t, func() {
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, errBroken) {
				t.Error("a collection:", err)
			}
		}()
		_, _ = s.Collect(0)
	})
	ends(t, func() { _ = s.Stats() })
	ends(t, func() {
		if err := s.Close(); !errors.Is(err, errBroken) {
			t.Error("Close:", err)
		}
	})
	if err := s.Close(); err != ErrClosed {
		t.Error(err)
	}
}

// A table without a free slot, which two goroutines can make of one, ends a search by a
// panic.
func TestObjectFullTable(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	d := objectMust(s.Dict())
	objectOK(t, d.Get().SetString("a", None()))
	tab := tableOf(at(d.addr)).tab()
	index := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(tab), tableHeader)), 8)
	before := slices.Clone(index)
	for i := range index {
		index[i] |= 7
	}
	x := objectMust(s.String("b"))
	for _, f := range []func(){
		func() { _, _ = d.Get().GetString("b") },
		func() { _, _ = d.Get().Get(x.Object()) },
		func() { _ = d.Get().SetString("b", None()) },
		func() { tab.freeSlot(77) },
	} {
		ends(t, func() {
			defer func() {
				if recover() != errBroken {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
	copy(index, before)
	d.Release()
	x.Release()
}

// A weak reference that a callback drops is not called back for.
func TestObjectWeakDropInCallback(t *testing.T) {
	onCollectors(t, func(t *testing.T, s *Space) {
		for _, byCount := range []bool{true, false} {
			l := objectMust(s.List())
			var calls []int
			var w [2]Weak[List]
			for i := range w {
				w[i] = objectMust(NewWeak(l.Get(), func() {
					calls = append(calls, i)
					w[1-i].Drop()
				}))
			}
			if !byCount {
				objectOK(t, l.Get().Append(l.Object()))
			}
			l.Release()
			collectAll(t, s)
			if len(calls) != 1 {
				t.Errorf("by count %t: the callbacks of %v were called, want one", byCount, calls)
			}
		}
		noneLeft(t, s)
	})
}

// A weak reference without a callback to an object that its finaliser saves lives, however
// the object has died; one with a callback is dead once that is called.
func TestObjectWeakOfSaved(t *testing.T) {
	onCollectors(t, func(t *testing.T, s *Space) {
		for _, cyclic := range []bool{false, true} {
			var saved Ref[Instance[objectNode]]
			var order []string
			class := objectClass(t, func(n Instance[objectNode]) {
				order = append(order, "finaliser")
				saved = Own(n)
			})
			n := objectMust(class.New(s))
			if cyclic {
				objectOK(t, n.Get().Payload().Left.Set(n.Object(), n.Object()))
			}
			plain := objectMust(NewWeak(n.Get(), nil))
			called := objectMust(NewWeak(n.Get(), func() { order = append(order, "callback") }))
			n.Release()
			collectAll(t, s)
			if r, alive := plain.Get(); !alive || r != saved {
				t.Errorf("cyclic %t: the weak reference to a saved object is dead", cyclic)
			} else {
				r.Release()
			}
			r, alive := called.Get()
			r.Release()
			want := []string{"finaliser"}
			if cyclic {
				want = []string{"callback", "finaliser"}
			}
			if alive == cyclic || !slices.Equal(order, want) {
				t.Errorf("cyclic %t: %v, and the reference with a callback is alive: %t", cyclic, order, alive)
			}
			saved.Release()
			collectAll(t, s)
			if _, alive := plain.Get(); alive {
				t.Error("the weak reference to a dead object lives")
			}
			noneLeft(t, s)
		}
	})
}

// Dealloc may not change containers of an owned Space, and what it releases dies.
func TestObjectDeallocRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		var told []error
		s.report = func(err error) { told = append(told, err) }
		l := objectMust(s.List())
		kept := map[int64]AnyRef{}
		refused := true
		class := objectMust(NewClass(ClassSpec[int64]{Name: "D", Dealloc: func(p *int64) {
			r := kept[*p]
			r.Release()
			if err := s.Close(); err != ErrBusy {
				t.Error(err)
			}
			if *p == 0 {
				_ = l.Get().Append(None())
				refused = false
			}
		}}))
		for i := range int64(3) {
			r := objectMust(class.New(s))
			*r.Get().Payload() = i
			kept[i+1] = r.Any()
		}
		kept[0] = AnyRef{}
		r := kept[3]
		ends(t, r.Release)
		if left := s.Stats().Objects; left["D"] != 0 {
			t.Error("left:", left)
		}
		if s.shared {
			if refused || l.Get().Len() != 1 || len(told) > 0 {
				t.Error(refused, l, told)
			}
		} else if e := new(CallbackError); !refused || l.Get().Len() != 0 || len(told) != 1 || !errors.As(told[0], &e) || e.Value != ErrReentered {
			t.Error(refused, l, told)
		}
		l.Release()
		noneLeft(t, s)
	})
}

// Close calls each Dealloc, and gives all back, though they end the goroutine.
func TestObjectCloseGoexit(t *testing.T) {
	for _, shared := range []bool{false, true} {
		s := objectMust(NewSpace(SpaceOptions{Shared: shared}))
		died := 0
		class := objectMust(NewClass(ClassSpec[int64]{Dealloc: func(*int64) { died++; runtime.Goexit() }}))
		for range 10 {
			objectMust(class.New(s))
		}
		id := s.id
		ends(t, func() { _ = s.Close() })
		if died != 10 || spaceByID(id) != nil {
			t.Error(died, "died, want 10; the Space is known:", spaceByID(id) != nil)
		}
		ends(t, func() {
			if err := s.Close(); err != ErrClosed {
				t.Error(err)
			}
		})
	}
}

// What Equal releases dies when the operation is over.
func TestObjectReleaseInEqual(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	var drop AnyRef
	class := objectMust(NewClass(ClassSpec[int64]{
		Hash:  func(*int64) uint64 { return 1 },
		Equal: func(a, b *int64) bool { drop.Release(); return *a == *b },
	}))
	a, b := objectMust(class.New(s)), objectMust(class.New(s))
	l := objectMust(s.List(a.Object(), None(), None()))
	lent := l.Object()
	drop = l.Any()
	l = Ref[List]{}
	if same, err := (List{object: lent}).Contains(b.Object()); !same || err != nil {
		t.Error(same, err)
	}
	d := objectMust(s.Dict())
	objectOK(t, d.Get().Set(a.Object(), None()))
	v := objectMust(s.Int(1000))
	drop = v.Any()
	objectOK(t, d.Get().Set(b.Object(), v.Object()))
	if text := Repr(d.Object()); !strings.HasSuffix(text, "1000}") {
		t.Error(text)
	}
	for _, r := range []AnyRef{a.Any(), b.Any(), d.Any()} {
		r.Release()
	}
	noneLeft(t, s)
}

// A loop over a dict or set that adds keys has a round for each of the beginning.
func TestObjectLoopAdds(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		for n := range int64(40) {
			d, set := objectMust(s.Dict()), objectMust(s.Set())
			key := func(i int64) Ref[Int] { return objectMust(s.Int(1000 + i)) }
			for i := range 2 * n {
				k := key(i)
				objectOK(t, d.Get().Set(k.Object(), None()))
				objectOK(t, set.Get().Add(k.Object()))
				k.Release()
			}
			for i := range n { // so that a new table has them elsewhere
				k := key(i)
				objectOK(t, d.Get().Delete(k.Object()))
				objectOK(t, set.Get().Delete(k.Object()))
				k.Release()
			}
			next := 2 * n
			rounds := n
			for k := range d.Get().All() {
				if v, _ := objectMust(As[Int](k)).Int64(); v != 1000+rounds {
					t.Fatalf("of %d: %d comes in round %d", n, v, rounds-n)
				}
				rounds++
				for range 3 {
					k := key(next)
					objectOK(t, d.Get().Set(k.Object(), None()))
					k.Release()
					next++
				}
			}
			if rounds != 2*n || d.Get().Len() != int(n+3*n) {
				t.Fatalf("of %d: %d rounds, %d entries", n, rounds-n, d.Get().Len())
			}
			rounds = 0
			for range set.Get().All() {
				rounds++
				k := key(next)
				objectOK(t, set.Get().Add(k.Object()))
				k.Release()
				next++
			}
			if rounds != n {
				t.Fatalf("of %d: %d rounds over the set", n, rounds)
			}
			// One that deletes and adds ends too.
			for k := range set.Get().All() {
				objectOK(t, set.Get().Delete(k))
				k := key(next)
				objectOK(t, set.Get().Add(k.Object()))
				k.Release()
				next++
			}
			d.Release()
			set.Release()
		}
		noneLeft(t, s)
	})
}

// A loop keeps what it goes over.
func TestObjectLoopKeeps(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		l, p, d := objectMust(s.List(None(), None())), objectMust(s.Tuple(None(), None())), objectMust(s.Dict())
		objectOK(t, d.Get().SetString("a", None()))
		objectOK(t, d.Get().SetString("b", None()))
		rounds := 0
		for range l.Get().All() {
			rounds++
			l.Release()
		}
		for range p.Get().All() {
			rounds++
			p.Release()
		}
		for range d.Get().All() {
			rounds++
			d.Release()
		}
		if rounds != 6 {
			t.Error(rounds, "rounds, want 6")
		}
		noneLeft(t, s)
	})
}

func TestObjectJSONText(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		key, value := objectMust(s.Dict()), objectMust(s.String("caf\xe9 "+strings.Repeat("x", 200)))
		objectOK(t, key.Get().SetString("\xfe", None()))
		objectOK(t, key.Get().SetString("\xff", None()))
		for name, o := range map[string]Object{`'\udcfe'`: key.Object(), `'caf\udce9 xx`: value.Object()} {
			var out bytes.Buffer
			if err := EncodeJSON(&out, o); err == nil || !strings.Contains(err.Error(), name) || len(err.Error()) > 300 || out.Len() > 0 {
				t.Errorf("EncodeJSON of %s: %q, %v", name, out.String(), err)
			}
			if text, err := json.Marshal(map[string]any{"a": o}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("Marshal of %s: %s, %v", name, text, err)
			}
		}
		key.Release()
		value.Release()
		d := objectMust(s.FromGo(map[string]any{"é\u2028<": []any{1, "\ufffd"}}))
		text, err := json.Marshal(struct {
			A AnyRef
			B Dict
		}{d, objectMust(As[Dict](d.Object()))})
		if want := `{"A":{"é\u2028\u003c":[1,"�"]},"B":{"é\u2028\u003c":[1,"�"]}}`; err != nil || string(text) != want {
			t.Errorf("%s, %v, want %s", text, err, want)
		}
		d.Release()
		noneLeft(t, s)
	})
}

// What package json would write as {} is an error that says what to do.
func TestObjectJSONRefused(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	l := objectMust(s.List())
	weak := objectMust(NewWeak(l.Get(), nil))
	names := objectMust(s.Namespace())
	objectOK(t, names.Set("a", None()))
	for want, v := range map[string]any{
		"String": struct {
			ID   int
			Name Str
		}{ID: 7},
		"View": []Slice[int]{{}},
		"Get":  map[string]any{"p": Ptr[int]{}},
		"Get:": objectNode{},
		"Weak": weak,
		"zero": AnyRef{},
	} {
		want = strings.TrimSuffix(want, ":")
		if text, err := json.Marshal(v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: %s, %v, want an error about %s", v, text, err, want)
		}
	}
	if text, err := json.Marshal(names); err != nil || string(text) != `{"a":null}` {
		t.Errorf("%s, %v", text, err)
	}
	names.Close()
	l.Release()
}

func TestObjectFromGoMaps(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Space) {
		for range 20 { // the order of a Go map is another each time
			_, err := s.FromGo(map[any]any{1: "int", 1.0: "float", true: "bool", int8(1): "int8", 0: 0})
			if err == nil || !strings.Contains(err.Error(), "bool(True) and float64(1.0)") {
				t.Fatal(err)
			}
			two70 := new(big.Int).Lsh(big.NewInt(1), 70)
			type name string
			for want, m := range map[string]any{
				"{None: 0, -1.5: 1, 0: 2, True: 3, 2: 4, 1180591620717411303424: 5, inf: 6, 'a': 7, 'b': 8}": map[any]any{
					"b": 8, name("a"): 7, 2: 4, true: 3, nil: 0, uint8(0): 2, -1.5: 1, two70: 5, math.Inf(1): 6,
				},
				"{'a': 1, 'b': 2, 'c': {'x': 1, 'y': 2}}": map[string]any{"c": map[name]int{"y": 2, "x": 1}, "b": 2, "a": 1},
			} {
				r := objectMust(s.FromGo(m))
				if got := Repr(r.Object()); got != want {
					t.Fatalf("%s, want %s", got, want)
				}
				r.Release()
			}
		}
		for _, v := range []any{map[any]any{[1]int{1}: 2}, map[any]any{1: struct{}{}}, []any{1000, map[string]any{"a": []any{make(chan int)}}}} {
			if _, err := s.FromGo(v); err == nil {
				t.Errorf("%T: no error", v)
			}
		}
		noneLeft(t, s)
	})
}

func TestObjectFromGoBytes(t *testing.T) {
	type octet uint8
	s := objectSpace(t, SpaceOptions{})
	for want, v := range map[string]any{
		`b'[1]'`: json.RawMessage("[1]"),
		`b'ab'`:  []octet("ab"),
		`b'abc'`: []byte("abc"),
		`[1, 2]`: [2]byte{1, 2},
		`None`:   (*Ref[List])(nil),
	} {
		r := objectMust(s.FromGo(v))
		if got := Repr(r.Object()); got != want {
			t.Errorf("%T: %s, want %s", v, got, want)
		}
		r.Release()
	}
	// Go values that contain themselves.
	cyclic := []any{nil, nil}
	cyclic[0], cyclic[1] = cyclic, cyclic
	type link *link
	var self link
	self = &self
	loop := map[string]any{}
	loop["a"] = loop
	for _, v := range []any{cyclic, self, loop} {
		if _, err := s.FromGo(v); err != ErrDepth {
			t.Errorf("%T: %v, want ErrDepth", v, err)
		}
	}
}

func TestObjectReprOfBytes(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	for v, want := range map[string]string{
		"\x85":         `'\udc85'`,
		"\u0085":       `'\x85'`,
		`\x85`:         `'\\x85'`,
		"\xed\xb2\x85": `'\udced\udcb2\udc85'`,
		"\ufffd":       "'\ufffd'",
	} {
		r := objectMust(s.String(v))
		if got := Repr(r.Object()); got != want {
			t.Errorf("%q: %s, want %s", v, got, want)
		}
		r.Release()
	}
}

func TestObjectToGoKeys(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	d, k := objectMust(s.Dict()), objectMust(s.BigInt(new(big.Int).Lsh(big.NewInt(1), 70)))
	objectOK(t, d.Get().Set(k.Object(), k.Object()))
	if v, err := ToGo(d.Object()); !errors.As(err, new(*TypeError)) {
		t.Error(v, err)
	}
	objectOK(t, d.Get().Delete(k.Object()))
	objectOK(t, d.Get().SetString("k", k.Object()))
	if v, err := ToGo(d.Object()); err != nil || fmt.Sprint(v) != "map[k:1180591620717411303424]" {
		t.Error(v, err)
	}
	d.Release()
	k.Release()
}

// A zero Space is refused, and with none a call panics where the caller can recover, and
// nothing is locked.
func TestObjectNoSpace(t *testing.T) {
	var zero Space
	for name, f := range map[string]func(s *Space) error{
		"Int":        func(s *Space) error { _, err := s.Int(1000); return err },
		"Float":      func(s *Space) error { _, err := s.Float(1); return err },
		"String":     func(s *Space) error { _, err := s.String("abc"); return err },
		"Bytes":      func(s *Space) error { _, err := s.Bytes(nil); return err },
		"Intern":     func(s *Space) error { _, err := s.Intern("abc"); return err },
		"List":       func(s *Space) error { _, err := s.List(None()); return err },
		"Tuple":      func(s *Space) error { _, err := s.Tuple(None()); return err },
		"Dict":       func(s *Space) error { _, err := s.Dict(); return err },
		"Set":        func(s *Space) error { _, err := s.Set(None()); return err },
		"New":        func(s *Space) error { _, err := objectNodes.New(s); return err },
		"FromGo":     func(s *Space) error { _, err := s.FromGo([]any{"a"}); return err },
		"DecodeJSON": func(s *Space) error { _, err := s.DecodeJSON(json.NewDecoder(strings.NewReader("[1]"))); return err },
		"Namespace":  func(s *Space) error { _, err := s.Namespace(); return err },
		"Collect":    func(s *Space) error { _, err := s.Collect(2); return err },
		"Slice":      func(s *Space) error { _, err := s.CollectSlice(); return err },
		"Trim":       func(s *Space) error { return s.Trim() },
		"Close":      func(s *Space) error { return s.Close() },
	} {
		ends(t, func() {
			if err := f(&zero); err != ErrClosed {
				t.Errorf("%s of a zero Space: %v, want ErrClosed", name, err)
			}
			defer func() {
				if _, ok := recover().(runtime.Error); !ok {
					t.Errorf("%s of no Space does not panic", name)
				}
			}()
			_ = f(nil)
		})
	}
	ends(t, func() {
		zero.Freeze()
		zero.Unfreeze()
		zero.Disable()
		zero.Enable()
		zero.SetThreshold(1, 2, 3)
		if st := zero.Stats(); !reflect.DeepEqual(st, SpaceStats{}) || zero.Referrers(None()) != nil {
			t.Error(st)
		}
	})
	for name, f := range map[string]func(){
		"New":   func() { _, _ = New[int](nil) },
		"NewOf": func() { _, _ = NewOf((*pymalloc.Allocator)(nil), 1) },
		"Str":   func() { _, _ = NewStr((*pymalloc.Heap)(nil), "abc") },
		"Slice": func() { _, _ = MakeSlice[int](nil, 1, 1) },
		"Free":  func() { _ = Free(nil, new(int)) },
	} {
		func() {
			defer func() {
				if _, ok := recover().(runtime.Error); !ok {
					t.Errorf("%s of no Memory does not panic", name)
				}
			}()
			f()
		}()
	}
}

// go vet tells of copies of what must not be copied.
func TestObjectVetCopies(t *testing.T) {
	if testing.Short() {
		t.Skip("runs go vet")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	out, err := exec.Command(tool, "vet", "-copylocks", "./testdata/copies").CombinedOutput()
	for _, name := range []string{"unsafeobj.Space contains", "unsafeobj.Namespace contains"} {
		if err == nil || !strings.Contains(string(out), name) {
			t.Errorf("go vet: %v, %s; want it to tell of %s", err, out, name)
		}
	}
}

// Collections and users of a shared Space go on beside functions that end their goroutines.
func TestObjectGoexitBeside(t *testing.T) {
	s := objectSpace(t, SpaceOptions{Shared: true})
	class := objectMust(NewClass(ClassSpec[int64]{
		Hash:     func(p *int64) uint64 { return uint64(*p) },
		Equal:    func(a, b *int64) bool { return *a == *b },
		Dealloc:  func(*int64) { runtime.Goexit() },
		Finalize: func(Instance[int64]) { runtime.Goexit() },
	}))
	d := objectMust(s.Dict())
	s.SetThreshold(10, 2, 2)
	var wg sync.WaitGroup
	for g := range 4 {
		for i := range 200 {
			wg.Go(func() {
				r := objectMust(class.New(s))
				defer r.Release()
				*r.Get().Payload() = int64(i % 7)
				if (g+i)%3 == 0 {
					_ = d.Get().Delete(r.Object())
				} else {
					_ = d.Get().Set(r.Object(), None())
				}
			})
		}
	}
	ends(t, wg.Wait)
	ends(t, func() { _ = d.Get().Clear() })
	d.Release()
	noneLeft(t, s)
}
