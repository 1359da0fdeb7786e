package unsafeobj

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A handle is one word, of its own kind: no conversion makes a list of a dict.
func TestObjectHandles(t *testing.T) {
	handles := []reflect.Type{
		reflect.TypeFor[Object](), reflect.TypeFor[Bool](), reflect.TypeFor[Int](), reflect.TypeFor[Float](),
		reflect.TypeFor[String](), reflect.TypeFor[Bytes](), reflect.TypeFor[Tuple](), reflect.TypeFor[List](),
		reflect.TypeFor[Dict](), reflect.TypeFor[Set](), reflect.TypeFor[Instance[objectNode]](), reflect.TypeFor[Instance[int]](),
		reflect.TypeFor[Ref[List]](), reflect.TypeFor[Ref[Dict]](), reflect.TypeFor[Weak[List]](), reflect.TypeFor[Weak[Dict]](),
		reflect.TypeFor[Field[List]](), reflect.TypeFor[Field[Dict]](), reflect.TypeFor[Class[int]](), reflect.TypeFor[Class[uint]](),
	}
	for _, a := range handles {
		if a.Size() != ptrBytes {
			t.Errorf("%v has %d bytes", a, a.Size())
		}
		for _, b := range handles {
			if a != b && a.ConvertibleTo(b) {
				t.Errorf("%v is converted to %v", a, b)
			}
		}
	}
}

type embedsField struct {
	ID int64
	Field[Object]
	Other Field[List]
}

type hasRelease struct{ FD int32 }

func (*hasRelease) Release() {}

// An embedded Field is found where it is, and those beside it too.
func TestObjectEmbeddedField(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	class := objectMust(NewClass(ClassSpec[embedsField]{}))
	n := objectMust(class.New(s))
	p := n.Get().Payload()
	p.ID = 12345
	l := objectMust(s.List(n.Object()))
	objectOK(t, p.Set(n.Object(), l.Object()))
	objectOK(t, p.Other.Set(n.Object(), l.Get()))
	if n := len(Referents(n.Object())); n != 2 {
		t.Error(n, "referents, want 2")
	}
	l.Release()
	n.Release()
	objectMust(s.Collect(2))
	noneLeft(t, s)
	if _, err := NewClass(ClassSpec[struct{ H hasRelease }]{}); err != nil {
		t.Error(err)
	}
	type embedsRef struct {
		ID int64
		Ref[List]
	}
	if _, err := NewClass(ClassSpec[embedsRef]{}); err == nil {
		t.Error("a payload with a Ref was taken")
	}
}

// DecodeJSON reads values one by one out of an array that the program has opened, and
// says so when there is none.
func TestObjectDecodeJSONInside(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	d := json.NewDecoder(strings.NewReader(`[1000, {"a": []}]`))
	objectMust(d.Token())
	for range 2 {
		x := objectMust(s.DecodeJSON(d))
		x.Release()
	}
	if x, err := s.DecodeJSON(d); err == nil {
		t.Error("the end of an array is", x.Object())
	}
	noneLeft(t, s)
}

// A container whose count has become too large is immortal for the collector too.
func TestObjectImmortalised(t *testing.T) {
	for _, shared := range []bool{false, true} {
		s := objectSpace(t, SpaceOptions{Shared: shared})
		l := objectMust(s.List(None()))
		atomic.StoreInt32(&at(l.addr).refs, maxRefs+1)
		again := l.Clone()
		if n := RefCount(l.Object()); n != math.MaxInt {
			t.Fatal(n, "references")
		}
		objectMust(s.Collect(2))
		if n := l.Get().Len(); n != 1 || s.Stats().Objects["list"] != 1 {
			t.Error("an immortal list was collected:", n, "items")
		}
		again.Release()
		atomic.StoreInt32(&at(l.addr).refs, 1)
		l.Release()
	}
}

// subtractHalf collects until a slice ends in the middle of a container, in subtracting.
func subtractHalf(s *Space) {
	for c := &s.gc; c.old == nil || c.old.phase != subtracting || c.old.at == 0; {
		objectMust(s.CollectSlice())
	}
}

