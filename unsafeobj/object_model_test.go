package unsafeobj

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// Lists do what slices do.
func TestObjectListModel(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	r := rand.New(rand.NewPCG(3, 4))
	l := objectMust(s.List())
	model := []any{}
	for step := range 60_000 {
		v, n := r.Int64N(2000), len(model)
		x := objectMust(s.Int(v))
		grows := step/5000%2 == 0
		switch op := r.IntN(10); {
		case op < 2 || op < 4 && grows:
			objectOK(t, l.Get().Append(x.Object()))
			model = append(model, v)
		case op == 4:
			i := r.IntN(n + 1)
			objectOK(t, l.Get().Insert(i, x.Object()))
			model = slices.Insert(model, i, any(v))
		case op == 5 && n > 0:
			i := r.IntN(n)
			objectOK(t, l.Get().Set(i, x.Object()))
			model[i] = v
		case op == 6 && n > 0:
			i := r.IntN(n)
			got := objectMust(l.Get().Pop(i))
			if v, _ := (Int{object: got.Object()}).Int64(); v != model[i] {
				t.Fatalf("popped %v, want %v", got.Object(), model[i])
			}
			got.Release()
			model = slices.Delete(model, i, i+1)
		case op == 7 && n > 0 && r.IntN(20) == 0:
			i := r.IntN(n)
			j := i + r.IntN(n-i+1)
			objectOK(t, l.Get().Delete(i, j))
			model = slices.Delete(model, i, j)
		case op == 8:
			if has := objectMust(l.Get().Contains(x.Object())); has != slices.Contains(model, any(v)) {
				t.Fatalf("contains %d: %v", v, has)
			}
		case n > 0:
			i := r.IntN(n)
			got := objectMust(l.Get().Get(i))
			if v, _ := (Int{object: got.Object()}).Int64(); v != model[i] {
				t.Fatalf("item %d is %v, want %v", i, got.Object(), model[i])
			}
			got.Release()
		}
		x.Release()
		if l.Get().Len() != len(model) {
			t.Fatalf("%d items, want %d", l.Get().Len(), len(model))
		}
	}
	if got := objectMust(ToGo(l.Object())); !reflect.DeepEqual(got, any(model)) {
		t.Error("the items differ")
	}
	for _, i := range []int{-2, l.Get().Len()} {
		if _, err := l.Get().Get(i); err != ErrIndex {
			t.Error(i, err)
		}
	}
	l.Release()
	noneLeft(t, s)
}

// Dicts do what maps do, and keep the order of insertion; so do sets.
func TestObjectDictModel(t *testing.T) {
	for _, keys := range []int{4, 100, 3000, 90_000} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) { testObjectDict(t, keys) })
	}
}

func testObjectDict(t *testing.T, keys int) {
	s := objectSpace(t, SpaceOptions{})
	r := rand.New(rand.NewPCG(5, uint64(keys)))
	d, set := objectMust(s.Dict()), objectMust(s.Set())
	model := map[string]int64{}
	var order []string
	for step := range 6*keys + 20_000 {
		v, name := r.Int64(), fmt.Sprint("k", r.IntN(keys))
		k := objectMust(s.String(name))
		_, has := model[name]
		switch op := r.IntN(8); {
		case op < 3:
			x := objectMust(s.Int(v))
			if op == 0 {
				objectOK(t, d.Get().SetString(name, x.Object()))
			} else {
				objectOK(t, d.Get().Set(k.Object(), x.Object()))
			}
			x.Release()
			objectOK(t, set.Get().Add(k.Object()))
			if model[name] = v; !has {
				order = append(order, name)
			}
		case op < 5 && (keys < 1000 || step%64 == 0):
			err := d.Get().Delete(k.Object())
			if (err == nil) != has || err != nil && err != ErrNotFound || set.Get().Delete(k.Object()) != err {
				t.Fatal(name, err)
			}
			if delete(model, name); has {
				i := slices.Index(order, name)
				order = slices.Delete(order, i, i+1)
			}
		default:
			x, err := d.Get().Get(k.Object())
			y, err2 := d.Get().GetString(name)
			if (err == nil) != has || err != err2 || x != y || objectMust(set.Get().Contains(k.Object())) != has {
				t.Fatal(name, err, err2)
			}
			if has {
				if got, _ := (Int{object: x.Object()}).Int64(); got != model[name] {
					t.Fatal(name, got, model[name])
				}
				x.Release()
				y.Release()
			}
		}
		k.Release()
		if d.Get().Len() != len(model) || set.Get().Len() != len(model) {
			t.Fatal(d.Get().Len(), set.Get().Len(), len(model))
		}
	}
	var got []string
	for k := range d.Get().All() {
		got = append(got, String{object: k}.Value())
	}
	if !slices.Equal(got, order) {
		t.Error("the order differs")
	}
	d.Release()
	set.Release()
	noneLeft(t, s)
}

