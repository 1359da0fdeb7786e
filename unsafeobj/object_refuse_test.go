package unsafeobj

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pyarena/pyarena/internal/invariant"
	"github.com/pyarena/pyarena/pymalloc"
)

// refusals is a Space with a container of each kind, each just full.
type refusals struct {
	s    *Space
	list Ref[List]
	dict Ref[Dict]
	set  Ref[Set]
	node Ref[Instance[objectNode]]
	x    Ref[Int]
	keys [6]Ref[String]
}

func newRefusals(t *testing.T, o SpaceOptions) *refusals {
	s := objectSpace(t, o)
	s.Disable()
	s.setBoundsOff() // each object asks for memory
	r := &refusals{s: s, list: objectMust(s.List()), dict: objectMust(s.Dict()), set: objectMust(s.Set()), node: objectMust(objectNodes.New(s)), x: objectMust(s.Int(1 << 40))}
	for i := range r.keys {
		r.keys[i] = objectMust(s.String(fmt.Sprint("key", i)))
	}
	for o := listOf(at(r.list.addr)); o.n == 0 || o.n < o.cap; {
		objectOK(t, r.list.Get().Append(r.x.Object()))
	}
	for i := range usableOf(minLog2) {
		objectOK(t, r.dict.Get().Set(r.keys[i].Object(), r.x.Object()))
		objectOK(t, r.set.Get().Add(r.keys[i].Object()))
	}
	return r
}

// setBoundsOff lets no dead object be used again.
func (s *Space) setBoundsOff() {
	for _, f := range s.freeLists() {
		f.max = 0
	}
}

func (r *refusals) release() {
	r.list.Release()
	r.dict.Release()
	r.set.Release()
	r.node.Release()
	r.x.Release()
	for i := range r.keys {
		r.keys[i].Release()
	}
}

// state is all that an operation may not change when it fails.
func (r *refusals) state() string {
	var b strings.Builder
	for _, o := range []Object{r.list.Object(), r.dict.Object(), r.set.Object(), r.node.Object(), r.x.Object()} {
		fmt.Fprintln(&b, o, RefCount(o), Referents(o))
	}
	for i := range r.keys {
		fmt.Fprintln(&b, RefCount(r.keys[i].Object()))
	}
	st := r.s.Stats()
	fmt.Fprintln(&b, st.Objects, st.Interned)
	return b.String()
}