// What moves down in a list, past the place where a slice has ended, is still known
// to be there.
func TestObjectSlicesMoveLinks(t *testing.T) {
	moves := map[string]func(l List){
		"delete": func(l List) { _ = l.Delete(0, 100) },
		"pop": func(l List) {
			for range 100 {
				x := objectMust(l.Pop(0))
				x.Release()
			}
		},
	}
	for name, move := range moves {
		t.Run(name, func(t *testing.T) {
			s := objectSpace(t, SpaceOptions{Incremental: SliceLimit{Objects: minSlice}})
			s.gc.slice.Objects = window
			s.Disable()
			l := objectMust(s.List())
			for range 300 {
				objectOK(t, l.Get().Append(None()))
			}
			inner := objectMust(s.List(l.Object())) // a cycle
			objectOK(t, l.Get().Set(200, inner.Object()))
			inner.Release()
			subtractHalf(s)
			move(l.Get())
			collectAll(t, s)
			l.Release()
			collectAll(t, s)
			collectAll(t, s)
			if left := s.Stats().Objects; len(left) > 0 {
				t.Error("left:", left)
			}
		})
	}
	t.Run("rebuild", func(t *testing.T) {
		s := objectSpace(t, SpaceOptions{Incremental: SliceLimit{Objects: minSlice}})
		s.gc.slice.Objects = window
		s.Disable()
		d := objectMust(s.Dict())
		set := func(k int64, v Object) {
			x := objectMust(s.Int(k))
			objectOK(t, d.Get().Set(x.Object(), v))
			x.Release()
		}
		for k := range int64(150) {
			set(k, None())
		}
		inner := objectMust(s.List(d.Object()))
		set(150, inner.Object())
		inner.Release()
		subtractHalf(s)
		for k := range int64(140) {
			x := objectMust(s.Int(k))
			objectOK(t, d.Get().Delete(x.Object()))
			x.Release()
		}
		for k := int64(1000); k < 1100; k++ {
			set(k, None())
		}
		collectAll(t, s)
		d.Release()
		collectAll(t, s)
		collectAll(t, s)
		if left := s.Stats().Objects; len(left) > 0 {
			t.Error("left:", left)
		}
	})
}

// Between the slices that clear weak references no object comes back through one, to
// be finalised while it is in use.
func TestObjectWeakOfGarbage(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	s.gc.slice = SliceLimit{Objects: 1}
	held := map[int64]bool{}
	class := objectClass(t, func(n Instance[objectNode]) {
		if held[n.Payload().ID] {
			t.Error("an object is finalised while the program has it")
		}
	})
	r := ring(t, s, class, 20)
	holder := objectMust(s.List())
	var weak []Weak[Instance[objectNode]]
	for n, i := r.Clone(), 0; i < 20; i++ {
		weak = append(weak, objectMust(NewWeak(n.Get(), nil)))
		next := objectMust(n.Get().Payload().Left.Get(n.Object()))
		objectOK(t, n.Get().Payload().Right.Set(n.Object(), holder.Get()))
		n.Release()
		if n = objectMust(Take[Instance[objectNode]](next)); i == 19 {
			n.Release()
		}
	}
	r.Release()
	for done := false; !done; {
		done = objectMust(s.CollectSlice())
		if c := s.gc.old; c == nil || c.phase < clearing {
			continue
		}
		for _, w := range weak {
			if n, alive := w.Get(); alive {
				held[n.Get().Payload().ID] = true
			}
		}
		for _, n := range s.Referrers(holder.Object()) {
			held[Instance[objectNode]{object: n.Object()}.Payload().ID] = true
		}
	}
	holder.Release()
	noneLeft(t, s)
}

// An object that the collector finalises, and that its last owner is about to bury, is
// finalised once.
func TestObjectFinalizeDying(t *testing.T) {
	s := objectSpace(t, SpaceOptions{Shared: true})
	calls := 0
	class := objectClass(t, func(Instance[objectNode]) { calls++ })
	r := ring(t, s, class, 2)
	var dying *header
	w := objectMust(NewWeak(r.Get(), func() {
		// As if another goroutine had found one of them, taken it out of its cycle, and
		// waited for the lock to drop the last reference.
		s.gc.each(func(h *header) {
			if dying == nil && h.typ >= typeUser {
				dying = h
			}
		})
		s.lock()
		s.gc.each(func(h *header) {
			if n := (Instance[objectNode]{object: objectOf(h)}); h.typ >= typeUser && n.Payload().Left.ref.object() == dying {
				n.Payload().Left.ref = 0
			}
		})
		s.mu.Unlock()
	}))
	r.Release()
	objectMust(s.Collect(2))
	if dying == nil {
		t.Fatal("the callback was not called")
	}
	s.lock()
	s.drop(dying)
	s.unlock()
	for range 2 {
		objectMust(s.Collect(2))
	}
	if calls != 2 {
		t.Error(calls, "calls of finalisers, want 2")
	}
	noneLeft(t, s)
	w.Drop()
}

