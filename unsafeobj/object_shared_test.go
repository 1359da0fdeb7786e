package unsafeobj

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is what the goroutines of TestObjectShared share.
type crowd struct {
	t     testing.TB
	s     *Space
	other *Space // shared too
	class *Class[objectNode]
	// Of these, which no one lets go of, everything else is found.
	dict  Ref[Dict]
	list  Ref[List]
	set   Ref[Set]
	node  Ref[Instance[objectNode]]
	space *Namespace
	far   Ref[List] // in other
}

// one is one of the goroutines, with references of its own.
type one struct {
	*crowd
	r    *rand.Rand
	own  []AnyRef
	weak []Weak[Object]
}

// Many goroutines do everything there is with a Space at once, its containers and its
// collector, in each kind of shared Space; finalisers and callbacks too.
func TestObjectShared(t *testing.T) {
	for name, o := range map[string]SpaceOptions{
		"plain":  {Shared: true},
		"debug":  {Shared: true, Debug: true},
		"slices": {Shared: true, Incremental: SliceLimit{Objects: minSlice}},
		"tiny":   {Shared: true, Incremental: SliceLimit{Objects: minSlice}, Debug: true},
		"time":   {Shared: true, Incremental: SliceLimit{Time: time.Microsecond}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Report = func(err error) {
				if !errors.As(err, new(*CallbackError)) {
					t.Error(err)
				}
			}
			s := objectSpace(t, o)
			if name == "tiny" {
				s.gc.slice.Objects = 20
			}
			s.SetThreshold(50, 2, 2)
			testShared(t, s)
		})
	}
}

func testShared(t *testing.T, s *Space) {
	c := &crowd{
		t: t, s: s, other: objectSpace(t, SpaceOptions{Shared: true}),
		dict: objectMust(s.Dict()), list: objectMust(s.List()), set: objectMust(s.Set()), space: objectMust(s.Namespace()),
	}
	c.class = objectClass(t, c.finalize)
	c.node = objectMust(c.class.New(s))
	c.far = objectMust(c.other.List())
	for i := range 300 { // larger than what a slice looks at in one go
		x := objectMust(s.List())
		objectOK(t, x.Get().Append(x.Object()))
		objectOK(t, c.list.Get().Append(x.Object()))
		objectOK(t, c.dict.Get().SetString(fmt.Sprint("k", i), x.Object()))
		x.Release()
	}
	steps := 4000
	if testing.Short() {
		steps = 1000
	}
	var wg sync.WaitGroup
	for g := range 2 * max(2, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			o := &one{crowd: c, r: rand.New(rand.NewPCG(8, uint64(g)))}
			for range steps {
				o.step()
			}
			for i := range o.own {
				o.own[i].Release()
			}
		})
	}
	wg.Wait()
	s.lock()
	err := s.check()
	s.unlock()
	objectOK(t, err)
	t.Log(s.Stats().Generations, s.Stats().Incremental)
	objectOK(t, c.list.Get().Delete(0, c.list.Get().Len()))
	objectOK(t, c.set.Get().Clear())
	objectOK(t, c.node.Get().Payload().Left.Set(c.node.Object(), Object{}))
	c.space.Close()
	c.node.Release()
	for range 1000 { // finalisers save some, once, and what these refer to
		objectOK(t, c.dict.Get().Clear())
		objectMust(s.Collect(2))
		if s.Stats().Objects["Node"] == 0 {
			break
		}
	}
	c.dict.Release()
	c.list.Release()
	c.set.Release()
	c.far.Release()
	for range 3 { // weak references to these made instances when they went
		objectMust(s.Collect(2))
	}
	noneLeft(t, s)
}

// finalize does what a finaliser may do.
func (c *crowd) finalize(n Instance[objectNode]) {
	p := n.Payload()
	x := objectMust(p.Left.Get(n.Object()))
	defer x.Release()
	switch p.ID % 8 { // of -1 it is none of these
	case 0: // lives on
		objectOK(c.t, c.dict.Get().SetString("saved", n.Object()))
	case 1:
		objectOK(c.t, p.Left.Set(n.Object(), Object{}))
	case 2:
		objectOK(c.t, p.Left.Set(n.Object(), n.Object()))
	case 3:
		l := objectMust(c.s.List(n.Object()))
		objectOK(c.t, l.Get().Append(l.Object()))
		l.Release()
	case 4:
		panic("finaliser")
	case 5:
		objectMust(NewWeak(n, nil))
		objectMust(c.s.Collect(1))
	}
}

// any returns one of the objects that are found, borrowed from the goroutine's own.
func (o *one) any() Object {
	if len(o.own) == 0 || o.r.IntN(4) == 0 {
		o.keep(o.find())
	}
	if len(o.own) == 0 {
		return None()
	}
	return o.own[o.r.IntN(len(o.own))].Object()
}

