package unsafeobj_test

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

var (
	_ unsafeobj.Memory = (*pymalloc.Allocator)(nil)
	_ unsafeobj.Memory = (*pymalloc.Heap)(nil)
)

type (
	typedPoint struct{ X, Y int }
	typedEmpty struct{}
	typedBig   [5000]int64 // a large run
)

// newTypedMemory returns an allocator that must have no live block in the end.
func newTypedMemory(t testing.TB) *pymalloc.Allocator {
	t.Helper()
	a := new(pymalloc.Allocator)
	t.Cleanup(func() {
		if n := a.Stats().LiveBlocks; n != 0 {
			t.Errorf("%d blocks are still live", n)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// typedDirty leaves freed blocks behind that are not zero.
func typedDirty(t testing.TB, m unsafeobj.Memory) {
	t.Helper()
	var all [][]byte
	for size := 1; size < 1<<17; size = size*3/2 + 1 {
		for range 3 {
			b := typedMust(unsafeobj.MakeSliceUninitialized[byte](m, size, size))(t)
			for i := range b {
				b[i] = 0xDD
			}
			all = append(all, b)
		}
	}
	for _, b := range all {
		typedOK(t, unsafeobj.FreeSlice(m, b))
	}
}

func typedOK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func typedMust[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		typedOK(t, err)
		return v
	}
}

// onTypedMemories runs a test on each kind of Memory.
func onTypedMemories(t *testing.T, test func(*testing.T, unsafeobj.Memory)) {
	t.Run("Allocator", func(t *testing.T) { test(t, newTypedMemory(t)) })
	t.Run("Heap", func(t *testing.T) {
		h := newTypedMemory(t).AcquireHeap()
		defer h.Release()
		test(t, h)
	})
}

func testNew[T comparable](t *testing.T, m unsafeobj.Memory, v T) {
	t.Helper()
	var zero T
	p := typedMust(unsafeobj.New[T](m))(t)
	q := typedMust(unsafeobj.NewOf(m, v))(t)
	if *p != zero {
		t.Errorf("New[%T]: not zero", v)
	}
	if *q != v {
		t.Errorf("NewOf[%T]: another value", v)
	}
	if unsafe.Pointer(p) == unsafe.Pointer(q) || uintptr(unsafe.Pointer(p))%16 != 0 {
		t.Errorf("New[%T]: blocks at %p and %p", v, p, q)
	}
	*p = v
	typedOK(t, unsafeobj.Free(m, p))
	typedOK(t, unsafeobj.Free(m, q))
}

func TestTypedNew(t *testing.T) {
	onTypedMemories(t, func(t *testing.T, m unsafeobj.Memory) {
		typedDirty(t, m)
		testNew(t, m, true)
		testNew(t, m, int32(-7))
		testNew(t, m, 1i)
		testNew(t, m, typedPoint{1, 2})
		testNew(t, m, typedEmpty{})
		testNew(t, m, [0]int{})
		testNew(t, m, [15]byte{14: 1})
		testNew(t, m, [513]byte{512: 1})
		testNew(t, m, typedBig{4999: 1})
	})
}

func TestTypedRefusesGoPointers(t *testing.T) {
	m := newTypedMemory(t)
	type bad struct{ Name string }
	calls := map[string]func() error{
		"New":                    func() error { _, err := unsafeobj.New[bad](m); return err },
		"NewOf":                  func() error { _, err := unsafeobj.NewOf(m, bad{}); return err },
		"MakeSlice":              func() error { _, err := unsafeobj.MakeSlice[bad](m, 0, 0); return err },
		"MakeSliceUninitialized": func() error { _, err := unsafeobj.MakeSliceUninitialized[bad](m, 1, 1); return err },
		"Clone":                  func() error { _, err := unsafeobj.Clone(m, []bad{}); return err },
		"Append":                 func() error { _, err := unsafeobj.Append(m, nil, bad{}); return err },
		"Grow":                   func() error { _, err := unsafeobj.Grow(m, []bad(nil), 1); return err },
		"Slice.Append":           func() error { var s unsafeobj.Slice[bad]; return s.Append(m, bad{}) },
		"Slice.Grow":             func() error { var s unsafeobj.Slice[bad]; return s.Grow(m, 1) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, unsafeobj.ErrGoPointer) || err.Error() != "unsafeobj: bad.Name: string holds a Go pointer; use unsafeobj.Str" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every way to free what is not to be freed is an error that names the call and
// the value, and changes nothing.
func TestTypedMisuse(t *testing.T) {
	m, other := newTypedMemory(t), newTypedMemory(t)
	p := typedMust(unsafeobj.NewOf(m, typedPoint{1, 2}))(t)
	s := typedMust(unsafeobj.Clone(m, []int{1, 2, 3, 4}))(t)
	str := typedMust(unsafeobj.CloneString(m, "twenty bytes of text"))(t)
	huge := typedMust(unsafeobj.MakeSlice[byte](m, 4<<20, 4<<20))(t)
	gone := typedMust(unsafeobj.New[[100]byte](m))(t)
	goneSlice := typedMust(unsafeobj.MakeSlice[[50]int](m, 1, 1))(t)
	typedOK(t, unsafeobj.Free(m, gone))
	typedOK(t, unsafeobj.FreeSlice(m, goneSlice))
	inGo := new(typedPoint)

	const (
		again   = "free a value once"
		foreign = "it is a block of another allocator"
		start   = "keep the start of what was allocated"
	)
	for _, c := range []struct {
		name  string
		err   error
		is    error
		value string
		fix   string
	}{
		{"Free", unsafeobj.Free(m, (*typedPoint)(nil)), unsafeobj.ErrNil, "*unsafeobj_test.typedPoint at ", "there is nothing to free"},
		{"Free", unsafeobj.Free(m, gone), pymalloc.ErrDoubleFree, "*[100]uint8 at 0x", again},
		{"Free", unsafeobj.Free(other, p), pymalloc.ErrNotOwned, "*unsafeobj_test.typedPoint at 0x", foreign},
		{"Free", unsafeobj.Free(m, &p.Y), pymalloc.ErrNotOwned, "*int at 0x", start},
		{"Free", unsafeobj.Free(m, inGo), pymalloc.ErrNotOwned, "*unsafeobj_test.typedPoint at 0x", start},
		{"FreeSlice", unsafeobj.FreeSlice[int](m, nil), unsafeobj.ErrNil, "[]int of length 0 and capacity 0 at ", "there is nothing to free"},
		{"FreeSlice", unsafeobj.FreeSlice(m, goneSlice), pymalloc.ErrDoubleFree, "[][50]int of length 1 and capacity 1 at 0x", again},
		{"FreeSlice", unsafeobj.FreeSlice(other, s), pymalloc.ErrNotOwned, "[]int of length 4 and capacity 4 at 0x", foreign},
		{"FreeSlice", unsafeobj.FreeSlice(m, s[1:]), pymalloc.ErrNotOwned, "[]int of length 3 and capacity 3 at 0x", start},
		{"FreeSlice", unsafeobj.FreeSlice(m, s[3:]), pymalloc.ErrNotOwned, "[]int of length 1 and capacity 1 at 0x", start},
		{"FreeSlice", unsafeobj.FreeSlice(m, huge[1:]), pymalloc.ErrNotOwned, "[]uint8 of length 4194303", start},
		{"FreeSlice", unsafeobj.FreeSlice(m, huge[4096:]), pymalloc.ErrNotOwned, "[]uint8 of length 4190208", start},
		{"FreeSlice", unsafeobj.FreeSlice(m, make([]int, 3)), pymalloc.ErrNotOwned, "[]int of length 3", start},
		{"FreeString", unsafeobj.FreeString(m, str[1:]), pymalloc.ErrNotOwned, "string of 19 bytes at 0x", start},
		{"FreeString", unsafeobj.FreeString(m, str[16:]), pymalloc.ErrNotOwned, "string of 4 bytes at 0x", start},
		{"FreeString", unsafeobj.FreeString(other, str), pymalloc.ErrNotOwned, "string of 20 bytes at 0x", foreign},
		{"FreeString", unsafeobj.FreeString(m, "literal"), pymalloc.ErrNotOwned, "string of 7 bytes at 0x", start},
		{"Append", typedAppendError(other, s, 5), pymalloc.ErrNotOwned, "[]int of length 4 and capacity 4 at 0x", foreign},
		{"Append", typedAppendError(m, s[1:], 5), pymalloc.ErrNotOwned, "[]int of length 3 and capacity 3 at 0x", start},
		{"Append", typedAppendError(m, make([]int, 2), 5), pymalloc.ErrNotOwned, "[]int of length 2", start},
	} {
		bad, ok := errors.AsType[*unsafeobj.MisuseError](c.err)
		if !ok || !errors.Is(c.err, c.is) || bad.Call != c.name || !strings.HasPrefix(bad.Value, c.value) ||
			!strings.HasPrefix(c.err.Error(), "unsafeobj: "+c.name+"("+c.value) || !strings.Contains(c.err.Error(), c.fix) {
			t.Errorf("%s(%s…): %v", c.name, c.value, c.err)
		}
	}
	if *p != (typedPoint{1, 2}) || !slices.Equal(s, []int{1, 2, 3, 4}) || str != "twenty bytes of text" {
		t.Error("misuse has changed a value")
	}
	typedOK(t, unsafeobj.Free(m, p))
	typedOK(t, unsafeobj.FreeSlice(m, s[:0]))
	typedOK(t, unsafeobj.FreeString(m, str[:1]))
	typedOK(t, unsafeobj.FreeSlice(m, huge))
}

func typedAppendError[T any](m unsafeobj.Memory, s []T, v T) error {
	_, err := unsafeobj.Append(m, s, v)
	return err
}

// Without memory there is the memory's error, and slices are as they were.
func TestTypedOutOfMemory(t *testing.T) {
	m := typedMust(pymalloc.NewAllocator(pymalloc.Options{LimitBytes: 4 << 20}))(t)
	defer m.Close()
	s := typedMust(unsafeobj.Clone(m, []byte("text")))(t)
	var stored unsafeobj.Slice[byte]
	typedOK(t, stored.Append(m, s...))
	huge := strings.Repeat("x", 8<<20)
	grown, err := unsafeobj.Append(m, s, []byte(huge)...)
	if !errors.Is(err, pymalloc.ErrLimit) || string(grown) != "text" || &grown[0] != &s[0] {
		t.Errorf("Append = %q, %v", grown, err)
	}
	if err := stored.Append(m, []byte(huge)...); !errors.Is(err, pymalloc.ErrNoMemory) || string(stored.View()) != "text" {
		t.Errorf("Slice.Append = %q, %v", stored, err)
	}
	if p, err := unsafeobj.New[[8 << 20]byte](m); p != nil || !errors.Is(err, pymalloc.ErrLimit) {
		t.Errorf("New = %p, %v", p, err)
	}
	if s, err := unsafeobj.CloneString(m, huge); s != "" || !errors.Is(err, pymalloc.ErrLimit) {
		t.Errorf("CloneString = %d bytes, %v", len(s), err)
	}
	if s, err := unsafeobj.NewStr(m, huge); s.String() != "" || !errors.Is(err, pymalloc.ErrLimit) {
		t.Errorf("NewStr = %v, %v", s, err)
	}
	if s, err := unsafeobj.Clone(m, []byte(huge)); s != nil || !errors.Is(err, pymalloc.ErrLimit) {
		t.Errorf("Clone = %d bytes, %v", len(s), err)
	}
	typedOK(t, unsafeobj.FreeSlice(m, s))
	typedOK(t, stored.Free(m))
}

// Values are handed from goroutine to goroutine, and freed by another.
func TestTypedConcurrent(t *testing.T) {
	m := newTypedMemory(t)
	type item struct {
		Name unsafeobj.Str
		Nums unsafeobj.Slice[int]
	}
	ch := make(chan *item, 64)
	var makers, users sync.WaitGroup
	for g := range 4 {
		makers.Go(func() {
			for i := range 500 {
				v, err := unsafeobj.New[item](m)
				if err == nil {
					v.Name, err = unsafeobj.NewStr(m, strings.Repeat("x", i%40))
				}
				for n := 0; n < i%40 && err == nil; n++ {
					err = v.Nums.Append(m, g)
				}
				if err != nil {
					t.Error(err)
					return
				}
				ch <- v
			}
		})
		users.Go(func() {
			for v := range ch {
				nums := v.Nums.View()
				if len(nums) != len(v.Name.String()) || len(nums) > 0 && slices.Min(nums) != slices.Max(nums) {
					t.Errorf("got %v", *v)
				}
				if err := errors.Join(v.Name.Free(m), v.Nums.Free(m), unsafeobj.Free(m, v)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	close(ch)
	users.Wait()
}

// Nothing that is passed in moves to the Go heap, and nothing else is made there.
func TestTypedAllocatesNothingInGo(t *testing.T) {
	m := newTypedMemory(t)
	text := bytes.Repeat([]byte("text"), 10)
	local := func() {
		v := typedPoint{1, 2}
		p, _ := unsafeobj.NewOf(m, v)
		q, _ := unsafeobj.New[typedPoint](m)
		array := [...]int{1, 2, 3}
		s, _ := unsafeobj.Clone(m, array[:])
		s, _ = unsafeobj.Append(m, s, 4, 5, 6, v.X)
		s, _ = unsafeobj.Append(m, s, s...)
		s, _ = unsafeobj.Grow(m, s, 1000)
		z, _ := unsafeobj.MakeSlice[typedPoint](m, 3, 4)
		str, _ := unsafeobj.CloneString(m, string(text[:20]))
		var stored unsafeobj.Slice[typedPoint]
		_ = stored.Append(m, v, *q)
		name, _ := unsafeobj.NewStr(m, str)
		_ = unsafeobj.FreeString(m, str)
		_ = unsafeobj.FreeSlice(m, s)
		_ = unsafeobj.FreeSlice(m, z)
		_ = unsafeobj.Free(m, p)
		_ = unsafeobj.Free(m, q)
		_ = stored.Free(m)
		_ = name.Free(m)
	}
	local()
	if n := testing.AllocsPerRun(100, local); n != 0 {
		t.Errorf("%v allocations on the Go heap", n)
	}
	runtime.KeepAlive(text)
}