// Finalisers that set off one another do so without recursion, also in a shared Space.
func TestObjectFinalizersNest(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(16 << 20)) // beyond it the process ends
	for _, shared := range []bool{false, true} {
		s := objectSpace(t, SpaceOptions{Shared: shared})
		s.Disable()
		const depth = 100_000
		calls := 0
		for name, finalize := range map[string]func(n Instance[objectNode]){
			"count":  func(Instance[objectNode]) { calls++ },
			"unlink": func(n Instance[objectNode]) { calls++; objectOK(t, n.Payload().Left.Set(n.Object(), Object{})) },
		} {
			class := objectClass(t, finalize)
			first := objectMust(class.New(s))
			for range depth - 1 {
				next := objectMust(class.New(s))
				objectOK(t, next.Get().Payload().Left.Set(next.Object(), first.Object()))
				first.Release()
				first = next
			}
			first.Release()
			if calls != depth {
				t.Errorf("shared %t, %s: %d calls", shared, name, calls)
			}
			calls = 0
		}
		noneLeft(t, s)
	}
}

// A finaliser that ends its goroutine, or a Report that panics, leaves the Space in
// order: the other finalisers are called, and nothing is locked.
func TestObjectFinalizerGoexit(t *testing.T) {
	onCollectors(t, func(t *testing.T, s *Space) {
		s.report = func(error) { panic("report") }
		calls := 0
		class := objectClass(t, func(n Instance[objectNode]) {
			switch calls++; calls % 5 {
			case 1:
				runtime.Goexit()
			case 3:
				panic("finaliser")
			}
		})
		ends := func(f func()) {
			t.Helper()
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { _ = recover() }()
				f()
			})
			wg.Wait()
		}
		r := ring(t, s, class, 20)
		r.Release()
		for range 20 {
			ends(func() { collectAll(t, s) })
		}
		if calls != 20 {
			t.Error(calls, "calls, want 20")
		}
		var refs []Ref[Instance[objectNode]]
		for range 20 {
			refs = append(refs, objectMust(class.New(s)))
		}
		l := objectMust(s.List())
		for i := range refs {
			objectOK(t, l.Get().Append(refs[i].Object()))
			refs[i].Release()
		}
		for l.Get().Len() > 0 {
			ends(func() { _ = l.Get().Delete(0, 10) })
		}
		ends(func() { l.Release() })
		if calls != 40 {
			t.Error(calls, "calls, want 40")
		}
		s.report = nil
		collectAll(t, s)
		if left := s.Stats().Objects; left["Node"] != 0 {
			t.Error("left:", left)
		}
	})
}

// A Space is not closed by what runs within it, and what comes after Close is an error
// or nothing.
func TestObjectCloseWithin(t *testing.T) {
	onCollectors(t, func(t *testing.T, s *Space) {
		var got []error
		class := objectClass(t, func(Instance[objectNode]) { got = append(got, s.Close()) })
		n := objectMust(class.New(s))
		n.Release()
		r := ring(t, s, class, 3)
		r.Release()
		collectAll(t, s)
		if len(got) != 4 {
			t.Fatal(len(got), "calls")
		}
		for _, err := range got {
			if !errors.Is(err, ErrBusy) {
				t.Error(err)
			}
		}
		noneLeft(t, s)
	})
	for _, shared := range []bool{false, true} {
		s := objectMust(NewSpace(SpaceOptions{Shared: shared}))
		objectOK(t, s.Close())
		s.Freeze()
		s.Unfreeze()
		s.Disable()
		s.Enable()
		s.SetThreshold(0, 0, 0)
		if refs := s.Referrers(None()); len(refs) > 0 {
			t.Error(refs)
		}
		if st := s.Stats(); len(st.Objects) > 0 {
			t.Error(st)
		}
		_, err1 := s.Tuple(None())
		_, err2 := s.Intern("x")
		_, err3 := s.Collect(2)
		_, err4 := s.CollectSlice()
		_, err5 := s.FromGo([]any{1})
		_, err6 := s.DecodeJSON(json.NewDecoder(strings.NewReader("[1]")))
		_, err7 := s.Namespace()
		_, err8 := s.Set(None())
		_, err9 := s.Bytes(nil)
		_, err10 := objectNodes.New(s)
		for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8, err9, err10, s.Trim(), s.Close()} {
			if err != ErrClosed {
				t.Error(i, err)
			}
		}
	}
}

