package unsafeobj_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/pyarena/pyarena/unsafeobj"
)

// must is for examples: errors are out of memory, or mistakes.
func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Several names on one object.
func ExampleNamespace() {
	s := must(unsafeobj.NewSpace(unsafeobj.SpaceOptions{}))
	globals := must(s.Namespace())
	ten := must(s.Int(1000))

	// a = b = c = 1000
	for _, name := range []string{"a", "b", "c"} {
		check(globals.Set(name, ten.Object()))
	}
	fmt.Println(unsafeobj.RefCount(ten.Object()), "references, one of them ten")
	ten.Release()

	check(globals.Del("c"))
	a, b := must(globals.Get("a")), must(globals.Get("b"))
	fmt.Println(a.Object(), b.Object(), a == b)
	_, err := globals.Get("c")
	fmt.Println(err)

	a.Release()
	b.Release()
	globals.Close()
	fmt.Println(s.Close())
	// Output:
	// 4 references, one of them ten
	// 1000 1000 true
	// name 'c' is not defined
	// <nil>
}

// Deleting all names that do not begin with two underscores.
func ExampleNamespace_Dir() {
	s := must(unsafeobj.NewSpace(unsafeobj.SpaceOptions{}))
	globals := must(s.Namespace())
	for _, name := range []string{"__name__", "x", "numbers", "__doc__"} {
		v := must(s.String("value of " + name))
		check(globals.Set(name, v.Object()))
		v.Release()
	}
	fmt.Println(globals.Dir())
	for _, name := range globals.Dir() {
		if !strings.HasPrefix(name, "__") {
			check(globals.Del(name))
		}
	}
	for name, v := range globals.Items() {
		fmt.Println(name, "=", v)
	}
	globals.Close()
	fmt.Println(s.Close())
	// Output:
	// [__doc__ __name__ numbers x]
	// __name__ = 'value of __name__'
	// __doc__ = 'value of __doc__'
	// <nil>
}

// matrix = [numbers, numbers, numbers]: one list, three times.
func ExampleRefCount() {
	s := must(unsafeobj.NewSpace(unsafeobj.SpaceOptions{}))
	numbers := must(s.FromGo([]int{1, 2, 3}))
	fmt.Println(unsafeobj.RefCount(numbers.Object()))
	n := numbers.Object()
	matrix := must(s.List(n, n, n))
	fmt.Println(unsafeobj.RefCount(n))

	list := must(unsafeobj.As[unsafeobj.List](n))
	check(list.Set(0, unsafeobj.None()))
	fmt.Println(matrix.Object())

	matrix.Release()
	fmt.Println(unsafeobj.RefCount(n))
	numbers.Release()
	fmt.Println(s.Close())
	// Output:
	// 1
	// 4
	// [[None, 2, 3], [None, 2, 3], [None, 2, 3]]
	// 1
	// <nil>
}

// A cycle frees itself: by the collector, since its counts never fall to 0.
func ExampleSpace_Collect() {
	s := must(unsafeobj.NewSpace(unsafeobj.SpaceOptions{}))
	l := must(s.List())
	check(l.Get().Append(l.Object()))
	fmt.Println(l.Object(), unsafeobj.RefCount(l.Object()))
	l.Release()
	fmt.Println(must(s.Collect(2)), "collected")
	fmt.Println(s.Close())
	// Output:
	// [[...]] 2
	// 1 collected
	// <nil>
}

// Node is a payload: no Go pointers, and Fields for other objects.
type Node struct {
	ID   int64
	Next unsafeobj.Field[unsafeobj.Object]
}

func ExampleClass() {
	class := must(unsafeobj.NewClass(unsafeobj.ClassSpec[Node]{
		Name:     "Node",
		Repr:     func(n *Node) string { return fmt.Sprintf("Node(%d)", n.ID) },
		Finalize: func(n unsafeobj.Instance[Node]) { fmt.Println("finalize", n) },
	}))
	s := must(unsafeobj.NewSpace(unsafeobj.SpaceOptions{}))
	a, b := must(class.New(s)), must(class.New(s))
	a.Get().Payload().ID, b.Get().Payload().ID = 1, 2
	check(a.Get().Payload().Next.Set(a.Object(), b.Object()))
	b.Release()
	fmt.Println(unsafeobj.Referents(a.Object()))
	a.Release()
	fmt.Println(s.Close())
	// Output:
	// [Node(2)]
	// finalize Node(1)
	// finalize Node(2)
	// <nil>
}

func ExampleSpace_DecodeJSON() {
	s := must(unsafeobj.NewSpace(unsafeobj.SpaceOptions{}))
	d := json.NewDecoder(strings.NewReader(`{"name": "Ada", "tags": ["x", 1.5, null], "big": 123456789012345678901234567890}`))
	v := must(s.DecodeJSON(d))
	fmt.Println(v.Object())
	check(unsafeobj.EncodeJSON(os.Stdout, v.Object()))
	fmt.Println()
	v.Release()
	fmt.Println(s.Close())
	// Output:
	// {'name': 'Ada', 'tags': ['x', 1.5, None], 'big': 123456789012345678901234567890}
	// {"name":"Ada","tags":["x",1.5,null],"big":123456789012345678901234567890}
	// <nil>
}

// Cache is a cache off heap: string keys to dicts, shared by goroutines. The Go
// collector sees one Ref.
type Cache struct {
	space *unsafeobj.Space
	all   unsafeobj.Ref[unsafeobj.Dict]
}

func NewCache() (*Cache, error) {
	s, err := unsafeobj.NewSpace(unsafeobj.SpaceOptions{Shared: true})
	if err != nil {
		return nil, err
	}
	d, err := s.Dict()
	return &Cache{s, d}, err
}

// Put stores a value under a key.
func (c *Cache) Put(key string, value map[string]any) error {
	v, err := c.space.FromGo(value)
	if err != nil {
		return err
	}
	defer v.Release()
	return c.all.Get().SetString(key, v.Object())
}

// Get returns what is stored; release it. It stays as it is while others replace it.
func (c *Cache) Get(key string) (unsafeobj.Ref[unsafeobj.Dict], error) {
	v, err := c.all.Get().GetString(key)
	if err != nil {
		return unsafeobj.Ref[unsafeobj.Dict]{}, err
	}
	return unsafeobj.Take[unsafeobj.Dict](v)
}

func (c *Cache) Close() error {
	c.all.Release()
	return c.space.Close()
}

// A concurrent cache: string keys to dicts.
func Example_cache() {
	c := must(NewCache())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				key := fmt.Sprintf("user%d", i%10)
				check(c.Put(key, map[string]any{"id": i % 10, "name": key}))
				if v, err := c.Get(fmt.Sprintf("user%d", (i+g)%10)); err == nil {
					name := must(v.Get().GetString("name"))
					name.Release()
					v.Release()
				}
			}
		})
	}
	wg.Wait()
	v := must(c.Get("user7"))
	id := must(v.Get().GetString("id"))
	fmt.Println(id.Object())
	id.Release()
	v.Release()
	fmt.Println(c.Close())
	// Output:
	// 7
	// <nil>
}