// When memory is refused, at whatever step, an operation is an error, changes nothing
// and keeps nothing.
func TestObjectRefusals(t *testing.T) {
	if !invariant.Enabled {
		t.Skip("memory is refused with the tag invariants")
	}
	made := func(r AnyRef, err error) error {
		r.Release()
		return err
	}
	some := func(n int) map[string]any {
		m := map[string]any{"list": []any{1000, []any{2.5, "x"}, map[int]string{1000: "v"}}}
		for i := range n {
			m[fmt.Sprint(i)] = []any{int64(i) << 40, []byte("b"), map[string]any{"k": nil}}
		}
		return m
	}
	text := string(objectMust(json.Marshal(some(7))))
	ops := map[string]func(r *refusals) error{
		"int":      func(r *refusals) error { return made(anyOf(r.s.Int(1000))) },
		"big":      func(r *refusals) error { return made(anyOf(r.s.BigInt(new(big.Int).Lsh(big.NewInt(-3), 300)))) },
		"float":    func(r *refusals) error { return made(anyOf(r.s.Float(1))) },
		"str":      func(r *refusals) error { return made(anyOf(r.s.String("x"))) },
		"bytes":    func(r *refusals) error { return made(anyOf(r.s.Bytes([]byte("x")))) },
		"tuple":    func(r *refusals) error { return made(anyOf(r.s.Tuple(r.x.Object(), r.list.Object()))) },
		"list":     func(r *refusals) error { return made(anyOf(r.s.List(r.x.Object(), r.list.Object()))) },
		"dict":     func(r *refusals) error { return made(anyOf(r.s.Dict())) },
		"set":      func(r *refusals) error { return made(anyOf(r.s.Set(r.x.Object(), r.keys[0].Object()))) },
		"instance": func(r *refusals) error { return made(anyOf(objectNodes.New(r.s))) },
		"intern":   func(r *refusals) error { return made(anyOf(r.s.Intern("interned"))) },
		"namespace": func(r *refusals) error {
			n, err := r.s.Namespace()
			if err == nil {
				err = n.Set("name", r.list.Object())
				n.Close()
			}
			return err
		},
		"append":         func(r *refusals) error { return r.list.Get().Append(r.x.Object()) },
		"append list":    func(r *refusals) error { return r.list.Get().Append(r.dict.Object()) },
		"insert":         func(r *refusals) error { return r.list.Get().Insert(0, r.x.Object()) },
		"list set":       func(r *refusals) error { return r.list.Get().Set(0, r.dict.Object()) },
		"dict set":       func(r *refusals) error { return r.dict.Get().Set(r.keys[5].Object(), r.list.Object()) },
		"dict replace":   func(r *refusals) error { return r.dict.Get().Set(r.keys[0].Object(), r.list.Object()) },
		"setstring":      func(r *refusals) error { return r.dict.Get().SetString("new", r.list.Object()) },
		"replace string": func(r *refusals) error { return r.dict.Get().SetString("key1", r.list.Object()) },
		"set add":        func(r *refusals) error { return r.set.Get().Add(r.x.Object()) },
		"from go":        func(r *refusals) error { return made(r.s.FromGo(some(7))) },
		"from handles":   func(r *refusals) error { return made(r.s.FromGo([]any{r.x, r.list.Get(), &r.dict})) },
		"json": func(r *refusals) error {
			return made(r.s.DecodeJSON(json.NewDecoder(strings.NewReader(text))))
		},
		"pop": func(r *refusals) error {
			for n := r.list.Get().Len(); n > 0; n-- {
				if err := made(r.list.Get().Pop(0)); err != nil {
					return err
				}
			}
			return nil
		},
		"delete": func(r *refusals) error { return r.list.Get().Delete(1, r.list.Get().Len()-1) },
		"clear":  func(r *refusals) error { return r.dict.Get().Clear() },
		"collect": func(r *refusals) error {
			_, err := r.s.Collect(2)
			return err
		},
	}
	never := map[string]bool{"pop": true, "delete": true, "clear": true, "collect": true, "list set": true, "dict replace": true, "replace string": true}
	for name, op := range ops {
		for kind, o := range map[string]SpaceOptions{"owned": {}, "shared": {Shared: true}, "debug": {Debug: true}} {
			failed := 0
			for n := 0; ; n++ {
				r := newRefusals(t, o)
				before, asked := r.state(), 0
				base := liveBlocks(t, r.s)
				r.s.refuse = func() bool {
					asked++
					return asked == n+1
				}
				err := op(r)
				r.s.refuse = nil
				if err == nil {
					r.release()
					objectMust(r.s.Collect(2))
					if left := liveBlocks(t, r.s); left != 0 {
						t.Errorf("%s, %s: %d blocks left", name, kind, left)
					}
					if asked > n { // and yet it went well
						continue
					}
					break
				}
				failed++
				if !errors.Is(err, errRefused) {
					t.Errorf("%s, %s: %v", name, kind, err)
				}
				if after := r.state(); after != before {
					t.Errorf("%s, %s, refusal %d: before\n%safter\n%s", name, kind, n, before, after)
				}
				if left := liveBlocks(t, r.s); left != base && name != "intern" && name != "json" {
					t.Errorf("%s, %s, refusal %d: %d blocks, before %d", name, kind, n, left, base)
				}
				r.release()
				objectMust(r.s.Collect(2))
				if left := liveBlocks(t, r.s); left != 0 {
					t.Errorf("%s, %s: %d blocks left", name, kind, left)
				}
			}
			if (failed == 0) != never[name] {
				t.Errorf("%s, %s: failed %d times", name, kind, failed)
			}
		}
	}
}