// What CPython 3.11 prints for print(repr(x), hash(x)).
func TestObjectsLikePython(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	for _, c := range []struct {
		v    any
		repr string
		hash int64 // 0 for one that is another in each process
	}{
		{1, "1", 1},
		{-1, "-1", -2},
		{true, "True", 1},
		{int64(1) << 61, "2305843009213693952", 1},
		{int64(-1) << 62, "-4611686018427387904", -2},
		{uint64(1) << 63, "9223372036854775808", 4},
		{1.0, "1.0", 1},
		{0.5, "0.5", 1152921504606846976},
		{-0.1, "-0.1", -230584300921369408},
		{1e16, "1e+16", 10000000000000000},
		{1e-5, "1e-05", 2170758078822671208},
		{123456789.125, "123456789.125", 288230376275168533},
		{1e300, "1e+300", 1224995262755759164},
		{"it's", `"it's"`, 0},
		{"a\n\"'\x00é\u202e", `'a\n"\'\x00é\u202e'`, 0},
		{[]byte("a\xff'"), `b"a\xff'"`, 0},
		{[]any{nil, []any{}}, "[None, []]", 0},
		{map[string]int{"a": 1}, "{'a': 1}", 0},
	} {
		x := objectMust(s.FromGo(c.v))
		if got := Repr(x.Object()); got != c.repr {
			t.Errorf("repr %s, want %s", got, c.repr)
		}
		if c.hash != 0 {
			if got := int64(objectMust(Hash(x.Object()))); got != c.hash {
				t.Errorf("hash of %s is %d, want %d", c.repr, got, c.hash)
			}
		}
		x.Release()
	}
	one, half := objectMust(s.Int(1)), objectMust(s.Float(0.5))
	pair := objectMust(s.Tuple(one.Object(), half.Object()))
	if got := int64(objectMust(Hash(pair.Object()))); got != 3180726016069507864 {
		t.Error("hash of (1, 0.5) is", got)
	}
	single, empty := objectMust(s.Tuple(one.Object())), objectMust(s.Tuple())
	set, none := objectMust(s.Set(one.Object(), half.Object())), objectMust(s.Set())
	for want, o := range map[string]Object{"(1, 0.5)": pair.Object(), "(1,)": single.Object(), "()": empty.Object(), "{1, 0.5}": set.Object(), "set()": none.Object()} {
		if got := Repr(o); got != want {
			t.Errorf("repr %s, want %s", got, want)
		}
	}
	for _, r := range []AnyRef{half.Any(), pair.Any(), single.Any(), set.Any(), none.Any()} {
		r.Release()
	}
}

