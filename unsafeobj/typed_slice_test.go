package unsafeobj_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

func testMakeSlice[T comparable](t *testing.T, m unsafeobj.Memory, length, capacity int) {
	t.Helper()
	s := typedMust(unsafeobj.MakeSlice[T](m, length, capacity))(t)
	var zero T
	if s == nil || len(s) != length || cap(s) != capacity {
		t.Errorf("MakeSlice[%T](%d, %d): length %d, capacity %d", zero, length, capacity, len(s), cap(s))
	}
	for _, v := range s[:capacity] {
		if v != zero {
			t.Fatalf("MakeSlice[%T](%d, %d): not zero", zero, length, capacity)
		}
	}
	typedOK(t, unsafeobj.FreeSlice(m, s[:0]))
}

func TestTypedMakeSlice(t *testing.T) {
	onTypedMemories(t, func(t *testing.T, m unsafeobj.Memory) {
		typedDirty(t, m)
		for _, n := range []int{0, 1, 2, 15, 16, 17, 511, 512, 513, 4096, 32768, 32769, 1 << 19, 1<<19 + 1} {
			testMakeSlice[byte](t, m, n, n)
			testMakeSlice[byte](t, m, 0, n)
			testMakeSlice[typedPoint](t, m, n/2, n)
			testMakeSlice[typedEmpty](t, m, n, n)
		}
	})
}

// Lengths that are not in order, or too large, are errors before any memory is
// asked for.
func TestTypedSliceLengths(t *testing.T) {
	m := newTypedMemory(t)
	const most = math.MaxInt
	for _, c := range []struct {
		length, capacity int
		ok               bool
	}{
		{-1, 0, false},
		{0, -1, false},
		{-1, -1, false},
		{1, 0, false},
		{3, 2, false},
		{most, most, false},
		{0, most, false},
		{0, most/16 + 1, false},
		{math.MinInt, math.MinInt, false},
		{math.MinInt, 0, false},
		{0, 0, true},
		{1, 1, true},
	} {
		for name, makeSlice := range map[string]func(unsafeobj.Memory, int, int) ([][16]byte, error){
			"MakeSlice":              unsafeobj.MakeSlice[[16]byte],
			"MakeSliceUninitialized": unsafeobj.MakeSliceUninitialized[[16]byte],
		} {
			s, err := makeSlice(m, c.length, c.capacity)
			if c.ok {
				typedOK(t, err)
				typedOK(t, unsafeobj.FreeSlice(m, s))
				continue
			}
			if bad, ok := errors.AsType[*unsafeobj.MisuseError](err); !ok || bad.Call != name || !errors.Is(err, unsafeobj.ErrLength) || s != nil {
				t.Errorf("%s(%d, %d): %v", name, c.length, c.capacity, err)
			}
		}
	}
	if _, err := unsafeobj.MakeSlice[byte](m, most, most); !errors.Is(err, pymalloc.ErrNoMemory) {
		t.Errorf("as many bytes as an int can count: %v", err)
	}

	// Elements without a size may be as many as an int can count, and no more.
	s := typedMust(unsafeobj.MakeSlice[typedEmpty](m, most-1, most))(t)
	s = typedMust(unsafeobj.Append(m, s, typedEmpty{}))(t)
	if len(s) != most {
		t.Error("length", len(s))
	}
	if _, err := unsafeobj.Append(m, s, typedEmpty{}); !errors.Is(err, unsafeobj.ErrLength) {
		t.Error(err)
	}
	typedOK(t, unsafeobj.FreeSlice(m, s))

	g := typedMust(unsafeobj.MakeSlice[int](m, 1, 2))(t)
	for _, n := range []int{-1, math.MinInt, most, most / 4} {
		if same, err := unsafeobj.Grow(m, g, n); !errors.Is(err, unsafeobj.ErrLength) || &same[0] != &g[0] {
			t.Errorf("Grow(%d): %v", n, err)
		}
	}
	typedOK(t, unsafeobj.FreeSlice(m, g))
}

// movingMemory moves a block whenever it is resized, and leaves nothing in it that
// could be mistaken for what was there.
type movingMemory struct{ *pymalloc.Allocator }

func (m movingMemory) UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	old := unsafe.Slice((*byte)(p), pymalloc.UnsafeUsableSize(p))
	q, err := m.UnsafeMalloc(size)
	if err != nil {
		return nil, err
	}
	fresh := unsafe.Slice((*byte)(q), size)
	n := copy(fresh, old)
	for i := range fresh[n:] {
		fresh[n+i] = 0xCD
	}
	for i := range old {
		old[i] = 0xDD
	}
	return q, m.UnsafeFree(p)
}

// Random operations do to a slice what they do to one of Go's.
func TestTypedSliceModel(t *testing.T) {
	test := func(t *testing.T, m unsafeobj.Memory) {
		typedDirty(t, m)
		testSliceModel(t, m, func(r *rand.Rand) byte { return byte(r.Uint32() | 1) })
		testSliceModel(t, m, func(r *rand.Rand) [3]uint64 { return [3]uint64{r.Uint64(), 1, r.Uint64()} })
		testSliceModel(t, m, func(*rand.Rand) typedEmpty { return typedEmpty{} })
	}
	onTypedMemories(t, test)
	t.Run("moving", func(t *testing.T) { test(t, movingMemory{newTypedMemory(t)}) })
}

