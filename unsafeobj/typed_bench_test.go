package unsafeobj_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

// typedSink makes the Go heap's values escape, as they do in programs that keep
// them.
var typedSink any

func benchTypedNew[T any](b *testing.B, size int) {
	var a pymalloc.Allocator
	defer a.Close()
	h := a.AcquireHeap()
	defer h.Release()
	for _, c := range []struct {
		name string
		m    unsafeobj.Memory
	}{{"Allocator", &a}, {"Heap", h}} {
		b.Run(fmt.Sprintf("impl=%s/size=%d", c.name, size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, _ := unsafeobj.New[T](c.m)
				_ = unsafeobj.Free(c.m, p)
			}
		})
	}
	b.Run(fmt.Sprintf("impl=unchecked/size=%d", size), func(b *testing.B) { // what the types cost
		for b.Loop() {
			p, _ := a.UnsafeCalloc(size)
			_ = a.UnsafeFree(p)
		}
	})
	b.Run(fmt.Sprintf("impl=go/size=%d", size), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			typedSink = new(T)
		}
	})
}

// One op is New and Free; for Go, new.
func BenchmarkTypedNew(b *testing.B) {
	benchTypedNew[[2]int64](b, 16)
	benchTypedNew[[16]int64](b, 128)
	benchTypedNew[[256]int64](b, 2048)
}

// One op is a slice of size bytes, made and freed.
func BenchmarkTypedMakeSlice(b *testing.B) {
	var a pymalloc.Allocator
	defer a.Close()
	for _, size := range []int{64, 4096, 1 << 20} {
		b.Run(fmt.Sprintf("impl=Allocator/size=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, _ := unsafeobj.MakeSlice[int64](&a, size/8, size/8)
				_ = unsafeobj.FreeSlice(&a, s)
			}
		})
		b.Run(fmt.Sprintf("impl=uninitialized/size=%d", size), func(b *testing.B) {
			for b.Loop() {
				s, _ := unsafeobj.MakeSliceUninitialized[int64](&a, size/8, size/8)
				_ = unsafeobj.FreeSlice(&a, s)
			}
		})
		b.Run(fmt.Sprintf("impl=go/size=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				typedSink = make([]int64, size/8)
			}
		})
	}
}

// One op is a slice that grows to size bytes, element by element, and is freed.
func BenchmarkTypedAppend(b *testing.B) {
	var a pymalloc.Allocator
	defer a.Close()
	for _, size := range []int{64, 4096, 1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("impl=Allocator/size=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var s []int64
				for i := range int64(size / 8) {
					s, _ = unsafeobj.Append(&a, s, i)
				}
				_ = unsafeobj.FreeSlice(&a, s)
			}
		})
		b.Run(fmt.Sprintf("impl=go/size=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var s []int64
				for i := range int64(size / 8) {
					s = append(s, i)
				}
				typedSink = s
			}
		})
	}
}

// One op is a copy of a string of size bytes, freed.
func BenchmarkTypedCloneString(b *testing.B) {
	var a pymalloc.Allocator
	defer a.Close()
	for _, size := range []int{16, 1024} {
		text := strings.Repeat("x", size)
		b.Run(fmt.Sprintf("impl=Allocator/size=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, _ := unsafeobj.CloneString(&a, text)
				_ = unsafeobj.FreeString(&a, s)
			}
		})
		b.Run(fmt.Sprintf("impl=go/size=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				typedSink = strings.Clone(text)
			}
		})
	}
}

// One op is a collection while size list nodes are live: what they cost a program
// that does nothing with them. impl=none has none.
func BenchmarkTypedCollection(b *testing.B) {
	const nodes = 1_000_000
	collect := func(b *testing.B) {
		start, n := time.Now(), 0
		for b.Loop() {
			runtime.GC()
			n++
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/float64(n), "µs/GC")
	}
	b.Run(fmt.Sprintf("impl=none/size=%d", nodes), collect)
	b.Run(fmt.Sprintf("impl=Allocator/size=%d", nodes), func(b *testing.B) {
		type node struct {
			Value [3]int64
			Next  unsafeobj.Ptr[node]
		}
		var a pymalloc.Allocator
		defer a.Close()
		var head unsafeobj.Ptr[node]
		for range nodes {
			n, _ := unsafeobj.NewOf(&a, node{Next: head})
			head = unsafeobj.PtrTo(n)
		}
		collect(b)
	})
	b.Run(fmt.Sprintf("impl=go/size=%d", nodes), func(b *testing.B) {
		type node struct {
			Value [3]int64
			Next  *node
		}
		var head *node
		for range nodes {
			head = &node{Next: head}
		}
		collect(b)
		runtime.KeepAlive(head)
	})
}
