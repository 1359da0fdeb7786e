package unsafeobj

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// ring makes instances that refer to each other in a ring, and returns the first.
func ring(t testing.TB, s *Space, c *Class[objectNode], n int) Ref[Instance[objectNode]] {
	t.Helper()
	first := objectMust(c.New(s))
	last := first.Clone()
	for i := range n - 1 {
		next := objectMust(c.New(s))
		next.Get().Payload().ID = int64(i + 1)
		objectOK(t, last.Get().Payload().Left.Set(last.Object(), next.Object()))
		last.Release()
		last = next
	}
	objectOK(t, last.Get().Payload().Left.Set(last.Object(), first.Object()))
	last.Release()
	return first
}

func objectClass(t testing.TB, finalize func(Instance[objectNode])) *Class[objectNode] {
	t.Helper()
	return objectMust(NewClass(ClassSpec[objectNode]{Name: "Node", Finalize: finalize}))
}

// onCollectors runs a test with collections at once and in slices.
func onCollectors(t *testing.T, f func(t *testing.T, s *Space)) {
	t.Helper()
	for name, o := range map[string]SpaceOptions{"owned": {}, "shared": {Shared: true}, "slices": {Incremental: SliceLimit{Objects: minSlice, Time: time.Minute}}} {
		t.Run(name, func(t *testing.T) { f(t, objectSpace(t, o)) })
	}
}

// collectAll is a full collection, in slices where these are on.
func collectAll(t testing.TB, s *Space) {
	t.Helper()
	for !objectMust(s.CollectSlice()) {
	}
}

func TestObjectFinalizeOnce(t *testing.T) {
	onCollectors(t, func(t *testing.T, s *Space) {
		calls := 0
		var saved Ref[Instance[objectNode]]
		class := objectClass(t, func(n Instance[objectNode]) {
			calls++
			if n.Payload().ID == 0 {
				saved = Own(n)
			}
		})
		r := ring(t, s, class, 5)
		r.Release()
		collectAll(t, s)
		if calls != 5 || saved.IsZero() {
			t.Fatal(calls, "calls")
		}
		if n := s.Stats().Objects["Node"]; n != 5 {
			t.Fatal(n, "nodes live on")
		}
		if n := s.Stats().Generations[2].Resurrected; n != 5 {
			t.Error(n, "resurrected")
		}
		saved.Release()
		collectAll(t, s)
		if n := s.Stats().Objects["Node"]; n != 0 || calls != 5 {
			t.Error(n, "nodes left,", calls, "calls")
		}
		// The same by counts.
		lone := objectMust(class.New(s))
		lone.Release()
		if calls != 6 || saved.IsZero() {
			t.Error(calls, "calls")
		}
		saved.Release()
		if n := s.Stats().Objects["Node"]; n != 0 || calls != 6 {
			t.Error(n, "nodes left,", calls, "calls")
		}
		noneLeft(t, s)
	})
}

// A long chain with finalisers dies without recursion, and one that panics breaks
// nothing.
func TestObjectFinalizerPanics(t *testing.T) {
	for _, shared := range []bool{false, true} {
		var told []error
		s := objectSpace(t, SpaceOptions{Shared: shared, Report: func(err error) { told = append(told, err) }})
		calls := 0
		class := objectClass(t, func(n Instance[objectNode]) {
			if calls++; calls%1000 == 7 {
				panic("finaliser")
			}
		})
		first := objectMust(class.New(s))
		for range 49_999 {
			next := objectMust(class.New(s))
			objectOK(t, next.Get().Payload().Left.Set(next.Object(), first.Object()))
			first.Release()
			first = next
		}
		first.Release()
		r := ring(t, s, class, 3000)
		r.Release()
		objectMust(s.Collect(2))
		if calls != 53_000 || len(told) != 53 {
			t.Error(calls, "calls,", len(told), "errors")
		}
		for _, err := range told {
			var c *CallbackError
			if !errors.As(err, &c) || c.Type != "Node" || c.Value != "finaliser" || len(c.Stack) == 0 {
				t.Error(err)
			}
		}
		noneLeft(t, s)
	}
}

