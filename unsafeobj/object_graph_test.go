package unsafeobj

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

var (
	objectGraphs = flag.Int("objects.graphs", 20_000, "random object graphs that TestObjectGraphs builds and drops")
	objectDepth  = flag.Int("objects.depth", 50_000, "length of the chains of TestObjectDeep")
)

type objectNode struct {
	ID    int64
	Left  Field[Object]
	Right Field[List]
}

var objectNodes = func() *Class[objectNode] {
	c, err := NewClass(ClassSpec[objectNode]{Name: "Node", FreeList: 10})
	if err != nil {
		panic(err)
	}
	return c
}()

// objectSpace makes a Space that must be empty when the test ends.
func objectSpace(t testing.TB, o SpaceOptions) *Space {
	t.Helper()
	s, err := NewSpace(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func objectMust[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func objectOK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// liveBlocks is what the Space has, apart from the heads of its lists.
func liveBlocks(t testing.TB, s *Space) uint64 {
	t.Helper()
	objectOK(t, s.Trim())
	s.lock()
	err := s.check()
	s.unlock()
	if err != nil {
		t.Error(err)
	}
	n := s.mem.Stats().LiveBlocks - 1
	if s.interned.table != 0 {
		n--
	}
	return n
}

// noneLeft says so if the Space has more than when it was made.
func noneLeft(t testing.TB, s *Space) {
	t.Helper()
	if n := liveBlocks(t, s); n != 0 {
		t.Error(n, "blocks left:", s.Stats().Objects)
	}
}

// randomGraph makes containers and lets each refer to others at random. It returns
// some of them.
func randomGraph(t testing.TB, s *Space, r *rand.Rand) []AnyRef {
	nodes := make([]AnyRef, 2+r.IntN(12))
	for i := range nodes {
		switch r.IntN(5) {
		case 0:
			nodes[i] = objectMust(s.List()).Any()
		case 1:
			nodes[i] = objectMust(s.Dict()).Any()
		case 2:
			nodes[i] = objectMust(objectNodes.New(s)).Any()
		case 3:
			inner := objectMust(s.List())
			nodes[i] = objectMust(s.Tuple(inner.Object(), None())).Any()
			inner.Release()
		case 4:
			nodes[i] = objectMust(s.Set()).Any()
		}
	}
	for range len(nodes) * 3 {
		connect(t, s, r, nodes[r.IntN(len(nodes))].Object(), nodes[r.IntN(len(nodes))].Object())
	}
	return nodes
}

// connect lets an object refer to another, if it can.
func connect(t testing.TB, s *Space, r *rand.Rand, from, to Object) {
	t.Helper()
	var err error
	switch TypeOf(from).Name() {
	case "list":
		err = List{object: from}.Append(to)
	case "dict":
		k := objectMust(s.Int(r.Int64N(1000)))
		err = Dict{object: from}.Set(k.Object(), to)
		k.Release()
	case "Node":
		n := Instance[objectNode]{object: from}
		err = n.Payload().Left.Set(from, to)
	case "tuple":
		x := objectMust(Tuple{object: from}.Get(0))
		err = List{object: x}.Append(to)
	case "set":
		if n := TypeOf(to).Name(); n == "Node" {
			err = Set{object: from}.Add(to)
		}
	}
	objectOK(t, err)
}

// Many random graphs with cycles leave nothing behind.
func TestObjectGraphs(t *testing.T) {
	for name, o := range map[string]SpaceOptions{
		"owned":  {},
		"shared": {Shared: true},
		"slices": {Incremental: SliceLimit{Objects: minSlice}},
		"debug":  {Debug: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := objectSpace(t, o)
			r := rand.New(rand.NewPCG(1, 2))
			var kept []AnyRef
			graphs := *objectGraphs
			if name != "owned" {
				graphs /= 4
			}
			for range graphs {
				nodes := randomGraph(t, s, r)
				for i := range nodes {
					if r.IntN(40) == 0 {
						kept = append(kept, nodes[i])
						continue
					}
					nodes[i].Release()
				}
				for len(kept) > 200 {
					i := r.IntN(len(kept))
					kept[i].Release()
					kept[i] = kept[len(kept)-1]
					kept = kept[:len(kept)-1]
				}
			}
			for i := range kept {
				kept[i].Release()
			}
			objectMust(s.Collect(2))
			st := s.Stats()
			t.Log(st.Generations, st.Incremental)
			if len(st.Objects) > 0 {
				t.Error("left:", st.Objects)
			}
			noneLeft(t, s)
		})
	}
}

// A chain of any length dies, is traversed and printed without recursion, whatever it
// is made of; where recursion is needed it ends in time.
func TestObjectDeep(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(4 << 20)) // beyond it the process ends
	depth := *objectDepth
	links := map[string]func(s *Space, x Object) AnyRef{
		"list":  func(s *Space, x Object) AnyRef { return objectMust(s.List(x)).Any() },
		"tuple": func(s *Space, x Object) AnyRef { return objectMust(s.Tuple(x)).Any() },
		"dict": func(s *Space, x Object) AnyRef {
			d := objectMust(s.Dict())
			objectOK(t, d.Get().SetString("next", x))
			return d.Any()
		},
		"Node": func(s *Space, x Object) AnyRef {
			n := objectMust(objectNodes.New(s))
			objectOK(t, n.Get().Payload().Left.Set(n.Object(), x))
			return n.Any()
		},
		"set of Nodes": func(s *Space, x Object) AnyRef {
			n := objectMust(objectNodes.New(s))
			objectOK(t, n.Get().Payload().Left.Set(n.Object(), x))
			set := objectMust(s.Set(n.Object()))
			n.Release()
			return set.Any()
		},
	}
	for name, link := range links {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/shared=%v", name, shared), func(t *testing.T) {
				s := objectSpace(t, SpaceOptions{Shared: shared})
				chain := func(bottom Object) AnyRef {
					x := Own(bottom)
					for range depth {
						outer := link(s, x.Object())
						x.Release()
						x = outer
					}
					return x
				}
				a, b := chain(None()), chain(None())
				objectMust(s.Collect(2))
				deep := func(what string, err error) {
					var kind *TypeError
					if err != ErrDepth && !errors.As(err, &kind) {
						t.Error(what, err)
					}
				}
				same, err := Equal(a.Object(), b.Object())
				if same {
					t.Error("two chains are equal")
				}
				switch _, hashErr := Hash(a.Object()); name {
				case "list", "tuple", "dict":
					deep("Equal:", err)
					deep("Hash:", hashErr)
				default: // Nodes are equal to themselves alone
					objectOK(t, err)
				}
				deep("EncodeJSON:", EncodeJSON(io.Discard, a.Object()))
				_, err = ToGo(a.Object())
				deep("ToGo:", err)
				if n := len(Repr(a.Object())); n > 20*maxDepth {
					t.Error("Repr:", n, "bytes")
				}
				if n, want := DeepSizeOf(a.Object()), depth*SizeOf(a.Object()); n < want {
					t.Errorf("DeepSizeOf: %d, want %d at least", n, want)
				}
				a.Release()
				b.Release()
				noneLeft(t, s)
				// The same as a cycle.
				first := objectMust(s.List())
				last := chain(first.Object())
				objectOK(t, first.Get().Append(last.Object()))
				first.Release()
				last.Release()
				if n := objectMust(s.Collect(2)); n < depth {
					t.Error(n, "collected")
				}
				noneLeft(t, s)
			})
		}
	}
}

