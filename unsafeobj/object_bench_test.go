package unsafeobj

import (
	"fmt"
	"testing"
)

// onSpaces runs a benchmark in an owned and in a shared Space, whose counts are
// atomic.
func onSpaces(b *testing.B, f func(b *testing.B, s *Space)) {
	b.Helper()
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("shared=%v", shared), func(b *testing.B) {
			f(b, objectSpace(b, SpaceOptions{Shared: shared}))
		})
	}
}

func BenchmarkObjectInt(b *testing.B) {
	onSpaces(b, func(b *testing.B, s *Space) {
		v := int64(1000)
		for b.Loop() {
			r, _ := s.Int(v)
			r.Release()
			v++
		}
	})
}

func BenchmarkObjectFloat(b *testing.B) {
	onSpaces(b, func(b *testing.B, s *Space) {
		for b.Loop() {
			r, _ := s.Float(1.5)
			r.Release()
		}
	})
}

func BenchmarkObjectString(b *testing.B) {
	onSpaces(b, func(b *testing.B, s *Space) {
		for b.Loop() {
			r, _ := s.String("twelve bytes")
			r.Release()
		}
	})
}

func BenchmarkObjectList(b *testing.B) {
	onSpaces(b, func(b *testing.B, s *Space) {
		for b.Loop() {
			r, _ := s.List()
			r.Release()
		}
	})
}

func BenchmarkObjectTuple(b *testing.B) {
	onSpaces(b, func(b *testing.B, s *Space) {
		x := None()
		for b.Loop() {
			r, _ := s.Tuple(x, x)
			r.Release()
		}
	})
}

// Clone and Release of one object.
func BenchmarkObjectCount(b *testing.B) {
	onSpaces(b, func(b *testing.B, s *Space) {
		l := objectMust(s.List())
		defer l.Release()
		for b.Loop() {
			r := l.Clone()
			r.Release()
		}
	})
}

func BenchmarkObjectAppend(b *testing.B) {
	onSpaces(b, func(b *testing.B, s *Space) {
		x := objectMust(s.Int(1000))
		defer x.Release()
		l := objectMust(s.List())
		for b.Loop() {
			_ = l.Get().Append(x.Object())
		}
		l.Release()
	})
}

func BenchmarkObjectDict(b *testing.B) {
	const n = 1_000_000
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key%d", i)
	}
	onSpaces(b, func(b *testing.B, s *Space) {
		objs := make([]Ref[String], n)
		for i := range objs {
			objs[i] = objectMust(s.String(keys[i]))
		}
		d := objectMust(s.Dict())
		v := objectMust(s.Int(1000))
		i := 0
		next := func() int {
			if i++; i == n {
				i = 0
			}
			return i
		}
		b.Run("op=set", func(b *testing.B) {
			for b.Loop() {
				_ = d.Get().Set(objs[next()].Object(), v.Object())
			}
		})
		for i := range objs {
			_ = d.Get().Set(objs[i].Object(), v.Object())
		}
		b.Run("op=get", func(b *testing.B) {
			for b.Loop() {
				r, _ := d.Get().Get(objs[next()].Object())
				r.Release()
			}
		})
		b.Run("op=getString", func(b *testing.B) {
			for b.Loop() {
				r, _ := d.Get().GetString(keys[next()])
				r.Release()
			}
		})
		b.Run("op=delete", func(b *testing.B) {
			for b.Loop() {
				k := objs[next()].Object()
				if d.Get().Delete(k) != nil { // all are gone
					b.StopTimer()
					for i := range objs {
						_ = d.Get().Set(objs[i].Object(), v.Object())
					}
					b.StartTimer()
				}
			}
		})
		d.Release()
		v.Release()
		for i := range objs {
			objs[i].Release()
		}
	})
}

// One op is an object of a ring of four lists, built and collected.
func BenchmarkObjectCycle(b *testing.B) {
	onSpaces(b, func(b *testing.B, s *Space) {
		for i := 0; i < b.N; i += 4 {
			var ring [4]Ref[List]
			for j := range ring {
				ring[j], _ = s.List()
			}
			for j := range ring {
				_ = ring[j].Get().Append(ring[(j+1)%4].Object())
			}
			for j := range ring {
				ring[j].Release()
			}
		}
		objectMust(s.Collect(2))
	})
}
