package unsafeobj_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

// Visit is one entry of a session's list.
type Visit struct {
	Page    unsafeobj.Str
	Seconds unsafeobj.Slice[int32] // a list in a list
}

// Session lives off heap with all that it refers to.
type Session struct {
	ID     int64
	Name   unsafeobj.Str
	Tags   unsafeobj.Slice[unsafeobj.Str]
	Visits unsafeobj.Slice[Visit]
}

// newSession shows how a value is built: what fails half way is freed.
func newSession(m unsafeobj.Memory, id int64, name string, tags ...string) (_ *Session, err error) {
	s, err := unsafeobj.New[Session](m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.free(m))
		}
	}()
	s.ID = id
	if s.Name, err = unsafeobj.NewStr(m, name); err != nil {
		return nil, err
	}
	if err := s.Tags.Grow(m, len(tags)); err != nil {
		return nil, err
	}
	for _, tag := range tags {
		t, err := unsafeobj.NewStr(m, tag)
		if err != nil {
			return nil, err
		}
		_ = s.Tags.Append(m, t) // there is room
	}
	return s, nil
}

func (s *Session) visit(m unsafeobj.Memory, page string, seconds ...int32) error {
	var v Visit
	var err error
	if v.Page, err = unsafeobj.NewStr(m, page); err == nil {
		if err = v.Seconds.Append(m, seconds...); err == nil {
			if err = s.Visits.Append(m, v); err == nil {
				return nil
			}
		}
	}
	return errors.Join(err, v.free(m))
}

func (v *Visit) free(m unsafeobj.Memory) error {
	return errors.Join(v.Page.Free(m), v.Seconds.Free(m))
}

// free frees a session from the leaves up.
func (s *Session) free(m unsafeobj.Memory) error {
	var errs []error
	for i := range s.Tags.View() {
		errs = append(errs, s.Tags.View()[i].Free(m))
	}
	for i := range s.Visits.View() {
		errs = append(errs, s.Visits.View()[i].free(m))
	}
	errs = append(errs, s.Name.Free(m), s.Tags.Free(m), s.Visits.Free(m), unsafeobj.Free(m, s))
	return errors.Join(errs...)
}

// A session with a name, tags and a nested list, none of which the collector sees.
func Example_session() {
	var a pymalloc.Allocator
	s, err := newSession(&a, 7, "ann", "admin", "beta")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.visit(&a, "/home", 12, 3), s.visit(&a, "/cart", 40))

	fmt.Println(s.ID, s.Name, s.Tags)
	for _, v := range s.Visits.View() {
		fmt.Println(v.Page, v.Seconds)
	}
	fmt.Println(a.Stats().LiveBlocks, "blocks")
	fmt.Println(s.free(&a), a.Stats().LiveBlocks)
	// Output:
	// <nil> <nil>
	// 7 ann [admin beta]
	// /home [12 3]
	// /cart [40]
	// 10 blocks
	// <nil> 0
}

// A type that holds a Go pointer is refused, with what to use in its place.
func ExampleGoPointerError() {
	type User struct{ Name string }
	type Session struct {
		ID   int64
		User User
	}
	var a pymalloc.Allocator
	_, err := unsafeobj.New[Session](&a)
	fmt.Println(err)
	fmt.Println(errors.Is(err, unsafeobj.ErrGoPointer))
	// Output:
	// unsafeobj: Session.User.Name: string holds a Go pointer; use unsafeobj.Str
	// true
}

func ExampleMisuseError() {
	var a pymalloc.Allocator
	s, _ := unsafeobj.MakeSlice[int](&a, 8, 8)
	err := unsafeobj.FreeSlice(&a, s[2:])
	if bad, ok := errors.AsType[*unsafeobj.MisuseError](err); ok {
		fmt.Println(bad.Call)
		fmt.Println(bad.Err)
		fmt.Println(bad.Fix)
	}
	fmt.Println(unsafeobj.FreeSlice(&a, s))
	// Output:
	// FreeSlice
	// not a block of this allocator
	// no live block begins there; keep the start of what was allocated (s[i:] and &s[i] lose it), and free it once
	// <nil>
}

func ExampleNew() {
	type point struct{ X, Y float64 }

	var a pymalloc.Allocator
	p, err := unsafeobj.New[point](&a) // zero
	if err != nil {
		fmt.Println(err)
		return
	}
	p.X = 3
	fmt.Println(*p)
	fmt.Println(unsafeobj.Free(&a, p))
	// Output:
	// {3 0}
	// <nil>
}

// The slice is one of Go's, and works with all that takes one.
func ExampleAppend() {
	var a pymalloc.Allocator
	var s []int
	for i := range 10 {
		var err error
		if s, err = unsafeobj.Append(&a, s, i*i); err != nil {
			fmt.Println(err)
			break
		}
	}
	slices.Reverse(s)
	fmt.Println(s)
	fmt.Println(unsafeobj.FreeSlice(&a, s))
	// Output:
	// [81 64 49 36 25 16 9 4 1 0]
	// <nil>
}

func ExampleCloneString() {
	var a pymalloc.Allocator
	s, err := unsafeobj.CloneString(&a, "off heap")
	fmt.Println(s, err)
	fmt.Println(unsafeobj.FreeString(&a, s))
	// Output:
	// off heap <nil>
	// <nil>
}

// Elements are taken out with package slices, and the length is set after.
func ExampleSlice() {
	var a pymalloc.Allocator
	var s unsafeobj.Slice[int]
	fmt.Println(s.Append(&a, 3, 1, 2))
	slices.Sort(s.View())
	fmt.Println(s)
	s.SetLen(len(slices.Delete(s.View(), 0, 1)))
	fmt.Println(s)
	fmt.Println(s.Free(&a))
	// Output:
	// <nil>
	// [1 2 3]
	// [2 3]
	// <nil>
}

// A linked list: Ptr is the link.
func ExamplePtr() {
	type node struct {
		Value int
		Next  unsafeobj.Ptr[node]
	}
	var a pymalloc.Allocator
	var head *node
	for i := range 3 {
		n, err := unsafeobj.NewOf(&a, node{i, unsafeobj.PtrTo(head)})
		if err != nil {
			fmt.Println(err)
			break
		}
		head = n
	}
	for head != nil {
		n := head
		head = n.Next.Get()
		fmt.Println(n.Value)
		if err := unsafeobj.Free(&a, n); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// 2
	// 1
	// 0
}
