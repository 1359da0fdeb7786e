package unsafeobj_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

func TestTypedStr(t *testing.T) {
	onTypedMemories(t, func(t *testing.T, m unsafeobj.Memory) {
		for _, n := range []int{0, 1, 15, 16, 17, 512, 513, 1 << 15, 1<<19 + 1} {
			text := strings.Repeat("é", n)[:n]
			c := typedMust(unsafeobj.CloneString(m, text))(t)
			s := typedMust(unsafeobj.NewStr(m, text))(t)
			copied := s
			if c != text || s.String() != text || copied.String() != text || fmt.Sprint(s) != text {
				t.Errorf("%d bytes: another text", n)
			}
			if n > 0 && (unsafe.StringData(c) == unsafe.StringData(text) || unsafe.StringData(s.String()) == unsafe.StringData(text)) {
				t.Errorf("%d bytes: not a copy", n)
			}
			typedOK(t, unsafeobj.FreeString(m, c))
			typedOK(t, s.Free(m))
			if s.String() != "" {
				t.Errorf("%d bytes: not empty after Free", n)
			}
			typedOK(t, s.Free(m))
			if err := copied.Free(m); n > 0 && !errors.Is(err, pymalloc.ErrDoubleFree) && !errors.Is(err, pymalloc.ErrNotOwned) {
				t.Errorf("%d bytes: a copy freed again: %v", n, err)
			}
		}
	})
}

// What may live off heap is as small as the Go type that it stands for.
func TestTypedStoredSizes(t *testing.T) {
	for _, c := range []struct{ got, want uintptr }{
		{unsafe.Sizeof(unsafeobj.Str{}), unsafe.Sizeof("")},
		{unsafe.Sizeof(unsafeobj.Slice[string]{}), unsafe.Sizeof([]string{})},
		{unsafe.Sizeof(unsafeobj.Ptr[string]{}), unsafe.Sizeof(new(string))},
	} {
		if c.got != c.want {
			t.Errorf("size %d, want %d", c.got, c.want)
		}
	}
}

func TestTypedStoredSlice(t *testing.T) {
	m, other := newTypedMemory(t), newTypedMemory(t)
	var s unsafeobj.Slice[int]
	if s.View() != nil || s.String() != "[]" {
		t.Errorf("zero Slice: %v", s.View())
	}
	typedOK(t, s.Append(m))
	typedOK(t, s.Free(m))
	typedOK(t, s.Append(m, 1, 2, 3))
	if s.String() != "[1 2 3]" {
		t.Errorf("String() = %s", s)
	}
	for name, err := range map[string]error{"Append": s.Append(other, make([]int, 100)...), "Grow": s.Grow(other, 100), "FreeSlice": s.Free(other)} {
		bad, ok := errors.AsType[*unsafeobj.MisuseError](err)
		if !ok || bad.Call != name || !errors.Is(err, pymalloc.ErrNotOwned) || s.String() != "[1 2 3]" {
			t.Errorf("%s with another memory: %v, leaves %v", name, err, s)
		}
	}
	s.SetLen(1)
	s.SetLen(2)
	if s.String() != "[1 2]" {
		t.Errorf("after SetLen: %v", s)
	}
	for _, n := range []int{-1, 1000} {
		func() {
			defer func() {
				if recover() == nil || s.String() != "[1 2]" {
					t.Errorf("SetLen(%d) leaves %v", n, s)
				}
			}()
			s.SetLen(n)
		}()
	}
	copied := s
	typedOK(t, s.Free(m))
	typedOK(t, s.Free(m))
	if s.View() != nil {
		t.Error("not empty after Free")
	}
	if err := copied.Free(m); !errors.Is(err, pymalloc.ErrDoubleFree) {
		t.Errorf("a copy freed again: %v", err)
	}

	// Empty, and with a block all the same.
	typedOK(t, s.Grow(m, 10))
	typedOK(t, s.Free(m))
	typedOK(t, s.Append(m, 1))
	s.SetLen(0)
	typedOK(t, s.Free(m))
}

// A list and a tree whose links are off heap.
func TestTypedPtr(t *testing.T) {
	m := newTypedMemory(t)
	type node struct {
		Value int
		Next  unsafeobj.Ptr[node]
		Kids  unsafeobj.Slice[unsafeobj.Ptr[node]]
	}
	var head unsafeobj.Ptr[node]
	if head.Get() != nil || head != unsafeobj.PtrTo[node](nil) {
		t.Error("zero Ptr is not nil")
	}
	for i := range 1000 {
		n := typedMust(unsafeobj.NewOf(m, node{Value: i, Next: head}))(t)
		if i > 0 {
			typedOK(t, n.Kids.Append(m, head, head))
		}
		head = unsafeobj.PtrTo(n)
	}
	want := 999
	for head.Get() != nil {
		n := head.Get()
		if n.Value != want {
			t.Fatalf("node %d, want %d", n.Value, want)
		}
		for _, kid := range n.Kids.View() {
			if kid != n.Next {
				t.Fatal("another child")
			}
		}
		want--
		head = n.Next
		typedOK(t, n.Kids.Free(m))
		typedOK(t, unsafeobj.Free(m, n))
	}
}
