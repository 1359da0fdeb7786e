package unsafeobj

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// thing is a container as the model knows it.
type thing struct {
	o       Object
	kind    byte     // of 'l'ist, 'd'ict, 't'uple, 's'et, 'n'ode
	to      []*thing // what it refers to; of a node Left, or nil
	keys    []string // of a dict
	handles int      // Refs of the program
	saved   int      // of these, what finalisers have made, of the same collection perhaps

	id        int64 // of a node
	finalized bool
	dead      bool // known to be
}

// watch is a weak reference as the model knows it.
type watch struct {
	Weak[Object]
	of      *thing
	cleared bool
}

// world runs a program of calls on objects beside a model.
type world struct {
	t      *testing.T
	s      *Space
	all    []*thing // that may be alive
	nodes  map[int64]*thing
	watch  []*watch
	exact  bool // all collections are the program's, and are done at once
	told   int  // errors
	panics int  // of finalisers
}

// What a node's finaliser does is up to its number.
const (
	finalSave   = iota // lets it live on
	finalPanic         // panics
	finalWeak          // makes a weak reference
	finalUnlink        // lets its field go
	finalKinds  = 8    // the others do nothing
)

func newWorld(t *testing.T, o SpaceOptions, slice int) *world {
	w := &world{t: t, nodes: map[int64]*thing{}}
	o.Report = func(err error) {
		if w.told++; !errors.As(err, new(*CallbackError)) {
			t.Error(err)
		}
	}
	w.s = objectMust(NewSpace(o))
	w.s.gc.slice.Objects = slice
	return w
}

// objectFuzz is where the class's functions, of which there is one for all runs, find
// the run.
var (
	objectFuzz      *world
	objectFuzzClass = objectMust(NewClass(ClassSpec[objectNode]{
		Name: "Node", FreeList: 3,
		Finalize: func(n Instance[objectNode]) { objectFuzz.finalize(n) },
		Dealloc:  func(n *objectNode) { objectFuzz.died(n.ID) },
	}))
)

func (w *world) finalize(n Instance[objectNode]) {
	x := w.nodes[n.Payload().ID]
	if x.finalized || x.dead || w.reachableBefore()[x] {
		w.t.Errorf("node %d is finalised: %+v, reachable %t", x.id, x, w.reachableBefore()[x])
	}
	x.finalized = true
	switch x.id % finalKinds {
	case finalSave:
		Own(n) // a handle from now on
		x.handles++
		x.saved++
	case finalPanic:
		w.panics++
		panic("finaliser")
	case finalWeak:
		w.watchOver(x)
	case finalUnlink:
		x.to = nil
		objectOK(w.t, n.Payload().Left.Set(n.Object(), Object{}))
	}
}

func (w *world) died(id int64) {
	x := w.nodes[id]
	if x.dead || !x.finalized || w.reachable()[x] {
		w.t.Errorf("node %d died: %+v, reachable %t", id, x, w.reachable()[x])
	}
	x.dead = true
	x.to = nil
}

func (w *world) watchOver(x *thing) {
	h := &watch{of: x}
	h.Weak = objectMust(NewWeak(x.o, func() {
		if h.cleared || w.reachableBefore()[x] {
			w.t.Errorf("%c: weak reference cleared, once before %t, reachable %t", x.kind, h.cleared, w.reachableBefore()[x])
		}
		h.cleared = true
	}))
	w.watch = append(w.watch, h)
}

// reachable returns what the program can get at.
func (w *world) reachable() map[*thing]bool {
	return w.reached(func(x *thing) bool { return x.handles > 0 })
}

// reachableBefore is reachable without what finalisers have saved: all of a cycle is
// finalised, also if one of it is saved.
func (w *world) reachableBefore() map[*thing]bool {
	return w.reached(func(x *thing) bool { return x.handles > x.saved })
}

func (w *world) reached(root func(*thing) bool) map[*thing]bool {
	seen := map[*thing]bool{}
	var todo []*thing
	for _, x := range w.all {
		if root(x) {
			todo = append(todo, x)
		}
	}
	for len(todo) > 0 {
		x := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !seen[x] {
			seen[x] = true
			todo = append(todo, x.to...)
		}
	}
	return seen
}

// counts returns the references to each, of the program and of others that may live.
func (w *world) counts() map[*thing]int {
	n := map[*thing]int{}
	for _, x := range w.all {
		n[x] += x.handles
		for _, y := range x.to {
			n[y]++
		}
	}
	return n
}

