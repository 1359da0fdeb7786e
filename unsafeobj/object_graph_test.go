package unsafeobj

import (
	"flag"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var objectGraphs = flag.Int("objects.graphs", 20_000, "random object graphs that TestObjectGraphs builds and drops; the long run takes 1e6")

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
			if n := liveBlocks(t, s); n != 0 {
				t.Error(n, "blocks left")
			}
		})
	}
}

// A chain of any length dies, is traversed and printed without recursion.
func TestObjectDeep(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(4 << 20)) // beyond it the process ends
	s := objectSpace(t, SpaceOptions{})
	const depth = 300_000
	l := objectMust(s.List())
	bottom := l.Clone()
	for range depth {
		outer := objectMust(s.List(l.Object()))
		l.Release()
		l = outer
	}
	objectMust(s.Collect(2))
	if text := Repr(l.Object()); !strings.Contains(text, "[...]") {
		t.Error("no end in sight:", len(text))
	}
	if n := DeepSizeOf(l.Object()); n < depth*48 {
		t.Error("deep size", n)
	}
	if _, err := ToGo(l.Object()); err != ErrDepth {
		t.Error(err)
	}
	bottom.Release()
	l.Release()
	if n := liveBlocks(t, s); n != 0 {
		t.Error(n, "blocks left")
	}
	// The same as a cycle.
	first := objectMust(s.List())
	l = first.Clone()
	for range depth {
		outer := objectMust(s.List(l.Object()))
		l.Release()
		l = outer
	}
	objectOK(t, first.Get().Append(l.Object()))
	first.Release()
	l.Release()
	if n := objectMust(s.Collect(2)); n < depth {
		t.Error(n, "collected")
	}
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