func testSliceModel[T comparable](t *testing.T, m unsafeobj.Memory, random func(*rand.Rand) T) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var model, s []T
	var stored unsafeobj.Slice[T]
	for step := range 3000 {
		was := cap(s)
		vs := make([]T, r.IntN(8))
		for i := range vs {
			vs[i] = random(r)
		}
		switch op := r.IntN(20); {
		case op < 8:
			model = append(model, vs...)
			s = typedMust(unsafeobj.Append(m, s, vs...))(t)
			typedOK(t, stored.Append(m, vs...))
		case op < 11 && len(model) < 1000: // a part of itself
			i := r.IntN(len(model) + 1)
			j := i + r.IntN(len(model)-i+1)
			model = append(model, model[i:j]...)
			s = typedMust(unsafeobj.Append(m, s, s[i:j]...))(t)
			typedOK(t, stored.Append(m, stored.View()[i:j]...))
		case op < 14: // cut
			n := len(model) - r.IntN(len(model)/8+1)
			model, s = model[:n], s[:n]
			stored.SetLen(n)
		case op < 17:
			n := r.IntN(50)
			model = slices.Grow(model, n)
			s = typedMust(unsafeobj.Grow(m, s, n))(t)
			typedOK(t, stored.Grow(m, n))
			if cap(s)-len(s) < n {
				t.Fatalf("step %d: Grow(%d) leaves room for %d", step, n, cap(s)-len(s))
			}
		case op < 18 && s != nil:
			c := typedMust(unsafeobj.Clone(m, s))(t)
			typedOK(t, unsafeobj.FreeSlice(m, s))
			s = c
		case op < 19 && len(model) > 0:
			v, i := random(r), r.IntN(len(model))
			model[i], s[i], stored.View()[i] = v, v, v
		case step%200 == 0 && s != nil:
			typedOK(t, unsafeobj.FreeSlice(m, s))
			typedOK(t, stored.Free(m))
			model, s = nil, nil
		}
		if !slices.Equal(s, model) || !slices.Equal(stored.View(), model) {
			t.Fatalf("step %d: slices differ from Go's", step)
		}
		if !typedAllZero(s[max(len(s), min(was, cap(s))):cap(s)]) {
			t.Fatalf("step %d: new room is not zero", step)
		}
	}
	if s != nil {
		typedOK(t, unsafeobj.FreeSlice(m, s))
	}
	typedOK(t, stored.Free(m))
}

func typedAllZero[T comparable](s []T) bool {
	var zero T
	return !slices.ContainsFunc(s, func(v T) bool { return v != zero })
}

// A slice that grows by one is moved seldom: its first block is used to its end,
// and capacities grow by a factor.
func TestTypedAppendMoves(t *testing.T) {
	m := newTypedMemory(t)
	var s []int32
	moves := 0
	for i := range int32(1 << 20) {
		was := cap(s)
		s = typedMust(unsafeobj.Append(m, s, i))(t)
		if i == 0 && cap(s) != 4 {
			t.Errorf("the first capacity is %d", cap(s))
		}
		if cap(s) != was {
			moves++
		}
	}
	if moves > 50 {
		t.Errorf("moved %d times", moves)
	}
	for i, v := range s {
		if int(v) != i {
			t.Fatalf("s[%d] = %d", i, v)
		}
	}
	typedOK(t, unsafeobj.FreeSlice(m, s))
}

// A slice that is appended to itself is read where it has moved to, in blocks of
// every kind.
func TestTypedAppendItself(t *testing.T) {
	m := newTypedMemory(t)
	s := typedMust(unsafeobj.Clone(m, []uint16{1, 2, 3}))(t)
	for len(s) < 4<<20 {
		s = typedMust(unsafeobj.Append(m, s, s[:len(s):len(s)]...))(t)
		if n := len(s) / 2; !slices.Equal(s[:n], s[n:]) || s[n+2] != 3 {
			t.Fatalf("length %d: the halves differ", len(s))
		}
		if !typedAllZero(s[len(s):cap(s)]) {
			t.Fatalf("length %d: new room is not zero", len(s))
		}
	}
	typedOK(t, unsafeobj.FreeSlice(m, s))
}

func TestTypedAppendNothing(t *testing.T) {
	m := newTypedMemory(t)
	if s, err := unsafeobj.Append[int](m, nil); s != nil || err != nil {
		t.Error(s, err)
	}
	if s, err := unsafeobj.Grow[int](m, nil, 0); s != nil || err != nil {
		t.Error(s, err)
	}
	for _, empty := range [][]int{nil, {}} {
		s := typedMust(unsafeobj.Clone(m, empty))(t)
		if s == nil || len(s) != 0 || cap(s) != 0 {
			t.Errorf("Clone(%#v) = %#v", empty, s)
		}
		s = typedMust(unsafeobj.Append(m, s, 1))(t)
		typedOK(t, unsafeobj.FreeSlice(m, s[:0]))
	}
}