// bury takes out what must be dead, as nothing refers to it; after a full collection,
// as nobody can reach it.
func (w *world) bury(collected bool) {
	w.t.Helper()
	for again := true; again; {
		again = false
		alive := w.reachable()
		n := w.counts()
		w.all = slices.DeleteFunc(w.all, func(x *thing) bool {
			if n[x] > 0 && !(collected && !alive[x]) {
				return false
			}
			if x.kind == 'n' && !x.dead {
				w.t.Fatalf("node %d is not dead", x.id)
			}
			x.dead, again = true, true
			return true
		})
	}
	for _, h := range w.watch {
		if h.of.dead && !h.cleared {
			w.t.Fatalf("a weak reference outlives a %c", h.of.kind)
		}
	}
}

// check compares all that can be reached with the model.
func (w *world) check() {
	w.t.Helper()
	w.s.lock()
	err := w.s.check()
	w.s.unlock()
	objectOK(w.t, err)
	n := w.counts()
	for x := range w.reachable() {
		if got := RefCount(x.o); got != n[x] && w.exact || got > n[x] {
			w.t.Fatalf("a %c has %d references, want %d", x.kind, got, n[x])
		}
		var to []Object
		for _, y := range x.to {
			to = append(to, y.o)
		}
		var keys []string
		var got []Object
		switch x.kind {
		case 'd':
			for k, v := range (Dict{object: x.o}).All() {
				keys, got = append(keys, String{object: k}.Value()), append(got, v)
			}
		case 's':
			got = slices.Collect(Set{object: x.o}.All())
		default:
			got = Referents(x.o)
		}
		if !slices.Equal(got, to) || !slices.Equal(keys, x.keys) {
			w.t.Fatalf("a %c has %v %v, want %v %v", x.kind, keys, got, x.keys, to)
		}
	}
}

// make enters a new container, which refers to others.
func (w *world) make(kind byte, id int64, to *thing) {
	w.t.Helper()
	x := &thing{kind: kind, handles: 1, id: id}
	switch kind {
	case 'l':
		x.o = objectMust(w.s.List()).Object()
	case 'd':
		x.o = objectMust(w.s.Dict()).Object()
	case 's':
		x.o = objectMust(w.s.Set()).Object()
	case 't':
		x.o = objectMust(w.s.Tuple(to.o, to.o)).Object()
		x.to = []*thing{to, to}
	case 'n':
		n := objectMust(objectFuzzClass.New(w.s)).Get()
		n.Payload().ID = id
		x.o = n.Object()
		w.nodes[id] = x
	}
	w.all = append(w.all, x)
}

// connect lets one refer to another.
func (w *world) connect(x, y *thing, b byte) {
	w.t.Helper()
	switch x.kind {
	case 'l':
		i := int(b) % (len(x.to) + 1)
		x.to = slices.Insert(x.to, i, y)
		objectOK(w.t, List{object: x.o}.Insert(i, y.o))
	case 'd':
		k := fmt.Sprint("key", b%6)
		if i := slices.Index(x.keys, k); i >= 0 {
			x.to[i] = y
		} else {
			x.keys, x.to = append(x.keys, k), append(x.to, y)
		}
		objectOK(w.t, Dict{object: x.o}.SetString(k, y.o))
	case 's':
		err := error(nil)
		if y.kind != 'n' {
			if err = (Set{object: x.o}).Add(y.o); err == nil && y.kind != 't' {
				w.t.Fatalf("a set has a %c", y.kind)
			}
			if err == nil { // a tuple of nodes
				objectOK(w.t, Set{object: x.o}.Delete(y.o))
			}
			return
		}
		if !slices.Contains(x.to, y) {
			x.to = append(x.to, y)
		}
		objectOK(w.t, Set{object: x.o}.Add(y.o))
	case 'n':
		x.to = []*thing{y}
		n := Instance[objectNode]{object: x.o}
		objectOK(w.t, n.Payload().Left.Set(x.o, y.o))
	}
}

// cut lets one of the references of x go.
func (w *world) cut(x *thing, b byte) {
	w.t.Helper()
	if len(x.to) == 0 || x.kind == 't' {
		return
	}
	i := int(b) % len(x.to)
	y := x.to[i]
	x.to = slices.Delete(x.to, i, i+1)
	switch x.kind {
	case 'l':
		if b%2 == 0 {
			objectOK(w.t, List{object: x.o}.Delete(i, i+1))
			return
		}
		y.handles++
		r := objectMust(List{object: x.o}.Pop(i))
		if r.Object() != y.o {
			w.t.Fatalf("popped %v, want %v", r.Object(), y.o)
		}
	case 'd':
		k := x.keys[i]
		x.keys = slices.Delete(x.keys, i, i+1)
		objectOK(w.t, Dict{object: x.o}.DeleteString(k))
	case 's':
		objectOK(w.t, Set{object: x.o}.Delete(y.o))
	case 'n':
		n := Instance[objectNode]{object: x.o}
		objectOK(w.t, n.Payload().Left.Set(x.o, Object{}))
	}
}

