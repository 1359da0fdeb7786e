package unsafeobj

import (
	"math/rand/v2"
	"testing"
)

// A slice may end in the middle of a container that is larger than it, and the
// program change that container before the next one. What is in it lives.
func TestObjectSlicesInside(t *testing.T) {
	const slice, size = 300, 3000
	for seed := range uint64(4) {
		s := objectSpace(t, SpaceOptions{Incremental: SliceLimit{Objects: minSlice}})
		s.gc.slice.Objects = slice
		s.Disable()
		r := rand.New(rand.NewPCG(9, seed))
		list := objectMust(s.List())
		dict := objectMust(s.Dict())
		next := int64(1000)
		made := func() Ref[List] {
			x := objectMust(s.Int(next))
			l := objectMust(s.List(x.Object()))
			x.Release()
			return l
		}
		push := func(at int) {
			l := made()
			objectOK(t, l.Get().Append(l.Object())) // so that counts alone never free it
			objectOK(t, list.Get().Insert(at, l.Object()))
			l.Release()
			l = made()
			k := objectMust(s.Int(next))
			objectOK(t, l.Get().Append(dict.Object()))
			objectOK(t, dict.Get().Set(k.Object(), l.Object()))
			k.Release()
			l.Release()
			next++
		}
		for range size {
			push(list.Get().Len())
		}
		verify := func() {
			n := 0
			for _, x := range list.Get().All() {
				if l := objectMust(As[List](x)); l.Len() != 2 {
					t.Fatalf("an item has %d items, want 2", l.Len())
				}
				n++
			}
			for k, v := range dict.Get().All() {
				x := objectMust(objectMust(As[List](v)).Get(0))
				if same := objectMust(Equal(k, x.Object())); !same {
					t.Fatalf("the value of %v has %v", k, x)
				}
				x.Release()
				n++
			}
			// Besides what is alive there is garbage at most.
			if live := s.Stats().Objects["list"]; live < n+1 {
				t.Fatalf("%d lists, of which %d can be reached", live, n+1)
			}
		}
		objectMust(s.Collect(2))
		for range 3 {
			for done := false; !done; done = objectMust(s.CollectSlice()) {
				for range 1 + r.IntN(20) {
					n := list.Get().Len()
					switch r.IntN(6) {
					case 0:
						push(0)
					case 1:
						push(r.IntN(n))
					case 2:
						x := objectMust(list.Get().Pop(0))
						x.Release()
					case 3:
						x := objectMust(list.Get().Pop(r.IntN(n)))
						objectOK(t, list.Get().Append(x.Object()))
						x.Release()
					case 4:
						i := r.IntN(n)
						objectOK(t, list.Get().Delete(i, min(i+r.IntN(5), n)))
					default:
						k := objectMust(s.Int(next - 1 - r.Int64N(size)))
						_ = dict.Get().Delete(k.Object())
						k.Release()
						if r.IntN(100) == 0 { // a new table, with all at other places
							s.lock()
							objectMust(s.rebuild(tableOf(at(dict.addr)), growth*tableOf(at(dict.addr)).n))
							s.unlock()
						}
					}
				}
			}
			verify()
		}
		if n := s.Stats().Incremental.MostObjects; n > slice+window+1 {
			t.Errorf("a slice looked at %d objects and references, want %d", n, slice+window+1)
		}
		list.Release()
		dict.Release()
		collectAll(t, s)
		collectAll(t, s)
		noneLeft(t, s)
	}
}

// What refers to no container is not looked into: a slice passes it like an atom, and
// takes it up again when it gets a container.
func TestObjectSlicesPassAtoms(t *testing.T) {
	s := objectSpace(t, SpaceOptions{Incremental: SliceLimit{Objects: minSlice}})
	s.Disable()
	const n = 100_000
	l := objectMust(s.List())
	d := objectMust(s.Dict())
	for i := range n {
		x := objectMust(s.Int(int64(i)))
		objectOK(t, l.Get().Append(x.Object()))
		objectOK(t, d.Get().Set(x.Object(), x.Object()))
		x.Release()
	}
	slices := func() int {
		before := s.Stats().Incremental.Slices
		collectAll(t, s)
		return s.Stats().Incremental.Slices - before
	}
	if n := slices(); n != 1 {
		t.Errorf("%d slices for a list and a dict of atoms", n)
	}
	objectOK(t, l.Get().Set(n/2, d.Object()))
	objectOK(t, d.Get().SetString("self", d.Object()))
	if k := slices(); k < 6*n/minSlice {
		t.Errorf("%d slices with containers in them, want %d", k, 6*n/minSlice)
	}
	objectOK(t, l.Get().Set(n/2, None()))
	objectOK(t, d.Get().DeleteString("self"))
	slices()
	if n := slices(); n != 1 {
		t.Errorf("%d slices after they are gone", n)
	}
	objectOK(t, d.Get().SetString("self", d.Object()))
	d.Release()
	collectAll(t, s)
	if n := s.Stats().Objects["dict"]; n != 0 {
		t.Error(n, "dicts left")
	}
	l.Release()
	noneLeft(t, s)
}