// What is in 2^40 places makes neither a text nor a Go value without end.
func TestObjectDoubled(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	double := map[string]func(x Object) AnyRef{
		"list":  func(x Object) AnyRef { return objectMust(s.List(x, x)).Any() },
		"tuple": func(x Object) AnyRef { return objectMust(s.Tuple(x, x)).Any() },
		"dict": func(x Object) AnyRef {
			d := objectMust(s.Dict())
			objectOK(t, d.Get().SetString("a", x))
			objectOK(t, d.Get().SetString("b", x))
			return d.Any()
		},
	}
	for name, double := range double {
		x := objectMust(s.List(None())).Any()
		for range 40 {
			outer := double(x.Object())
			x.Release()
			x = outer
		}
		const limit = 1 << 20
		const most = limit + 1000 // what is open when it is reached
		e := encoder{limit: limit}
		if err := e.value(at(x.addr), 0); err != ErrTooLong || len(e.text) > most {
			t.Errorf("%s: %v after %d bytes of JSON", name, err, len(e.text))
		}
		p := printer{open: map[*header]struct{}{}, limit: limit}
		if p.object(at(x.addr)); p.Len() < limit || p.Len() > most {
			t.Errorf("%s: %d bytes of text", name, p.Len())
		}
		v := objectMust(ToGo(x.Object()))
		for range 40 {
			switch inner := v.(type) {
			case []any:
				if v = inner[0]; len(inner) != 2 || !reflect.DeepEqual(inner[1], v) {
					t.Fatalf("%s: %d items, or not the same", name, len(inner))
				}
			case map[string]any:
				if v = inner["a"]; len(inner) != 2 || reflect.ValueOf(inner["b"]).Pointer() != reflect.ValueOf(v).Pointer() {
					t.Fatalf("%s: %d items, or not the same", name, len(inner))
				}
			}
		}
		if want := any([]any{nil}); !reflect.DeepEqual(v, want) {
			t.Errorf("%s: %v at the bottom", name, v)
		}
		x.Release()
	}
	noneLeft(t, s)
}

// The Go collector has nothing to do with objects.
func TestObjectsAreNotScanned(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	s.Disable()
	refs := make([]AnyRef, 200_000)
	for i := range refs {
		refs[i] = objectMust(s.List()).Any()
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	runtime.GC()
	t.Log("a collection with", len(refs), "objects:", time.Since(start))
	runtime.ReadMemStats(&after)
	for i := range refs {
		refs[i].Release()
	}
	if after.HeapObjects > 100_000 {
		t.Error(after.HeapObjects, "Go objects")
	}
}