func TestObjectEqual(t *testing.T) {
	s, other := objectSpace(t, SpaceOptions{}), objectSpace(t, SpaceOptions{Shared: true})
	values := []any{
		nil, 0, 1, 2, -1, uint64(1) << 63, 2.5, "x", "", []byte("x"),
		[]any{1, "x"},
		[]any{1.0, "x"},
		[]any{1},
		map[string]any{"a": 1, "b": []any{}},
		map[string]any{"b": []any{}, "a": true},
	}
	same := map[[2]int]bool{{10, 11}: true, {11, 10}: true, {13, 14}: true, {14, 13}: true}
	for i, v := range values {
		for j, w := range values {
			x, y := objectMust(s.FromGo(v)), objectMust(other.FromGo(w))
			if got := objectMust(Equal(x.Object(), y.Object())); got != (i == j || same[[2]int{i, j}]) {
				t.Errorf("%v == %v: %v", v, w, got)
			}
			x.Release()
			y.Release()
		}
	}
	// Objects that contain each other.
	l := objectMust(s.List())
	m := objectMust(s.List(l.Object()))
	objectOK(t, l.Get().Append(m.Object()))
	if _, err := Equal(l.Object(), m.Object()); err != ErrDepth {
		t.Error(err)
	}
	l.Release()
	m.Release()
	objectMust(s.Collect(2))
}

// Bad input is an error, and changes nothing.
func TestObjectMisuse(t *testing.T) {
	s, other := objectSpace(t, SpaceOptions{}), objectSpace(t, SpaceOptions{})
	l, d, foreign := objectMust(s.List()), objectMust(s.Dict()), objectMust(other.Int(1000))
	defer foreign.Release()
	var zero Object
	for i, err := range []error{
		l.Get().Append(zero), (List{}).Append(None()), l.Get().Insert(0, zero), l.Get().Set(0, zero),
		d.Get().Set(zero, None()), d.Get().SetString("x", zero), (Dict{}).SetString("x", None()),
		(Dict{}).DeleteString("x"), (Set{}).Add(None()), (Set{}).Clear(), (Dict{}).Delete(None()),
	} {
		if err != ErrNoObject {
			t.Error(i, err)
		}
	}
	for i, err := range []error{
		l.Get().Append(foreign.Object()), l.Get().Insert(0, foreign.Object()),
		d.Get().SetString("x", foreign.Object()), d.Get().Set(foreign.Object(), None()),
	} {
		if err != ErrSpace {
			t.Error(i, err)
		}
	}
	if err := d.Get().Set(l.Object(), None()); !errors.As(err, new(*TypeError)) {
		t.Error(err)
	}
	if _, err := As[Dict](l.Object()); err == nil || err.Error() != "unsafeobj: object is of type list, want dict" {
		t.Error(err)
	}
	if _, err := Take[Int](l.Any()); err == nil {
		t.Error("a list was taken for an int")
	}
	if err := l.Get().Delete(0, 1); err != ErrIndex {
		t.Error(err)
	}
	for _, v := range []any{struct{}{}, make(chan int), func() {}, map[string]any{"x": struct{}{}}, []any{[]any{1i}}} {
		if _, err := s.FromGo(v); err == nil {
			t.Errorf("an object of a %T", v)
		}
	}
	copied := l
	l.Release()
	l.Release()
	if !l.IsZero() || l.Get().Len() != 0 {
		t.Error("a released Ref refers to something")
	}
	copied.Release() // once too often
	d.Release()
	if len(s.failures) != 1 || s.failures[0].Error() != "unsafeobj: a list that is dead already is released: it was released once too often" {
		t.Error(s.failures)
	}
	s.failures = nil
	noneLeft(t, s)
}

// A payload must not hold what the collector would not see.
func TestObjectClassRefuses(t *testing.T) {
	type inner struct{ Name string }
	_, err := NewClass(ClassSpec[struct{ A [2]inner }]{})
	_, err2 := NewClass(ClassSpec[struct{ R Ref[List] }]{})
	_, err3 := NewClass(ClassSpec[struct{ P *int }]{})
	for i, err := range []error{err, err2, err3} {
		if err == nil {
			t.Error(i, "was taken")
		}
		t.Log(err)
	}
	s := objectSpace(t, SpaceOptions{})
	n, m := objectMust(objectNodes.New(s)), objectMust(objectNodes.New(s))
	if err := n.Get().Payload().Left.Set(m.Object(), None()); err != ErrField {
		t.Error(err)
	}
	n.Release()
	m.Release()
}