// A Space at its limit goes on working: what fails changes nothing, and what is
// released makes room.
func TestObjectLimit(t *testing.T) {
	for kind, o := range map[string]SpaceOptions{
		"owned": {}, "shared": {Shared: true}, "debug": {Debug: true},
		"slices": {Incremental: SliceLimit{Objects: minSlice}},
	} {
		t.Run(kind, func(t *testing.T) {
			const limit = 2 << 20
			o.Memory = pymalloc.Options{ArenaBytes: 256 << 10, LimitBytes: limit}
			s := objectSpace(t, o)
			r := rand.New(rand.NewPCG(11, 12))
			list, dict := objectMust(s.List()), objectMust(s.Dict())
			names, refused := map[string]int{}, 0
			n := 0
			for range 30_000 {
				name := fmt.Sprint("name", r.IntN(5000))
				value := make([]any, r.IntN(60))
				for i := range value {
					value[i] = r.Int64()
				}
				x, err := s.FromGo(value)
				if err == nil {
					if err = dict.Get().SetString(name, x.Object()); err == nil {
						names[name] = len(value)
					} else if _, had := names[name]; had {
						t.Fatal("the value of a key was not replaced:", err)
					}
					if err2 := list.Get().Append(x.Object()); err2 == nil {
						n++
					} else {
						err = err2
					}
					_ = (List{object: x.Object()}).Append(list.Object()) // a cycle
					x.Release()
				}
				if err != nil {
					if refused++; !errors.Is(err, pymalloc.ErrLimit) {
						t.Fatal(err)
					}
					// Make room.
					for k := range names {
						objectOK(t, dict.Get().DeleteString(k))
						if delete(names, k); len(names)%3 == 0 {
							break
						}
					}
					objectOK(t, list.Get().Delete(n/2, n))
					n /= 2
				}
				if dict.Get().Len() != len(names) || list.Get().Len() != n {
					t.Fatal(dict.Get().Len(), len(names), list.Get().Len(), n)
				}
			}
			if refused < 10 {
				t.Error("refused", refused, "times")
			}
			t.Log("refused", refused, "times;", s.Stats().Generations)
			for name, want := range names {
				x := objectMust(dict.Get().GetString(name))
				if has := objectMust(As[List](x.Object())).Len(); has != want && has != want+1 {
					t.Errorf("a list has %d items, want %d", has, want)
				}
				x.Release()
			}
			list.Release()
			dict.Release()
			collectAll(t, s)
			collectAll(t, s)
			noneLeft(t, s)
		})
	}
}

// A list with room for more refuses what one without does.
func TestObjectAppendWithRoom(t *testing.T) {
	var told []error
	s := objectSpace(t, SpaceOptions{Debug: true, Report: func(err error) { told = append(told, err) }})
	other := objectSpace(t, SpaceOptions{})
	l, foreign := objectMust(s.List()), objectMust(other.Int(1000))
	for _, v := range []Object{None(), BoolOf(true).Object(), None()} {
		if err := l.Get().Append(v); err != nil {
			t.Fatal(err)
		}
	}
	if o := listOf(at(l.addr)); o.n == o.cap {
		t.Fatalf("the list is full, at %d", o.n)
	}
	if err := l.Get().Append(foreign.Object()); !errors.Is(err, ErrSpace) {
		t.Errorf("of another Space: %v, want ErrSpace", err)
	}
	if err := l.Get().Append(Object{}); !errors.Is(err, ErrNoObject) {
		t.Errorf("none: %v, want ErrNoObject", err)
	}
	if n := l.Get().Len(); n != 3 || RefCount(foreign.Object()) != 1 {
		t.Errorf("%d items, %d references to the foreign one, want 3 and 1", n, RefCount(foreign.Object()))
	}
	full := objectMust(s.Int(1000))
	at(full.addr).refs = maxRefs + 1
	if err := l.Get().Append(full.Object()); err != nil || at(full.addr).refs != immortal {
		t.Errorf("of %d references: %v, then it has %d, want it immortal", maxRefs+1, err, at(full.addr).refs)
	}
	if _, err := l.Get().Pop(-1); err != nil {
		t.Fatal(err)
	}
	at(full.addr).refs = 1
	dead := full.Object()
	full.Release()
	_ = l.Get().Append(dead)
	if len(told) != 1 || !errors.As(told[0], new(*CountError)) {
		t.Errorf("a dead one: told %v, want a CountError", told)
	}
	_ = l.Get().Delete(3, l.Get().Len())
	foreign.Release()
	l.Release()
}