// TestObjectSliceGetsOn: a slice whose time is over when it begins makes a step.
func TestObjectSliceGetsOn(t *testing.T) {
	for _, l := range []SliceLimit{{Time: 1}, {Objects: 1}, {Time: 1, Objects: 1}} {
		if b := newBudget(l); b.left < 1 {
			t.Errorf("a slice of %+v begins with %d to spend", l, b.left)
		}
	}
}

// wide has more references than a slice looks at in one go.
type wide struct {
	ID     int64
	Fields [2*window + 5]Field[Object]
}

// Containers of every kind that are larger than a slice refer to each other, and are
// changed in every way between slices, best where a slice has ended in the middle of
// one. None that is alive refers to a dead one, or is taken for garbage by the first
// count, which the second would conceal; none forgets that it refers to containers; and
// in the end all is found, and finalised once.
func TestObjectSlicesWide(t *testing.T) {
	for seed := range uint64(8) {
		made, finalised := 0, 0
		spec := ClassSpec[wide]{Name: "Wide"}
		if seed%2 == 1 {
			spec.Finalize = func(n Instance[wide]) {
				finalised++
				for i := range n.Payload().Fields {
					objectOK(t, n.Payload().Fields[i].Set(n.Object(), n.Object()))
				}
			}
		}
		class := objectMust(NewClass(spec))
		s := objectSpace(t, SpaceOptions{Incremental: SliceLimit{Objects: minSlice}})
		s.gc.slice.Objects = []int{1, 50, window + 2, 1000}[seed/2]
		s.SetThreshold(3, 2, 1<<30)
		r := rand.New(rand.NewPCG(13, seed))
		root := objectMust(s.List())
		check := func() {
			t.Helper()
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
		}
		instance := func() AnyRef {
			made++
			return objectMust(class.New(s)).Any()
		}
		any := func() AnyRef {
			for range 5 {
				if n := root.Get().Len(); n > 0 {
					if x := objectMust(root.Get().Get(r.IntN(n))); r.IntN(2) == 0 {
						return x
					} else if l, err := As[List](x.Object()); err == nil && l.Len() > 0 {
						y := objectMust(l.Get(r.IntN(l.Len())))
						x.Release()
						return y
					} else {
						x.Release()
					}
				}
			}
			return instance()
		}
		// halfway is the place in root of the container that a slice has ended in, or -1.
		halfway := func() int {
			if o := s.gc.old; o != nil && o.at > 0 {
				for i, x := range root.Get().All() {
					if at(x.addr) == o.cursor.gc().object() {
						return i
					}
				}
			}
			return -1
		}
		make := func() AnyRef {
			switch r.IntN(5) {
			case 0:
				return objectMust(s.List()).Any()
			case 1:
				return objectMust(s.Dict()).Any()
			case 2:
				return objectMust(s.Set()).Any()
			case 3:
				items := []Object{}
				for range 2*window + r.IntN(50) {
					items = append(items, None())
				}
				x, y := any(), any()
				items[r.IntN(len(items))], items[r.IntN(len(items))] = x.Object(), y.Object()
				tuple := objectMust(s.Tuple(items...))
				x.Release()
				y.Release()
				return tuple.Any()
			}
			return instance()
		}
		// value is mostly a list that nobody else refers to: were it overlooked where it
		// is put, it would be found nowhere. What root alone has is to die with it.
		value := func() AnyRef {
			if r.IntN(3) == 0 {
				if x := any(); RefCount(x.Object()) > 2 || r.IntN(8) == 0 {
					return x
				} else {
					x.Release()
				}
			}
			return objectMust(s.List()).Any()
		}
		// keep holds an object for a while, so that slices see it in no container.
		var held []AnyRef
		keep := func(x AnyRef) {
			if x.IsZero() {
				return
			}
			held = append(held, x)
			if i := r.IntN(len(held)); len(held) > 20 {
				held[i].Release()
				held[i] = held[len(held)-1]
				held = held[:len(held)-1]
			}
		}
		key := func() Ref[Int] { return objectMust(s.Int(1000 + r.Int64N(300))) }
		change := func(o, v Object) {
			switch TypeOf(o).Name() {
			case "list":
				l := List{object: o}
				n := l.Len()
				switch op := r.IntN(8); {
				case n < 2*window || op == 0 && n < 3*window:
					for range 20 {
						x := Own(None())
						if r.IntN(4) == 0 {
							x = objectMust(s.List()).Any()
						}
						objectOK(t, l.Insert(r.IntN(l.Len()+1), x.Object()))
						x.Release()
					}
				case op < 3:
					objectOK(t, l.Set(r.IntN(n), v))
				case op < 5:
					keep(objectMust(l.Pop(r.IntN(n))))
				case op == 5:
					i := r.IntN(n)
					objectOK(t, l.Delete(i, min(n, i+r.IntN(window))))
				case op == 6 && r.IntN(10) == 0:
					objectOK(t, l.Delete(0, n))
				default:
					objectOK(t, l.Append(v))
				}
			case "dict":
				d := Dict{object: o}
				k := key()
				switch op := r.IntN(20); {
				case op == 0 && r.IntN(10) == 0:
					objectOK(t, d.Clear())
				case op < 8:
					_ = d.Delete(k.Object())
				case op < 14:
					objectOK(t, d.Set(k.Object(), None()))
				default:
					objectOK(t, d.Set(k.Object(), v))
				}
				k.Release()
			case "set":
				set := Set{object: o}
				k := key()
				switch op := r.IntN(20); {
				case op == 0 && r.IntN(10) == 0:
					objectOK(t, set.Clear())
				case op < 8:
					_ = set.Delete(k.Object())
				case op < 14:
					objectOK(t, set.Add(k.Object()))
				case TypeOf(v) == class.Type():
					objectOK(t, set.Add(v))
				}
				k.Release()
			case "Wide":
				f := &Instance[wide]{object: o}.Payload().Fields[r.IntN(2*window+5)]
				keep(objectMust(f.Get(o)))
				objectOK(t, f.Set(o, v))
			}
		}
		for range 2500 {
			if n := root.Get().Len(); n < 10 || r.IntN(10) == 0 && n < 40 {
				x := make()
				objectOK(t, root.Get().Append(x.Object()))
				x.Release()
			} else if i := halfway(); i >= 0 && r.IntN(4) == 0 {
				x := objectMust(root.Get().Pop(i)) // it dies if it is in no other
				x.Release()
			} else if r.IntN(20) == 0 {
				x := objectMust(root.Get().Pop(r.IntN(n)))
				x.Release()
			}
			for range 1 + r.IntN(8) {
				x, v := any(), value()
				if n := len(held); n > 0 && r.IntN(4) == 0 {
					v.Release()
					v = held[n-1]
					held = held[:n-1]
				}
				if i := halfway(); i >= 0 && r.IntN(2) == 0 {
					x.Release()
					x = objectMust(root.Get().Get(i))
				}
				change(x.Object(), v.Object())
				x.Release()
				v.Release()
			}
			for range r.IntN(8) {
				if done := objectMust(s.CollectSlice()); done || r.IntN(20) == 0 {
					check()
				}
			}
		}
		st := s.Stats()
		t.Log(st.Generations, st.Incremental, st.Objects, finalised)
		for i, g := range st.Generations {
			if i != 1 && g.Collections < 3 {
				t.Error(g.Collections, "collections of generation", i)
			}
			if g.Resurrected > 0 {
				t.Error(g.Resurrected, "living objects were taken for garbage by the first count")
			}
		}
		root.Release()
		for i := range held {
			held[i].Release()
		}
		collectAll(t, s)
		collectAll(t, s)
		collectAll(t, s)
		if spec.Finalize != nil && finalised != made {
			t.Error(finalised, "calls of finalisers, for", made, "instances")
		}
		noneLeft(t, s)
	}
}