func (w *world) release(x *thing) {
	x.handles--
	x.saved = min(x.saved, x.handles)
	r := AnyRef{addr: x.o.addr}
	r.Release()
}

// get asks a weak reference.
func (w *world) get(h *watch) {
	w.t.Helper()
	r, alive := h.Get()
	switch {
	case alive && (h.of.dead || h.cleared || r.Object() != h.of.o):
		w.t.Fatalf("a weak reference to a dead %c gives %v", h.of.kind, r.Object())
	case alive:
		h.of.handles++
	case w.reachable()[h.of] && !h.cleared:
		w.t.Fatalf("a weak reference gives nothing, and its %c lives", h.of.kind)
	}
}

// FuzzObjects: containers and instances in any graph are as the model has them; what
// can be reached lives, with exact counts; what cannot dies, with its weak references,
// by a full collection at the latest; each node is finalised once in its life, and dies
// once. Space and collections are of all kinds; a slice is of a few objects.
func FuzzObjects(f *testing.F) {
	for kind := range 8 {
		f.Add([]byte{byte(kind), 0, 4, 0, 1, 0, 0, 8, 0, 1, 8, 1, 0, 13, 0, 0, 10, 0, 0, 10, 0, 0, 15, 0, 0})
		f.Add(append([]byte{byte(kind)}, "objects that refer to each other, and some that are finalised"...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		kind, slice := in[0], 0
		in = in[1:min(len(in), 1500)]
		if kind&4 != 0 {
			slice = 1 + int(kind>>4)
		}
		w := newWorld(t, SpaceOptions{Shared: kind&1 != 0, Debug: kind&2 != 0}, slice)
		objectFuzz = w
		if w.exact = kind&12 == 0; w.exact {
			w.s.Disable()
		} else {
			w.s.SetThreshold(5, 2, 2)
		}
		for n := int64(0); len(in) >= 3; n++ {
			w.step(in[0], in[1], in[2], n)
			if in = in[3:]; n%4 == 0 {
				w.check()
			}
		}
		w.check()
		for _, h := range w.watch {
			if h.of.id%2 == 0 {
				h.Drop()
				h.cleared = true
			}
		}
		w.finish()
	})
}

func (w *world) step(op, a, b byte, n int64) {
	w.t.Helper()
	var held []*thing
	for _, x := range w.all {
		if w.exact {
			x.saved = 0
		}
		if x.handles > 0 {
			held = append(held, x)
		}
	}
	if len(held) == 0 {
		w.make("ldsnn"[op%5], n, nil)
		return
	}
	x, y := held[int(a)%len(held)], held[int(b)%len(held)]
	switch op % 17 {
	case 0, 1, 2, 3:
		w.make("ldsn"[op%17], n, nil)
	case 4:
		w.make('n', n, nil)
	case 5:
		w.make('t', n, x)
	case 6, 7, 8, 9:
		w.connect(x, y, b)
	case 10, 11, 12:
		w.release(x)
	case 13:
		if len(w.watch) < 20 {
			w.watchOver(x)
		}
	case 14:
		if len(w.watch) > 0 {
			w.get(w.watch[int(b)%len(w.watch)])
		}
	case 15:
		w.cut(x, b)
	case 16:
		if b%4 != 0 {
			objectMust(w.s.CollectSlice())
			break
		}
		objectMust(w.s.Collect(2))
		w.bury(w.s.gc.old == nil)
	}
	if w.exact && op%17 == 16 {
		w.bury(true)
	}
	w.bury(false)
}

// finish lets go of all, until nothing is left.
func (w *world) finish() {
	for range len(w.nodes) + 1 { // finalisers keep some, each once, and those others
		for _, x := range slices.Clone(w.all) {
			for x.handles > 0 {
				w.release(x)
			}
		}
		w.bury(false)
		objectMust(w.s.Collect(2))
	}
	w.bury(true)
	if len(w.all) > 0 {
		w.t.Fatalf("the model has %d left", len(w.all))
	}
	if left := w.s.Stats().Objects; len(left) > 0 {
		w.t.Fatalf("left: %v", left)
	}
	if n := liveBlocks(w.t, w.s); n != 0 {
		w.t.Fatalf("%d blocks left", n)
	}
	if w.told != w.panics {
		w.t.Fatalf("%d errors were reported, %d finalisers panicked", w.told, w.panics)
	}
	objectOK(w.t, w.s.Close())
}