// A Debug space notices references that are used once too often later too.
func TestObjectDebug(t *testing.T) {
	for _, shared := range []bool{false, true} {
		var told []error
		s := objectSpace(t, SpaceOptions{Debug: true, Shared: shared, Report: func(err error) { told = append(told, err) }})
		x := objectMust(s.Float(2))
		again := x
		x.Release()
		for range 100 {
			y := objectMust(s.Float(3))
			y.Release()
		}
		late := again.Clone()
		again.Release()
		late.Release()
		if len(told) != 3 {
			t.Error(told)
		}
		for _, err := range told {
			var c *CountError
			if !errors.As(err, &c) || c.Type != "float" {
				t.Error(err)
			}
		}
	}
}

func TestObjectClose(t *testing.T) {
	s := objectMust(NewSpace(SpaceOptions{}))
	freed := 0
	class := objectMust(NewClass(ClassSpec[int64]{Name: "Thing", Dealloc: func(*int64) { freed++ }}))
	objectMust(s.List())
	objectMust(s.Int(1000))
	objectMust(s.Int(1001))
	objectMust(class.New(s))
	w := objectMust(NewWeak(objectMust(s.Dict()).Get(), nil))
	if err := s.Close(); err == nil || err.Error() != "unsafeobj: left at Close: 1 Thing, 1 dict, 2 int, 1 list" {
		t.Error(err)
	}
	if freed != 1 {
		t.Error("Dealloc was called", freed, "times")
	}
	if _, alive := w.Get(); alive {
		t.Error("a weak reference outlives the Space")
	}
	_, err := s.Int(1000)
	_, err2 := s.List()
	for i, err := range []error{s.Close(), err, err2} {
		if err != ErrClosed {
			t.Error(i, err)
		}
	}
}

func TestObjectIntern(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	a, b, c := objectMust(s.Intern("spam")), objectMust(s.Intern("spam")), objectMust(s.String("spam"))
	if a != b || a == c {
		t.Error("interned strings are not one object")
	}
	c.Release()
	a.Release()
	if n := s.Stats().Interned; n != 1 {
		t.Error(n, "interned")
	}
	b.Release()
	for i := range 10_000 {
		r := objectMust(s.Intern(fmt.Sprint(i)))
		r.Release()
	}
	if n := s.Stats().Interned; n != 0 {
		t.Error(n, "interned")
	}
	noneLeft(t, s)
}

func TestObjectInspect(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	x := objectMust(s.Int(1000))
	l := objectMust(s.List(x.Object(), x.Object()))
	d := objectMust(s.Dict())
	objectOK(t, d.Get().SetString("l", l.Object()))
	if n := RefCount(x.Object()); n != 3 {
		t.Error(n, "references")
	}
	if got := fmt.Sprint(Referents(l.Object())); got != "[1000 1000]" {
		t.Error(got)
	}
	refs := s.Referrers(l.Object())
	if len(refs) != 1 || refs[0].Object() != d.Object() {
		t.Error(refs)
	}
	refs[0].Release()
	if n, want := DeepSizeOf(d.Object()), SizeOf(d.Object())+SizeOf(l.Object())+SizeOf(x.Object()); n <= want {
		t.Error("deep:", n, "which is without the key, want more than", want)
	}
	if TypeOf(l.Object()).Name() != "list" || TypeOf(Object{}) != nil {
		t.Error("TypeOf")
	}
	for _, r := range []AnyRef{x.Any(), l.Any(), d.Any()} {
		r.Release()
	}
}