// A finaliser may do everything: change what it is about to lose, make objects,
// collect.
func TestObjectFinalizerChanges(t *testing.T) {
	onCollectors(t, func(t *testing.T, s *Space) {
		class := objectClass(t, func(n Instance[objectNode]) {
			other := objectMust(n.Payload().Left.Get(n.Object()))
			if !other.IsZero() {
				// Break the ring here and there.
				if n.Payload().ID%3 == 0 {
					objectOK(t, n.Payload().Left.Set(n.Object(), Object{}))
				}
				l := objectMust(s.List(other.Object(), n.Object()))
				objectOK(t, l.Get().Append(l.Object()))
				l.Release()
				other.Release()
			}
			objectMust(s.Collect(2))
		})
		for range 50 {
			r := ring(t, s, class, 20)
			r.Release()
		}
		for range 4 {
			collectAll(t, s)
		}
		noneLeft(t, s)
	})
}

func TestObjectWeak(t *testing.T) {
	onCollectors(t, func(t *testing.T, s *Space) {
		var log []string
		var w, dropped Weak[Instance[objectNode]]
		class := objectClass(t, func(Instance[objectNode]) {
			_, alive := w.Get()
			if alive {
				log = append(log, "finalize, with the weak reference")
			} else {
				log = append(log, "finalize")
			}
		})
		r := ring(t, s, class, 1)
		w = objectMust(NewWeak(r.Get(), func() { log = append(log, "callback") }))
		dropped = objectMust(NewWeak(r.Get(), func() { t.Error("callback of a dropped one") }))
		dropped.Drop()
		if got, ok := w.Get(); !ok || got != r {
			t.Error("a weak reference lost its object")
		} else {
			got.Release()
		}
		r.Release()
		collectAll(t, s)
		if len(log) != 2 || log[0] != "callback" || log[1] != "finalize" {
			t.Error(log)
		}
		if _, ok := w.Get(); ok {
			t.Error("a weak reference to nothing")
		}
		l := objectMust(s.List())
		called := false
		lw := objectMust(NewWeak(l.Get(), func() { called = true; panic("callback") }))
		l.Release()
		if _, ok := lw.Get(); ok || !called {
			t.Error("the callback was not called")
		}
		s.failLock.Lock()
		if len(s.failures) != 1 {
			t.Error(s.failures)
		}
		s.failures = nil
		s.failLock.Unlock()
		if _, err := NewWeak(None(), nil); !errors.As(err, new(*TypeError)) {
			t.Error(err)
		}
	})
}

// Collections come by themselves, as CPython's do.
func TestObjectThresholds(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	var kept []Ref[List]
	for range 701 {
		kept = append(kept, objectMust(s.List()))
	}
	st := s.Stats().Generations
	if st[0].Collections != 1 || st[0].Objects != 0 || st[1].Objects != 701 {
		t.Error(st)
	}
	for range 701 * 11 {
		kept = append(kept, objectMust(s.List()))
	}
	st = s.Stats().Generations
	if st[0].Collections != 11 || st[1].Collections != 1 {
		t.Error(st)
	}
	s.Disable()
	for range 1000 {
		kept = append(kept, objectMust(s.List()))
	}
	if n := s.Stats().Generations[0].Objects; n != 1000 {
		t.Error(n)
	}
	s.Freeze()
	if st := s.Stats(); st.Frozen != len(kept) {
		t.Error(st.Frozen)
	}
	s.Unfreeze()
	s.Enable()
	s.SetThreshold(10, 10, 10)
	before := s.Stats().Generations[0].Collections
	for range 50 {
		kept = append(kept, objectMust(s.List()))
	}
	if n := s.Stats().Generations[0].Collections - before; n != 4 {
		t.Error(n, "collections")
	}
	for i := range kept {
		kept[i].Release()
	}
	if _, err := s.Collect(3); err == nil {
		t.Error("generation 3")
	}
}

