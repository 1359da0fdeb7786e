// Package unsafeobj keeps Go values in memory that the collector never sees. It
// has two layers: typed values, freed by hand, and objects, which free
// themselves. They share nothing but the memory beneath; a program may use one
// alone. The files are named typed_ and object_ after the layers.
//
// # Typed values
//
// Structs, slices and strings in blocks of a [Memory], such as a
// [github.com/pyarena/pyarena/pymalloc.Allocator]:
//
//	var a pymalloc.Allocator
//	p, err := unsafeobj.New[Point](&a)               // a zero Point
//	q, err := unsafeobj.NewOf(&a, Point{1, 2})       // a copy of this one
//	s, err := unsafeobj.MakeSlice[int](&a, 0, 100)   // a []int
//	s, err = unsafeobj.Append(&a, s, 1, 2, 3)
//	t, err := unsafeobj.CloneString(&a, "text")      // a string
//	err = unsafeobj.Free(&a, p)                      // once each
//	err = unsafeobj.FreeSlice(&a, s)
//	err = unsafeobj.FreeString(&a, t)
//
// What these return are plain Go pointers, slices and strings, for use with all
// of Go. But no Go pointer may be stored in the memory itself, for the collector
// does not look there, and would free what it points to. So a type that holds Go
// pointers is refused, when it is first used, by an error that names the field
// and what to use in its place:
//
//	unsafeobj: Session.User.Name: string holds a Go pointer; use unsafeobj.Str
//
// [Str], [Slice] and [Ptr] are what string, []T and *T are in Go, and hold no Go
// pointer. Structs are built of them, and of numbers and arrays:
//
//	type Session struct {
//		Name unsafeobj.Str
//		Tags unsafeobj.Slice[unsafeobj.Str]
//		Next unsafeobj.Ptr[Session]
//	}
//
// Rules that hold throughout:
//
//   - Memory is zero, but for MakeSliceUninitialized.
//   - Alignment is that of the type: blocks are aligned to 16 bytes, and no Go type
//     asks for more.
//   - Whoever gets a value frees it, once, through the memory that it came from,
//     when nobody uses it any more. Freeing a struct does not free what its
//     fields refer to.
//   - Each value and slice has a block, also if its size is 0, or its capacity;
//     only the empty string has none. nil is an error to free, and "" is not.
//     The methods Free of Str and Slice leave their receiver empty, and do nothing
//     when it is.
//   - What is not as it should be is an error, and nothing is changed: the wrong
//     memory, a slice without its start, a second Free, nil. A second free is
//     noticed until the block is in use again; then it frees somebody else's.
//   - Which goroutines may call is up to the memory: any for an Allocator, one at
//     a time for a Heap. Values are like all others in Go: whoever shares them
//     between goroutines sees to it that they take turns.
//   - fmt prints what a Str and a Slice hold. Encoders see no fields in them, and
//     take what String and View return.
//   - Nothing here allocates on the Go heap, but for errors and the first use of
//     a type.
//
// # Objects
//
// Values that free themselves: what CPython does with reference counts, types and
// its collector. A [Space] makes them on an Allocator: ints, floats, strings,
// bytes, tuples, lists, dicts, sets, and instances of a program's own [Class].
//
//	s, err := unsafeobj.NewSpace(unsafeobj.SpaceOptions{})
//	n, err := s.Int(42)   // a Ref[Int], owned
//	n.Release()           // the last Release frees the object
//
// Who owns what is in the types:
//
//	Ref[T]  owned: released once. Functions that return one give it to the caller.
//	T       borrowed: Object, or a handle of a kind (Int, List, Instance[P], …), good
//	        as long as its owner. Functions that take one keep their own reference.
//	Weak[T] no owner: knows when the object is gone.
//	Field   owned by the payload of an Instance, and known to the collector.
//
// Get of a container returns a new Ref, for another may replace the item at once; a
// tuple lends its items. All of these are addresses, not Go pointers: a map of ten
// million Refs costs the Go collector nothing. An object of one Space cannot be put
// into one of another; None, True, False, the ints from -5 to 256 and the empty
// tuple are immortal, and of no Space.
//
// An object is a block, or two:
//
//	            +------------+-----+------+-------+---------------
//	            | collector  | refs| type | Space | value, items, payload,
//	            | 24 bytes   |  4  |  2   |   2   | or a link to items, table
//	            +------------+-----+------+-------+---------------
//	containers   object_gc.go  all: object.go       object_list.go, object_table.go, …
//
// What the last Release of a container sets off is done in a loop, so that a chain
// of any length can die. Cycles are found by the Space's collector, in three
// generations, by itself after so many allocations, or on Collect; object_gc.go
// tells how. It can work in slices (SpaceOptions.Incremental), each bounded, for a
// program that must not stop.
//
// Finalisers and the callbacks of weak references are called when the operation
// that caused them is over, so they may do everything, but close the Space. If one
// panics it is reported, and nothing is lost; nor if it ends its goroutine: what a
// constructor was about to return is released then. An object is finalised once in its
// life, and may live on.
//
// A collection that finds garbage does this, in order: weak references to it that have a
// callback die, and the callbacks are called; finalisers are called; what can be reached
// again by then lives on; the rest is freed, and weak references to it without a callback
// die with it. Where the count finds the death, the finaliser comes first, and the weak
// references die with the object. A weak reference that was dropped is not called back
// for, even if the call was due.
//
// Borrowed arguments need live until they are passed, and no longer: an operation of
// several steps, such as Set and FromGo, lets no callback run before it holds them. A loop
// over a dict or set whose body adds keys has a round for each key of the beginning.
//
// An operation that returns an error has changed nothing, unless it says otherwise, also
// when memory is refused in the middle of it.
//
// Containers may be nested to any depth; to be compared, hashed and converted, 1000
// deep. What is in several places is compared and hashed in each, as in CPython: with 40
// lists, each of which has the next one twice, that are 2^40 steps. Text that is made of
// such ends at 1 GiB.
//
// An owned Space belongs to one goroutine at a time, with all its objects, and its
// counts are plain. A shared Space ([SpaceOptions]) is for all: Release and Clone are
// atomic, what cannot change needs no lock, and the rest has one lock for the Space.
// A Ref itself is one goroutine's at a time.
//
// A released handle or an object of a closed Space is not to be used: within a Space
// a reference that is used once too often is reported with its type if that is
// noticed, and with SpaceOptions.Debug it is for the last 4096 objects that died.
package unsafeobj