// keep makes a reference one of the goroutine's own, if there is one.
func (o *one) keep(x AnyRef, err error) {
	if err != nil {
		return
	}
	o.own = append(o.own, x)
	if len(o.own) > 30 {
		i := o.r.IntN(len(o.own))
		o.own[i].Release()
		o.own[i] = o.own[len(o.own)-1]
		o.own = o.own[:len(o.own)-1]
	}
}

// find takes something out of what is shared.
func (o *one) find() (AnyRef, error) {
	switch o.r.IntN(6) {
	case 0:
		return o.list.Get().Get(o.r.IntN(300))
	case 1:
		return o.dict.Get().GetString(o.key())
	case 2:
		x, err := o.node.Get().Payload().Left.Get(o.node.Object())
		if x.IsZero() {
			return x, ErrNotFound
		}
		return x, err
	case 3:
		return o.space.Get(o.key())
	case 4:
		return o.make(), nil
	}
	for x := range o.set.Get().All() {
		if o.r.IntN(3) == 0 {
			return Own(x), nil
		}
	}
	return AnyRef{}, ErrNotFound
}

func (o *one) key() string { return fmt.Sprint("k", o.r.IntN(300)) }

// make makes an object of any kind.
func (o *one) make() AnyRef {
	s, r := o.s, o.r
	switch r.IntN(12) {
	case 0:
		return objectMust(s.Int(r.Int64())).Any()
	case 1:
		return objectMust(s.Float(r.Float64())).Any()
	case 2:
		return objectMust(s.String(o.key())).Any()
	case 3:
		return objectMust(s.Intern(o.key())).Any()
	case 4:
		return objectMust(s.Bytes([]byte(o.key()))).Any()
	case 5:
		return objectMust(s.Tuple(o.held(), None())).Any()
	case 6:
		return objectMust(s.Dict()).Any()
	case 7:
		return objectMust(s.Set(None())).Any()
	case 8:
		return objectMust(s.FromGo(map[string]any{o.key(): []any{1, 2.5, r.Uint64()}}))
	case 9:
		return objectMust(s.List(o.held(), o.held())).Any()
	}
	n := ring(o.t, s, o.class, 1+r.IntN(5))
	n.Get().Payload().ID = r.Int64N(1000)
	if r.IntN(2) == 0 {
		objectOK(o.t, n.Get().Payload().Right.Set(n.Object(), o.list.Get()))
	}
	return n.Any()
}

// held returns one of the goroutine's own, or None.
func (o *one) held() Object {
	if len(o.own) == 0 {
		return None()
	}
	return o.own[o.r.IntN(len(o.own))].Object()
}

// expect lets an operation fail, because others were faster, in these ways only.
func (o *one) expect(err error, allowed ...error) {
	if err == nil || errors.As(err, new(*TypeError)) {
		return
	}
	for _, a := range allowed {
		if errors.Is(err, a) {
			return
		}
	}
	o.t.Error(err)
}