// A full collection comes by itself only when a quarter of the old objects has come
// to them since the last one.
func TestObjectQuarter(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	keep := objectMust(s.List())
	defer keep.Release()
	more := func(n int) (collections int) {
		for range n {
			l := objectMust(s.List())
			objectOK(t, keep.Get().Append(l.Object()))
			l.Release()
		}
		return s.Stats().Generations[2].Collections
	}
	more(4000)
	objectMust(s.Collect(2))
	s.SetThreshold(10, 1, 1)
	before := s.Stats().Generations[2].Collections
	if n := more(900); n != before {
		t.Errorf("%d full collections beside 4000 old objects and 900 new ones", n-before)
	}
	if n := more(900); n == before {
		t.Error("no full collection beside 4000 old objects and 1800 new ones")
	}
}

// Free lists keep as many dead objects as CPython's do, and none after a full
// collection; those of a shared Space keep none.
func TestObjectFreeLists(t *testing.T) {
	const many = 5000
	for _, kind := range []struct {
		name string
		kept uint64
		make func(s *Space) AnyRef
	}{
		{"int", maxFreeNumbers, func(s *Space) AnyRef { return objectMust(s.Int(1000)).Any() }},
		{"float", maxFreeNumbers, func(s *Space) AnyRef { return objectMust(s.Float(1.5)).Any() }},
		{"tuple", maxFreeTuples, func(s *Space) AnyRef { return objectMust(s.Tuple(None(), None())).Any() }},
		{"long tuple", 0, func(s *Space) AnyRef { return objectMust(s.Tuple(make21()...)).Any() }},
		{"list", maxFreeLists, func(s *Space) AnyRef { return objectMust(s.List()).Any() }},
		{"dict", maxFreeDicts, func(s *Space) AnyRef { return objectMust(s.Dict()).Any() }},
		{"str", maxFreeStrings, func(s *Space) AnyRef { return objectMust(s.String("text")).Any() }},
		{"long str", 0, func(s *Space) AnyRef { return objectMust(s.String(strings.Repeat("x", maxFreeString))).Any() }},
		{"instance", 10, func(s *Space) AnyRef { return objectMust(objectNodes.New(s)).Any() }},
		{"set", maxFreeSets, func(s *Space) AnyRef { return objectMust(s.Set()).Any() }},
	} {
		for _, shared := range []bool{false, true} {
			s := objectSpace(t, SpaceOptions{Shared: shared})
			s.Disable()
			base := s.mem.Stats().LiveBlocks
			var refs []AnyRef
			for range many {
				refs = append(refs, kind.make(s))
			}
			leaf := at(refs[0].addr).typ < firstContainer
			for i := range refs {
				refs[i].Release()
			}
			want := kind.kept
			if shared && leaf {
				want = 0
			}
			if n := s.mem.Stats().LiveBlocks - base; n != want {
				t.Errorf("%s, shared=%t: %d dead objects are kept, want %d", kind.name, shared, n, want)
			}
			objectMust(s.Collect(2))
			if n := s.mem.Stats().LiveBlocks - base; n != 0 {
				t.Errorf("%s, shared=%t: %d dead objects are kept after a full collection", kind.name, shared, n)
			}
		}
	}
}

// make21 is the items of a tuple that is too long for the free lists.
func make21() []Object {
	items := make([]Object, maxFreeTuple+1)
	for i := range items {
		items[i] = None()
	}
	return items
}