// A comparison with an object of another shared Space keeps that from changing.
func TestObjectContainsForeign(t *testing.T) {
	a, b := objectSpace(t, SpaceOptions{Shared: true}), objectSpace(t, SpaceOptions{Shared: true})
	l, m := objectMust(a.List()), objectMust(b.List())
	inner := objectMust(a.List())
	for range 10 {
		objectOK(t, inner.Get().Append(None()))
	}
	objectOK(t, l.Get().Append(inner.Object()))
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 300 {
			objectMust(l.Get().Contains(m.Object()))
			objectMust(Equal(m.Object(), inner.Object()))
		}
	})
	wg.Go(func() {
		for range 300 {
			for range 10 {
				objectOK(t, m.Get().Append(None()))
			}
			objectOK(t, m.Get().Delete(0, m.Get().Len()))
		}
	})
	wg.Wait()
	l.Release()
	m.Release()
	inner.Release()
}

// The loop over a container lets go of the item that it lends, also if its body panics.
func TestObjectLoopPanics(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	x := objectMust(s.List())
	k := objectMust(s.String("key"))
	l := objectMust(s.List(x.Object()))
	d := objectMust(s.Dict())
	objectOK(t, d.Get().Set(k.Object(), x.Object()))
	set := objectMust(s.Set(k.Object()))
	before := []int{RefCount(x.Object()), RefCount(k.Object())}
	for _, loop := range []func(){
		func() {
			for range l.Get().All() {
				panic("body")
			}
		},
		func() {
			for range d.Get().All() {
				panic("body")
			}
		},
		func() {
			for range set.Get().All() {
				panic("body")
			}
		},
	} {
		func() {
			defer func() { _ = recover() }()
			loop()
		}()
	}
	if after := []int{RefCount(x.Object()), RefCount(k.Object())}; !reflect.DeepEqual(before, after) {
		t.Errorf("%d references, want %d", after, before)
	}
	l.Release()
	d.Release()
	set.Release()
	x.Release()
	k.Release()
}

// A class's function that panics is an error of the operation, and leaves nothing
// locked; one that changes objects of an owned Space is an error too.
func TestObjectClassFunctions(t *testing.T) {
	type point struct{ X, Y int64 }
	var hook func()
	class := objectMust(NewClass(ClassSpec[point]{
		Name:  "Point",
		Hash:  func(p *point) uint64 { return uint64(p.X) },
		Equal: func(a, b *point) bool { hook(); return *a == *b },
		Repr:  func(p *point) string { hook(); return "Point" },
	}))
	for _, shared := range []bool{false, true} {
		s := objectSpace(t, SpaceOptions{Shared: shared})
		a, b := objectMust(class.New(s)), objectMust(class.New(s))
		d, l, set := objectMust(s.Dict()), objectMust(s.List(a.Object())), objectMust(s.Set(a.Object()))
		room := objectMust(s.List(None())) // its items have room for more
		objectOK(t, room.Get().Append(None()))
		objectOK(t, d.Get().Set(a.Object(), None()))
		pair := [2]Ref[Tuple]{objectMust(s.Tuple(b.Object())), objectMust(s.Tuple(a.Object()))}
		all := func(want string) {
			t.Helper()
			_, err1 := d.Get().Get(b.Object())
			_, err2 := d.Get().Contains(b.Object())
			_, err3 := l.Get().Contains(b.Object())
			_, err4 := set.Get().Contains(b.Object())
			_, err5 := Equal(a.Object(), b.Object())
			_, err6 := Equal(pair[0].Object(), pair[1].Object())
			for i, err := range []error{
				err1, err2, err3, err4, err5, err6,
				d.Get().Set(b.Object(), None()), d.Get().Delete(b.Object()),
				set.Get().Add(b.Object()), set.Get().Delete(b.Object()),
			} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("shared %t, %d: %v", shared, i, err)
				}
			}
			if text := Repr(a.Object()); !strings.Contains(text, "Point object at") {
				t.Error(text)
			}
			if d.Get().Len() != 1 || set.Get().Len() != 1 {
				t.Error(d.Get().Len(), set.Get().Len())
			}
		}
		hook = func() { panic("hook") }
		all("panicked: hook")
		if !shared { // there it would wait for itself
			changes := map[string]func() error{
				"clear":  func() error { return d.Get().Clear() },
				"append": func() error { return room.Get().Append(None()) },
				"set":    func() error { return room.Get().Set(0, None()) },
				"new":    func() error { _, err := s.List(); return err },
				"tuple":  func() error { _, err := s.Tuple(None()); return err },
			}
			for name, change := range changes {
				hook = func() { t.Error(name, "within a class's function:", change()) }
				all(ErrReentered.Error())
			}
		}
		hook = func() {}
		if objectMust(l.Get().Contains(b.Object())) != true {
			t.Error("equal points are not")
		}
		for _, r := range []AnyRef{a.Any(), b.Any(), d.Any(), l.Any(), room.Any(), set.Any(), pair[0].Any(), pair[1].Any()} {
			r.Release()
		}
		noneLeft(t, s)
	}
}