func (o *one) step() {
	s, r := o.s, o.r
	own := Own(o.any())
	defer own.Release()
	x := own.Get()
	switch r.IntN(30) {
	case 0:
		o.expect(o.dict.Get().SetString(o.key(), x))
	case 1:
		o.expect(o.dict.Get().Set(x, o.held()), ErrDepth)
	case 2:
		o.expect(o.dict.Get().DeleteString(o.key()), ErrNotFound)
	case 3:
		o.expect(o.dict.Get().Delete(x), ErrNotFound, ErrDepth)
		if r.IntN(100) == 0 {
			o.expect(o.dict.Get().Clear())
		}
	case 4:
		_, err := o.dict.Get().Contains(x)
		o.expect(err, ErrDepth)
		y, err := o.dict.Get().Get(x)
		y.Release()
		o.expect(err, ErrNotFound, ErrDepth)
	case 5, 6:
		if o.list.Get().Len() < 400 {
			o.expect(o.list.Get().Append(x))
			o.expect(o.list.Get().Insert(r.IntN(300), x))
		}
	case 7:
		o.expect(o.list.Get().Set(r.IntN(300), x), ErrIndex)
	case 8, 9:
		y, err := o.list.Get().Pop(r.IntN(320) - 1)
		o.expect(err, ErrIndex)
		o.keep(y, err)
	case 10:
		i := r.IntN(300)
		o.expect(o.list.Get().Delete(i, i+r.IntN(4)), ErrIndex)
		if r.IntN(100) == 0 {
			o.expect(o.list.Get().Delete(0, 200), ErrIndex)
		}
	case 11:
		for range 20 {
			y := o.make()
			o.expect(o.list.Get().Insert(0, y.Object()))
			y.Release()
		}
	case 12:
		o.expect(o.set.Get().Add(x), ErrDepth)
		o.expect(o.set.Get().Delete(o.held()), ErrNotFound, ErrDepth)
		if o.set.Get().Len() > 200 {
			o.expect(o.set.Get().Clear())
		}
	case 13:
		o.expect(o.node.Get().Payload().Left.Set(o.node.Object(), x))
	case 14:
		o.expect(o.space.Set(o.key(), x))
		o.expect(o.space.Del(o.key(), o.key()), ErrNotFound)
		_, _ = o.space.Dir(), o.space.Len()
	case 15:
		w, err := NewWeak(x, func() {
			y := o.crowd.make1()
			y.Release()
		})
		if o.expect(err); err == nil {
			o.weak = append(o.weak, w)
		}
	case 16, 17:
		if len(o.weak) > 0 {
			i := r.IntN(len(o.weak))
			if y, ok := o.weak[i].Get(); ok {
				o.keep(y, nil)
			}
			if r.IntN(3) == 0 {
				o.weak[i].Drop()
				o.weak = append(o.weak[:i], o.weak[i+1:]...)
			}
		}
	case 18:
		for _, y := range s.Referrers(x) {
			o.keep(y, nil)
		}
	case 19:
		n := 0
		for range o.list.Get().All() {
			if n++; n > 20 {
				break
			}
		}
		for k, v := range o.dict.Get().All() {
			if _, _ = Hash(k); RefCount(v) < 0 {
				o.t.Error("a negative count")
			}
			if n++; n > 40 {
				break
			}
		}
	case 20:
		if l, err := As[List](x); err == nil {
			_, err := l.Contains(o.far.Object())
			o.expect(err, ErrDepth)
			if l.Len() < 10 {
				o.expect(l.Append(o.held()))
			}
		}
		_, err := Equal(o.far.Object(), x)
		o.expect(err, ErrDepth)
	case 21:
		o.expect(o.far.Get().Append(None()))
		if o.far.Get().Len() > 50 {
			o.expect(o.far.Get().Delete(0, 40), ErrIndex)
		}
		o.expect(o.far.Get().Append(x), ErrSpace)
	case 22:
		// Of x this would take too long: there is no end to how often one is in another.
		if text := Repr(o.far.Object()); text == "" {
			o.t.Error("no text")
		}
		y := objectMust(s.FromGo([]any{o.key(), map[string]any{"k": 1 << 20}}))
		z := objectMust(ToGo(y.Object()))
		w := objectMust(s.FromGo(z))
		if same := objectMust(Equal(y.Object(), w.Object())); !same || Repr(y.Object()) != Repr(w.Object()) {
			o.t.Error(y.Object(), "is not", w.Object())
		}
		y.Release()
		w.Release()
		// The allocator looks at a block's first word without being told that others
		// count there.
		if !raceEnabled {
			_ = SizeOf(x)
			if r.IntN(10) == 0 {
				_ = DeepSizeOf(x)
			}
		}
	case 23:
		if x.IsNone() || TypeOf(x).Name() == "int" {
			v := objectMust(ToGo(x))
			y := objectMust(s.FromGo(v))
			if same := objectMust(Equal(x, y.Object())); !same {
				o.t.Error(x, "is not", y.Object())
			}
			y.Release()
		}
	case 24:
		y := objectMust(s.DecodeJSON(json.NewDecoder(strings.NewReader(`{"k1": [1000, {"k2": "v"}], "k3": 1.5}`))))
		var b bytes.Buffer
		objectOK(o.t, EncodeJSON(&b, y.Object()))
		o.keep(y, nil)
	case 25:
		if r.IntN(20) == 0 {
			objectMust(s.Collect(r.IntN(3)))
		}
	case 26:
		objectMust(s.CollectSlice())
	case 27:
		switch r.IntN(20) {
		case 0:
			s.Freeze()
			s.Unfreeze()
		case 1:
			s.Disable()
			s.Enable()
		case 2:
			_ = s.Stats()
		case 3:
			objectOK(o.t, s.Trim())
		case 4:
			s.SetThreshold(20+r.IntN(100), 2, 2)
		}
	case 28:
		if y, err := o.class.As(x); err == nil {
			o.expect(y.Payload().Left.Set(x, o.held()))
			l, err := y.Payload().Right.Get(x)
			o.expect(err)
			l.Release()
		}
	case 29:
		if tuple, err := As[Tuple](x); err == nil {
			for _, y := range tuple.All() {
				o.keep(Own(y), nil)
			}
		}
		if d, err := As[Dict](x); err == nil && d.Len() < 20 {
			o.expect(d.Set(o.held(), o.held()), ErrDepth)
		}
	}
}

// make1 makes an instance that refers to itself.
func (c *crowd) make1() AnyRef {
	n := objectMust(c.class.New(c.s))
	n.Get().Payload().ID = -1
	objectOK(c.t, n.Get().Payload().Left.Set(n.Object(), n.Object()))
	return n.Any()
}