// While a collection works in slices the program goes on at random. What it holds
// lives, and in the end nothing is left.
func TestObjectSlicesModel(t *testing.T) {
	for seed := range uint64(6) {
		s := objectSpace(t, SpaceOptions{Incremental: SliceLimit{Objects: minSlice}})
		s.gc.slice.Objects = 1 + int(seed)*7 // cut everywhere
		s.Disable()
		r := rand.New(rand.NewPCG(7, seed))
		class := objectClass(t, nil)
		if seed%2 == 1 {
			class = objectClass(t, func(n Instance[objectNode]) {
				x := objectMust(n.Payload().Left.Get(n.Object()))
				x.Release()
			})
		}
		// held are objects in Go variables; each has a mark that its memory keeps as
		// long as it is alive.
		var held []Ref[Instance[objectNode]]
		var next int64
		marks := map[Object]int64{}
		verify := func(o Object) {
			if want, ok := marks[o]; ok && (TypeOf(o) != class.Type() || Instance[objectNode]{object: o}.Payload().ID != want) {
				t.Fatal("an object that is held was freed")
			}
		}
		for range 40_000 {
			switch op := r.IntN(12); {
			case op < 3 || len(held) < 2:
				n := objectMust(class.New(s))
				next++
				n.Get().Payload().ID = next
				marks[n.Object()] = next
				l := objectMust(s.List())
				objectOK(t, n.Get().Payload().Right.Set(n.Object(), l.Get()))
				l.Release()
				held = append(held, n)
			case op < 6:
				a, b := held[r.IntN(len(held))], held[r.IntN(len(held))]
				verify(a.Object())
				objectOK(t, a.Get().Payload().Left.Set(a.Object(), b.Object()))
			case op == 6:
				a, b := held[r.IntN(len(held))], held[r.IntN(len(held))]
				l := objectMust(a.Get().Payload().Right.Get(a.Object()))
				if l.Get().Len() > 3 {
					x := objectMust(l.Get().Pop(r.IntN(3)))
					verify(x.Object())
					x.Release()
				} else {
					objectOK(t, l.Get().Append(b.Object()))
				}
				l.Release()
			case op == 7:
				// Take an object out of another, and keep it alone.
				a := held[r.IntN(len(held))]
				x := objectMust(a.Get().Payload().Left.Get(a.Object()))
				if !x.IsZero() {
					verify(x.Object())
					if r.IntN(2) == 0 {
						objectOK(t, a.Get().Payload().Left.Set(a.Object(), Object{}))
					}
					held = append(held, objectMust(Take[Instance[objectNode]](x)))
				}
			case op < 10:
				for len(held) > 60 || len(held) > 1 && r.IntN(2) == 0 {
					i := r.IntN(len(held))
					verify(held[i].Object())
					held[i].Release()
					held[i] = held[len(held)-1]
					held = held[:len(held)-1]
				}
			default:
				objectMust(s.CollectSlice())
				if r.IntN(20) == 0 {
					objectMust(s.Collect(r.IntN(2)))
				}
			}
		}
		for i := range held {
			verify(held[i].Object())
			held[i].Release()
		}
		t.Log(s.Stats().Generations, s.Stats().Incremental)
		for range 3 {
			objectMust(s.Collect(2))
		}
		noneLeft(t, s)
	}
}

// A slice is short, however much there is.
func TestObjectSlicesAreBounded(t *testing.T) {
	s := objectSpace(t, SpaceOptions{Incremental: SliceLimit{Objects: 5000}})
	var kept []Ref[Instance[objectNode]]
	for range 300 {
		kept = append(kept, ring(t, s, objectNodes, 300))
	}
	for i := range kept {
		kept[i].Release()
	}
	for s.Stats().Incremental.Collections < 2 {
		r := ring(t, s, objectNodes, 300)
		r.Release()
	}
	st := s.Stats()
	t.Log(st.Generations, st.Incremental)
	if n := st.Incremental.MostObjects; n > 5010 {
		t.Error("a slice looked at", n, "objects")
	}
	if st.Incremental.Slices < 30 {
		t.Error(st.Incremental.Slices, "slices")
	}
	objectMust(s.Collect(2))
	noneLeft(t, s)
}