// A stale handle of a container in a Debug space does no harm, and its count is told.
func TestObjectDebugStale(t *testing.T) {
	for _, shared := range []bool{false, true} {
		var told []error
		s := objectSpace(t, SpaceOptions{Debug: true, Shared: shared, Report: func(err error) { told = append(told, err) }})
		x := objectMust(s.Int(1000))
		l := objectMust(s.List(x.Object(), x.Object(), x.Object(), x.Object()))
		d := objectMust(s.Dict())
		objectOK(t, d.Get().SetString("k", x.Object()))
		set := objectMust(s.Set(x.Object()))
		sl, sd, ss := l.Get(), d.Get(), set.Get()
		l.Release()
		d.Release()
		set.Release()
		if sl.Len() != 0 || sd.Len() != 0 || ss.Len() != 0 {
			t.Error("dead containers have items:", sl.Len(), sd.Len(), ss.Len())
		}
		if _, err := sl.Get(0); err != ErrIndex {
			t.Error(err)
		}
		if _, err := sd.GetString("k"); err != ErrNotFound {
			t.Error(err)
		}
		if n := RefCount(x.Object()); n != 1 {
			t.Error(n, "references")
		}
		// One that an object owns is told too.
		outer := objectMust(s.List(x.Object()))
		stale := x
		x.Release()
		stale.Release()
		outer.Release()
		if len(told) != 1 {
			t.Error(told)
		}
		for _, err := range told {
			if !errors.As(err, new(*CountError)) {
				t.Error(err)
			}
		}
	}
}

// Referrers may find what a slice has taken for garbage so far, and goes on after it.
func TestObjectReferrersRevive(t *testing.T) {
	s := objectSpace(t, SpaceOptions{Incremental: SliceLimit{Objects: minSlice}})
	s.gc.slice.Objects = 1
	s.Disable()
	x := objectMust(s.Int(1000))
	top := objectMust(s.List())
	// What top refers to comes before it in the collector's list, and is white until it
	// is looked at.
	var inner []Ref[List]
	for range 50 {
		inner = append(inner, objectMust(s.List(x.Object())))
	}
	last := objectMust(s.List())
	for i := range inner {
		objectOK(t, last.Get().Append(inner[i].Object()))
		inner[i].Release()
	}
	objectOK(t, top.Get().Append(last.Object()))
	last.Release()
	for c := &s.gc; c.old == nil || c.heads[listOldWhite].size() < 40; {
		objectMust(s.CollectSlice())
	}
	refs := s.Referrers(x.Object())
	if len(refs) != 50 {
		t.Errorf("%d referrers, want 50", len(refs))
	}
	for i := range refs {
		refs[i].Release()
	}
	collectAll(t, s)
	if n := top.Get().Len(); n != 1 || s.Stats().Objects["list"] != 52 {
		t.Error(n, s.Stats().Objects)
	}
	top.Release()
	x.Release()
	noneLeft(t, s)
}
